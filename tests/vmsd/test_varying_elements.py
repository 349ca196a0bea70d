# SPDX-License-Identifier: GPL-2.0-or-later
"""The description of an array whose elements vary in size is that of each element.

QEMU describes an array by its first element, unless vmsd_can_compress() (migration/vmstate.c) says
that the elements differ.  Every state is read back here by its description: by this package, and by
the scripts/analyze-migration.py of the QEMU tree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    Bitmap,
    Device,
    GTree,
    Migratable,
    Mutex,
    PointerArray,
    QList,
    QTailQ,
    Subsection,
    Tmp,
    Unused,
    VArray,
    VBuffer,
    VMStruct,
    capabilities,
    describe,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)
from qemu_vmstate.bindings.native import ffi
from qemu_vmstate.device.device import staging_of
from qemu_vmstate.stream.decoder import Field
from qemu_vmstate.stream.reader import read
from qemu_vmstate.vmsd.description import walked
from qemu_vmstate.vmsd.dump import dump_device

from ..c_reference import tree_source
from ..saved import file_of

AFTER = 0xAABBCCDD

# 10.0 and later describe the last element of an array without its index.
LAST_HAS_INDEX = int(capabilities().qemu.split(".")[0]) < 10


class Entry(VMStruct, name="entry"):
    size_key: u32 = field(maximum=64)
    key: VBuffer[Literal[64]] = field(size="size_key")
    value: u64 = 0


class Table(VMStruct, name="table"):
    num_table: u32 = 0
    table: VArray[Entry, Literal[1024]] = field(num="num_table")


class Cells(VMStruct, name="cells"):
    num_cells: u8 = 0
    cells: VArray[u16, Literal[5]] = field(num="num_cells")


class Outer(VMStruct, name="outer"):
    before: u8 = 0
    cells: Cells = zeroed()


class Bits(VMStruct, name="bits"):
    bits: u32 = 0
    bitmap: Bitmap[Literal[200]] = field(size="bits")


class Gaps(VMStruct, name="gaps"):
    gaps: u8 = field(maximum=3)
    gap: Unused[Literal[2]] = field(num="gaps")


class Point(VMStruct, name="point"):
    x: u8 = 0


class Tail(VMStruct, name="tail"):
    tail: QTailQ[Point, Literal[4]] = zeroed()


class Singly(VMStruct, name="singly"):
    list: QList[Point, Literal[4]] = zeroed()


class Tree(VMStruct, name="tree"):
    tree: GTree[u64, Point, Literal[4]] = zeroed()


class Some(VMStruct, name="some"):
    num_pointers: u8 = 0
    pointers: PointerArray[u16, Literal[3]] = field(num="num_pointers")


class OfVersion(VMStruct, name="of version"):
    cells: Cells = field(struct_version_id=1)


class OfTmp(VMStruct, name="of tmp"):
    tmp: Tmp[Cells] = zeroed()


class More(VMStruct, name="sub/more"):
    more: u8 = 0


class Sub(VMStruct, name="sub"):
    first: u8 = 0
    more: Subsection[More] = field()


class SubOfVersion(VMStruct, name="sub of version"):
    sub: Sub = field(struct_version_id=1)


class Asked(VMStruct, name="asked"):
    has_value: bool = False
    value: u8 = field(field_exists=lambda state, _: bool(state.has_value))


class AskedInTmp(VMStruct, name="asked in tmp"):
    tmp: Tmp[Asked] = zeroed()


def an_entry(key: bytes, value: int) -> Entry:
    return Entry(key=key, value=value)


def a_table(*keys: bytes) -> Table:
    return Table(table=[an_entry(key, len(key)) for key in keys])


def some_cells(*numbers: int) -> Cells:
    return Cells(cells=numbers)


def points(*numbers: int) -> list[Point]:
    return [Point(x=each) for each in numbers]


def entry_found(key: bytes, value: int) -> dict[str, Any]:
    return {"size_key": len(key), "key": key, "value": value}


def table_found(*keys: bytes) -> dict[str, Any]:
    return {"num_table": len(keys)} | listed(table=[entry_found(key, len(key)) for key in keys])


def cells_found(*numbers: int) -> dict[str, Any]:
    return {"num_cells": len(numbers)} | listed(cells=list(numbers))


def listed(**arrays: list[Any]) -> dict[str, Any]:
    """Return arrays by name; QEMU describes none without elements, and one element as no array."""
    return {name: each if len(each) > 1 else each[0] for name, each in arrays.items() if each}


def in_tree(*numbers: int) -> list[Any] | None:
    return [{"key": each, "value": {"x": each}} for each in numbers] or None


def in_list(*numbers: int) -> list[Any] | None:
    return [{"x": each} for each in numbers] or None


ELEMENTS: dict[str, tuple[type[VMStruct], Sequence[Any], Sequence[Any]]] = {
    "entries": (
        Entry,
        [an_entry(b"", 1), an_entry(b"a key", 2**63), an_entry(b"b", 3)],
        [entry_found(b"", 1), entry_found(b"a key", 2**63), entry_found(b"b", 3)],
    ),
    "two entries": (
        Entry,
        [an_entry(b"long", 1), an_entry(b"", 2)],
        [entry_found(b"long", 1), entry_found(b"", 2)],
    ),
    "counted numbers": (
        Cells,
        [some_cells(), some_cells(1, 2, 3), some_cells(4), some_cells(5, 6)],
        [cells_found(), cells_found(1, 2, 3), cells_found(4), cells_found(5, 6)],
    ),
    "nested structs": (
        Outer,
        [Outer(before=1, cells=some_cells(2)), Outer(before=3), Outer(cells=some_cells(4, 5))],
        [
            {"before": 1, "cells": cells_found(2)},
            {"before": 3, "cells": cells_found()},
            {"before": 0, "cells": cells_found(4, 5)},
        ],
    ),
    "nested arrays": (
        Table,
        [a_table(), a_table(b"aa", b"", b"a"), a_table(b"b"), a_table(b"cc", b"cccc")],
        [
            *(table_found(), table_found(b"aa", b"", b"a"), table_found(b"b")),
            table_found(b"cc", b"cccc"),
        ],
    ),
    "bitmaps": (
        Bits,
        [Bits(bits=1, bitmap=[1, 0, 0, 0]), Bits(), Bits(bits=65, bitmap=[2, 1, 0, 0])],
        [{"bits": 1, "bitmap": [1]}, {"bits": 0, "bitmap": []}, {"bits": 65, "bitmap": [2, 1]}],
    ),
    "unused bytes": (
        Gaps,
        [Gaps(gaps=2), Gaps(), Gaps(gaps=1)],
        [{"gaps": 2, "unused": [b"\0\0"] * 2}, {"gaps": 0}, {"gaps": 1, "unused": b"\0\0"}],
    ),
    "tail queues": (
        Tail,
        [Tail(), Tail(tail=points(1, 2)), Tail(tail=points(3))],
        [{"tail": in_list()}, {"tail": in_list(1, 2)}, {"tail": in_list(3)}],
    ),
    "lists": (
        Singly,
        [Singly(list=points(1, 2)), Singly(), Singly(list=points(3))],
        [{"list": in_list(1, 2)}, {"list": in_list()}, {"list": in_list(3)}],
    ),
    "trees": (
        Tree,
        [Tree(), Tree(tree={1: Point(x=1), 2: Point(x=2)}), Tree(tree={3: Point(x=3)})],
        [{"tree": in_tree()}, {"tree": in_tree(1, 2)}, {"tree": in_tree(3)}],
    ),
    "pointers": (
        Some,
        [Some(pointers=[1, 2]), Some(), Some(pointers=[3])],
        [
            {"num_pointers": 2, "pointers": [1, 2]},
            *({"num_pointers": 0}, {"num_pointers": 1, "pointers": 3}),
        ],
    ),
    "structs of a version": (
        OfVersion,
        [OfVersion(cells=some_cells(1, 2)), OfVersion(), OfVersion(cells=some_cells(3))],
        [{"cells": cells_found(1, 2)}, {"cells": cells_found()}, {"cells": cells_found(3)}],
    ),
    "temporary structs": (
        OfTmp,
        [OfTmp(tmp=some_cells(1, 2)), OfTmp(), OfTmp(tmp=some_cells(3))],
        [{"tmp": cells_found(1, 2)}, {"tmp": cells_found()}, {"tmp": cells_found(3)}],
    ),
    "subsections of a version": (
        SubOfVersion,
        [SubOfVersion(), SubOfVersion(sub=Sub(first=1, more=More(more=2)))],
        [{"sub": {"first": 0}}, {"sub": {"first": 1, "sub/more": {"more": 2}}}],
    ),
    "predicates in a temporary struct": (
        AskedInTmp,
        [AskedInTmp(), AskedInTmp(tmp=Asked(has_value=True, value=7))],
        [{"tmp": {"has_value": False}}, {"tmp": {"has_value": True, "value": 7}}],
    ),
}


@pytest.fixture(params=["packed", "walked"], autouse=True)
def packed(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run each test with packed structs, and with structs that QEMU walks."""
    if request.param == "packed":
        yield True
    else:
        with walked():
            yield False


def device_of(state: VMStruct) -> Any:
    """Return a device whose state is a layout class instance."""
    cls: Any = type(state)

    class Dev(Device, name="dev"):
        part: Migratable[Mutex[cls]]

    device: Any = Dev()
    with device.part.lock() as part:
        part.restore_migrated_state_mut(state, 1)
    return device


def array_of(element: type[VMStruct], values: Sequence[Any], counted: bool) -> Any:
    """Return a device with an array of such elements and, behind it, ``AFTER``."""
    length = len(values)

    class Fixed(VMStruct, name="fixed"):
        elements: Array[element, Literal[length]]  # type: ignore[valid-type]
        after: u32 = AFTER

    class Counted(VMStruct, name="counted"):
        num: u16 = 0
        elements: VArray[element, Literal[8]] = field(num="num")  # type: ignore[valid-type]
        after: u32 = AFTER

    return device_of(Counted(elements=values) if counted else Fixed(elements=values))


def plain(field: Field) -> Any:
    """Return the value of a field as numbers, bytes, lists and dicts."""
    if field.children and field.children[0].name == "[0]":
        return [plain(child) for child in field.children]
    if field.children:
        return {child.name: plain(child) for child in field.children}
    return list(field.value) if isinstance(field.value, tuple) else field.value


def inspected(file: Path) -> Any:
    """Return the values of the state that this package reads."""
    (part,) = read(file).section("dev").fields or ()
    return plain(part)


def analyzed(file: Path) -> Any:
    """Return the values of the section that QEMU's script prints."""
    script = tree_source() / "scripts" / "analyze-migration.py"
    command = [sys.executable, str(script), "-f", str(file), "-d", "state"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]
    return json.loads(done.stdout)["dev (5)"]


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("counted", [False, True])
def test_each_element_is_described(name: str, counted: bool, tmp_path: Path) -> None:
    element, values, found = ELEMENTS[name]
    file = file_of(array_of(element, values, counted), tmp_path / "vm.mig")
    head = {"num": len(values)} if counted else {}
    assert inspected(file) == head | {"elements": found, "after": AFTER}
    assert analyzed(file)["part"]["after"] == f"{AFTER:#x}"


def test_the_script_prints_the_values_of_each_element(tmp_path: Path) -> None:
    device = device_of(a_table(b"", b"abc", b"d"))
    assert analyzed(file_of(device, tmp_path / "vm.mig"))["part"] == {
        "num_table": "0x00000003",
        "table": [
            {"size_key": f"0x0000000{size}", "key": key, "value": f"0x000000000000000{size}"}
            for size, key in ((0, ""), (3, "61 62 63"), (1, "64"))
        ],
    }


# ---------------------------------------------------------------------------- the JSON by itself


def entry_described(size: int, **more: int) -> dict[str, Any]:
    fields = [
        {"name": "size_key", "type": "uint32", "size": 4},
        {"name": "key", "type": "buffer", "size": size},
        {"name": "value", "type": "uint64", "size": 8},
    ]
    inner = {"vmsd_name": "entry", "version": 1, "fields": fields}
    return {"name": "table", "type": "struct", "struct": inner, "size": 12 + size} | more


def test_an_array_has_an_entry_for_each_element() -> None:
    (part,) = describe(device_of(a_table(b"", b"abc", b"d")))["fields"]
    last = {"index": 2} if LAST_HAS_INDEX else {}
    assert part["struct"]["fields"] == [
        {"name": "num_table", "type": "uint32", "size": 4},
        entry_described(0, index=0),
        entry_described(3, index=1),
        entry_described(1, **last),
    ]
    assert part["size"] == 4 + 12 + 15 + 13
    (part,) = describe(device_of(a_table(b"abc")))["fields"]
    assert part["struct"]["fields"][1:] == [entry_described(3)]
    (part,) = describe(device_of(a_table()))["fields"]
    assert len(part["struct"]["fields"]) == 1


def test_an_array_in_an_element_is_described_by_its_first_if_its_own_are_alike() -> None:
    (part,) = describe(array_of(Cells, [some_cells(1, 2), some_cells(3, 4, 5)], False))["fields"]
    inner = [each["struct"]["fields"][1] for each in part["struct"]["fields"][:2]]
    assert inner == [
        {"name": "cells", "array_len": length, "type": "uint16", "size": 2} for length in (2, 3)
    ]


class Inside(VMStruct, name="inside"):
    entry: Entry = zeroed()
    points: Array[Point, Literal[3]] = zeroed()
    num: u8 = 0
    counted: VArray[Point, Literal[3]] = field(num="num")


def test_what_is_no_array_of_such_elements_is_described_as_before() -> None:
    state = Inside(entry=an_entry(b"ab", 1), counted=points(1, 2))
    (part,) = describe(device_of(state))["fields"]
    alone = {name: each for name, each in entry_described(2).items() if name != "index"}
    assert part["struct"]["fields"] == [
        alone | {"name": "entry"},
        {"name": "points", "array_len": 3, "type": "struct", "struct": POINT, "size": 1},
        {"name": "num", "type": "uint8", "size": 1},
        {"name": "counted", "array_len": 2, "type": "struct", "struct": POINT, "size": 1},
    ]


POINT = {
    "vmsd_name": "point",
    "version": 1,
    "fields": [{"name": "x", "type": "uint8", "size": 1}],
}


def test_a_dump_has_the_fields_of_the_declaration() -> None:
    state = dump_device(staging_of(device_of(Table())).description)["Description"]["Fields"][0]
    num, table = state["Description"]["Fields"]
    assert num["field"] == "num_table"
    assert [table["field"], table["field_exists"]] == ["table", False]
    fields = table["Description"]["Fields"]
    assert [each["field"] for each in fields] == ["size_key", "key", "value"]
    assert not any(each["field_exists"] for each in fields)


# ------------------------------------------------------------------------------ arrays of a device


class OfEntries(Device, name="dev"):
    num: u8 = 0
    entries: VArray[Entry, Literal[4]] = field(num="num")
    states: Array[Migratable[Mutex[Cells]], Literal[3]]
    pointers: PointerArray[Entry, Literal[4]]
    after: u32 = AFTER


def test_fields_of_the_section_itself(tmp_path: Path) -> None:
    device: Any = OfEntries(entries=[an_entry(b"", 1), an_entry(b"abc", 2)])
    for index, state in enumerate(device.states):
        with state.lock() as part:
            part.cells = range(index)
    device.pointers = [an_entry(b"x" * size, size) for size in (2, 0, 4, 1)]
    file = file_of(device, tmp_path / "vm.mig")
    assert {one.name: plain(one) for one in read(file).section("dev").fields or ()} == {
        "num": 2,
        "entries": [entry_found(b"", 1), entry_found(b"abc", 2)],
        "states": [cells_found(), cells_found(0), cells_found(0, 1)],
        "pointers": [entry_found(b"x" * size, size) for size in (2, 0, 4, 1)],
        "after": AFTER,
    }
    assert analyzed(file)["after"] == f"{AFTER:#x}"


@pytest.mark.parametrize("present", range(16))
def test_pointers_some_of_which_are_null(present: int, tmp_path: Path) -> None:
    sizes = [size if present >> bit & 1 else None for bit, size in enumerate((2, 0, 4, 1))]
    device: Any = OfEntries()
    device.pointers = [None if size is None else an_entry(b"x" * size, size) for size in sizes]
    fields = read(file_of(device, tmp_path / "vm.mig")).section("dev").fields or ()
    found = {one.name: plain(one) for one in fields}
    assert found["pointers"] == [
        None if size is None else entry_found(b"x" * size, size) for size in sizes
    ]
    assert found["after"] == AFTER


# ---------------------------------------------------------------------------- versions and packing


class Newer(VMStruct, name="newer", version_id=70):
    number: u8 = 0
    old: Array[Cells, Literal[2]] = field(version_id=63)
    new: Array[Cells, Literal[2]] = field(version_id=70)


class OfVersions(Device, name="dev", version_id=70):
    number: u8 = 0
    old: Array[Cells, Literal[2]] = field(version_id=63)
    new: Array[Cells, Literal[2]] = field(version_id=70)


def test_an_array_is_loaded_from_its_version_on() -> None:
    old, new = b"\1\0\5\0", b"\0\1\0\6"
    for version, data in ((62, b"\7"), (63, b"\7" + old), (69, b"\7" + old)):
        device = OfVersions()
        load(device, data, version)
        assert [list(each.cells) for each in device.old] == (
            [[5], []] if version > 62 else [[], []]
        )
        assert [list(each.cells) for each in device.new] == [[], []]
    load(device, b"\7" + old + new, 70)
    assert save(device) == b"\7" + old + new


class Old(VMStruct, name="old", version_id=63):
    old: Array[Cells, Literal[2]] = field(version_id=63)


def test_a_struct_with_such_arrays_is_packed(packed: bool) -> None:
    for cls, can_be in ((Table, True), (Old, True), (Newer, False)):
        (nested,) = staging_of(device_of(cls())).description.nested
        assert (nested.packer != ffi.NULL) == (packed and can_be)
