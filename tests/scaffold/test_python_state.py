# SPDX-License-Identifier: GPL-2.0-or-later
"""The section of a derived dataclass is loaded by what ``scaffold`` writes for it."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from dataclasses import field as plain_field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from qemu_vmstate import (
    Device,
    Migratable,
    Mutex,
    Packed,
    derive_to_migration_state,
    field,
    i64,
    load,
    save,
    u32,
)
from qemu_vmstate.scaffold.generator import scaffold
from qemu_vmstate.stream.reader import read

from ..saved import file_of
from .test_scaffold import imported


class Mode(enum.Enum):
    IDLE = 0
    BUSY = 300


@derive_to_migration_state(int_type=i64, max_length=64)
@dataclass
class Request:
    sector: int = 0
    data: bytes = b""
    tags: set[str] = plain_field(default_factory=set)


@derive_to_migration_state(int_type=i64, max_length=64)
@dataclass
class Everything:
    numbers: list[u32] = plain_field(default_factory=list)
    rows: list[list[int]] = plain_field(default_factory=list)
    names: tuple[str, ...] = ()
    waiting: deque[Request] = plain_field(default_factory=deque)
    table: dict[str, Request] = plain_field(default_factory=dict)
    seen: frozenset[Mode] = frozenset()
    text: str = ""
    raw: bytearray = plain_field(default_factory=bytearray)
    mode: Mode = Mode.IDLE
    ratio: float = 0.5
    pair: tuple[int, str] = (0, "")
    owner: str | None = None
    last: Request | None = None
    when: datetime = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1)))
    span: timedelta = timedelta(days=-1, microseconds=5)
    key: UUID = plain_field(default_factory=lambda: UUID(int=7))
    path: Path = Path("/dev/null")
    price: Decimal = Decimal("1.50")
    packed: Packed[dict[str, list[int]], Literal[256]] = field(default_factory=dict)


class Python(Device, name="python"):
    state: Migratable[Mutex[Everything]]


def filled() -> Everything:
    return Everything(
        numbers=[1, 2, 3, 2**32 - 1],
        rows=[[1], [], [2, -3]],
        names=("a", "", "bcd"),
        waiting=deque([Request(1, b"ab", {"x", "yz"}), Request(), Request(3, b"", {"q"})]),
        table={"one": Request(5, b"five"), "": Request(6)},
        seen=frozenset({Mode.BUSY, Mode.IDLE}),
        text="grün",
        raw=bytearray(b"\0\1\2"),
        mode=Mode.BUSY,
        pair=(-1, "p"),
        owner="me",
        last=Request(9, b"9" * 9),
        packed={"k": [1, 2**40]},
    )


def scaffolded(device: Device, folder: Path) -> Any:
    """Return the device class that ``scaffold`` writes for the device's section."""
    return imported(scaffold(read(file_of(device, folder / "vm.mig"))))["Python"]


def device_with(everything: Everything) -> Python:
    return Python(state=Migratable(Mutex(everything)))


def test_section_of_each_form_is_loaded(tmp_path: Path) -> None:
    device = device_with(filled())
    made = scaffolded(device, tmp_path)()
    load(made, save(device))
    assert save(made) == save(device)
    # What counts each of them was found, so another number of elements is loaded too.
    other = device_with(
        Everything(numbers=[5], rows=[[7, 8, 9]], names=("x",), text="y", owner="z")
    )
    load(made, save(other))
    assert save(made) == save(other)


def test_empty_state_is_loaded(tmp_path: Path) -> None:
    device = Python()
    made = scaffolded(device, tmp_path)()
    load(made, save(device))
    assert save(made) == save(device)
