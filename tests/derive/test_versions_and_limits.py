# SPDX-License-Identifier: GPL-2.0-or-later
"""Derived dataclasses: fields since a version, limits, and values that an old stream lacks."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as plain_field
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    BqlRefCell,
    DeclarationError,
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    Subsection,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    save,
    timer,
    u8,
    u16,
    u32,
)


class Mode(IntEnum):
    OFF = 1
    ON = 2


@derive_to_migration_state(version_id=2)
@dataclass
class State(DerivedState):
    a: u8 = 1
    mode: Mode = field(default=Mode.ON, try_into=u8, version_id=2)
    pair: list[u8] = field(default_factory=lambda: [4, 5], length=2, version_id=2)
    kept: u8 = field(default=9, version_id=2, keep=True)
    peer: u8 | None = field(default=None, none=255, version_id=2)


def test_fields_that_an_old_stream_lacks_get_the_dataclass_default() -> None:
    state = Mutex(State(a=7, mode=Mode.OFF, pair=[8, 8], kept=3, peer=6))
    assert save(state) == bytes([7, 1, 8, 8, 3, 6])
    load(state, bytes([2]), version_id=1)
    now = state.into_inner()
    assert (now.a, now.mode, now.pair, now.kept, now.peer) == (2, Mode.ON, [4, 5], 3, None)


@derive_to_migration_state
@dataclass
class Speed(DerivedState):
    now: u8 = 1
    name: bytes = field(default=b"ab", length=2)


@derive_to_migration_state
@dataclass
class Number(DerivedState):
    now: u8 = 1


class Layout(VMStruct):
    now: u8 = 1


LATER: list[tuple[Any, dict[str, Any], Any]] = [
    (Speed, {"default_factory": lambda: Speed(5)}, Speed(7, b"cd")),
    (
        BqlRefCell[Speed],
        {"default_factory": lambda: BqlRefCell(Speed(5))},
        BqlRefCell(Speed(7)),
    ),
    (Mutex[Speed], {"default_factory": lambda: Mutex(Speed(5))}, Mutex(Speed(7))),
    (Layout, {"default_factory": lambda: Layout(now=5)}, Layout(now=7)),
    (Layout, {"default_factory": lambda: Layout(now=5), "clone": True}, Layout(now=7)),
    (list[Speed], {"default_factory": lambda: [Speed(5)], "length": 1}, [Speed(7)]),
    (list[Number], {"default_factory": lambda: [Number(5)], "length": 1}, [Number(7)]),
    (IPv4Address, {"default": IPv4Address(5), "into": u32}, IPv4Address(7)),
    (tuple[int, ...], {"default": (5, 6), "into": Array[u8, Literal[2]]}, (7, 8)),
    (bytearray, {"default_factory": lambda: bytearray(b"ab"), "length": 2}, bytearray(2)),
    (u8 | None, {"default": 5, "none": bool}, None),
    (u8 | None, {"default": None, "none": bool}, 7),
    (u8 | None, {"default": None, "none": bool, "minimum": 3, "maximum": 9}, 7),
    (u8 | None, {"default": 5, "none": bool, "minimum": 3, "maximum": 9}, None),
    (u8 | None, {"default": 5, "none": 255}, None),
    (Mode | None, {"default": None, "none": bool, "try_into": u8}, Mode.ON),
    (Mode | None, {"default": Mode.ON, "none": bool, "try_into": u8}, None),
    (Mode | None, {"default": Mode.ON, "none": 0, "try_into": u8}, None),
    (bytes | None, {"default": b"xy", "length": 2, "none": bool}, None),
    (list[u8] | None, {"default": None, "length": 2, "none": bool}, [7, 8]),
]


@pytest.mark.parametrize(("hint", "options", "other"), LATER)
@pytest.mark.parametrize("keep", [False, True], ids=["default", "keep"])
def test_fields_that_an_old_stream_lacks_get_the_default_or_are_preserved(
    hint: Any, options: dict[str, Any], other: Any, keep: bool
) -> None:
    @derive_to_migration_state(version_id=2)
    @dataclass
    class Later(DerivedState):
        a: u8 = 1
        value: hint = field(version_id=2, keep=keep, **options)

    state = Mutex(Later(2, other))
    load(state, bytes([3]), version_id=1)
    now = state.into_inner()
    assert now.a == 3
    assert save(Mutex(now)) == save(Mutex(Later(3, other) if keep else Later(3)))
    load(Mutex(now), save(Mutex(Later(9, other))))
    assert save(Mutex(now)) == save(Mutex(Later(9, other)))


def pair() -> Any:
    return [3, 4]


@derive_to_migration_state
@dataclass
class Inner(DerivedState):
    now: u8 = 1
    numbers: Array[u8, Literal[2]] = plain_field(default_factory=pair)
    address: IPv4Address = field(default=IPv4Address(6), into=u32)
    speed: Speed = plain_field(default_factory=lambda: Speed(8))
    other: Number = plain_field(default_factory=Number)


@derive_to_migration_state(name="holder/inner")
@dataclass
class Rare(Inner):
    pass


class Holder(Device, name="holder", version_id=2, minimum_version_id=1):
    first: u8 = 0
    inner: Migratable[Mutex[Inner]] = field(version_id=2)
    rare: Subsection[Migratable[Mutex[Rare]]]


def test_a_part_that_a_stream_lacks_is_initial_and_an_initial_one_needs_no_subsection() -> None:
    inner = bytes([1, 3, 4, 0, 0, 0, 6, 8]) + b"ab" + bytes([1])
    assert save(Holder()) == b"\0" + inner
    nines: Any = [9, 9]
    other = Inner(9, nines, IPv4Address(9), Speed(9, b"zz"), Number(9))
    wire = bytes([9, 9, 9, 0, 0, 0, 9, 9]) + b"zz" + bytes([9])
    holder = Holder()
    holder.inner = Migratable(Mutex(other))
    holder.rare = Migratable(Mutex(Rare(**vars(other))))
    assert save(holder) == b"\0" + wire + b"\x05\x0cholder/inner\0\0\0\1" + wire
    load(holder, bytes([7]), version_id=1)
    assert holder.first == 7
    with holder.inner.lock() as now, holder.rare.lock() as rare:
        assert now == Inner()
        assert rare == Rare()


def test_a_default_that_cannot_be_on_the_wire_counts_where_a_stream_may_lack_it() -> None:
    @derive_to_migration_state
    @dataclass
    class Placeholder(DerivedState):
        address: IPv4Address = field(default=None, into=u32)

    state = Mutex(Placeholder(IPv4Address(7)))
    assert save(state) == bytes([0, 0, 0, 7])
    with pytest.raises(DeclarationError, match=r"Later\.address: an older stream .* default"):

        @derive_to_migration_state(version_id=2)
        @dataclass
        class Later:
            address: IPv4Address = field(default=None, into=u32, version_id=2)


@derive_to_migration_state
@dataclass
class LimitedAndLarge(DerivedState):
    """A state whose layout object is larger than a page."""

    level: u8 = field(default=3, minimum=1, maximum=5)
    data: bytes = field(default_factory=lambda: bytes(8192), length=8192)


def test_a_limited_number_before_a_large_buffer_is_saved() -> None:
    assert save(Mutex(LimitedAndLarge(level=5, data=b"x" * 8192))) == b"\5" + b"x" * 8192


@derive_to_migration_state
@dataclass
class Limited(DerivedState):
    first: u16 = 0
    level: u8 = field(default=3, minimum=1, maximum=5)
    expires: timer = -1


def test_limits_hold_for_a_snapshot_and_a_stream() -> None:
    state = Mutex(Limited(level=5, expires=2))
    assert save(state) == bytes([0, 0, 5, *bytes(7), 2])
    load(state, bytes([0, 1, 1]) + b"\xff" * 8)
    assert state.into_inner() == Limited(first=1, level=1, expires=-1)
    for level in (0, 6):
        with pytest.raises(InvalidError, match=rf"level: {level} is out of range \(1 to 5\)"):
            load(state, bytes([0, 0, level, *bytes(8)]))
        state.into_inner().level = level
        with pytest.raises(OutOfRangeError, match=rf"level: {level} is out of range for u8"):
            save(state)
        state.into_inner().level = 1


@derive_to_migration_state(name="pump/more")
@dataclass
class More(DerivedState):
    speed: u8 = 0


class Pump(Device, name="pump"):
    more: Subsection[Migratable[Mutex[More]]]


def test_derived_state_in_a_subsection() -> None:
    pump = Pump()
    assert save(pump) == b""
    with pump.more.lock() as more:
        more.speed = 7
    wire = b"\x05\x09pump/more\0\0\0\1\7"
    assert save(pump) == wire
    copy = Pump()
    load(copy, wire)
    with copy.more.lock() as more:
        assert more.speed == 7


def test_omit_stands_alone_among_the_newer_options_too() -> None:
    with pytest.raises(DeclarationError, match="omit stands alone, and keep"):

        @derive_to_migration_state
        @dataclass
        class Bad:
            a: u8 = field(default=1, omit=True, keep=True)
