# SPDX-License-Identifier: GPL-2.0-or-later
"""Derived dataclasses that several tests use, with their numbers on the wire."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from qemu_vmstate import (
    Array,
    BqlRefCell,
    Buffer,
    Device,
    Migratable,
    Mutex,
    VMStruct,
    derive_to_migration_state,
    field,
    i16,
    u8,
    u16,
    u32,
    zeroed,
)

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

# For annotations that are made at run time, which type checkers refuse.
any_type: Any = Array
any_buffer: Any = Buffer
any_list: Any = list


class Mode(enum.Enum):
    IDLE = 0
    RUN = 1
    HALT = 9


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Bits(enum.Flag):
    A = 1
    B = 4


class Loose(enum.IntFlag):
    A = 1


class Regs(VMStruct):
    config: u16 = 7
    fifo: Array[u8, Literal[2]] = zeroed()


@derive_to_migration_state
@dataclass
class Timer:
    expiry: u32 = 5
    armed: bool = True


@derive_to_migration_state
@dataclass
class Ticks:
    """A dataclass with one field of every kind."""

    LIMIT: ClassVar[int] = 3
    count: u32 = 1
    armed: bool = False
    back: i16 = -2
    mode: Mode = field(default=Mode.RUN, try_into=u8)
    peer: IPv4Address = field(default=IPv4Address("1.2.3.4"), into=u32)
    fifo: list[u16] = field(default_factory=lambda: [1, 2, 3], length=3)
    raw: bytes = field(default=b"ab", length=2)
    words: Array[u8, Literal[2]] = field(default_factory=lambda: [8, 9])
    timer: Timer = field(default_factory=Timer)
    timers: list[Timer] = field(default_factory=lambda: [Timer(6), Timer(7)], length=2)
    regs: Regs = field(default_factory=Regs)
    deadline: u16 | None = field(default=None, none=0xFFFF)
    port: u8 | None = field(default=None, none=bool)
    cache: dict[str, Unknown] = field(default_factory=dict, omit=True)

    def total(self) -> int:
        return self.count + self.fifo[0]


TICKS = ">I?hBI3H2s2BI?I?I?HBBH?B"
INITIAL = (
    1, False, -2, 1, 0x01020304, 1, 2, 3, b"ab", 8, 9, 5, True, 6, True, 7, True,
    7, 0, 0, 0xFFFF, False, 0,
)  # fmt: skip
OTHER = (
    9, True, 3, 9, 0x7F000001, 4, 5, 6, b"cd", 10, 11, 50, False, 60, False, 70, True,
    700, 1, 2, 0x1234, True, 99,
)  # fmt: skip


class Holder(Device, name="holder", version_id=3, minimum_version_id=1):
    before: u8 = 4
    ticks: Migratable[Mutex[Ticks]]
    timer: Migratable[BqlRefCell[Timer]]


def dataclass_field(options: Any) -> Any:
    """Return the dataclasses field that ``field()`` becomes in the body of a class."""

    class Body:
        a = options

    return Body.__dict__["a"]
