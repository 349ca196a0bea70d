# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers of a fixed width."""

from __future__ import annotations

import struct
import sys
from typing import Any, ClassVar

from .base import Descriptors, FieldInfo, FieldWriter, Limits, WireType
from .record import record

__all__ = ["SCALARS", "Scalar"]

_U64 = 2**64 - 1


@record()
class Scalar(WireType):
    """A number of a fixed width.

    ``kind`` is its letter in :mod:`struct`, ``info`` its ``vmstate_info_*``,
    ``size`` is in bytes, ``low`` and ``high`` are the least and greatest value,
    and ``default`` is the value if none is declared.
    """

    name: str
    kind: str
    info: str
    size: int
    low: int
    high: int
    live: bool = False
    default: int = 0
    greatest: float | None = None
    """The greatest finite value of a floating-point number, which has no other limits."""

    options: ClassVar[frozenset[str]] = frozenset({"minimum", "maximum", "err_hint"})

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers, which can have limits."""
        return self.greatest is None and self.kind != "?"

    @property
    def plain_type(self) -> type[int | float]:
        """The Python type of the values."""
        return int if self.is_whole else bool if self.kind == "?" else float

    @property
    def align(self) -> int:
        """The alignment in memory, in bytes."""
        return self.size

    def initial(self) -> bytes:
        """Return the memory of ``default``."""
        return struct.pack(f"={self.kind}", self.default)

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor of a number within ``limits``."""
        return make.number(where, self, info.offset, limits)

    def element_descriptor(self, make: Descriptors, where: str, offset: int) -> Any:
        """Return the descriptor of a number."""
        return make.number(where, self, offset)

    def fully_overwritten(self) -> bool:
        """Return true, except for a value that a load compares with the object's."""
        return not self.live

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_SINGLE; a number with limits gets an info that checks them."""
        self.describe_element(writer)
        writer.flag("SINGLE")
        if info.options.err_hint is not None:
            writer.err_hint(info.options.err_hint)
        # A value that is compared with the object's is within the limits, because the object's is.
        limits = None if self.live else writer.limits(info)
        if limits:
            low, high = limits
            writer.info(SCALARS[self.kind].info, bounded=True)
            writer.field.start = high
            writer.field.size_offset = low & _U64

    def describe_element(self, writer: FieldWriter) -> None:
        """Set the size and the info."""
        writer.field.size = self.size
        writer.info(self.info)


_UNSIGNED = (("B", 1), ("H", 2), ("I", 4), ("Q", 8))
_SIGNED = (("b", 1), ("h", 2), ("i", 4), ("q", 8))

SCALARS = {
    scalar.kind: scalar
    for scalar in (
        Scalar("bool", "?", "bool", 1, 0, 1),
        *(Scalar(f"u{8 * n}", k, f"uint{8 * n}", n, 0, 2 ** (8 * n) - 1) for k, n in _UNSIGNED),
        *(
            Scalar(f"i{8 * n}", k, f"int{8 * n}", n, -(2 ** (8 * n - 1)), 2 ** (8 * n - 1) - 1)
            for k, n in _SIGNED
        ),
        Scalar("f32", "f", "uint32", 4, 0, 0, greatest=2.0**128 - 2.0**104),
        Scalar("f64", "d", "uint64", 8, 0, 0, greatest=sys.float_info.max),
    )
}
"""Every scalar by its letter in :mod:`struct`."""
