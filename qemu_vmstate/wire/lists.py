# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists and trees of structs, whose length varies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .base import Descriptors, FieldInfo, FieldWriter, Limits, WireType, up
from .field_options import FieldOptions
from .record import record, replace
from .rows import Row
from .structs import StructType

__all__ = ["ListType"]


@record()
class ListType(Row):
    """A count and room for ``length`` structs; ``info`` is qtailq, qlist or gtree.

    A gtree has a ``key``; once it is declared, its element has key and value.
    """

    element: StructType
    length: int
    info: str
    key: WireType | None = None

    memory_is_value = False
    varies = True
    limits_own_count = True
    saved_as_newest = True
    live = False
    # Each element has a byte in front of it on the wire.
    inline_struct = None
    repeats = False

    @property
    def align(self) -> int:
        """The alignment in memory, in bytes."""
        return max(4, self.element.align)

    @property
    def data_at(self) -> int:
        """The offset of the elements."""
        return up(4, self.element.align)

    @property
    def size(self) -> int:
        """The size in memory, in bytes."""
        return self.data_at + self.element.size * self.length

    def as_declared(
        self, options: FieldOptions, make_entry: Callable[[WireType, WireType], type[Any]]
    ) -> WireType:
        """Return a tree with a layout class of key and value; a list is returned as it is."""
        if self.key is None:
            return self
        return replace(self, element=StructType(make_entry(self.key, self.element)))

    def loaded_as(self, options: FieldOptions) -> Iterator[tuple[type[Any], int]]:
        """Yield element and key: QEMU has one version for the field and the structs."""
        for struct in (self.element, self.key):
            if options.version_id and isinstance(struct, StructType):
                yield struct.cls, options.version_id

    def initial(self) -> bytes:
        """Return an empty list, whose room has default elements for a load to read into."""
        return bytes(self.data_at) + self.element.initial() * self.length

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor of the counted elements, or of a tree's mapping."""
        rows = make.counted(where, self, info.data, (info.offset, "I"), 1)
        return make.tree(rows, self) if self.key else rows

    def can_be_empty(self) -> bool:
        """Return true: a list can be empty."""
        return True

    def structs_in(self, value: Any) -> Iterator[Any]:
        """Yield the elements, or the values of a tree."""
        yield from value.values() if self.key else value

    def plain(self, value: Any) -> Any:
        """Return a list, or a dict for a tree."""
        if self.key:
            element = self.element.layout.fields[1].type
            return {key: element.plain(item) for key, item in value.items()}
        return super().plain(value)

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Walk the elements, the marks around them, and a tree's count and keys."""
        value = getattr(struct, info.attribute)
        if self.key:
            yield path, 4
            value = getattr(type(struct), info.attribute).entries(struct)
        for index, item in enumerate(value):
            yield f"{path}[{index}]", 1
            if self.key:
                item = item.value
                yield f"{path}[{index}].key", self._key_width()
            yield from item.__layout__.walk(item, f"{path}[{index}]", item.__layout__.version_id)
        yield path, 1

    def _key_width(self) -> int:
        if isinstance(self.key, StructType):
            return sum(width for _, width in self.key.walk_value(self.key.cls(), ""))
        return 8

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_QTAILQ_V, VMSTATE_QLIST_V or VMSTATE_GTREE_V; the info checks the count."""
        field = writer.field
        field.offset = writer.base + info.offset
        writer.info(self.info)
        field.num = self.length
        field.num_offset = self.data_at
        field.size = self.element.size
        if not self.key:
            field.vmsd = writer.nested(self.element.cls)
            return
        _, value = self.element.layout.fields
        assert isinstance(value.type, StructType)
        field.start = value.offset
        key = self.key.cls if isinstance(self.key, StructType) else None
        field.vmsd = writer.entry_descriptions(value.type.cls, key)
