# SPDX-License-Identifier: GPL-2.0-or-later
"""A device whose state is packed as MessagePack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from qemu_vmstate import (
    DerivedState,
    Device,
    Migratable,
    Mutex,
    Packed,
    derive_to_migration_state,
    field,
    register,
    u32,
)


@dataclass
class Packet:
    length: int
    data: bytes = b""


@derive_to_migration_state
@dataclass
class Queues(DerivedState):
    count: u32 = 0
    packets: Packed[dict[str, list[Packet]], Literal[65536]] = field(default_factory=dict)
    free: Packed[Any, Literal[65536]] = field(default=None)


class Dev(Device, name="pypacked"):
    queues: Migratable[Mutex[Queues]]


dev = Dev()


def change(number: int) -> None:
    """Set every attribute by a number."""
    with dev.queues.lock() as queues:
        queues.count = number
        queues.packets["rx"] = [Packet(i, bytes(i)) for i in range(number)]
        queues.free = [number, "x", {"y": None}]


def as_seen() -> str:
    """Return all attributes, and whether ``packets`` is the dict of the beginning."""
    with dev.queues.lock() as queues:
        return f"{queues} {queues.packets is _packets}"


with dev.queues.lock() as at_first:
    _packets = at_first.packets
register(dev)
