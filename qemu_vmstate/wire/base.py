# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of wire types: what each of them answers about itself, and about one field.

Everything lies inline and has a fixed size, so that a snapshot is one copy: an array whose
length varies has room for its declared maximum, a list is a count and its elements.

A type needs nothing compiled.  Where it makes something of C it is given the maker: a
:class:`Descriptors` for the attribute of a layout class, a :class:`FieldWriter` for the
``VMStateField``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from ..errors import DeclarationError
from .field_options import NO_OPTIONS, FieldOptions

__all__ = [
    "LONGEST_NAME",
    "POINTER",
    "Descriptors",
    "FieldInfo",
    "FieldWriter",
    "HasLayout",
    "Layout",
    "WireType",
    "up",
]

POINTER = 8
"""Bytes of a pointer: the one machine that is supported has 64 bits."""

LONGEST_NAME = 127
"""Bytes of a section's name: it has one length byte, that analyze-migration.py reads as signed."""

# The options of ``field()`` that only some types understand.
_SPECIAL = (
    *("minimum", "maximum", "err_hint", "num", "size", "multiply", "start", "needed"),
    "struct_version_id",
)


# The options by which a stream may have the field not at all, or a part of it.
_PARTLY = (
    *("version_id", "field_exists", "keep", "num", "size", "start", "struct_version_id", "needed"),
)


def up(offset: int, align: int) -> int:
    """Return ``offset``, or the next one that is a multiple of ``align``."""
    return -(-offset // align) * align


class WireType:
    """What a field is on the wire and in memory.

    ``size`` and ``align`` are in bytes, of its memory in a layout class.  A new type derives
    from this and overrides what is different about it.
    """

    align: Any = 1
    size: Any

    data_at: Any = 0
    """Where the value, or its first element, begins in the type's memory."""

    live: Any = False
    """C compares what it reads with the value the object has."""

    is_subsection: ClassVar[bool] = False
    has_attribute: ClassVar[bool] = True
    """An instance of a layout class has an attribute for it."""

    memory_is_value: ClassVar[bool] = True
    """Two values whose memory differs always differ on the wire too."""

    limits_own_count: ClassVar[bool] = False
    """Its memory has a count that C relies on."""

    saved_as_newest: ClassVar[bool] = False
    """QEMU saves its structs as of their own version, whichever the field names."""

    options: ClassVar[frozenset[str]] = frozenset()
    """The options of ``field()`` that mean something for this type, of those that not all have."""

    # ------------------------------------------------------------ declaration

    def check_options(self, options: FieldOptions, where: str) -> None:
        """Raise ``DeclarationError`` for options that mean nothing here, or that are missing."""
        for name in options.given(*_SPECIAL):
            if name not in self.options:
                raise DeclarationError(
                    f"{where}: {name} has no meaning for this type; leave it out"
                )
        self._check_own_options(options, where)
        for struct, version in self.loaded_as(options):
            self._check_struct_version(struct, version, where)
        if options.multiply < 1 or options.version_id < 0:
            raise DeclarationError(f"{where}: multiply is 1 or more, version_id 0 or more")

    def as_declared(
        self, options: FieldOptions, make_entry: Callable[[WireType, WireType], type[Any]]
    ) -> WireType:
        """Return the type as a field with ``options`` has it.

        ``make_entry`` returns a layout class of a key and a value.
        """
        return self

    def default_name(self, attribute: str) -> str:
        """Return the field's name in the description, if no other is declared."""
        return attribute

    def _check_own_options(self, options: FieldOptions, where: str) -> None:
        """Check what only this type knows about its options."""

    def loaded_as(self, options: FieldOptions) -> Iterator[tuple[type[Any], int]]:
        """Yield the layout classes that the field loads as of a version that it names."""
        return iter(())

    def _check_struct_version(self, cls: type[Any], version: int, where: str) -> None:
        layout: Layout = cls.__layout__
        lowest = layout.version_id if self.saved_as_newest else layout.minimum_version_id
        if not lowest <= version <= layout.version_id:
            raise DeclarationError(
                f"{where}: {cls.__name__} as of version {version} could not be loaded: it "
                f"reads {layout.minimum_version_id} to {layout.version_id}"
                + ("" if lowest == layout.minimum_version_id else ", and is saved as the newest")
            )

    counted_room: Any = None
    """How much a count may say at most: elements, or bits; ``None``: no limit of its own."""

    # ----------------------------------------------------------------- memory

    @abstractmethod
    def initial(self) -> bytes:
        """Return the memory of a field without a declared default."""

    def filled(self, value: Any) -> Any:
        """Return a declared default as the attribute takes it."""
        return value

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor that becomes the class's attribute, or ``None``."""
        return self.element_descriptor(make, where, info.offset)

    def element_descriptor(self, make: Descriptors, where: str, offset: int) -> Any:
        """Return the descriptor of a value that says by itself how long it is."""
        raise AssertionError(f"{where}: no element of an array")

    def elements(self, make: Descriptors, info: FieldInfo, where: str) -> Any:
        """Return the descriptor of all elements there is room for, or ``None`` if it has none."""
        return None

    # ---------------------------------------------------------------- structs

    @property
    def inline_struct(self) -> type[Any] | None:
        """The layout class whose bytes it is on the wire, one after the other; else ``None``."""
        return None

    @property
    def repeats(self) -> bool:
        """Whether there can be several of its struct, one directly behind the other."""
        return False

    def structs(self) -> Iterator[type[Any]]:
        """Yield the layout class of a struct, or of the elements of what has some."""
        return iter(())

    def struct_places(self, base: int) -> Iterator[int]:
        """Yield where each struct lies, of a field whose data is at ``base``."""
        return iter(())

    def structs_in(self, value: Any) -> Iterator[Any]:
        """Yield the struct instances in the attribute's ``value``, as many as there are now."""
        return iter(())

    def index_suffix(self, index: int | None) -> str:
        """Return what follows the field's name in the path of a struct in it."""
        return "[]" if index is None else f"[{index}]"

    def always_whole(self) -> bool:
        """Return whether every stream has every byte, so that no default is ever needed."""
        return False

    def can_be_nothing(self) -> bool:
        """Return whether a value can have no bytes on the wire, of a field that is always there."""
        return False

    def can_be_empty(self) -> bool:
        """Return whether its last bytes on the wire may be missing, as it varies in length."""
        return False

    # ------------------------------------------------------------------- wire

    def plain(self, value: Any) -> Any:
        """Return the attribute's value as plain Python: numbers, lists, bytes and dicts."""
        return value

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Yield path and bytes on the wire of every scalar and buffer of a field of ``struct``."""
        yield from self.walk_value(getattr(struct, info.attribute), path)

    def walk_value(self, value: Any, path: str) -> Iterator[tuple[str, int]]:
        """Yield the same of one value; ``None``, of a missing element, is one byte."""
        yield path, 1 if value is None else self.size

    @abstractmethod
    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Set the members of the ``VMStateField``, as the type's VMSTATE_* macro does."""

    def describe_element(self, writer: FieldWriter) -> None:
        """Set size and info, or description, of one element, and its flag."""
        raise DeclarationError(
            f"{writer.where}: C has no array of arrays here; make a layout class"
        )


Limits = tuple[int | None, int | None]
"""The least and the greatest value of a number, where they are narrower than its type's."""


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
        at: int = self.type.data_at
        return self.offset + at

    def number(self, struct: Any) -> int:
        """Return how many elements or bytes its ``num`` says there are in ``struct``."""
        assert self.num is not None
        number: int = getattr(struct, self.num.attribute)
        return max(0, number) * self.options.multiply

    def exists(self, struct: Any, version_id: int) -> bool:
        """Return whether a stream of ``version_id`` has the field."""
        exists = self.options.field_exists
        if exists:
            return exists(struct, version_id)
        return self.options.version_id <= version_id

    @property
    def may_be_missing(self) -> bool:
        """Whether a stream may lack the field."""
        return bool(self.options.given("version_id", "field_exists"))

    @property
    def can_be_nothing(self) -> bool:
        """Whether the field can have no bytes on the wire."""
        return self.num is not None or self.may_be_missing or self.type.can_be_nothing()

    @property
    def can_be_empty(self) -> bool:
        """Whether the bytes before the field can be the last ones that it has."""
        return self.num is not None or self.may_be_missing or self.type.can_be_empty()

    @property
    def always_whole(self) -> bool:
        """Whether every stream has every byte of the field, so that no default is ever needed."""
        return not self.options.given(*_PARTLY) and self.type.always_whole()


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
        return [info for info in self.fields if not info.type.is_subsection]

    @property
    def subsections(self) -> list[FieldInfo]:
        """What C has as subsections, in wire order."""
        return [info for info in self.fields if info.type.is_subsection]

    def walk(self, struct: Any, path: str, version_id: int) -> Iterator[tuple[str, int]]:
        """Yield every scalar and buffer of ``struct`` in wire order: its path, its bytes.

        Subsections are left out: a stream decides which of them it has.
        """
        for info in self.wire:
            if info.exists(struct, version_id):
                yield from info.type.walk(struct, info, f"{path}.{info.name}")


class HasLayout(Protocol):
    """A layout class's instance, as far as a wire type knows it."""

    __layout__: ClassVar[Layout]
    __image__: ClassVar[bytes | memoryview]
    __checked__: ClassVar[bool]
    __validators__: ClassVar[tuple[Any, ...]]
    __validated__: ClassVar[bool]


class Descriptors(Protocol):
    """Makes the descriptors of a layout class's attributes; see layout/descriptors.py."""

    def number(self, where: str, type_: Any, offset: int, limits: Limits = ...) -> Any:
        """Return the descriptor of a number."""

    def struct(self, where: str, cls: type[Any], offset: int, size: int) -> Any:
        """Return the descriptor of a nested struct."""

    def row(self, where: str, element: WireType, length: int, offset: int) -> Any:
        """Return the descriptor of a fixed array."""

    def counted(
        self, where: str, row: Any, offset: int, number: tuple[int, str], multiply: int
    ) -> Any:
        """Return that of an array whose length is a number: its offset and kind."""

    def tree(self, entries: Any, type_: Any) -> Any:
        """Return the descriptor of a list of entries that reads as a dict."""

    def pointers(self, where: str, info: FieldInfo, type_: Any) -> Any:
        """Return the descriptor of an array whose elements may be missing."""


class FieldWriter(Protocol):
    """One ``VMStateField`` that is being filled; see vmsd/description.py."""

    where: str
    field: Any
    """The C struct."""
    base: int
    """Bytes from C's opaque to the struct that has the field."""

    def flag(self, name: str) -> None:
        """Add the flag ``VMS_`` + name."""

    def info(self, name: str, *, bounded: bool = False) -> None:
        """Set ``info`` to this package's ``vmstate_info_`` + name, or else to QEMU's.

        ``bounded``: to the one that checks limits; see cdefs/bridge/vmstate_infos.c.
        """

    def text(self, text: str) -> Any:
        """Return ``text`` as a C string that lives as long as the description."""

    def nested(self, cls: type[Any]) -> Any:
        """Return the C description of a nested layout class."""

    def entry_descriptions(self, value: type[Any], key: type[Any] | None) -> Any:
        """Return the two descriptions of a gtree's entries, value first."""

    def count(self, info: FieldInfo) -> None:
        """Set what the elements are counted by, if a field counts them."""

    def sized(self, info: FieldInfo, name: str) -> None:
        """Set ``info`` and the size in bytes or bits, which a field may say."""

    def limits(self, info: FieldInfo) -> tuple[int, int] | None:
        """Return what a number is declared to be within, if not its type's own limits."""
