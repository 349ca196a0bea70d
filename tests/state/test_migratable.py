# SPDX-License-Identifier: GPL-2.0-or-later
"""Migratable: a transparent proxy, which can be saved and loaded without a device too."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from qemu_vmstate import (
    Arc,
    BqlRefCell,
    DeclarationError,
    Device,
    Migratable,
    Mutex,
    ToMigrationStateShared,
    VersionError,
    VMStruct,
    describe,
    load,
    save,
    u8,
)


class Regs(VMStruct, name="regs-section", version_id=3, minimum_version_id=2):
    a: u8 = 1
    b: u8 = 2


class Other(VMStruct):
    c: u8 = 3


class Timer(Device, name="timer"):
    regs: Migratable[Mutex[Regs]]


class Knob(ToMigrationStateShared[Other]):
    def __init__(self) -> None:
        self.position = 4

    def snapshot_migration_state(self, target: Other) -> None:
        target.c = self.position

    def restore_migrated_state(self, source: Other, version_id: int) -> None:
        self.position = source.c


def test_migratable_is_a_section_by_itself() -> None:
    state = Migratable(Mutex(Regs(a=7)))
    assert save(state) == b"\7\2"
    load(state, b"\x08\x09")
    assert (state.into_inner().a, state.into_inner().b) == (8, 9)


def test_section_has_the_name_and_versions_of_the_migrated_class() -> None:
    state = Migratable(Mutex(Regs()))
    described = describe(state)
    assert (described["vmsd_name"], described["version"]) == ("regs-section", 3)
    load(state, b"\5\6", 2)
    for version in (1, 4):
        with pytest.raises(VersionError, match="reads 2 to 3"):
            load(state, b"\7\7", version)
    assert save(state) == b"\5\6"


def test_attributes_are_those_of_the_wrapped_object_to_get_and_to_set() -> None:
    knob = Knob()
    state = Migratable(knob)
    assert state.position == 4
    state.position = 9
    assert knob.position == 9
    assert save(state) == b"\x09"
    with pytest.raises(AttributeError):
        state.nothing  # noqa: B018
    mutex = Mutex(Regs())
    wrapped = Migratable(mutex)
    with wrapped.lock() as regs:
        regs.a = 5
        assert mutex.try_lock() is None
    assert wrapped.is_poisoned() is False
    assert wrapped.Migrated is Regs
    assert mutex.into_inner().a == 5


@pytest.mark.parametrize("value", [Regs(), Arc(Regs())], ids=["bare", "Arc of bare"])
def test_state_that_others_cannot_share_is_refused(value: Any) -> None:
    with pytest.raises(DeclarationError, match="wrap it in a Mutex or a BqlRefCell"):
        Migratable(value)


def test_device_with_a_bare_state_is_refused_before_it_is_saved() -> None:
    with pytest.raises(DeclarationError, match="wrap it in a Mutex or a BqlRefCell"):  # noqa: PT012

        class Bare(Device, name="bare"):
            regs: Migratable[Regs]  # type: ignore[type-var]

        save(Bare())


@pytest.mark.parametrize("value", [Mutex(Regs()), BqlRefCell(Regs()), Arc(Mutex(Regs())), Knob()])
def test_shared_states_are_accepted(value: Any) -> None:
    wire = save(Migratable(value))
    load(Migratable(value), wire)
    assert save(Migratable(value)) == wire


def test_field_may_be_replaced_until_the_first_save() -> None:
    dev = Timer()
    mine = Mutex(Regs(a=6))
    dev.regs = mine
    dev.regs = Migratable(mine)
    dev.regs = mine
    assert save(dev) == b"\6\2"
    with mine.lock() as regs:
        regs.a = 7
    assert save(dev) == b"\7\2"
    with pytest.raises(AttributeError, match=r"Timer\.regs cannot be replaced any more"):
        dev.regs = Mutex(Regs())
    assert save(dev) == b"\7\2"


@pytest.mark.parametrize("use", [save, describe, lambda d: load(d, b"\5\6")])
def test_field_is_not_replaced_after_its_first_use(use: Any) -> None:
    dev = Timer()
    use(dev)
    with pytest.raises(AttributeError, match="cannot be replaced any more"):
        dev.regs = Mutex(Regs())


def test_field_of_another_migrated_class_is_refused() -> None:
    dev = Timer()
    with pytest.raises(DeclarationError, match=r"Timer\.regs is declared to migrate as Regs"):
        dev.regs = Mutex(Other())  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"Timer\.regs is declared to migrate as Regs"):
        Timer(regs=Other())
    assert save(dev) == b"\1\2"


def test_bare_state_is_wrapped_as_the_annotation_says() -> None:
    state = Regs(a=9)
    dev = Timer(regs=state)
    assert isinstance(dev.regs.into_inner(), Regs)
    assert dev.regs.into_inner() is state


def test_migratable_is_freed_after_save_and_load() -> None:
    state = Migratable(Mutex(Regs()))
    load(state, save(state))
    inner = weakref.ref(state)
    del state
    gc.collect()
    assert inner() is None
