# SPDX-License-Identifier: GPL-2.0-or-later

"""Types of derived dataclasses; checked by mypy, never run."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Literal, assert_type

from qemu_vmstate import (
    Array,
    Buffer,
    DerivedState,
    Device,
    Migratable,
    Mutex,
    Packed,
    VMStruct,
    derive_to_migration_state,
    field,
    save,
    u8,
    u16,
    u32,
)


class Mode(enum.Enum):
    IDLE = 0
    RUN = 1


class Regs(VMStruct):
    config: u32 = 0


@derive_to_migration_state
@dataclass
class Timer:
    count: u32
    armed: bool = False


@derive_to_migration_state(rename="TicksWire", version_id=2)
@dataclass(kw_only=True)
class Ticks(DerivedState):
    count: u32 = 0
    mode: Mode = field(default=Mode.IDLE, try_into=u8)
    peer: IPv4Address = field(default=IPv4Address(0), into=u32)
    fifo: list[u8] = field(default_factory=lambda: [0] * 16, length=16)
    words: Array[u16, Literal[2]] = field(default_factory=lambda: [0, 0])
    raw: Buffer[Literal[4]] = field(default=bytes(4))
    mac: bytes = field(default=bytes(6), length=6)
    deadline: u16 | None = field(default=None, none=0xFFFF)
    timer: Timer = field(default_factory=lambda: Timer(0))
    timers: list[Timer] = field(default_factory=list, length=2)
    regs: Regs = field(default_factory=Regs, clone=True)
    cache: dict[str, int] = field(default_factory=dict, omit=True)
    table: Packed[dict[str, list[Timer]], Literal[65536]] = field(default_factory=dict)
    peers: Packed[set[str] | None, Literal[4096]] = field(default=None)


class Clock(Device, name="clock"):
    ticks: Migratable[Mutex[Ticks]]
    timer: Migratable[Mutex[Timer]]


timer = Timer(3)
assert_type(timer, Timer)
assert_type(timer.count, int)
assert_type(timer.armed, bool)
Timer()  # type: ignore[call-arg]
Timer("3")  # type: ignore[arg-type]

ticks = Ticks(count=1, mode=Mode.RUN, deadline=3)
assert_type(ticks, Ticks)
assert_type(ticks.mode, Mode)
assert_type(ticks.fifo, list[int])
assert_type(ticks.words[0], int)
assert_type(ticks.mac, bytes)
assert_type(ticks.deadline, int | None)
assert_type(ticks.timers[0].count, int)
assert_type(ticks.regs.config, int)
assert_type(ticks.cache, dict[str, int])
assert_type(ticks.table, dict[str, list[Timer]])
assert_type(ticks.peers, set[str] | None)
ticks.table["rx"] = [Timer(1)]
ticks.table = {"rx": [Timer(1)]}
ticks.peers = {"a"}
ticks.table["rx"] = 1  # type: ignore[assignment]
ticks.table = {"rx": 1}  # type: ignore[dict-item]
ticks.peers = {1}  # type: ignore[arg-type]
Ticks(table=3)  # type: ignore[arg-type]
assert_type(Ticks.Migrated, type[Any])
assert_type(ticks.to_migration_state(), Any)
ticks.mode = 1  # type: ignore[assignment]
ticks.nothing = 1  # type: ignore[attr-defined]
Ticks(1)  # type: ignore[call-arg]
derive_to_migration_state(rename=3)(Timer)  # type: ignore[call-overload]

dev = Clock()
with dev.ticks.lock() as t:
    assert_type(t, Ticks)
with dev.timer.lock() as held:
    assert_type(held, Timer)
assert_type(save(ticks), bytes)
assert_type(save(timer), bytes)
