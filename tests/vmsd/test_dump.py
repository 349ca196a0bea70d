# SPDX-License-Identifier: GPL-2.0-or-later
"""The form of ``-dump-vmstate`` for every kind of field that refers to another description."""

from __future__ import annotations

from typing import Any, Literal

from qemu_vmstate import (
    Array,
    Device,
    GTree,
    PointerArray,
    QList,
    QTailQ,
    Subsection,
    VArray,
    VMStruct,
    field,
    u8,
    u32,
    u64,
)
from qemu_vmstate.device.device import staging_of
from qemu_vmstate.vmsd.dump import dump_device


class Deep(VMStruct, name="entry/deep"):
    deep: u8 = 0


class Entry(VMStruct, name="entry"):
    value: u32 = 0
    deep: Subsection[Deep]


class Dev(Device, name="dev"):
    n: u32 = 0
    one: Entry
    some: Array[Entry, Literal[3]]
    counted: VArray[Entry, Literal[5]] = field(num="n")
    pointers: PointerArray[Entry, Literal[2]]
    queue: QTailQ[Entry, Literal[4]]
    list: QList[Entry, Literal[4]]
    tree: GTree[u64, Entry, Literal[4]]


def test_each_field_has_the_description_that_it_refers_to() -> None:
    dump = dump_device(staging_of(Dev()).description)
    fields: dict[str, Any] = {field["field"]: field for field in dump["Description"]["Fields"]}
    assert list(fields) == ["n", "one", "some", "counted", "pointers", "queue", "list", "tree"]
    for name in list(fields)[1:]:
        entry = fields[name]["Description"]
        assert (entry["name"], entry["Fields"][0]["field"]) == ("entry", "value"), name
        (deep,) = entry["Subsections"]
        assert deep["name"] == "entry/deep"
        assert deep["Fields"] == [
            {"field": "deep", "version_id": 0, "field_exists": False, "size": 1}
        ]
    # VMS_ARRAY is a flag of arrays of a constant length only.
    numbers = {name: field["num"] for name, field in fields.items() if "num" in field}
    assert numbers == {"some": 3, "pointers": 2}
