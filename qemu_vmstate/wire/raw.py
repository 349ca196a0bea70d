# SPDX-License-Identifier: GPL-2.0-or-later
"""Bits and unused bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from ..errors import DeclarationError
from .base import Descriptors, FieldInfo, FieldWriter, Limits, WireType
from .field_options import FieldOptions
from .record import record, replace
from .scalar import SCALARS

__all__ = ["BitmapType", "UnusedType"]


@record()
class BitmapType(WireType):
    """``bits`` bits in 64-bit words; with ``own_size``, memory has their number before them."""

    bits: int
    own_size: bool = True

    align = 8
    number_types = ("u32", "i32")
    options: ClassVar[frozenset[str]] = frozenset({"size"})

    def as_declared(
        self, options: FieldOptions, make_entry: Callable[[WireType, WireType], type[Any]]
    ) -> WireType:
        """Return the bitmap, without a size of its own if another field has the size."""
        return replace(self, own_size=options.size is None)

    @property
    def length(self) -> int:
        """The number of words."""
        return -(-self.bits // 64)

    @property
    def data_at(self) -> int:
        """The offset of the words."""
        return 8 if self.own_size else 0

    @property
    def size(self) -> int:
        """The size in memory, in bytes."""
        return self.data_at + 8 * self.length

    @property
    def counted_room(self) -> int:
        """The greatest count of bits."""
        return self.bits

    def initial(self) -> bytes:
        """Return zeros, after the number of bits if memory has it."""
        size = struct.pack("=iI", self.bits, 0) if self.own_size else b""
        return size + bytes(8 * self.length)

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor of the words."""
        return make.row(where, SCALARS["Q"], self.length, info.data)

    def plain(self, value: Any) -> Any:
        """Return a list of words."""
        return list(value)

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Yield the size of the words that the bits take."""
        bits = info.number(struct) if info.num else self.bits
        yield path, -(-bits // 64) * 8

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_BITMAP."""
        writer.sized(info, "bitmap")
        if info.num is None:
            writer.field.size_offset = writer.base + info.offset


@record()
class UnusedType(WireType):
    """``length`` bytes that are on the wire and not in memory."""

    length: int

    size = 0
    has_attribute = False
    options: ClassVar[frozenset[str]] = frozenset({"num", "multiply"})

    def _check_own_options(self, options: FieldOptions, where: str) -> None:
        if options.has_default:
            raise DeclarationError(f"{where}: unused bytes have no value")

    def default_name(self, attribute: str) -> str:
        """Return the name that VMSTATE_UNUSED gives it."""
        return "unused"

    def initial(self) -> bytes:
        """Return no bytes: the type has no memory."""
        return b""

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return ``None``: the field has no attribute."""

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Yield the size, multiplied by the count if there is one."""
        yield path, self.length * (info.number(struct) if info.num else 1)

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_UNUSED or VMSTATE_UNUSED_VARRAY_UINT32."""
        writer.count(info)
        writer.flag("BUFFER")
        writer.field.offset = 0
        writer.field.size = self.length
        writer.info("unused_buffer")
