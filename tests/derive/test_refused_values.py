# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that a derived conversion refuses: the path in the error, and nothing changed."""

from __future__ import annotations

import copy
import gc
import linecache
import struct
import traceback
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    save,
    u8,
)

from .states import (
    Holder,
    Mode,
    Regs,
    Ticks,
    Timer,
)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("count", 2**32, "holder.ticks.count: 4294967296 is out of range for u32 (0 to "),
        ("count", -1, "holder.ticks.count: -1 is out of range for u32"),
        ("count", 1.5, "holder.ticks.count: 1.5 is a float, not u32"),
        ("count", None, "holder.ticks.count: None is a NoneType, not u32"),
        ("armed", 2, "holder.ticks.armed: 2 is out of range for bool"),
        ("armed", "no", "holder.ticks.armed: 'no' is a str, not bool"),
        ("back", -(2**15) - 1, "holder.ticks.back: -32769 is out of range for i16"),
        ("fifo", [1, 2, 2**16], "holder.ticks.fifo[2]: 65536 is out of range for u16"),
        ("raw", b"abc", "holder.ticks.raw: 3 elements for 2"),
        ("timer", Timer(2**32), "holder.ticks.timer.expiry: 4294967296 is out of range"),
        ("timer", None, "holder.ticks.timer: None is a NoneType, which does not migrate as Timer"),
        ("timers", [Timer(), Timer(-1)], "holder.ticks.timers[1].expiry: -1 is out of range"),
        ("timers", [Timer()], "holder.ticks.timers: 1 elements for 2; an array's length is fixed"),
        ("timers", 3, "holder.ticks.timers: 3 is no list of 2"),
        ("timers", [Timer(), 3], "holder.ticks.timers[1]: 3 is a int, which does not migrate"),
        ("regs", Timer(), "holder.ticks.regs: Timer(expiry=5, armed=True) is a Timer, which "),
    ],
)
def test_refused_value_is_named_with_its_path_in_the_device(
    attribute: str, value: object, message: str
) -> None:
    dev = Holder()
    setattr(dev.ticks.into_inner(), attribute, value)
    with pytest.raises(InvalidError) as caught:
        save(dev)
    assert str(caught.value).startswith(message)


def test_accepted_values_of_a_field_do_not_depend_on_its_neighbours() -> None:
    class Index:
        def __index__(self) -> int:
            return 7

    numpy = pytest.importorskip("numpy")
    ticks: Any = Ticks(count=Index(), armed=numpy.True_)  # type: ignore[arg-type]
    assert save(ticks)[:5] == struct.pack(">I?", 7, True)
    ticks.armed = 1
    assert save(ticks)[4] == 1
    ticks.count = True
    assert save(ticks)[:4] == struct.pack(">I", 1)


@derive_to_migration_state
@dataclass
class Bare:
    first: u8
    second: u8


def test_missing_attribute_is_named_in_a_traceback_of_the_generated_source() -> None:
    bare: Any = Bare(1, 2)
    del bare.second
    with pytest.raises(
        InvalidError,
        match=r"^BareMigration\.second: the value cannot be read, because of AttributeError: "
        r"'Bare' object has no attribute 'second'; set it first$",
    ) as caught:
        bare.to_migration_state()
    assert isinstance(caught.value.__cause__, AttributeError)
    shown = "".join(traceback.format_exception(caught.value))
    assert 'File "<derived ToMigrationState of tests.derive.test_refused_values.Bare>"' in shown
    assert "_pack0(target, self.first, self.second)" in shown


def test_generated_source_goes_with_its_class() -> None:
    def make() -> Any:
        @derive_to_migration_state
        @dataclass
        class Local:
            a: u8 = 1

        return Local

    def filename(cls: Any) -> str:
        return str(cls.snapshot_migration_state.__code__.co_filename)

    first, second = make(), make()
    name, gone = filename(first), weakref.ref(first)
    assert filename(second) != name
    linecache.checkcache()
    assert linecache.getline(name, 1).startswith("def snapshot_migration_state")
    del first
    gc.collect()
    assert gone() is None
    assert not linecache.getline(name, 1)
    assert linecache.getline(filename(second), 1)


def test_target_and_source_of_another_class_are_refused() -> None:
    timer: Any = Timer()
    with pytest.raises(TypeError, match="Timer migrates as TimerMigration, and was given a Regs"):
        timer.snapshot_migration_state(Regs())
    with pytest.raises(TypeError, match="Timer migrates as TimerMigration, and was given a Regs"):
        timer.restore_migrated_state_mut(Regs(), 1)


# All or nothing


def test_refused_value_changes_nothing_wherever_it_is() -> None:
    @derive_to_migration_state
    @dataclass
    class Inner:
        number: u8 = 1
        fifo: list[u8] = field(default_factory=lambda: [1], length=1)
        mode: Mode = field(default=Mode.IDLE, try_into=u8)

    @derive_to_migration_state
    @dataclass
    class Outer:
        first: u8 = 1
        regs: Regs = field(default_factory=Regs)
        fifo: list[u8] = field(default_factory=lambda: [1], length=1)
        inners: list[Inner] = field(default_factory=lambda: [Inner(), Inner()], length=2)
        last: u8 = 1

    outer: Any = Outer()
    before = copy.deepcopy(outer)
    source = outer.Migrated(first=9, last=9, fifo=[9])
    source.regs.config = 9
    source.inners[0].number = 9
    source.inners[1].mode = 5
    with pytest.raises(InvalidError, match=r"^OuterMigration\.inners\[1\]\.mode: 5 is no Mode"):
        outer.restore_migrated_state_mut(source, 1)
    assert outer == before
    source.inners[1].mode = 1
    outer.restore_migrated_state_mut(source, 1)
    assert outer != before
    assert outer.inners[1].mode is Mode.RUN


class HandMigration(VMStruct):
    value: u8 = 0


class Hand(ToMigrationState[HandMigration]):
    """A state with conversions of its own; it changes an attribute before it refuses 13."""

    def __init__(self) -> None:
        self.log = [1]
        self.versions: list[int] = []

    def snapshot_migration_state(self, target: HandMigration) -> None:
        target.value = self.log[0]

    def restore_migrated_state_mut(self, source: HandMigration, version_id: int) -> None:
        self.versions = [*self.versions, version_id]
        self.log[0] = source.value
        if source.value == 13:
            raise InvalidError("unlucky")


@derive_to_migration_state
@dataclass
class Mixture:
    first: u8 = 1
    hand: Hand = field(default_factory=Hand)
    hands: list[Hand] = field(default_factory=lambda: [Hand(), Hand()], length=2)
    locked: Mutex[Hand] = field(default_factory=lambda: Mutex(Hand()))
    timer: Timer = field(default_factory=Timer)


def test_hand_written_states_and_locks_are_fields_too() -> None:
    class Dev(Device, name="dev", version_id=4):
        part: Migratable[Mutex[Mixture]]

    dev = Dev()
    load(dev, struct.pack(">5BI?", 2, 3, 4, 5, 6, 7, False))
    mixture = dev.part.into_inner()
    assert mixture.hand.versions == mixture.locked.into_inner().versions == [4]
    assert [hand.log for hand in mixture.hands] == [[4], [5]]
    assert save(dev) == struct.pack(">5BI?", 2, 3, 4, 5, 6, 7, False)


@pytest.mark.parametrize("at", range(1, 5))
def test_hand_written_state_that_refuses_undoes_the_others(at: int) -> None:
    mixture: Any = Mixture()
    hands = [mixture.hand, *mixture.hands, mixture.locked.into_inner()]
    numbers = [9, 9, 9, 9, 9]
    numbers[at] = 13
    source = mixture.Migrated(first=9)
    source.hand.value, source.hands[0].value, source.hands[1].value = numbers[1:4]
    source.locked.value = numbers[4]
    source.timer.expiry = 9
    path = ["", "hand", "hands[0]", "hands[1]", "locked"][at]
    with pytest.raises(InvalidError) as caught:
        mixture.restore_migrated_state_mut(source, 1)
    assert str(caught.value) == f"MixtureMigration.{path}: unlucky"
    assert [hand.log for hand in hands] == [[1]] * 4
    assert (mixture.first, mixture.timer) == (1, Timer())
