# SPDX-License-Identifier: GPL-2.0-or-later
"""Making the C structs of a layout class: its description, and nested ones without hooks.

The members are those of include/migration/vmstate.h in the tree that the bridge
was built for.  The bridge sets the members that only some QEMU versions have.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..errors import DeclarationError
from ..layout.checks import check_subsections
from ..layout.vmstruct import VMStruct
from ..wire.base import FieldWriter
from ..wire.types import SCALARS, FieldInfo, Scalar, StructType
from .predicates import differs, exists_callback, needed_callback
from .priority import MigrationPriority

__all__ = ["VMStateDescription", "are_packed", "descriptions_of", "walked"]

_packs = ContextVar("_packs", default=True)
_VARRAY = {"B": "UINT8", "H": "UINT16", "I": "UINT32", "i": "INT32"}


def _kept_text(text: str, keep: list[Any]) -> Any:
    """Return ``text`` as a C string that lives as long as ``keep`` does."""
    keep.append(ffi.new("char[]", text.encode()))
    return keep[-1]


@contextlib.contextmanager
def walked() -> Iterator[None]:
    """Let QEMU walk the structs of all descriptions that are made in this context.

    The bytes, the JSON and the errors are the same, so only comparisons need it.
    """
    token = _packs.set(False)
    try:
        yield
    finally:
        _packs.reset(token)


def are_packed() -> bool:
    """Return whether a description that is made now has packed structs: not in :func:`walked`."""
    return _packs.get()


class VMStateDescription:
    """A ``VMStateDescription`` of include/migration/vmstate.h in C memory.

    It has the fields of the layout class ``cls`` in their order.  Nested layout classes are
    ``VMS_STRUCT``, or packed: with an info that saves and loads a struct as a whole, with the same
    bytes and JSON (cdefs/bridge/struct_packer.h).  ``name``, ``version_id``,
    ``minimum_version_id``, ``priority``, ``unmigratable`` and ``early_setup`` are the members of
    those names.  With ``asks_needed``, ``needed`` is the hook of the object.  ``base`` is
    the offset of the struct from C's opaque.  With ``owned``, opaque is an object's
    staging struct, and the object decides which subsections are needed.  With ``nested``, it may be
    that of an array's elements: if they can differ in size, QEMU describes each.  ``cdata``
    is the C struct, which lives as long as this object, as all that it points to.
    ``nested`` are the descriptions that its fields refer to, ``subsections`` those of
    its subsections.  ``packer``, a ``QvPacker *``, packs the struct, or is ``NULL`` if QEMU has
    to walk it.

    Raises ``DeclarationError`` for what QEMU cannot walk or this version lacks.
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
        nested: bool = False,
    ) -> None:
        layout = cls.__layout__
        self.name = name
        self.version_id = version_id
        self.minimum_version_id = minimum_version_id
        self.cls = cls
        self._base = base
        self._owned = owned
        self.packer: Any = ffi.NULL
        self.numbered: list[FieldInfo] = []
        self.object_classes: dict[Any, Any] = {}
        self._keep: list[Any] = []
        self.nested: list[VMStateDescription] = []
        self.subsections: list[VMStateDescription] = []
        if name != layout.name:
            check_subsections(layout, name, f"the section {name!r} of a {cls.__name__}")
        if early_setup and not lib().qv_capabilities() & lib().QV_CAP_EARLY_SETUP:
            raise DeclarationError(
                f"{name}: early_setup: this QEMU does not have it; QEMU has it since 8.0"
            )
        wire = layout.wire
        varying = int(nested and layout.varies)
        self._fields = ffi.new("VMStateField[]", len(wire) + varying + 1)
        for c_field, info in zip(self._fields, wire, strict=False):
            self._describe(c_field, info)
        if varying:
            lib().qv_set_varying(ffi.addressof(self._fields, len(wire)))
        lib().qv_end_of_list(ffi.addressof(self._fields, len(wire) + varying))
        self.cdata = ffi.new(
            "VMStateDescription *",
            {
                "name": _kept_text(name, self._keep),
                "version_id": version_id,
                "minimum_version_id": minimum_version_id,
                "priority": priority.number,
                "fields": self._fields,
            },
        )
        if asks_needed:
            self.cdata.needed = ffi.addressof(lib(), "qv_section_needed")
        lib().qv_complete(self.cdata, self._subsections(), unmigratable, early_setup)

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
            self.subsections.append(description)
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
            callback = needed_callback(sub, base, differs, "")
        self._keep.append(callback)
        return callback

    def _describe(self, c_field: Any, info: FieldInfo) -> None:
        c_field.name = _kept_text(info.name, self._keep)
        c_field.offset = self._base + info.data
        c_field.version_id = info.options.version_id
        exists = info.options.field_exists
        if exists is not None:
            callback = exists_callback(self.cls, self._base, exists, info.name)
            self._keep.append(callback)
            c_field.field_exists = callback
        where = f"{self.name}.{info.name}"
        writer = _FieldWriter(c_field, self._base, where, self.cls, self._keep, self.nested)
        info.type.describe(writer, info)
        writer.pack()

    def make_packer(self) -> None:
        """Set ``packer``, unless QEMU has to walk the struct."""
        made = lib().qv_packer_new(self.cdata, self.cls.__layout__.size)
        if made != ffi.NULL:
            self.packer = ffi.gc(made, lib().qv_packer_free)


class _FieldWriter(FieldWriter):
    """A ``VMStateField`` that its wire type fills.

    ``nested`` owns the descriptions that the field points to, ``keep`` all else.
    """

    def __init__(
        self,
        field: Any,
        base: int,
        where: str,
        cls: type[VMStruct],
        keep: list[Any],
        nested: list[VMStateDescription],
    ) -> None:
        self.field = field
        self.base = base
        self.where = where
        self._cls = cls
        self._keep = keep
        self._nested = nested
        self._struct: VMStateDescription | None = None

    def flag(self, name: str) -> None:
        self.field.flags |= getattr(lib(), f"VMS_{name}")

    def info(self, name: str, *, bounded: bool = False) -> None:
        own = lib().qv_own_info(name.encode(), bounded, self._text(self.where))
        if own != ffi.NULL:
            self._keep.append(ffi.gc(own, lib().qv_free))
        found = own if own != ffi.NULL else lib().qv_vmstate_info(name.encode())
        if found == ffi.NULL:
            raise DeclarationError(f"{self.where}: this QEMU has no vmstate_info_{name}")
        self.field.info = found

    def err_hint(self, hint: str) -> None:
        lib().qv_set_err_hint(ffi.addressof(self.field), self._text(hint))

    def _text(self, text: str) -> Any:
        return _kept_text(text, self._keep)

    def nested(self, cls: type[Any]) -> Any:
        self._nested.append(_nested(cls))
        return self._nested[-1].cdata

    def struct(self, cls: type[Any]) -> None:
        self.field.vmsd = self.nested(cls)
        self.flag("STRUCT")
        self._struct = self._nested[-1]

    def pack(self) -> None:
        """Let the structs of the field be packed, if the field has structs that can be."""
        if self._struct is None or self._struct.packer == ffi.NULL:
            return
        info = lib().qv_packer_use(self._struct.packer, ffi.addressof(self.field))
        if info != ffi.NULL:
            self._keep.append(ffi.gc(info, lib().qv_free))

    def entry_descriptions(self, value: type[Any], key: type[Any] | None) -> Any:
        both = ffi.new("VMStateDescription[2]")
        both[0] = self.nested(value)[0]
        if key is not None:
            both[1] = self.nested(key)[0]
        self._keep.append(both)
        return both

    def count(self, info: FieldInfo) -> None:
        if info.num is None:
            return
        assert isinstance(info.num.type, Scalar)
        self.field.num_offset = self.base + info.num.offset
        self.flag(f"VARRAY_{_VARRAY[info.num.type.kind]}")
        if info.options.multiply != 1:
            flag = lib().qv_multiply_elements()
            if not flag:
                raise DeclarationError(
                    f"{self.where}: multiply: this QEMU does not have it; QEMU has it up to 11.0"
                )
            self.field.flags |= flag
            self.field.num = info.options.multiply

    def sized(self, info: FieldInfo, name: str) -> None:
        self.info(name)
        self.flag("VBUFFER")
        if info.num is not None:
            # C reads an int32_t, which is where the number is if the host is little-endian.
            high = info.num.type.size - 4 if sys.byteorder == "big" else 0
            self.field.size_offset = self.base + info.num.offset + high
        if info.options.multiply != 1:
            self.flag("MULTIPLY")
            self.field.size = info.options.multiply

    def limits(self, info: FieldInfo) -> tuple[int, int] | None:
        attribute: Any = getattr(self._cls, info.attribute)
        own = SCALARS.get(attribute.kind) if isinstance(attribute, _state.Field) else None
        if own is None or not own.is_whole:
            return None
        limits = attribute.low, attribute.high
        return None if limits == (own.low, own.high) else limits


def descriptions_of(cls: type[VMStruct]) -> dict[tuple[Any, ...], VMStateDescription]:
    """Return the descriptions of ``cls``, by the arguments of each; ``cls`` keeps them alive."""
    if "__descriptions__" not in cls.__dict__:
        cls.__descriptions__ = {}
    return cls.__descriptions__


def _nested(cls: type[VMStruct]) -> VMStateDescription:
    """Return the one description of a nested ``cls``, which all its users share, as in C."""
    of_class, key = descriptions_of(cls), (are_packed(),)
    if key not in of_class:
        layout = cls.__layout__
        versions = layout.version_id, layout.minimum_version_id
        made = VMStateDescription(cls, layout.name, *versions, nested=True)
        if are_packed():
            made.make_packer()
        # Only now, because another thread that finds it uses its packer.
        of_class.setdefault(key, made)
    return of_class[key]
