# SPDX-License-Identifier: GPL-2.0-or-later
"""What a wire type is to the code: its memory in a layout class, and what C makes of it.

Everything lies inline and has a fixed size, so that a snapshot is one copy: an array whose
length varies has room for its declared maximum, a list lies there as a count and its elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

from .field_options import NO_OPTIONS, FieldOptions

__all__ = [
    "SCALARS",
    "ArrayType",
    "BitmapType",
    "CountedType",
    "FieldInfo",
    "HasLayout",
    "Layout",
    "ListType",
    "PointersType",
    "Scalar",
    "StatesType",
    "StructType",
    "SubsectionType",
    "TmpType",
    "UnusedType",
    "WireType",
    "structs_of",
    "up",
]

POINTER = 8
"""Bytes of a pointer: the one machine that is supported has 64 bits."""

LONGEST_NAME = 127
"""Bytes of a section's name: it has one length byte, that analyze-migration.py reads as signed."""


def up(offset: int, align: int) -> int:
    """``offset``, or the next one that is a multiple of ``align``."""
    return -(-offset // align) * align


@dataclass(frozen=True)
class Scalar:
    """A number of a fixed width.

    ``kind`` is its letter in :mod:`struct`, ``info`` its ``vmstate_info_*``,
    ``size`` in bytes, ``low`` and ``high`` the least and greatest value.
    ``live``: C compares what it reads with the value the object has.
    ``rest`` is its value if no default is declared.
    """

    name: str
    kind: str
    info: str
    size: int
    low: int
    high: int
    live: bool = False
    rest: int = 0

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return self.size


@dataclass(frozen=True)
class _Row:
    """``length`` elements in a row."""

    element: WireType
    length: int
    is_buffer: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.element.size * self.length

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return self.element.align


@dataclass(frozen=True)
class ArrayType(_Row):
    """``length`` elements; ``is_buffer``: bytes that C moves in one go."""


@dataclass(frozen=True)
class CountedType(_Row):
    """Room for ``length`` elements; another field of the same class says how many there are."""


@dataclass(frozen=True)
class StructType:
    """A layout class inside another."""

    cls: type[Any]
    """Layout class, as :class:`HasLayout`."""

    @property
    def size(self) -> int:
        """Bytes in memory, padding included."""
        return _layout_of(self.cls).size

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return _layout_of(self.cls).align


@dataclass(frozen=True)
class TmpType(StructType):
    """A struct that C devices make up while they save and load: VMSTATE_WITH_TMP."""


@dataclass(frozen=True)
class SubsectionType(StructType):
    """A struct that is on the wire as a subsection, if it is needed."""


@dataclass(frozen=True)
class BitmapType:
    """``bits`` bits in words of 64; ``own_size``: with the number of bits in front of them."""

    bits: int
    own_size: bool = True

    align = 8

    @property
    def length(self) -> int:
        """How many words."""
        return -(-self.bits // 64)

    @property
    def data_at(self) -> int:
        """Where the words begin."""
        return 8 if self.own_size else 0

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.data_at + 8 * self.length


@dataclass(frozen=True)
class UnusedType:
    """``length`` bytes that are on the wire only."""

    length: int

    align = 1
    size = 0


@dataclass(frozen=True)
class PointersType:
    """``length`` elements of which each may be missing: slots for C's pointers, elements, marks."""

    element: WireType
    length: int

    align = POINTER

    @property
    def data_at(self) -> int:
        """Where the elements begin."""
        return up(POINTER * self.length, self.element.align)

    @property
    def present_at(self) -> int:
        """Where the marks begin, a byte for each element."""
        return self.data_at + self.element.size * self.length

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.present_at + self.length


@dataclass(frozen=True)
class ListType:
    """A count and room for ``length`` structs; ``info``: qtailq, qlist or gtree.

    ``key`` is a gtree's; its element is then the layout class of both.
    """

    element: StructType
    length: int
    info: str
    key: WireType | None = None

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return max(4, self.element.align)

    @property
    def data_at(self) -> int:
        """Where the elements begin."""
        return up(4, self.element.align)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.data_at + self.element.size * self.length


@dataclass(frozen=True)
class StatesType:
    """What ``Array``, ``VArray`` and ``Subsection`` are with something that is no wire type.

    A device makes wire types of those with ``Migratable``; ``length`` is None for a subsection.
    """

    hint: Any
    length: int | None
    counted: bool = False


WireType: TypeAlias = (
    Scalar
    | ArrayType
    | CountedType
    | StructType
    | BitmapType
    | UnusedType
    | PointersType
    | ListType
)

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
        Scalar("cpudouble", "d", "cpudouble", 8, 0, 0),
    )
}
"""Every scalar by its letter in :mod:`struct`."""


@dataclass(frozen=True)
class FieldInfo:
    """One field: its attribute, its name in the description, where it lies.

    ``num`` is the field that counts its elements.
    """

    attribute: str
    name: str
    type: WireType
    offset: int
    options: FieldOptions = NO_OPTIONS
    num: FieldInfo | None = None

    @property
    def data(self) -> int:
        """Where its value or its first element lies."""
        at = 0
        if isinstance(self.type, BitmapType | ListType | PointersType):
            at = self.type.data_at
        return self.offset + at


@dataclass(frozen=True)
class Layout:
    """What a layout class is for C: ``size`` and ``align`` in bytes.

    ``subsections`` are those of ``fields`` that are no fields for C.
    """

    name: str
    version_id: int
    minimum_version_id: int
    fields: tuple[FieldInfo, ...]
    size: int
    align: int

    @property
    def wire(self) -> list[FieldInfo]:
        """What C has as fields, in wire order."""
        return [info for info in self.fields if not _is_subsection(info)]

    @property
    def subsections(self) -> list[FieldInfo]:
        """What C has as subsections, in wire order."""
        return [info for info in self.fields if _is_subsection(info)]


def _is_subsection(info: FieldInfo) -> bool:
    return isinstance(info.type, SubsectionType)


class HasLayout(Protocol):
    """A layout class's instance, as far as a wire type knows it."""

    __layout__: ClassVar[Layout]
    __image__: ClassVar[bytes | memoryview]
    __checked__: ClassVar[bool]
    __validators__: ClassVar[tuple[Any, ...]]
    __validated__: ClassVar[bool]


def _layout_of(cls: type[HasLayout]) -> Layout:
    return cls.__layout__


def structs_of(type_: WireType) -> Iterator[type[Any]]:
    """Yield the layout class of a struct, or of the elements of what has some."""
    while not isinstance(type_, StructType):
        if isinstance(type_, Scalar | BitmapType | UnusedType):
            return
        type_ = type_.element
    yield type_.cls
