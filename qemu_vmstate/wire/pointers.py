# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrays of pointers, each of which can be NULL."""

from __future__ import annotations

from typing import Any, ClassVar

from .base import POINTER, Descriptors, FieldInfo, FieldWriter, Limits, up
from .rows import Row

__all__ = ["PointersType"]


class PointersType(Row):
    """Slots for C's pointers, ``length`` elements, and a mark for each that is not NULL."""

    align = POINTER
    memory_is_value = False
    varies = True
    options: ClassVar[frozenset[str]] = frozenset({"num", "multiply"})

    @property
    def data_at(self) -> int:
        """The offset of the elements."""
        return up(POINTER * self.length, self.element.align)

    @property
    def present_at(self) -> int:
        """The offset of the marks, one byte for each element."""
        size: int = self.element.size
        return self.data_at + size * self.length

    @property
    def size(self) -> int:
        """The size in memory, in bytes."""
        return self.present_at + self.length

    def initial(self) -> bytes:
        """Return elements that are all present."""
        return bytes(self.data_at) + self.element.initial() * self.length + b"\1" * self.length

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor of elements that can be ``None``."""
        return make.pointers(where, info, self)

    def can_be_nothing(self) -> bool:
        """Return whether an element can have no bytes."""
        return self.element.can_be_nothing()

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_ARRAY_OF_POINTER or VMSTATE_VARRAY_OF_POINTER_UINT32, or one like them."""
        writer.field.offset = writer.base + info.offset
        writer.count(info)
        self.element.describe_element(writer)
        writer.flag("ARRAY_OF_POINTER")
        writer.field.size = POINTER
        if info.num is None:
            writer.flag("ARRAY")
            writer.field.num = self.length
