# SPDX-License-Identifier: GPL-2.0-or-later
"""The description of a device in the form of QEMU's ``-dump-vmstate``.

``dump_vmstate_vmsd()`` (migration/savevm.c) writes this form for the devices that are QOM classes.
It is static, so the same walk over the same C structs is done here, but for what the declaration
does not have.
"""

from __future__ import annotations

from typing import Any

from ..bindings.native import ffi, lib
from .description import VMStateDescription

__all__ = ["dump_device"]


def dump_device(description: VMStateDescription) -> dict[str, Any]:
    """Return the object that ``-dump-vmstate`` has for a device."""
    return {
        "Name": description.name,
        "version_id": description.version_id,
        "minimum_version_id": description.minimum_version_id,
        "Description": _dump_vmsd(description),
    }


def _dump_vmsd(description: VMStateDescription) -> dict[str, Any]:
    vmsd = description.cdata
    nested = {int(ffi.cast("uintptr_t", each.cdata.fields)): each for each in description.nested}
    dump: dict[str, Any] = {
        "name": _text(vmsd.name),
        "version_id": vmsd.version_id,
        "minimum_version_id": vmsd.minimum_version_id,
        "Fields": [],
    }
    field = vmsd.fields
    while field.name != ffi.NULL:
        # As QEMU, it leaves out the conditions.
        if not field.flags & lib().VMS_MUST_EXIST:
            dump["Fields"].append(_dump_vmsf(field, nested))
        field += 1
    if description.subsections:
        dump["Subsections"] = [_dump_vmsd(subsection) for subsection in description.subsections]
    return dump


def _dump_vmsf(field: Any, nested: dict[int, VMStateDescription]) -> dict[str, Any]:
    dump: dict[str, Any] = {
        "field": _text(field.name),
        "version_id": field.version_id,
        "field_exists": lib().qv_field_asks(ffi.addressof(field[0])),
    }
    # QEMU 7.2 leaves it out; its checker ignores it.
    if field.flags & lib().VMS_ARRAY:
        dump["num"] = field.num
    dump["size"] = field.size
    if field.vmsd != ffi.NULL:
        dump["Description"] = _dump_vmsd(nested[int(ffi.cast("uintptr_t", field.vmsd.fields))])
    return dump


def _text(pointer: Any) -> str:
    text = ffi.string(pointer)
    assert isinstance(text, bytes)
    return text.decode()
