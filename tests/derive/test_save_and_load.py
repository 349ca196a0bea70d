# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of derived dataclasses on the wire, and what a load puts into the same objects."""

from __future__ import annotations

import array
import pickle
import struct
from dataclasses import dataclass, make_dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest

from qemu_vmstate import (
    Arc,
    DeclarationError,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    ToMigrationState,
    VMStruct,
    asdict,
    derive_to_migration_state,
    describe,
    field,
    i8,
    i32,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
)

from .states import (
    INITIAL,
    OTHER,
    TICKS,
    Holder,
    Mode,
    Regs,
    Ticks,
    Timer,
    any_type,
)


def test_fields_go_on_the_wire_in_their_order() -> None:
    ticks = Ticks()
    assert save(ticks) == struct.pack(TICKS, *INITIAL)
    load(ticks, struct.pack(TICKS, *OTHER))
    assert save(ticks) == struct.pack(TICKS, *OTHER)
    assert (ticks.count, ticks.armed, ticks.back) == (9, True, 3)
    assert ticks.mode is Mode.HALT
    assert ticks.peer == IPv4Address("127.0.0.1")
    assert (ticks.fifo, ticks.raw, list(ticks.words)) == ([4, 5, 6], b"cd", [10, 11])
    assert ticks.timer == Timer(50, False)
    assert ticks.timers == [Timer(60, False), Timer(70)]
    assert ticks.regs == Regs(config=700, fifo=[1, 2])
    assert (ticks.deadline, ticks.port) == (0x1234, 99)
    assert ticks.total() == 13


def test_none_comes_back() -> None:
    ticks = Ticks(deadline=3, port=4)
    load(ticks, struct.pack(TICKS, *INITIAL))
    assert (ticks.deadline, ticks.port) == (None, None)


def test_migrated_is_a_layout_class_named_after_the_dataclass() -> None:
    migrated: Any = Ticks.Migrated  # type: ignore[attr-defined]
    assert issubclass(migrated, VMStruct)
    assert migrated.__name__ == "TicksMigration"
    assert asdict(migrated(count=3))["count"] == 3
    ticks: Any = Ticks()
    assert isinstance(ticks, ToMigrationState)
    snapshot = ticks.to_migration_state()
    assert type(snapshot) is migrated
    assert (snapshot.mode, snapshot.has_port) == (1, False)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert describe(ticks)["vmsd_name"] == "TicksMigration"


def test_rename_and_the_description_of_the_generated_class() -> None:
    @derive_to_migration_state(rename="Wire", name="my-ticks", version_id=3, minimum_version_id=2)
    @dataclass
    class Renamed:
        a: u8 = field(default=1, name="alpha")

    described = describe(Renamed())
    assert Renamed.Migrated.__name__ == "Wire"  # type: ignore[attr-defined]
    assert (described["vmsd_name"], described["version"]) == ("my-ticks", 3)
    assert described["fields"][0]["name"] == "alpha"
    with pytest.raises(DeclarationError, match=r"class Renamed: rename='a b' is no name"):
        derive_to_migration_state(rename="a b")(make_dataclass("Renamed", []))


def test_in_a_device_beside_others() -> None:
    dev = Holder()
    timer = struct.pack(">I?", 5, True)
    assert save(dev) == b"\4" + struct.pack(TICKS, *INITIAL) + timer
    load(dev, b"\5" + struct.pack(TICKS, *OTHER) + struct.pack(">I?", 8, False))
    assert dev.ticks.into_inner().timers[0] == Timer(60, False)
    assert save(dev) == b"\5" + struct.pack(TICKS, *OTHER) + struct.pack(">I?", 8, False)
    assert [f["name"] for f in describe(dev)["fields"]] == ["before", "ticks", "timer"]


def test_shared_by_two_devices() -> None:
    class One(Device, name="one"):
        timer: Migratable[Arc[Mutex[Timer]]]

    shared = Arc(Mutex(Timer()))
    first, second = One(timer=shared), One(timer=shared.clone())
    load(first, struct.pack(">I?", 77, True))
    assert save(second) == struct.pack(">I?", 77, True)


def test_numbers_between_other_shapes_keep_their_places() -> None:
    @derive_to_migration_state
    @dataclass
    class Mixed:
        a: u8 = 1
        b: u64 = 2**64 - 1
        c: bool = True
        one: list[u32] = field(default_factory=lambda: [7], length=1)
        d: i8 = -128
        e: i32 = -(2**31)
        f: i64 = -(2**63)
        g: u16 = 0xFEDC

    mixed = Mixed()
    wire = struct.pack(">BQ?IbiqH", 1, 2**64 - 1, True, 7, -128, -(2**31), -(2**63), 0xFEDC)
    assert save(mixed) == wire
    load(mixed, wire[::-1])
    assert save(mixed) == wire[:0] + struct.pack(
        ">BQ?IbiqH", *_normal(struct.unpack(">BQBIbiqH", wire[::-1]))
    )


def _normal(values: tuple[int, ...]) -> tuple[int, ...]:
    return (*values[:2], values[2] != 0, *values[3:])


def test_class_without_migrated_fields() -> None:
    @derive_to_migration_state
    @dataclass
    class Nothing:
        cache: int = field(default=3, omit=True)

    nothing = Nothing()
    assert save(nothing) == b""
    load(nothing, b"")
    assert nothing == Nothing(3)


# Restored in place


def test_restore_keeps_the_identity_of_nested_states_and_lists() -> None:
    ticks = Ticks(cache={"a": 1})
    ticks.raw = bytearray(b"ab")  # type: ignore[assignment]
    names = ("fifo", "raw", "words", "timer", "timers", "regs", "cache")
    before = {name: getattr(ticks, name) for name in names}
    elements = list(ticks.timers)
    load(ticks, struct.pack(TICKS, *OTHER))
    for name, value in before.items():
        assert getattr(ticks, name) is value, name
    assert all(a is b for a, b in zip(ticks.timers, elements, strict=True))
    assert ticks.cache == {"a": 1}
    assert ticks.raw == b"cd"


def test_tuples_arrays_and_lists_of_lists_keep_their_types() -> None:
    @derive_to_migration_state
    @dataclass
    class Shapes:
        pair: any_type[u8, 2] = field(default=(1, 2))
        numbers: any_type[u16, 2] = field(default_factory=lambda: array.array("H", [3, 4]))
        grid: any_type[any_type[u8, 2], 2] = field(default_factory=lambda: [[1, 2], [3, 4]])
        raw: any_type[u8, 2] = field(default=b"\1\2")

    shapes: Any = Shapes()
    numbers, grid, row = shapes.numbers, shapes.grid, shapes.grid[1]
    assert save(shapes) == struct.pack(">2B2H4B2B", 1, 2, 3, 4, 1, 2, 3, 4, 1, 2)
    load(shapes, struct.pack(">2B2H4B2B", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
    assert (shapes.pair, shapes.raw) == ((5, 6), b"\x0d\x0e")
    assert shapes.numbers is numbers
    assert list(numbers) == [7, 8]
    assert shapes.grid is grid
    assert shapes.grid[1] is row
    assert grid == [[9, 10], [11, 12]]
    shapes.numbers = {1, 2}
    with pytest.raises(InvalidError, match=r"ShapesMigration\.numbers: .* make it a list of that"):
        shapes.restore_migrated_state_mut(shapes.Migrated(), 1)


def test_list_of_a_wrong_length_is_refused_on_save_and_repaired_by_a_load() -> None:
    ticks = Ticks(fifo=[1, 2])
    with pytest.raises(
        OutOfRangeError, match=r"^TicksMigration\.fifo: 2 elements for 3; an array's length"
    ):
        save(ticks)
    load(ticks, struct.pack(TICKS, *OTHER))
    assert ticks.fifo == [4, 5, 6]


def test_clone_puts_a_new_object_in_the_attribute() -> None:
    @derive_to_migration_state
    @dataclass
    class Cloned:
        regs: Regs = field(default_factory=Regs, clone=True)
        fifo: list[u8] = field(default_factory=lambda: [1], length=1, clone=True)
        both: list[Regs] = field(default_factory=lambda: [Regs()], length=1, clone=True)

    cloned = Cloned()
    before = vars(cloned).copy()
    load(cloned, struct.pack(">HBBBHBB", 1, 2, 3, 4, 5, 6, 7))
    assert cloned == Cloned(Regs(config=1, fifo=[2, 3]), [4], [Regs(config=5, fifo=[6, 7])])
    assert before["regs"] == Regs()
    assert before["fifo"] == [1]
    assert all(getattr(cloned, name) is not value for name, value in before.items())

    class Longer(Regs):
        more: u8 = 0

    cloned.regs = Longer()
    with pytest.raises(InvalidError, match=r"is a Longer, which does not migrate as Regs"):
        save(cloned)
