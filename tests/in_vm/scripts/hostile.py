# SPDX-License-Identifier: GPL-2.0-or-later
"""A device, used with ``--strict``, and one that saves under its name what it must refuse."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass

from qemu_vmstate import (
    Device,
    Migratable,
    Mutex,
    derive_to_migration_state,
    field,
    register,
    u8,
    unregister,
)


@derive_to_migration_state
@dataclass
class StrictState:
    before: list[u8] = field(default_factory=list, max_length=200)
    numbers: list[u8] = field(default_factory=list, max_length=2)
    table: dict[u8, u8] = field(default_factory=dict, max_length=3)
    seen: set[u8] = field(default_factory=set, max_length=3)
    text: str = field(default="", max_length=8)


@derive_to_migration_state
@dataclass
class LooseState:
    before: list[u8] = field(default_factory=list, max_length=200)
    numbers: list[u8] = field(default_factory=list, max_length=200)
    table: list[tuple[u8, u8]] = field(default_factory=list, max_length=200)
    seen: list[u8] = field(default_factory=list, max_length=200)
    text: bytes = field(default=b"", max_length=200)


class Strict(Device, name="pystrict"):
    state: Migratable[Mutex[StrictState]]


class Loose(Device, name="pystrict"):
    state: Migratable[Mutex[LooseState]]


loose, dev = Loose(), Strict()


def fill_loose(**values: object) -> None:
    """Give the device that saves good values, but for some."""
    good = {"before": [5], "numbers": [1], "table": [(1, 2)], "seen": [1, 2], "text": b"ok"}
    with loose.state.lock() as state:
        vars(state).update(good | values)


def use_strict() -> None:
    """Register the device that loads, with a state of its own."""
    unregister(loose)
    register(dev)
    with dev.state.lock() as state:
        vars(state).update(before=[9], numbers=[8, 7], table={6: 5, 4: 3}, seen={2}, text="mine")


def as_seen() -> list[object]:
    """Return the state, and which objects it has."""
    with dev.state.lock() as state:
        return [copy.deepcopy(vars(state)), {name: id(each) for name, each in vars(state).items()}]


register(loose)
if "--strict" in sys.argv:
    use_strict()
