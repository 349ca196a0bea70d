# SPDX-License-Identifier: GPL-2.0-or-later
"""describe(): the JSON that QEMU's writer emits, field by field.

The expected form follows from vmsd_desc_field_start/end in migration/vmstate.c: an array that can
be compressed has one entry with ``array_len`` and the size of its first element; an array of one
element has no ``array_len``.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    BqlCell,
    BqlRefCell,
    Buffer,
    Device,
    Migratable,
    Mutex,
    Subsection,
    VMStruct,
    capabilities,
    describe,
    field,
    i8,
    i16,
    i32,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)


class Pair(VMStruct, name="pair", version_id=7):
    x: u8 = 0
    y: u32 = 0


class Timer(Device, name="timer", version_id=4):
    b: bool = False
    u1: u8 = 0
    u2: u16 = 0
    u4: u32 = 0
    u8_: u64 = 0
    i1: i8 = 0
    i2: i16 = 0
    i4: i32 = 0
    i8_: i64 = 0
    words: Array[u16, Literal[5]] = zeroed()
    one: Array[u16, Literal[1]] = zeroed()
    grid: Array[Array[i32, Literal[3]], Literal[2]] = zeroed()
    raw: Buffer[Literal[9]] = zeroed()
    pair: Pair = zeroed()
    pairs: Array[Pair, Literal[3]] = zeroed()
    by_c: Migratable[Mutex[Pair]]
    borrowed: Migratable[BqlRefCell[Pair]]
    level: BqlCell[u16]


def scalar(name: str, type_: str, size: int) -> dict[str, Any]:
    return {"name": name, "type": type_, "size": size}


PAIR = {
    "vmsd_name": "pair",
    "version": 7,
    "fields": [scalar("x", "uint8", 1), scalar("y", "uint32", 4)],
}
EXPECTED = {
    "vmsd_name": "timer",
    "version": 4,
    "fields": [
        scalar("b", "bool", 1),
        scalar("u1", "uint8", 1),
        scalar("u2", "uint16", 2),
        scalar("u4", "uint32", 4),
        scalar("u8_", "uint64", 8),
        scalar("i1", "int8", 1),
        scalar("i2", "int16", 2),
        scalar("i4", "int32", 4),
        scalar("i8_", "int64", 8),
        {"name": "words", "array_len": 5, "type": "uint16", "size": 2},
        {"name": "one", "type": "uint16", "size": 2},
        {"name": "grid", "array_len": 6, "type": "int32", "size": 4},
        {"name": "raw", "type": "buffer", "size": 9},
        {"name": "pair", "type": "struct", "struct": PAIR, "size": 5},
        {"name": "pairs", "array_len": 3, "type": "struct", "struct": PAIR, "size": 5},
        {"name": "by_c", "type": "struct", "struct": PAIR, "size": 5},
        {"name": "borrowed", "type": "struct", "struct": PAIR, "size": 5},
        scalar("level", "uint16", 2),
    ],
}


def test_description_is_that_of_a_c_device_with_these_fields() -> None:
    assert describe(Timer()) == EXPECTED


def test_sizes_in_the_description_add_up_to_the_section() -> None:
    total = sum(f["size"] * f.get("array_len", 1) for f in EXPECTED["fields"])  # type: ignore[attr-defined]
    assert total == len(save(Timer())) == 31 + 10 + 2 + 24 + 9 + 5 + 15 + 5 + 5 + 2


def test_description_does_not_depend_on_the_values() -> None:
    full = Timer(b=True, u8_=2**64 - 1, words=[0xFFFF] * 5, raw=b'"}]{\\ \0\n\t')
    assert describe(full) == EXPECTED


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "Zähler", "a/b", "日本"])
def test_name_comes_back_as_it_was_given(name: str) -> None:
    class Named(Device, name=name):
        a: u8 = 0

    assert describe(Named())["vmsd_name"] == name


def test_description_of_a_state_by_itself() -> None:
    assert describe(Pair()) == PAIR
    assert describe(Migratable(Mutex(Pair()))) == PAIR


def test_two_devices_of_a_class_share_a_description_and_no_state() -> None:
    one, two = Timer(u1=1), Timer(u1=2)
    assert describe(one) == describe(two)
    assert save(one)[1] == 1
    assert save(two)[1] == 2


def test_qemu_version_is_the_one_it_was_built_for() -> None:
    able = capabilities()
    major, minor = (int(n) for n in able.qemu.split(".")[:2])
    assert (major, minor) >= (7, 2)
    assert able.errp_hooks == ((major, minor) >= (10, 2))
    assert able.early_setup == (major >= 10)
    assert able.in_vm is False


def test_classes_that_nobody_has_are_released() -> None:
    def made() -> weakref.ref[type]:
        class Inner(VMStruct):
            a: u8 = 0

        class More(VMStruct, name="Outer/more"):
            b: u8 = field(default=1, field_exists=lambda _state, _version: True)

        class Outer(VMStruct):
            inner: Inner = zeroed()
            more: Subsection[More] = field(needed=lambda state: state.inner.a == 9)
            values: Array[Inner, Literal[2]] = zeroed()

        save(Outer())
        load(Outer(), bytes(3))
        return weakref.ref(Outer)

    gone = made()
    gc.collect()
    assert gone() is None
