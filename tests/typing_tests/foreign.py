# SPDX-License-Identifier: GPL-2.0-or-later

"""Types of classes of others that migrate; checked by mypy, never run."""

from __future__ import annotations

import enum
from typing import Any, Literal, assert_type

from qemu_vmstate import (
    Array,
    Device,
    Migratable,
    Mutex,
    VMStruct,
    field,
    migrates,
    save,
    u8,
    u16,
    u32,
)


class Mode(enum.Enum):
    IDLE = 0


class Uart:
    __slots__ = ("level", "mode", "words")


def get(uart: Uart) -> int:
    return 1


def put(uart: Uart, value: int) -> None: ...


FIELDS = {
    "level": u32,
    "mode": field(Mode, try_into=u8),
    "deadline": field(u16 | None, none=bool, attribute=(get, put)),
    "words": field(list[u16], length=2, default_factory=list, attribute="rx.words"),
    "array": field(Array[u8, Literal[4]], version_id=2),
    "named": "list[u8]",
}

assert_type(migrates(Uart, fields=FIELDS), type[Uart])
migrates(Uart, fields=FIELDS, rename="UartWire", name="uart", version_id=2, minimum_version_id=1)
migrates(Uart)  # type: ignore[call-arg]
migrates(Uart, fields=3)  # type: ignore[arg-type]
migrates(Uart(), fields=FIELDS)  # type: ignore[type-var]
field(u8, u16)  # type: ignore[call-arg]
field(u8, lengths=3)  # type: ignore[call-arg]


class Board(Device, name="board"):
    uart: Migratable[Mutex[Uart]]
    plain: u8 = field(default=3)


class Regs(VMStruct):
    config: u32 = field(default=1, version_id=2)


board = Board()
with board.uart.lock() as uart:
    assert_type(uart, Uart)
    uart.nothing = 1  # type: ignore[attr-defined]
assert_type(save(board), bytes)
assert_type(field(u8), Any)
