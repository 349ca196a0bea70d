# SPDX-License-Identifier: GPL-2.0-or-later
"""How a derived dataclass rolls its own restore back, without its conversions."""

from __future__ import annotations

import array
import struct
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    derive_to_migration_state,
    field,
    load,
    u8,
    u16,
    u32,
)

from .states import BAD, KINDS, Numbers, Word, device, refuse, refused, shape, wire_of


class Trap:
    """A sequence that raises an exception when it is filled."""

    def __init__(self) -> None:
        self.items = [1, 2]
        self.stores = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return self.items[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.stores += 1
        if self.stores == 2:
            raise RuntimeError("sprung")
        self.items[index] = value


@derive_to_migration_state
@dataclass
class Filled:
    """A state that a restore changes in place; ``rows`` has two nested lists."""

    number: u8 = 0
    items: list[u8] = field(default_factory=lambda: [1, 2], length=2)
    rows: Array[Array[u8, Literal[2]], Literal[2]] = field(default_factory=lambda: [[1, 2], [3, 4]])
    data: bytearray = field(default_factory=lambda: bytearray(b"\1\2"), length=2)
    words: list[u16] = field(default_factory=lambda: [1, 2], length=2)
    states: list[Numbers] = field(default_factory=lambda: [Numbers(), Numbers(1, 2)], length=2)
    plain: Word = plain_field(default_factory=Word)
    left_out: list[int] = field(default_factory=list, omit=True)


def filled_wire(number: int) -> bytes:
    return struct.pack(">B2B4B2B2H4HI", *[number] * 16)


class Never(ToMigrationState[Word]):
    def snapshot_migration_state(self, target: Word) -> None:
        target.value = 0

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        raise InvalidError("never")


class Late(Device, name="late"):
    filled: Migratable[Mutex[Filled]]
    never: Migratable[Mutex[Never]]


def prepare_as_is(_state: Filled) -> None:
    pass


def prepare_trap(state: Any) -> None:
    state.words = Trap()


def prepare_array(state: Any) -> None:
    state.words = array.array("H", [1, 2])


def prepare_unfit(state: Any) -> None:
    """Set values that cannot be saved: a load repairs them, and a refused one restores them."""
    state.items[1] = 300
    state.number = -1


@pytest.mark.parametrize("prepare", [prepare_as_is, prepare_array, prepare_unfit, prepare_trap])
def test_what_a_derived_class_changes_inside_is_undone(prepare: Callable[[Any], None]) -> None:
    dev = Late()
    state: Any = dev.filled.into_inner()
    prepare(state)
    if prepare is prepare_trap:
        state.words.stores = -100
    parts = [state.items, *state.rows, state.rows, state.data, *state.states, state.plain]
    before = shape(state)
    words = list(state.words)
    with pytest.raises(InvalidError, match=r"(?m)^late\.never: never$"):
        load(dev, filled_wire(9) + bytes(4))
    after = shape(state)
    if prepare is prepare_trap:
        del before["words"], after["words"]
        assert list(state.words) == words
    assert after == before
    now = [state.items, *state.rows, state.rows, state.data, *state.states, state.plain]
    assert all(one is other for one, other in zip(parts, now, strict=True))


def test_an_attribute_that_was_missing_is_missing_again() -> None:
    dev = device(["numbers", "own"])
    state = dev.part0.into_inner()
    del state.low
    refused(dev, wire_of([9, BAD]), 2)
    assert vars(state) == {"high": 0}


def test_a_commit_that_breaks_half_way_is_undone() -> None:
    state: Any = Filled()
    prepare_trap(state)
    state.words.stores = 0
    words = state.words
    before = shape(state)
    del before["words"]
    with pytest.raises(RuntimeError, match="sprung"):
        load(Migratable(Mutex(state)), filled_wire(9))
    after = shape(state)
    del after["words"]
    assert after == before
    assert state.words is words
    assert words.items == [1, 2]


def test_a_derived_class_that_computes_an_attribute_is_undone_by_its_own_restore() -> None:
    @derive_to_migration_state
    @dataclass
    class Computed:
        value: u32 = 0

        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)
            object.__setattr__(self, "times", getattr(self, "times", 0) + 1)
            refuse(value)

    KINDS["computed"] = Computed
    for kinds in (["computed", "own"], ["computed", "computed"]):
        dev = device(kinds)
        load(dev, wire_of([4, 4]))
        refused(dev, wire_of([5, BAD]), 2)
        refused(dev, wire_of([BAD, 5]), 2)
        assert dev.part0.into_inner().times == 2
