# SPDX-License-Identifier: GPL-2.0-or-later
"""Derived dataclasses: fields since a version, with limits, and what an old stream lacks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import pytest

from qemu_vmstate import (
    DeclarationError,
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    Subsection,
    derive_to_migration_state,
    field,
    load,
    save,
    timer,
    u8,
    u16,
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


def test_what_an_old_stream_lacks_is_the_dataclass_default() -> None:
    state = Mutex(State(a=7, mode=Mode.OFF, pair=[8, 8], kept=3, peer=6))
    assert save(state) == bytes([7, 1, 8, 8, 3, 6])
    load(state, bytes([2]), version_id=1)
    now = state.into_inner()
    assert (now.a, now.mode, now.pair, now.kept, now.peer) == (2, Mode.ON, [4, 5], 3, None)


@derive_to_migration_state
@dataclass
class LimitedAndLarge(DerivedState):
    """Large enough to be brought to rest when it is looked at, and not before."""

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
    twin = Pump()
    load(twin, wire)
    with twin.more.lock() as more:
        assert more.speed == 7


def test_omit_stands_alone_among_the_newer_options_too() -> None:
    with pytest.raises(DeclarationError, match="omit stands alone, and keep"):

        @derive_to_migration_state
        @dataclass
        class Bad:
            a: u8 = field(default=1, omit=True, keep=True)
