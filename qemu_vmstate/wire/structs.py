# SPDX-License-Identifier: GPL-2.0-or-later
"""Layout classes inside another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ..errors import DeclarationError
from .base import Descriptors, FieldInfo, FieldWriter, Layout, WireType
from .field_options import FieldOptions
from .record import record

__all__ = ["StructType", "SubsectionType", "TmpType", "plain_struct"]


def plain_struct(struct: Any) -> dict[str, Any]:
    """Return a layout class instance as plain Python, by its attributes in wire order."""
    layout: Layout = struct.__layout__
    return {
        info.attribute: info.type.plain(getattr(struct, info.attribute))
        for info in layout.fields
        if info.type.has_attribute
    }


@record()
class StructType(WireType):
    """A layout class inside another."""

    cls: type[Any]

    options: ClassVar[frozenset[str]] = frozenset({"struct_version_id"})

    @property
    def layout(self) -> Layout:
        """The layout of the class."""
        layout: Layout = self.cls.__layout__
        return layout

    @property
    def size(self) -> int:
        """The size in memory, in bytes, padding included."""
        return self.layout.size

    @property
    def align(self) -> int:
        """The alignment in memory, in bytes."""
        return self.layout.align

    @property
    def varies(self) -> bool:
        """Whether two structs of the class can differ in their size or fields."""
        return self.layout.varies

    @property
    def inline_struct(self) -> type[Any] | None:
        """The class itself."""
        return self.cls

    def loaded_as(self, options: FieldOptions) -> Iterator[tuple[type[Any], int]]:
        """Yield the class, if the field names a version of it."""
        if options.struct_version_id is not None:
            yield self.cls, options.struct_version_id

    def initial(self) -> bytes:
        """Return the initial memory of the class."""
        return bytes(self.cls.__image__)

    def element_descriptor(self, make: Descriptors, where: str, offset: int) -> Any:
        """Return the descriptor of a nested struct."""
        return make.struct(where, self.cls, offset, self.size)

    def structs(self) -> Iterator[type[Any]]:
        """Yield the class."""
        yield self.cls

    def struct_places(self, base: int) -> Iterator[int]:
        """Yield the offset of the one struct."""
        yield base

    def structs_in(self, value: Any) -> Iterator[Any]:
        """Yield the struct."""
        yield value

    def index_suffix(self, index: int | None) -> str:
        """Return an empty string: there is only one struct."""
        return ""

    def fully_overwritten(self) -> bool:
        """Return whether every stream has every byte of every field of the class."""
        return all(info.fully_overwritten for info in self.layout.fields)

    def can_be_nothing(self) -> bool:
        """Return whether all its fields can have no bytes."""
        return all(info.can_be_nothing for info in self.layout.wire)

    def plain(self, value: Any) -> Any:
        """Return a dict."""
        return plain_struct(value)

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Walk the struct in the version that the field names."""
        value, version = getattr(struct, info.attribute), info.options.struct_version_id
        if version is None:
            yield from self.walk_value(value, path)
        else:
            yield from value.__layout__.walk(value, path, version)

    def walk_value(self, value: Any, path: str) -> Iterator[tuple[str, int]]:
        """Walk the fields of the struct in the version of its class."""
        if value is None:
            yield path, 1
        else:
            yield from value.__layout__.walk(value, path, self.layout.version_id)

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_STRUCT, or VMSTATE_VSTRUCT if the field names a version."""
        self.describe_element(writer)
        if info.options.struct_version_id is not None:
            writer.field.flags = 0
            writer.flag("VSTRUCT")
            writer.field.struct_version_id = info.options.struct_version_id

    def describe_element(self, writer: FieldWriter) -> None:
        """Set the size, the description and the flag."""
        writer.field.size = self.size
        writer.struct(self.cls)


class TmpType(StructType):
    """A struct that C devices have only while they save and load: VMSTATE_WITH_TMP."""

    saved_as_newest = True

    def loaded_as(self, options: FieldOptions) -> Iterator[tuple[type[Any], int]]:
        """Yield the class: QEMU has one version for the field and the struct."""
        if options.version_id:
            yield self.cls, options.version_id

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_WITH_TMP, with an info whose temporary struct is the staging struct's."""
        writer.info("tmp")
        writer.field.size = self.size
        writer.field.vmsd = writer.nested(self.cls)


class SubsectionType(StructType):
    """A struct that is on the wire as a subsection, if it is needed."""

    is_subsection = True
    options: ClassVar[frozenset[str]] = frozenset({"needed"})

    def _check_own_options(self, options: FieldOptions, where: str) -> None:
        if options.given("version_id", "field_exists"):
            raise DeclarationError(
                f"{where}: needed= decides whether a stream has a subsection, and its layout class "
                "has its version_id"
            )

    def default_name(self, attribute: str) -> str:
        """Return the name of the layout class, which is a subsection's name in C."""
        return self.layout.name

    def fully_overwritten(self) -> bool:
        """Return false: a stream can lack a subsection."""
        return False
