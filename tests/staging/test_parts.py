# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices of eight parts: failures in the first, a middle or the last, their undo, and threads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any

import pytest

from qemu_vmstate import (
    BqlRefCell,
    Device,
    InvalidError,
    LockError,
    Migratable,
    Mutex,
    PoisonError,
    ToMigrationState,
    ToMigrationStateShared,
    VMStruct,
    derive_to_migration_state,
    load,
    save,
    u32,
)

from ..conftest import repeated, until
from .states import BAD, Word, device_of, inner, messages, wire_of


class Pot(ToMigrationState[Word]):
    """A state that a restore changes before it checks the value."""

    def __init__(self) -> None:
        self.value: Any = 0
        self.seen: list[int] = []

    def snapshot_migration_state(self, target: Word) -> None:
        if self.value == "lid":
            raise InvalidError("under a lid")
        target.value = self.value

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.seen.append(source.value)
        self.value = source.value
        if source.value == BAD:
            raise InvalidError("666")


PARTS = 8
FIRST_MIDDLE_LAST = pytest.mark.parametrize("part", [0, 4, 7])


def eight(kinds: str, **namespace: Any) -> Any:
    """Return a device of eight Mutexes: ``p`` is converted by Python, ``c`` a native part."""
    return device_of([Pot if kind == "p" else Word for kind in kinds], "eight", **namespace)


def values(dev: Any) -> list[Any]:
    return [inner(dev, part).value for part in range(PARTS)]


KINDS = pytest.mark.parametrize("kinds", ["pppppppp", "pccpcpcp", "cccccccc", "pcccpccp"])


@FIRST_MIDDLE_LAST
@pytest.mark.parametrize("kinds", ["pppppppp", "pccppccp"])
def test_a_restore_that_fails_undoes_all_of_the_parts(kinds: str, part: int) -> None:
    dev = eight(kinds)
    for i in range(PARTS):
        inner(dev, i).value = i
    before = [inner(dev, i) for i in range(PARTS)]
    numbers = list(range(100, 100 + PARTS))
    numbers[part] = BAD
    with pytest.raises(InvalidError, match=rf"(?m)^eight\.part{part}: 666$"):
        load(dev, wire_of(numbers))
    assert values(dev) == list(range(PARTS))
    assert all(inner(dev, i) is before[i] for i in range(PARTS))
    load(dev, wire_of([1] * PARTS))
    assert values(dev) == [1] * PARTS


@FIRST_MIDDLE_LAST
@KINDS
def test_a_poisoned_part_fails_both_and_nothing_changes(kinds: str, part: int) -> None:
    dev = eight(kinds)
    with pytest.raises(KeyError), getattr(dev, f"part{part}").lock():
        raise KeyError
    for call in (lambda: save(dev), lambda: load(dev, wire_of([9] * PARTS))):
        with pytest.raises(PoisonError) as caught:
            call()
        assert f"eight.part{part}" in "\n".join(messages(caught.value))
    assert values(dev) == [0] * PARTS
    getattr(dev, f"part{part}").clear_poison()
    load(dev, wire_of([9] * PARTS))
    assert save(dev) == wire_of([9] * PARTS)


@FIRST_MIDDLE_LAST
@KINDS
def test_a_part_that_this_thread_holds_fails_both(kinds: str, part: int) -> None:
    dev = eight(kinds)
    with getattr(dev, f"part{part}").lock():
        for call in (lambda: save(dev), lambda: load(dev, wire_of([9] * PARTS))):
            with pytest.raises(LockError):
                call()
    assert values(dev) == [0] * PARTS
    load(dev, wire_of([9] * PARTS))


@FIRST_MIDDLE_LAST
def test_a_snapshot_that_fails_fails_the_save(part: int) -> None:
    dev = eight("pppppppp")
    inner(dev, part).value = "lid"
    with pytest.raises(InvalidError, match=rf"(?m)^eight\.part{part}: under a lid$"):
        save(dev)
    # A load repairs a state that cannot be saved; a refused load restores it.
    numbers = [5] * PARTS
    numbers[7 - part] = BAD
    if part != 7 - part:
        with pytest.raises(InvalidError, match="666"):
            load(dev, wire_of(numbers))
        assert values(dev) == ["lid" if i == part else 0 for i in range(PARTS)]
    load(dev, wire_of([5] * PARTS))
    assert values(dev) == [5] * PARTS


def test_post_load_that_fails_undoes_the_parts_and_the_plain_fields() -> None:
    def post_load(self: Any, version_id: int) -> None:
        assert values(self) == [3] * PARTS
        with self.part0.lock() as word:  # no lock is held
            assert word.value == 3
        raise InvalidError("not these")

    dev = eight("pcpcpcpc", post_load=post_load)
    seen = [inner(dev, i) for i in range(PARTS)]
    with pytest.raises(InvalidError, match=r"(?m)^eight\.post_load\(\): not these$"):
        load(dev, wire_of([3] * PARTS))
    assert values(dev) == [0] * PARTS
    assert all(inner(dev, i) is seen[i] for i in range(PARTS))


# ------------------------------------------------------------- what undoes a restore


class Slots(ToMigrationState[Word]):
    __slots__ = ("copy", "value")

    def __init__(self) -> None:
        self.value = 1
        self.copy = 1

    def snapshot_migration_state(self, target: Word) -> None:
        target.value = self.value

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.value = source.value
        raise InvalidError("always")


class OwnLock(ToMigrationStateShared[Word]):
    """A state that can be restored while shared, with a lock of its own."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.value = 1

    def snapshot_migration_state(self, target: Word) -> None:
        with self.mutex:
            target.value = self.value

    def restore_migrated_state(self, source: Word, version_id: int) -> None:
        with self.mutex:
            self.value = source.value
            if source.value == BAD:
                raise InvalidError("666")


class Counted(VMStruct):
    """A layout class whose own restore fails half-way."""

    a: u32 = 1
    b: u32 = 1

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        self.a = source.a
        raise InvalidError("half")


@pytest.mark.parametrize(
    ("state", "data"),
    [
        (Migratable(Mutex(Slots())), (9).to_bytes(4, "big")),
        (Migratable(BqlRefCell(Slots())), (9).to_bytes(4, "big")),
        (Migratable(OwnLock()), BAD.to_bytes(4, "big")),
        (Migratable(Mutex(Counted())), bytes(7) + b"\2"),
    ],
    ids=["slots in a Mutex", "slots in a BqlRefCell", "a lock of its own", "a layout class"],
)
def test_a_restore_that_raises_half_way_is_undone(state: Any, data: bytes) -> None:
    before = save(state)
    with pytest.raises(InvalidError):
        load(state, data)
    assert save(state) == before


def test_an_undo_that_fails_is_noted_and_the_others_go_on() -> None:
    class Once(Pot):
        fails = False

        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            if self.fails:
                raise RuntimeError("never again")
            self.fails = True
            super().restore_migrated_state_mut(source, version_id)

    class Three(Device, name="three"):
        before: Migratable[Mutex[Pot]]
        once: Migratable[Mutex[Once]]
        after: Migratable[Mutex[Pot]]

    dev = Three()
    with pytest.raises(InvalidError, match=r"(?m)^three\.after: 666$") as caught:
        load(dev, b"".join(n.to_bytes(4, "big") for n in (1, 2, BAD)))
    assert "rolling three.once back raised RuntimeError" in "\n".join(messages(caught.value))
    assert [p.into_inner().value for p in (dev.before, dev.once, dev.after)] == [0, 0, 0]


# ----------------------------------------------------- what other threads may see


@KINDS
def test_no_thread_sees_one_part_new_and_another_old(kinds: str) -> None:
    """Save and load, refused or not, beside a thread that holds the first and the last lock."""
    dev = eight(kinds)
    seen = [0]

    def look() -> None:
        with dev.part0.lock() as first, dev.part7.lock() as last:
            assert (first.value, last.value) in {(0, 0), (1, 1), (2, 2)}
            first.value = last.value = 2
            seen[0] += 1

    with repeated(look) as (watcher,):
        for turn in until(
            lambda: seen[0] > 10 or watcher.ended(), "the watcher has looked ten times", least=300
        ):
            number = turn % 2
            load(dev, wire_of([number] * PARTS))
            numbers = [8] * (PARTS - 1) + [BAD]
            if kinds[7] == "p":
                with pytest.raises(InvalidError, match="666"):
                    load(dev, wire_of(numbers))
            data = save(dev)
            assert data[:4] == data[-4:]


@KINDS
def test_locks_in_any_order_do_not_hang(kinds: str) -> None:
    """Threads lock parts in an order that is not the load's, and hold them for a while."""
    dev = eight(kinds)
    times = {(7, 0): 0, (4, 3): 0}

    def lock(parts: tuple[int, int]) -> None:
        with getattr(dev, f"part{parts[0]}").lock():
            time.sleep(0.001)  # the GIL is free: a load gets in between
            with getattr(dev, f"part{parts[1]}").lock():
                times[parts] += 1

    with repeated(*(partial(lock, parts) for parts in times)) as others:
        for turn in until(
            lambda: all(times.values()) or any(other.ended() for other in others),
            "both threads had their turn",
            least=20,
        ):
            number = turn % 20
            load(dev, wire_of([number] * PARTS))
            assert save(dev) == wire_of([number] * PARTS)


def test_a_conversion_may_lock_what_the_load_holds_already() -> None:
    class Nosy(Pot):
        def snapshot_migration_state(self, target: Word) -> None:
            with dev.plain.lock() as word:
                target.value = word.value

        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            with dev.plain.lock() as word:
                self.value = word.value
            guard = dev.plain.try_lock()
            assert guard is not None
            kept.append(guard)

    class Two(Device, name="two"):
        plain: Migratable[Mutex[Word]]
        nosy: Migratable[Mutex[Nosy]]

    kept: list[Any] = []
    dev = Two()
    load(dev, wire_of([7, 7]))
    assert save(dev) == wire_of([7, 7])
    # A guard that was kept is released, and locks nothing.
    with pytest.raises(LockError, match="this guard was released"):
        _ = kept[0].value
    kept[0].release()
    assert dev.plain.try_lock() is not None


class Plain:
    """A state that derives from nothing: a ``Migrated`` and two conversions are enough."""

    Migrated = Word

    def __init__(self) -> None:
        self.number = 1

    def snapshot_migration_state(self, target: Any) -> None:
        target.value = self.number

    def restore_migrated_state_mut(self, source: Any, _version_id: int) -> None:
        self.number = source.value
        if self.number == 9:
            raise InvalidError("nine")


def test_a_state_that_derives_from_nothing_is_restored_and_undone() -> None:
    class Holder(Device, name="holder"):
        plain: Migratable[Mutex[Plain]]

    dev = Holder()
    load(dev, bytes([0, 0, 0, 5]))
    with pytest.raises(InvalidError, match="nine"):
        load(dev, bytes([0, 0, 0, 9]))
    assert dev.plain.into_inner().number == 5


class PlainShared:
    """The like with the restore of a shared state only."""

    Migrated = Word

    def __init__(self) -> None:
        self.number = 1

    def snapshot_migration_state(self, target: Any) -> None:
        target.value = self.number

    def restore_migrated_state(self, source: Any, _version_id: int) -> None:
        self.number = source.value


def test_a_shared_state_that_derives_from_nothing_is_restored_in_a_derived_class() -> None:
    @derive_to_migration_state
    @dataclass
    class Owner:
        plain: PlainShared = dataclass_field(default_factory=PlainShared)

    owner = Owner()
    load(owner, bytes([0, 0, 0, 5]))
    assert (owner.plain.number, save(owner)) == (5, bytes([0, 0, 0, 5]))
