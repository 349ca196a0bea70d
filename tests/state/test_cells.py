# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutex, BqlRefCell, BqlCell and Arc: which thread may use the state, and when."""

from __future__ import annotations

import copy
import gc
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Arc,
    Array,
    BorrowError,
    BqlCell,
    BqlError,
    BqlRefCell,
    Device,
    InvalidError,
    LockError,
    Migratable,
    Mutex,
    MutexGuard,
    OutOfRangeError,
    PoisonError,
    ToMigrationState,
    VMStruct,
    bql_lock_guard,
    bql_locked,
    describe,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    zeroed,
)

from ..conftest import PATIENCE, repeated, until

Unchanged = Callable[[Any], AbstractContextManager[None]]
Run = Callable[[Callable[[], Any]], Any]


class Regs(VMStruct):
    a: u16 = 1
    b: u16 = 2


class Slow(ToMigrationState[Regs]):
    """A class whose conversions are Python, so that Python takes its lock, not C."""

    def __init__(self) -> None:
        self.a = 1
        self.on_snapshot: Callable[[], object] = lambda: None

    def snapshot_migration_state(self, target: Regs) -> None:
        self.on_snapshot()
        target.a = self.a

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.a = source.a


class NativePart(Device, name="nativepart"):
    part: Migratable[Mutex[Regs]]


class PythonPart(Device, name="pythonpart"):
    part: Migratable[Mutex[Slow]]


class TwoNativeParts(Device, name="two"):
    first: Migratable[Mutex[Regs]]
    second: Migratable[Mutex[Regs]]


WIRE = struct.pack(">HH", 8, 9)
EITHER = pytest.mark.parametrize("make", [NativePart, PythonPart])


# ---------------------------------------------------------------------- Mutex


def test_lock_gives_the_state_and_releases_on_the_way_out() -> None:
    state = Regs()
    mutex = Mutex(state)
    with mutex.lock() as held:
        assert held is state
        assert mutex.try_lock() is None
    with mutex.lock():
        pass
    assert mutex.into_inner() is state


def test_try_lock_is_none_while_another_thread_has_it(run: Run) -> None:
    mutex = Mutex(Regs())
    with mutex.lock():
        assert run(mutex.try_lock).result() is None
    guard = mutex.try_lock()
    assert guard is not None
    assert guard.value == Regs()
    guard.release()


def test_lock_waits_no_longer_than_its_timeout(run: Run) -> None:
    mutex = Mutex(Regs())
    with mutex.lock():
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=r"Mutex of Regs was not free within 0\.05 s"):
            run(lambda: mutex.lock(timeout=0.05)).result()
        assert 0.05 <= time.monotonic() - begun < 10
        with pytest.raises(TimeoutError):
            run(lambda: mutex.lock(timeout=0)).result()
    mutex.lock(timeout=0.05).release()


def test_lock_waits_until_the_other_thread_is_done(run: Run) -> None:
    mutex = Mutex(Regs())
    order: list[str] = []

    def other() -> None:
        with mutex.lock():
            order.append("got it")

    for timeout in (-1.0, 60.0):
        order.clear()
        guard = mutex.lock(timeout)
        waiting = run(other)
        waiting.wait_blocked()
        order.append("release")
        guard.release()
        waiting.result()
        assert order == ["release", "got it"]


def test_gil_is_free_while_a_thread_waits(run: Run) -> None:
    mutex = Mutex(Regs())
    guard = mutex.lock()
    waiting = run(lambda: mutex.lock().release())
    waiting.wait_blocked()
    # No other thread could run if that one slept with the GIL.
    assert run(lambda: sum(range(1000))).result() == 499500
    guard.release()
    waiting.result()


def test_locking_twice_in_one_thread_is_an_error_and_no_deadlock() -> None:
    mutex = Mutex(Regs())
    with (
        mutex.lock() as state,
        pytest.raises(LockError, match="this thread holds the Mutex of Regs already"),
    ):
        mutex.lock()
    assert state.a == 1
    assert not mutex.is_poisoned()


def test_guard_can_be_released_early_and_twice() -> None:
    mutex = Mutex(Regs())
    with mutex.lock():
        pass
    guard = mutex.lock()
    assert guard.value.a == 1
    guard.release()
    guard.release()
    with pytest.raises(LockError, match="released"):
        guard.value  # noqa: B018
    with pytest.raises(LockError, match="released"), guard:
        pass
    assert not mutex.is_poisoned()
    mutex.lock().release()


def test_guard_that_is_dropped_releases() -> None:
    mutex = Mutex(Regs())
    guard: MutexGuard[Regs] | None = mutex.lock()
    assert guard is not None
    guard = None
    gc.collect()
    mutex.lock(timeout=1).release()


def test_guard_of_another_thread_is_not_released_silently(run: Run) -> None:
    mutex = Mutex(Regs())
    guard = mutex.lock()
    with pytest.raises(LockError):
        run(guard.release).result()
    assert guard.value.a == 1
    guard.release()
    mutex.lock(timeout=1).release()


@pytest.mark.parametrize("exc", [ZeroDivisionError(), KeyboardInterrupt(), InvalidError("x")])
def test_exception_that_leaves_a_guard_poisons(exc: BaseException) -> None:
    mutex = Mutex(Regs())
    with pytest.raises(type(exc)), mutex.lock():
        raise exc
    assert mutex.is_poisoned()
    for lock in (mutex.lock, mutex.try_lock, lambda: mutex.lock(timeout=1)):
        with pytest.raises(PoisonError, match=r"Mutex of Regs is poisoned.*clear_poison\(\)"):
            lock()
    mutex.into_inner().a = 1
    mutex.clear_poison()
    assert not mutex.is_poisoned()
    with mutex.lock() as state:
        assert state == Regs()


def poison(dev: NativePart | PythonPart) -> None:
    with pytest.raises(ZeroDivisionError), dev.part.lock():
        raise ZeroDivisionError


@EITHER
def test_poisoned_state_is_neither_saved_nor_loaded(
    make: type[NativePart] | type[PythonPart],
) -> None:
    dev = make()
    before = save(dev)
    poison(dev)
    for call in (lambda: save(dev), lambda: describe(dev), lambda: load(dev, WIRE)):
        with pytest.raises(PoisonError, match=r"is poisoned.*clear_poison"):
            call()
    dev.part.clear_poison()
    assert save(dev) == before
    load(dev, WIRE)
    assert dev.part.into_inner().a == 8


def test_one_poisoned_part_refuses_the_load_of_all() -> None:
    dev = TwoNativeParts()
    with pytest.raises(ZeroDivisionError), dev.second.lock():
        raise ZeroDivisionError
    with pytest.raises(PoisonError, match=r"^two\.second is poisoned"):
        load(dev, WIRE + WIRE)
    assert dev.first.into_inner() == Regs()
    assert dev.second.into_inner() == Regs()


@EITHER
def test_saving_while_this_thread_holds_the_guard_names_the_part(
    make: type[NativePart] | type[PythonPart],
) -> None:
    dev = make()
    before = save(dev)
    name = make.__name__.lower()
    for call in (lambda: save(dev), lambda: load(dev, WIRE)):
        with dev.part.lock(), pytest.raises(LockError) as caught:
            call()
        message = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert f"{name}.part" in message
        assert "this" in message
        assert "thread" in message
    assert not dev.part.is_poisoned()
    assert save(dev) == before


@EITHER
def test_snapshot_waits_for_the_lock_and_sees_values_written_under_it(
    make: type[NativePart] | type[PythonPart], run: Run
) -> None:
    dev = make()
    guard = dev.part.lock()
    saving = run(lambda: save(dev))
    saving.wait_blocked()
    guard.value.a = 0x0A0B
    guard.release()
    assert saving.result()[:2] == b"\x0a\x0b"


@EITHER
def test_restore_waits_for_the_lock(make: type[NativePart] | type[PythonPart], run: Run) -> None:
    dev = make()
    save(dev)
    guard = dev.part.lock()
    loading = run(lambda: load(dev, WIRE))
    loading.wait_blocked()
    assert guard.value.a == 1
    guard.release()
    loading.result()
    assert dev.part.into_inner().a == 8


def test_all_locks_are_held_for_the_copies_and_free_when_qemu_writes_bytes(run: Run) -> None:
    """No thread locks a part between two copies, and none waits longer than for the copies."""
    free: list[bool] = []

    def look_in_another_thread(*_state_and_version: Any) -> bool:
        def probe() -> None:
            for part in (dev.first, dev.native):
                guard = part.try_lock()
                free.append(guard is not None)
                if guard is not None:
                    guard.release()

        run(probe).result()
        return True

    class Two(Device, name="two"):
        first: Migratable[Mutex[Slow]]
        native: Migratable[Mutex[Regs]]
        second: Migratable[Mutex[Slow]]
        last: u8 = field(field_exists=look_in_another_thread)

    dev = Two()
    dev.second.into_inner().on_snapshot = look_in_another_thread
    save(dev)
    assert free == [False, False, True, True]


def test_lock_is_not_held_after_a_failure() -> None:
    dev = PythonPart()

    def fail() -> None:
        raise InvalidError("no")

    dev.part.into_inner().on_snapshot = fail
    with pytest.raises(InvalidError):
        save(dev)
    dev.part.lock(timeout=1).release()
    assert not dev.part.is_poisoned()


def test_snapshots_under_the_lock_are_never_torn() -> None:
    class Wide(VMStruct):
        first: u32 = 0
        filler: Array[u32, Literal[6]] = zeroed()
        last: u32 = 0

    class Device32(Device, name="wide"):
        wide: Migratable[Mutex[Wide]]

    dev = Device32()
    written = [0] * 4

    def write(number: int) -> None:
        n = written[number] + 1
        with dev.wide.lock() as state:
            state.first = n
            state.filler = [n] * 6
            state.last = n
        written[number] = n

    seen: set[bytes] = set()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with repeated(*(partial(write, number) for number in range(4))) as writers:
            for _ in until(
                lambda: (all(written) and len(seen) > 1) or any(one.ended() for one in writers),
                "all threads write while it is saved",
                least=2000,
            ):
                seen.add(save(dev))
    finally:
        sys.setswitchinterval(switch)
    assert all(len(set(struct.unpack(">8I", wire))) == 1 for wire in seen)


# ------------------------------------------------------------- BQL and borrows


class Borrowed(Device, name="borrowed"):
    part: Migratable[BqlRefCell[Regs]]


class BorrowedSlow(Device, name="borrowedslow"):
    part: Migratable[BqlRefCell[Slow]]


EITHER_BORROWED = pytest.mark.parametrize("make", [Borrowed, BorrowedSlow])


def test_borrowing_needs_the_bql() -> None:
    cell = BqlRefCell(Regs())
    for borrow in (cell.borrow, cell.borrow_mut):
        with pytest.raises(BqlError, match=r"needs the BQL.*bql_lock_guard"), borrow():
            pass


def test_shared_borrows_overlap_and_a_mutable_one_does_not() -> None:
    cell = BqlRefCell(Regs())
    with bql_lock_guard():
        with cell.borrow() as one, cell.borrow() as two:
            assert one is two
            with pytest.raises(
                BorrowError, match="borrowed already and cannot be borrowed mutably"
            ):
                cell.borrow_mut().__enter__()
        with cell.borrow_mut() as state:
            state.a = 9
            with pytest.raises(BorrowError, match="borrowed mutably already"):
                cell.borrow().__enter__()
            with pytest.raises(BorrowError, match="borrowed mutably already"):
                cell.borrow_mut().__enter__()
        with cell.borrow_mut() as state:
            assert state.a == 9


def test_there_is_a_limit_to_shared_borrows_and_it_is_no_mutable_one() -> None:
    cell = BqlRefCell(Regs())
    with bql_lock_guard(), ExitStack() as borrows:
        for _ in range(2**15 - 1):
            borrows.enter_context(cell.borrow())
        with pytest.raises(BorrowError, match="borrowed already and cannot be borrowed"):
            borrows.enter_context(cell.borrow())
        with pytest.raises(BorrowError, match="cannot be borrowed mutably"):
            borrows.enter_context(cell.borrow_mut())
    with bql_lock_guard(), cell.borrow_mut():
        pass


def test_exception_ends_a_borrow_and_poisons_nothing() -> None:
    cell = BqlRefCell(Regs())
    for borrow in (cell.borrow, cell.borrow_mut):
        with bql_lock_guard(), pytest.raises(ZeroDivisionError), borrow():
            raise ZeroDivisionError
    with bql_lock_guard(), cell.borrow_mut():
        pass


@EITHER_BORROWED
def test_mutably_borrowed_state_is_neither_saved_nor_loaded(
    make: type[Borrowed] | type[BorrowedSlow], unchanged: Unchanged
) -> None:
    dev = make()
    with unchanged(dev), bql_lock_guard(), dev.part.borrow_mut():
        with pytest.raises(BorrowError):
            save(dev)
        with pytest.raises(BorrowError):
            load(dev, WIRE)


@EITHER_BORROWED
def test_shared_borrow_lets_a_save_through_and_no_load(
    make: type[Borrowed] | type[BorrowedSlow], unchanged: Unchanged
) -> None:
    dev = make()
    before = save(dev)
    with unchanged(dev), bql_lock_guard(), dev.part.borrow():
        assert save(dev) == before
        with pytest.raises(BorrowError):
            load(dev, WIRE)


def test_refusal_of_a_borrowed_part_names_it() -> None:
    dev = Borrowed()
    with bql_lock_guard(), dev.part.borrow_mut(), pytest.raises(BorrowError) as caught:
        save(dev)
    assert "borrowed.part" in str(caught.value)


@EITHER_BORROWED
def test_save_and_load_take_the_bql_themselves(make: type[Borrowed] | type[BorrowedSlow]) -> None:
    dev = make()
    load(dev, WIRE)
    assert not bql_locked()
    with bql_lock_guard():
        assert save(dev)[:2] == b"\0\x08"
        assert bql_locked()
    assert not bql_locked()


def test_bql_cell_copies_one_value_in_and_out_under_the_bql() -> None:
    cell = BqlCell(3)
    for call in (cell.get, lambda: cell.set(4), lambda: cell.replace(5)):
        with pytest.raises(BqlError, match=r"BqlCell\.\w+\(\) needs the BQL"):
            call()
    with bql_lock_guard():
        assert cell.get() == 3
        cell.set(4)
        assert cell.replace(5) == 4
        assert cell.get() == 5


class WithCell(Device, name="withcell"):
    level: BqlCell[u8]
    flag: BqlCell[bool]
    words: BqlCell[Array[u16, Literal[2]]]


def test_bql_cells_migrate_as_plain_fields() -> None:
    class Cells(Device, name="cells"):
        level: BqlCell[u8]
        flag: BqlCell[bool]

    dev = Cells(level=3)
    assert save(dev) == b"\3\0"
    assert [f["type"] for f in describe(dev)["fields"]] == ["uint8", "bool"]
    load(dev, b"\x07\1")
    with bql_lock_guard():
        assert dev.level.get() == 7
        assert dev.flag.get() is True


def test_bql_cell_of_an_array_is_initially_zero_and_migrates() -> None:
    dev = WithCell()
    assert save(dev) == bytes(6)
    load(dev, b"\0\0\0\1\0\2")
    with bql_lock_guard():
        assert list(dev.words.get()) == [1, 2]


def test_value_in_a_bql_cell_that_does_not_fit_is_refused_by_the_save() -> None:
    dev = WithCell(level=300, words=[0, 0])
    with pytest.raises(OutOfRangeError, match=r"^withcell\.level: 300 is out of range for u8"):
        save(dev)


# ------------------------------------------------------------------------ Arc


class Sharer(Device, name="sharer"):
    regs: Migratable[Arc[Mutex[Regs]]]
    own: u8 = 0


@pytest.mark.parametrize("wrap", [lambda m: Arc(m), lambda m: Arc(Arc(m))])
def test_two_devices_migrate_the_mutex_they_share(wrap: Callable[[Any], Any]) -> None:
    shared = Arc(Mutex(Regs()))
    one, two = Sharer(regs=shared), Sharer(regs=shared.clone())
    with one.regs.lock() as regs:
        regs.a = 0x1122
    assert save(one) == save(two) == struct.pack(">HHB", 0x1122, 2, 0)
    load(two, struct.pack(">HHB", 3, 4, 5))
    with one.regs.lock() as regs:
        assert (regs.a, regs.b) == (3, 4)
    assert (one.own, two.own) == (0, 5)


def test_arc_is_transparent() -> None:
    mutex = Mutex(Regs())
    arc = Arc(mutex)
    assert arc.target is mutex
    assert arc.clone().target is mutex
    assert arc.is_poisoned() is False
    assert arc.Migrated is Regs
    with pytest.raises(AttributeError):
        arc.nothing  # noqa: B018
    assert repr(arc) == "Arc(Mutex(Regs(a=1, b=2)))"


def test_copy_of_an_arc_points_to_the_same() -> None:
    arc = Arc(Mutex(Regs()))
    assert copy.copy(arc).target is arc.target


def test_reprs_show_the_state() -> None:
    assert repr(Mutex(Regs())) == "Mutex(Regs(a=1, b=2))"
    assert repr(BqlRefCell(Regs())) == "BqlRefCell(Regs(a=1, b=2))"
    assert repr(BqlCell(3)) == "BqlCell(3)"
    assert repr(Migratable(Mutex(Regs()))) == "Migratable(Mutex(Regs(a=1, b=2)))"


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Run all threads on one processor."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    yield
    os.sched_setaffinity(0, usual)


def test_a_waiting_thread_is_next_however_busy_another_is(one_cpu: None, run: Run) -> None:
    mutex = Mutex(Regs())
    order: list[str] = []

    def other() -> None:
        # When it wakes up, a running thread goes first, as on a busy machine.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with mutex.lock():
            order.append("waiting")

    for _ in range(20):
        order.clear()
        guard = mutex.lock()
        waiting = run(other)
        waiting.wait_blocked()
        guard.release()
        with mutex.lock(timeout=PATIENCE):
            order.append("busy")
        waiting.result()
        assert order == ["waiting", "busy"]
