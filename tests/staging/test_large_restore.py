# SPDX-License-Identifier: GPL-2.0-or-later
"""Restores of large layout classes in Python: what they change, and how a failure is undone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    Buffer,
    Device,
    Migratable,
    Mutex,
    VMStruct,
    load,
    save,
    u8,
    u32,
    zeroed,
)

from ..conftest import memory_growth

SIZE = 8192
OLD = bytes(range(256)) * (SIZE // 256)
NEW = OLD[::-1]

Restore = Callable[["Pages", "Pages"], None]


class Tail(VMStruct):
    last: u8 = 0


class Pages(VMStruct):
    """More than a page, and more than the fast path puts on the stack."""

    head: u32 = 0
    data: Buffer[Literal[8192]] = zeroed()
    words: Array[u32, Literal[4]] = zeroed()
    tail: Tail = zeroed()

    def snapshot_migration_state(self, target: Any) -> None:
        super().snapshot_migration_state(target)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        restores[0](self, source)


class Dev(Device, name="pages"):
    pages: Migratable[Mutex[Pages]]
    more: Migratable[Mutex[Pages]]


class One(Device, name="pages"):
    pages: Migratable[Mutex[Pages]]


def assign_all(state: Pages, source: Pages) -> None:
    VMStruct.restore_migrated_state_mut(state, source, 1)


def number(state: Pages, source: Pages) -> None:
    state.head = source.head


def buffer(state: Pages, source: Pages) -> None:
    state.data = source.data


def element(state: Pages, source: Pages) -> None:
    state.words[1] = source.words[1]


def nested(state: Pages, source: Pages) -> None:
    state.tail.last = source.tail.last


def raw(state: Pages, source: Pages) -> None:
    memoryview(state).cast("B")[0:4] = memoryview(source).cast("B")[0:4]


def added(state: Pages, source: Pages) -> None:
    state.head += source.head


def twice(state: Pages, source: Pages) -> None:
    element(state, source)
    assign_all(state, source)
    state.head = 77


def nothing(state: Pages, source: Pages) -> None:
    pass


restores: list[Restore] = [assign_all]
"""The function that every ``Pages`` calls in a restore."""

WAYS: list[Restore] = [assign_all, number, buffer, element, nested, raw, added, twice, nothing]


def old() -> Pages:
    return Pages(head=1, data=OLD, words=[1, 2, 3, 4], tail=Tail(last=9))


def new() -> Pages:
    return Pages(head=5, data=NEW, words=[5, 6, 7, 8], tail=Tail(last=3))


def expected(way: Restore) -> Pages:
    """Return the result of the restore on an instance outside a device."""
    state = old()
    way(state, new())
    return state


@pytest.fixture(autouse=True)
def as_declared() -> Iterator[None]:
    yield
    restores[0] = assign_all


def wire_of(cls: Any) -> bytes:
    return save(cls(**{name: Mutex(new()) for name in cls.__parts__}))


def filled(cls: Any) -> Any:
    """Return a device with new states."""
    return cls(**{name: Mutex(old()) for name in cls.__parts__})


def states(dev: Any) -> list[bytes]:
    return [bytes(getattr(dev, name).into_inner()) for name in dev.__parts__]


@pytest.mark.parametrize("cls", [One, Dev])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_a_restore_does_not_change_is_preserved(cls: Any, way: Restore) -> None:
    wire = wire_of(cls)
    dev = filled(cls)
    restores[0] = way
    load(dev, wire)
    assert states(dev) == [bytes(expected(way))] * len(cls.__parts__)
    load(dev, wire)
    assert len(set(states(dev))) == 1


@pytest.mark.parametrize("cls", [One, Dev])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_restore_that_raises_leaves_all_as_it_was(cls: Any, way: Restore) -> None:
    wire = wire_of(cls)
    for failing in range(1, 1 + len(cls.__parts__)):
        dev = filled(cls)
        calls = itertools.count(1)

        def restore(
            state: Pages, source: Pages, calls: Any = calls, failing: int = failing
        ) -> None:
            way(state, source)
            if next(calls) == failing:
                raise ZeroDivisionError("half-way")

        restores[0] = restore
        with pytest.raises(ZeroDivisionError, match="half-way"):
            load(dev, wire)
        assert states(dev) == [bytes(old())] * len(cls.__parts__)
        restores[0] = assign_all
        load(dev, wire)
        assert states(dev) == [bytes(new())] * len(cls.__parts__)


@pytest.mark.parametrize("fails", [False, True])
def test_who_has_the_state_or_a_view_of_it_sees_the_load(fails: bool) -> None:
    wire = wire_of(One)
    state = old()
    dev = One(pages=Mutex(state))
    tail, words, view = state.tail, state.words, memoryview(state)
    del state

    def restore(state: Pages, source: Pages) -> None:
        # Through views from before the load.
        tail.last = source.tail.last
        words[3] = source.words[3]
        if fails:
            raise ZeroDivisionError
        assign_all(state, source)

    restores[0] = restore
    if fails:
        with pytest.raises(ZeroDivisionError):
            load(dev, wire)
    else:
        load(dev, wire)
    there = old() if fails else new()
    assert states(dev) == [bytes(there)]
    assert (tail.last, words[3]) == (there.tail.last, there.words[3])
    assert bytes(view) == bytes(there)


def test_a_view_made_in_a_restore_stays_one_of_the_state() -> None:
    wire = wire_of(One)
    kept: list[Any] = []

    def restore(state: Pages, source: Pages) -> None:
        if kept:
            assign_all(state, source)
            return
        kept.extend((state, state.tail, memoryview(state)))
        assert state.tail.last == 9
        assign_all(state, source)
        raise ZeroDivisionError

    restores[0] = restore
    dev = filled(One)
    with pytest.raises(ZeroDivisionError):
        load(dev, wire)
    state, tail, view = kept
    assert state is dev.pages.into_inner()
    assert bytes(view) == bytes(state) == bytes(old())
    load(dev, wire)
    assert (tail.last, view.cast("B")[0]) == (3, 5)
    with dev.pages.lock() as regs:
        regs.tail.last = 4
    assert tail.last == 4


def test_loads_that_succeed_or_fail_leak_no_memory() -> None:
    """6,000 of them; one state in a hundred would be 500 KiB."""
    wire = wire_of(Dev)
    dev = filled(Dev)
    calls = itertools.count()

    def restore(state: Pages, source: Pages) -> None:
        assign_all(state, source)
        if next(calls) % 3 == 2:
            raise ZeroDivisionError

    restores[0] = restore

    def turn(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(ZeroDivisionError):
                load(dev, wire)

    assert memory_growth(turn, 500, 6000) < 128 * 1024
