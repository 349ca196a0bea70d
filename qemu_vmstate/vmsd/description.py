# SPDX-License-Identifier: GPL-2.0-or-later
"""From a layout class to the C structs: one flat ``VMStateDescription``, nested ones without hooks.

The members are those of include/migration/vmstate.h in the tree this was built
for; which of them a QEMU version has, the bridge knows.
"""

from __future__ import annotations

from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..errors import DeclarationError
from ..layout.checks import check_subsections
from ..layout.vmstruct import VMStruct
from ..wire.types import (
    POINTER,
    SCALARS,
    ArrayType,
    BitmapType,
    CountedType,
    FieldInfo,
    ListType,
    PointersType,
    Scalar,
    StructType,
    TmpType,
    UnusedType,
    WireType,
)
from .predicates import differs_callback, exists_callback, needed_callback
from .priority import MigrationPriority

__all__ = ["VMStateDescription", "descriptions_of"]

_U64 = 2**64 - 1
_VARRAY = {"B": "UINT8", "H": "UINT16", "I": "UINT32", "i": "INT32"}


class VMStateDescription:
    """A ``VMStateDescription`` of include/migration/vmstate.h in C memory.

    Made from the layout class ``cls``, with its fields in order and its nested
    layout classes as ``VMS_STRUCT``; ``name``, ``version_id``,
    ``minimum_version_id``, ``priority``, ``unmigratable`` and ``early_setup`` are
    the members of those names; with ``asks_needed``, its ``needed`` is its object's
    hook.  ``base`` is how many bytes after C's opaque the
    struct lies; ``owned``: opaque is the staging struct of an object of ours,
    which knows what of its subsections is needed.  ``cdata`` is the C struct; it
    and what it points to live as long as this object.  A ``Device`` makes its
    own; use this to look at one.

    Raises ``DeclarationError`` for what QEMU could not walk, or this version has
    not.
    """

    def __init__(
        self,
        cls: type[VMStruct],
        name: str,
        version_id: int,
        minimum_version_id: int,
        priority: MigrationPriority = MigrationPriority.DEFAULT,
        *,
        unmigratable: bool = False,
        early_setup: bool = False,
        asks_needed: bool = False,
        base: int = 0,
        owned: bool = False,
    ) -> None:
        layout = cls.__layout__
        self.name = name
        self.version_id = version_id
        self.minimum_version_id = minimum_version_id
        self.cls = cls
        self._base = base
        self._owned = owned
        self.numbered: list[FieldInfo] = []
        self.kinds: dict[Any, Any] = {}
        self._keep: list[Any] = []
        if name != layout.name:
            check_subsections(layout, name, f"the section {name!r} of a {cls.__name__}")
        if early_setup and not lib().qv_capabilities() & lib().QV_CAP_EARLY_SETUP:
            raise DeclarationError(
                f"{name}: early_setup: this QEMU has none; it came with QEMU 8.1"
            )
        wire = layout.wire
        self._fields = ffi.new("VMStateField[]", len(wire) + 1)
        for c_field, info in zip(self._fields, wire, strict=False):
            self._fill(c_field, info)
        lib().qv_end_of_list(ffi.addressof(self._fields, len(wire)))
        self.cdata = ffi.new(
            "VMStateDescription *",
            {
                "name": self._text(name),
                "version_id": version_id,
                "minimum_version_id": minimum_version_id,
                "priority": priority.number,
                "fields": self._fields,
            },
        )
        if asks_needed:
            self.cdata.needed = ffi.addressof(lib(), "qv_section_needed")
        lib().qv_complete(self.cdata, self._subsections(), unmigratable, early_setup)

    def _text(self, text: str) -> Any:
        pointer = ffi.new("char[]", text.encode())
        self._keep.append(pointer)
        return pointer

    def _subsections(self) -> Any:
        infos = self.cls.__layout__.subsections
        if not infos:
            return ffi.NULL
        made = ffi.new("VMStateDescription *[]", len(infos) + 1)
        for index, info in enumerate(infos):
            assert isinstance(info.type, StructType)
            sub, base = info.type.cls, self._base + info.offset
            layout = sub.__layout__
            description = VMStateDescription(
                *(sub, info.name, layout.version_id, layout.minimum_version_id), base=base
            )
            description.cdata.needed = self._needed(info, sub, base)
            self._keep.append(description)
            made[index] = description.cdata
        self._keep.append(made)
        return made

    def _needed(self, info: FieldInfo, sub: type[VMStruct], base: int) -> Any:
        needed = info.options.needed
        if needed is True:
            return ffi.addressof(lib(), "qv_always")
        function = lib().qv_needed_at(len(self.numbered)) if self._owned else ffi.NULL
        if function != ffi.NULL:
            self.numbered.append(info)
            return function
        if callable(needed):
            callback = needed_callback(self.cls, self._base, needed, info.attribute)
        else:
            callback = differs_callback(sub, base)
        self._keep.append(callback)
        return callback

    def _fill(self, c_field: Any, info: FieldInfo) -> None:
        """Set the members as the VMSTATE_* macros do."""
        where = f"{self.name}.{info.name}"
        options = info.options
        c_field.name = self._text(info.name)
        c_field.offset = self._base + info.data
        c_field.version_id = options.version_id
        if options.field_exists is not None:
            exists = options.field_exists
            callback = exists_callback(self.cls, self._base, exists, info.name)
            self._keep.append(callback)
            c_field.field_exists = callback
        match info.type:
            case Scalar():
                self._element(c_field, info.type, where)
                c_field.flags = lib().VMS_SINGLE
                self._limit(c_field, info, info.type, where)
            case ArrayType(is_buffer=True):
                c_field.offset += options.start
                c_field.flags = lib().VMS_BUFFER
                c_field.size = info.type.length - options.start
                if isinstance(options.size, int):
                    c_field.size = options.size
                c_field.info = _info("buffer", where)
            case ArrayType():
                self._array(c_field, info, info.type, where)
            case CountedType(is_buffer=True):
                self._sized(c_field, info, "buffer", where)
            case CountedType():
                self._count(c_field, info)
                c_field.flags |= self._element(c_field, info.type.element, where)
            case BitmapType():
                self._sized(c_field, info, "bitmap", where)
                if info.num is None:
                    c_field.size_offset = self._base + info.offset
            case UnusedType():
                self._count(c_field, info)
                c_field.offset = 0
                c_field.flags |= lib().VMS_BUFFER
                c_field.size = info.type.length
                c_field.info = _info("unused_buffer", where)
            case PointersType():
                c_field.offset = self._base + info.offset
                self._count(c_field, info)
                flags = self._element(c_field, info.type.element, where)
                c_field.flags |= flags | lib().VMS_ARRAY_OF_POINTER
                c_field.size = POINTER
                if info.num is None:
                    c_field.flags |= lib().VMS_ARRAY
                    c_field.num = info.type.length
            case ListType():
                self._list(c_field, info, info.type, where)
            case TmpType():
                c_field.info = lib().qv_own_info(b"tmp", False)
                c_field.size = info.type.size
                c_field.vmsd = self._nested(info.type.cls)
            case StructType():
                flags = self._element(c_field, info.type, where)
                c_field.flags = flags
                if options.struct_version_id is not None:
                    c_field.flags = lib().VMS_VSTRUCT
                    c_field.struct_version_id = options.struct_version_id

    def _nested(self, cls: type[VMStruct]) -> Any:
        nested = _nested(cls)
        self._keep.append(nested)
        return nested.cdata

    def _element(self, c_field: Any, type_: WireType, where: str) -> int:
        """Size and info or description of one element; its flag."""
        c_field.size = type_.size
        if isinstance(type_, StructType):
            c_field.vmsd = self._nested(type_.cls)
            flag: int = lib().VMS_STRUCT
            return flag
        if not isinstance(type_, Scalar):
            raise DeclarationError(f"{where}: C has no array of arrays here; make a layout class")
        c_field.info = _info(type_.info, where)
        return 0

    def _array(self, c_field: Any, info: FieldInfo, type_: ArrayType, where: str) -> None:
        element = type_.element
        num = type_.length - info.options.start
        if isinstance(info.options.num, int):
            num = info.options.num
        c_field.offset += info.options.start * element.size
        while isinstance(element, ArrayType):  # as VMSTATE_2DARRAY: rows one after another
            num *= element.length
            element = element.element
        c_field.num = num
        c_field.flags = lib().VMS_ARRAY | self._element(c_field, element, where)

    def _count(self, c_field: Any, info: FieldInfo) -> None:
        """Set the number that counts the elements; flags are complete but for the element's."""
        if info.num is None:
            return
        assert isinstance(info.num.type, Scalar)
        c_field.num_offset = self._base + info.num.offset
        c_field.flags = getattr(lib(), f"VMS_VARRAY_{_VARRAY[info.num.type.kind]}")
        if info.options.multiply != 1:
            c_field.flags |= lib().VMS_MULTIPLY_ELEMENTS
            c_field.num = info.options.multiply

    def _sized(self, c_field: Any, info: FieldInfo, kind: str, where: str) -> None:
        c_field.info = _info(kind, where)
        c_field.flags = lib().VMS_VBUFFER
        if info.num is not None:
            c_field.size_offset = self._base + info.num.offset
        if info.options.multiply != 1:
            c_field.flags |= lib().VMS_MULTIPLY
            c_field.size = info.options.multiply

    def _limit(self, c_field: Any, info: FieldInfo, type_: Scalar, where: str) -> None:
        if info.options.err_hint is not None:
            c_field.err_hint = self._text(info.options.err_hint)
        attribute: Any = getattr(self.cls, info.attribute)
        # What must equal the live value is within the limits, because that is.
        if type_.live or not isinstance(attribute, _state.Field) or type_.kind in "?d":
            return
        if (attribute.low, attribute.high) != (type_.low, type_.high):
            base_info = SCALARS[type_.kind].info
            c_field.info = lib().qv_own_info(base_info.encode(), True)
            c_field.start = attribute.high
            c_field.size_offset = attribute.low & _U64
            c_field.err_hint = self._text(where)

    def _list(self, c_field: Any, info: FieldInfo, type_: ListType, where: str) -> None:
        c_field.offset = self._base + info.offset
        c_field.info = lib().qv_own_info(type_.info.encode(), False)
        c_field.num = type_.length
        c_field.num_offset = type_.data_at
        c_field.size = type_.element.size
        c_field.err_hint = self._text(where)
        if not type_.key:
            c_field.vmsd = self._nested(type_.element.cls)
            return
        key, value = type_.element.cls.__layout__.fields
        assert isinstance(value.type, StructType)
        c_field.start = value.offset
        both = ffi.new("VMStateDescription[2]")
        both[0] = self._nested(value.type.cls)[0]
        if isinstance(key.type, StructType):
            both[1] = self._nested(key.type.cls)[0]
        self._keep.append(both)
        c_field.vmsd = both


def descriptions_of(cls: type[VMStruct]) -> dict[tuple[Any, ...], VMStateDescription]:
    """Those that were made of ``cls``, each by what it was made with; they live as long."""
    if "__descriptions__" not in cls.__dict__:
        cls.__descriptions__ = {}
    return cls.__descriptions__


def _nested(cls: type[VMStruct]) -> VMStateDescription:
    """One description per layout class, as C devices share theirs."""
    of_class = descriptions_of(cls)
    if () not in of_class:
        layout = cls.__layout__
        of_class[()] = VMStateDescription(
            cls, layout.name, layout.version_id, layout.minimum_version_id
        )
    return of_class[()]


def _info(name: str, where: str) -> Any:
    info = lib().qv_own_info(name.encode(), False)
    if info == ffi.NULL:
        info = lib().qv_vmstate_info(name.encode())
    if info == ffi.NULL:
        raise DeclarationError(f"{where}: this QEMU has no vmstate_info_{name}")
    return info
