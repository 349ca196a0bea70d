# SPDX-License-Identifier: GPL-2.0-or-later
"""From a layout class to the C structs: one flat ``VMStateDescription``, nested ones without hooks.

The members are those of include/migration/vmstate.h in the tree this was built
for; which of them a QEMU version has, the bridge knows.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from .errors import DeclarationError
from .layout import Layout, VMStruct
from .native import ffi, lib
from .wire import ArrayType, Scalar, StructType, WireType

__all__ = ["VMStateDescription", "wire_fields"]


class VMStateDescription:
    """A ``VMStateDescription`` of include/migration/vmstate.h in C memory.

    Made from the layout class ``cls``, with its fields in order and its nested
    layout classes as ``VMS_STRUCT``; ``name``, ``version_id``,
    ``minimum_version_id`` and ``priority`` are the members of those names.
    ``cdata`` is the C struct; it and what it points to live as long as this
    object.  A ``Device`` makes its own; use this to look at one.
    """

    def __init__(
        self,
        cls: type[VMStruct],
        name: str,
        version_id: int,
        minimum_version_id: int,
        priority: int = 0,
    ) -> None:
        layout = cls.__layout__
        self.name = name
        self.version_id = version_id
        self.minimum_version_id = minimum_version_id
        self._keep: list[Any] = []
        self._fields = ffi.new("VMStateField[]", len(layout.fields) + 1)
        for c_field, info in zip(self._fields, layout.fields, strict=False):
            c_field.name = self._text(info.name)
            c_field.offset = info.offset
            self._fill(c_field, info.type, f"{name}.{info.name}")
        lib().qv_end_of_list(ffi.addressof(self._fields, len(layout.fields)))
        self.cdata = ffi.new(
            "VMStateDescription *",
            {
                "name": self._text(name),
                "version_id": version_id,
                "minimum_version_id": minimum_version_id,
                "priority": priority,
                "fields": self._fields,
            },
        )

    def _text(self, text: str) -> Any:
        pointer = ffi.new("char[]", text.encode())
        self._keep.append(pointer)
        return pointer

    def _fill(self, c_field: Any, type_: WireType, where: str) -> None:
        """Flags, size and how C gets at one element, as the VMSTATE_* macros set them."""
        flags = lib().VMS_SINGLE
        element = type_
        if isinstance(type_, ArrayType):
            if type_.is_buffer:
                c_field.flags = lib().VMS_BUFFER
                c_field.size = type_.size
                c_field.info = _info("buffer", where)
                return
            element = type_.element
            flags = lib().VMS_ARRAY
            c_field.num = type_.length
            while isinstance(element, ArrayType):  # as VMSTATE_2DARRAY: rows one after another
                c_field.num *= element.length
                element = element.element
        c_field.size = element.size
        if isinstance(element, StructType):
            flags |= lib().VMS_STRUCT
            nested = _nested(element.cls)
            self._keep.append(nested)
            c_field.vmsd = nested.cdata
        elif isinstance(element, Scalar):
            c_field.info = _info(element.info, where)
        c_field.flags = flags


_nested_descriptions: weakref.WeakKeyDictionary[type, VMStateDescription] = (
    weakref.WeakKeyDictionary()
)


def _nested(cls: type[VMStruct]) -> VMStateDescription:
    """One description per layout class, as C devices share theirs."""
    if cls not in _nested_descriptions:
        layout = cls.__layout__
        _nested_descriptions[cls] = VMStateDescription(
            cls, layout.name, layout.version_id, layout.minimum_version_id
        )
    return _nested_descriptions[cls]


def _info(name: str, where: str) -> Any:
    info = lib().qv_vmstate_info(name.encode())
    if info == ffi.NULL:
        raise DeclarationError(f"{where}: this QEMU has no vmstate_info_{name}")
    return info


def wire_fields(layout: Layout, path: str) -> Iterator[tuple[str, int]]:
    """Every scalar and buffer of a layout in wire order: its path, its bytes on the wire."""

    def walk(type_: WireType, path: str) -> Iterator[tuple[str, int]]:
        if isinstance(type_, StructType):
            yield from wire_fields(type_.cls.__layout__, path)
        elif isinstance(type_, ArrayType) and not type_.is_buffer:
            for i in range(type_.length):
                yield from walk(type_.element, f"{path}[{i}]")
        else:
            yield path, type_.size

    for info in layout.fields:
        yield from walk(info.type, f"{path}.{info.name}")
