# SPDX-License-Identifier: GPL-2.0-or-later
"""The base class of wire types, and the descriptions of a field and of a layout.

Every value lies inline and has a fixed size, so that a snapshot is one copy: an array whose
length varies has room for its declared maximum, a list is a count and its elements.

A wire type imports nothing compiled.  It gets the makers of compiled objects as arguments: a
:class:`Descriptors` for the attribute of a layout class, a :class:`FieldWriter` for the
``VMStateField``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, Union

from ..errors import DeclarationError
from .field_options import FieldOptions
from .record import record

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
"""The bytes of a pointer, on 64-bit machines, which are the only ones supported."""

LONGEST_NAME = 127
"""The most bytes of a section's name: analyze-migration.py reads its length as a signed byte."""

# The options of ``field()`` that only some types accept.
_SPECIAL = (
    *("minimum", "maximum", "err_hint", "num", "size", "multiply", "start", "needed"),
    "struct_version_id",
)

# The options with which a stream can lack the field or a part of it.
_PARTLY = (
    *("version_id", "field_exists", "keep", "num", "size", "start", "struct_version_id", "needed"),
)


def up(offset: int, align: int) -> int:
    """Return ``offset`` rounded up to a multiple of ``align``."""
    return -(-offset // align) * align


class WireType:
    """The type of a field on the wire and in memory.

    ``size`` and ``align`` are those of its memory in a layout class, in bytes.  A new type
    derives from this class and overrides the members in which it differs.
    """

    align: Any = 1
    size: Any

    data_at: Any = 0
    """The offset of the value, or of its first element, in the type's memory."""

    live: Any = False
    """Whether a load compares the value with the one that the object has."""

    is_subsection: ClassVar[bool] = False
    has_attribute: ClassVar[bool] = True
    """Whether an instance of a layout class has an attribute for it."""

    memory_is_value: ClassVar[bool] = True
    """Whether two values whose memory differs always differ on the wire too."""

    limits_own_count: ClassVar[bool] = False
    """Whether its memory has a count that C relies on."""

    varies: Any = False
    """Whether values of one version can differ in their size or their fields on the wire."""

    saved_as_newest: ClassVar[bool] = False
    """Whether QEMU saves its structs as of their newest version, whichever the field names."""

    options: ClassVar[frozenset[str]] = frozenset()
    """The options that only some types accept and this type does."""

    def __or__(self, other: object) -> Any:
        """Return the union of an annotation such as ``Buffer[Literal[6]] | None``."""
        return Union[self, other]  # noqa: UP007

    def __ror__(self, other: object) -> Any:
        """Return the union of an annotation such as ``None | Buffer[Literal[6]]``."""
        return Union[other, self]  # noqa: UP007

    # ------------------------------------------------------------ declaration

    def check_options(self, options: FieldOptions, where: str) -> None:
        """Raise ``DeclarationError`` for options that are not accepted, or required and missing."""
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
        """Return the type of a field that is declared with ``options``.

        ``make_entry(key, value)`` makes the layout class of a tree's entries.
        """
        return self

    def default_name(self, attribute: str) -> str:
        """Return the field's name in the description, for a field without ``name=``."""
        return attribute

    def _check_own_options(self, options: FieldOptions, where: str) -> None:
        """Raise ``DeclarationError`` for options that break a rule of this type alone."""

    def loaded_as(self, options: FieldOptions) -> Iterator[tuple[type[Any], int]]:
        """Yield each layout class of which the field names a version to load, and the version."""
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
    """The greatest count of elements or bits that there is room for; ``None``: any."""

    number_types: Any = ("u8", "u16", "u32", "i32")
    """The types of a field that can count the elements, bytes or bits, as in C."""

    # ----------------------------------------------------------------- memory

    @abstractmethod
    def initial(self) -> bytes:
        """Return the initial memory of a field without a declared default."""

    def filled(self, value: Any) -> Any:
        """Return the value that is assigned to the attribute for a declared default."""
        return value

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor that becomes the class's attribute, or ``None``."""
        return self.element_descriptor(make, where, info.offset)

    def element_descriptor(self, make: Descriptors, where: str, offset: int) -> Any:
        """Return the descriptor of a value whose length does not depend on another field."""
        raise AssertionError(f"{where}: this type is no element of an array")

    def elements(self, make: Descriptors, info: FieldInfo, where: str) -> Any:
        """Return the descriptor of all elements that there is room for, or ``None``."""
        return None

    # ---------------------------------------------------------------- structs

    @property
    def inline_struct(self) -> type[Any] | None:
        """The layout class if the type is nothing but its instances on the wire, else ``None``."""
        return None

    @property
    def repeats(self) -> bool:
        """Whether instances of ``inline_struct`` can follow each other directly."""
        return False

    def structs(self) -> Iterator[type[Any]]:
        """Yield the layout class of the struct or of the elements, if there is one."""
        return iter(())

    def struct_places(self, base: int) -> Iterator[int]:
        """Yield the offset of each struct in a field whose data is at ``base``."""
        return iter(())

    def structs_in(self, value: Any) -> Iterator[Any]:
        """Yield the struct instances that the attribute's ``value`` has now."""
        return iter(())

    def index_suffix(self, index: int | None) -> str:
        """Return the suffix of the field's name in a struct's path; ``None`` is any index."""
        return "[]" if index is None else f"[{index}]"

    def fully_overwritten(self) -> bool:
        """Return whether every stream has every byte, so that no default is needed."""
        return False

    def can_be_nothing(self) -> bool:
        """Return whether a value can have no bytes on the wire although the field exists."""
        return False

    def can_be_empty(self) -> bool:
        """Return whether a value can have no elements, because its length varies."""
        return False

    # ------------------------------------------------------------------- wire

    def plain(self, value: Any) -> Any:
        """Return the attribute's value as plain Python: numbers, lists, bytes and dicts."""
        return value

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Yield the path and wire size of every scalar and buffer in the field of ``struct``."""
        yield from self.walk_value(getattr(struct, info.attribute), path)

    def walk_value(self, value: Any, path: str) -> Iterator[tuple[str, int]]:
        """Yield the same for one value; ``None``, a missing element, takes one byte."""
        yield path, 1 if value is None else self.size

    @abstractmethod
    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Set the members of the ``VMStateField`` as the type's VMSTATE_* macro does."""

    def describe_element(self, writer: FieldWriter) -> None:
        """Set the size of one element, its info or description, and its flag."""
        raise DeclarationError(
            f"{writer.where}: C has no array of arrays here; make a layout class"
        )


Limits = tuple[int | None, int | None]
"""The least and the greatest value of a number; ``None`` is the type's own limit."""


@record()
class FieldInfo:
    """A field: its attribute, its name in the description, its offset in memory.

    ``num`` is the field that counts its elements.
    """

    attribute: str
    name: str
    type: WireType
    offset: int
    options: FieldOptions
    num: FieldInfo | None = None

    @property
    def data(self) -> int:
        """The offset of its value or of its first element."""
        at: int = self.type.data_at
        return self.offset + at

    def number(self, struct: Any) -> int:
        """Return the number of elements or bytes in ``struct``, which ``num`` counts."""
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
    def varies(self) -> bool:
        """Whether the size or the fields can differ in two structs of one version."""
        return self.num is not None or bool(self.options.field_exists or self.type.varies)

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
        """Whether the bytes before the field can be the last ones of all fields."""
        return self.num is not None or self.may_be_missing or self.type.can_be_empty()

    @property
    def fully_overwritten(self) -> bool:
        """Whether every stream has every byte of the field, so that no default is needed."""
        return not self.options.given(*_PARTLY) and self.type.fully_overwritten()


@record()
class Layout:
    """The memory and the description of a layout class; ``size`` and ``align`` are in bytes."""

    name: str
    version_id: int
    minimum_version_id: int
    fields: tuple[FieldInfo, ...]
    size: int
    align: int

    @property
    def wire(self) -> list[FieldInfo]:
        """The fields that are ``fields`` in C too, in wire order."""
        return [info for info in self.fields if not info.type.is_subsection]

    @property
    def subsections(self) -> list[FieldInfo]:
        """The fields that are ``subsections`` in C, in wire order."""
        return [info for info in self.fields if info.type.is_subsection]

    @property
    def varies(self) -> bool:
        """Whether two structs of one version can differ in their size or fields on the wire."""
        return bool(self.subsections) or any(info.varies for info in self.wire)

    def walk(self, struct: Any, path: str, version_id: int) -> Iterator[tuple[str, int]]:
        """Yield the path and wire size of every scalar and buffer, in wire order.

        Subsections are left out, because a stream may have any of them.
        """
        for info in self.wire:
            if info.exists(struct, version_id):
                yield from info.type.walk(struct, info, f"{path}.{info.name}")


class HasLayout(Protocol):
    """An instance of a layout class, with the members that wire types use."""

    __layout__: ClassVar[Layout]
    __image__: ClassVar[bytes | memoryview]
    __checked__: ClassVar[bool]
    __validators__: ClassVar[tuple[Any, ...]]
    __validated__: ClassVar[bool]


class Descriptors(Protocol):
    """The maker of the descriptors of attributes; see layout/descriptors.py."""

    def number(self, where: str, type_: Any, offset: int, limits: Limits = ...) -> Any:
        """Return the descriptor of a number."""

    def struct(self, where: str, cls: type[Any], offset: int, size: int) -> Any:
        """Return the descriptor of a nested struct."""

    def row(self, where: str, element: WireType, length: int, offset: int) -> Any:
        """Return the descriptor of a fixed array."""

    def counted(
        self, where: str, row: Any, offset: int, number: tuple[int, str], multiply: int
    ) -> Any:
        """Return the descriptor of an array that the number with this offset and kind counts."""

    def tree(self, entries: Any, type_: Any) -> Any:
        """Return the descriptor of a list of entries that reads as a dict."""

    def pointers(self, where: str, info: FieldInfo, type_: Any) -> Any:
        """Return the descriptor of an array whose elements may be missing."""


class FieldWriter(Protocol):
    """A ``VMStateField`` that is being filled; see vmsd/description.py."""

    where: str
    field: Any
    """The C struct."""
    base: int
    """The offset from C's opaque of the struct that has the field."""

    def flag(self, name: str) -> None:
        """Add the flag ``VMS_`` + name."""

    def info(self, name: str, *, bounded: bool = False) -> None:
        """Set ``info`` to this package's ``vmstate_info_`` + name, else to QEMU's.

        With ``bounded``, set it to one that checks limits; see cdefs/bridge/vmstate_infos.c.
        """

    def err_hint(self, hint: str) -> None:
        """Set what QEMU reports if an equal field differs, where it has such hints."""

    def nested(self, cls: type[Any]) -> Any:
        """Return the C description of a nested layout class."""

    def struct(self, cls: type[Any]) -> None:
        """Set the description of the field's elements, a layout class, and its flag."""

    def entry_descriptions(self, value: type[Any], key: type[Any] | None) -> Any:
        """Return the two descriptions of a gtree's entries, value first."""

    def count(self, info: FieldInfo) -> None:
        """Set the members for the field that counts the elements, if there is one."""

    def sized(self, info: FieldInfo, name: str) -> None:
        """Set ``info`` and the size in bytes or bits, which another field may have."""

    def limits(self, info: FieldInfo) -> tuple[int, int] | None:
        """Return the declared limits of a number, or ``None`` if they are its type's."""
