# SPDX-License-Identifier: GPL-2.0-or-later
"""The data that all staging structs of a class share, made once."""

from __future__ import annotations

from typing import Any

from ..bindings.native import ffi, lib
from ..layout.traversal import has_predicates, kept, pointer_arrays
from ..layout.vmstruct import VMStruct
from ..state.cells import BqlRefCell
from ..vmsd.description import VMStateDescription
from ..vmsd.predicates import asks
from ..wire.types import StructType
from .parts import StatePart

__all__ = ["ClassData", "NativePart", "class_data_of", "object_class_of"]

NativePart = tuple[StatePart, Any, VMStruct]
"""A part that C copies, the cell that guards it, and its memory."""


class ClassData:
    """The data that all staging structs of a layout class share; lives as long as the class."""

    def __init__(self, cls: type[VMStruct]) -> None:
        data = ffi.from_buffer(cls.__image__)
        made = lib().qv_initial_image_new(data, len(data))
        # The image points into the data, so its destructor holds a reference.
        self.image = ffi.gc(made, lambda image, _=data: lib().qv_initial_image_free(image))
        self.has_predicates = has_predicates(cls)
        self.offsets = {info.attribute: info.data for info in cls.__layout__.fields}

    def offset(self, part: StatePart, size: int) -> int:
        """Return the offset of a part of ``size`` bytes in the struct."""
        if part.attribute is None:
            return 0
        return self.offsets[part.attribute] + (part.index or 0) * size


def class_data_of(cls: type[VMStruct]) -> ClassData:
    """Return the data of ``cls``, made by the first call."""
    found: ClassData | None = cls.__dict__.get("__class_data__")
    if found is None:
        found = ClassData(cls)
        cls.__class_data__ = found
    return found


def object_class_of(description: VMStateDescription, native_parts: list[NativePart]) -> int:
    """Return the address of the ``QvObjectClass`` of objects with these native parts."""
    key = tuple([(part.attribute, part.index, type(cell)) for part, cell, _ in native_parts])
    found: tuple[Any, int] | None = description.object_classes.get(key)
    if found is None:
        made = _make_object_class(description, native_parts)
        # If two threads make one at the same time, the second is not used: it is freed.
        found = description.object_classes.setdefault(key, (made, int(ffi.cast("uintptr_t", made))))
    return found[1]


def _make_object_class(description: VMStateDescription, native_parts: list[NativePart]) -> Any:
    cls = description.cls
    class_data = class_data_of(cls)
    overwritten = StructType(cls).fully_overwritten()
    made = lib().qv_object_class_new(description.cdata, class_data.image, overwritten)
    keep: list[Any] = [class_data.image]
    object_class = ffi.gc(made, lambda made, _=keep: lib().qv_object_class_free(made))
    for part, cell, inner in native_parts:
        size = inner.__layout__.size
        name = ffi.new("char[]", part.path.removeprefix(f"{description.name}.").encode())
        keep.append(name)
        offset = class_data.offset(part, size)
        lib().qv_object_class_add_part(made, name, isinstance(cell, BqlRefCell), offset, size)
    for offset, length in kept(cls):
        lib().qv_object_class_preserve(made, offset, length)
    for array in pointer_arrays(cls):
        lib().qv_object_class_add_pointers(made, *array)
    for info in description.numbered:
        size = 0 if asks(info) else info.type.size
        lib().qv_object_class_add_subsection(made, info.offset, size)
    return object_class
