# SPDX-License-Identifier: GPL-2.0-or-later
"""check_lock_order(): a wait for the BQL inside a Mutex is an error that names both places."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qemu_vmstate import (
    BqlError,
    Device,
    LockError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    bql_lock_guard,
    bql_locked,
    check_lock_order,
    load,
    save,
    u8,
)


class Regs(VMStruct):
    a: u8 = 1


class Own(ToMigrationState[Regs]):
    def snapshot_migration_state(self, target: Regs) -> None:
        target.a = 2

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        pass


class Dev(Device, name="dev"):
    regs: Migratable[Mutex[Regs]]
    own: Migratable[Mutex[Own]]


@pytest.fixture(autouse=True)
def checked() -> Iterator[None]:
    check_lock_order()
    yield
    check_lock_order(False)


def locks_and_wants(mutex: Any, want: Callable[[], Any]) -> None:
    with mutex.lock():
        want()


def take_the_bql() -> None:
    with bql_lock_guard():
        pass


@pytest.mark.parametrize("part", ["regs", "own"])
@pytest.mark.parametrize(
    "want",
    [take_the_bql, lambda: save(Dev()), lambda: load(Dev(), b"\1\2")],
    ids=["bql_lock_guard", "save", "load"],
)
def test_both_places_are_named(part: str, want: Callable[[], Any]) -> None:
    dev = Dev()
    with pytest.raises(LockError) as caught:
        locks_and_wants(getattr(dev, part), want)
    of = {"regs": "Regs", "own": "Own"}[part]
    first = want.__code__.co_firstlineno
    line = {take_the_bql: first + 1}.get(want, first)
    locked = locks_and_wants.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        f"the BQL is wanted at {__file__}:{line} in {want.__name__} inside the Mutex of {of}, "
        f"which this thread locked at {__file__}:{locked} in locks_and_wants: a migration holds "
        "the BQL while it waits for the Mutex, so the two would wait for each other; take the BQL "
        "first, or leave the Mutex before"
    )
    lock_stack, want_stack = caught.value.__notes__
    assert lock_stack.startswith("The Mutex was locked here:\n")
    assert lock_stack.endswith("with mutex.lock():")
    assert want_stack.startswith("The BQL is wanted here:\n")
    assert "in locks_and_wants" in want_stack
    assert not bql_locked()


def test_the_right_order_and_one_lock_at_a_time_raise_nothing() -> None:
    dev = Dev()
    with (
        bql_lock_guard(),
        dev.regs.lock(),
        dev.own.lock(),
        pytest.raises(BqlError, match="twice"),
    ):
        take_the_bql()
    with dev.regs.lock():
        pass
    dev.regs.lock().release()
    guard = dev.regs.try_lock()
    assert guard is not None
    guard.release()
    take_the_bql()
    assert save(dev) == b"\1\2"
    load(dev, b"\1\2")


def test_try_lock_counts_and_the_last_mutex_of_several_is_named() -> None:
    dev = Dev()
    guard = dev.regs.try_lock()
    with pytest.raises(LockError, match="inside the Mutex of Own"):
        locks_and_wants(dev.own, take_the_bql)
    with pytest.raises(LockError, match="inside the Mutex of Regs"):
        take_the_bql()
    assert guard is not None
    guard.release()
    take_the_bql()


def test_mutex_of_another_thread_does_not_count(run: Any) -> None:
    with Mutex(Regs()).lock():
        run(take_the_bql).result()


def test_mutex_locked_before_the_check_is_not_recorded_and_can_be_released() -> None:
    check_lock_order(False)
    mutex = Mutex(Regs())
    with mutex.lock():
        check_lock_order()
        take_the_bql()
    with pytest.raises(LockError):
        locks_and_wants(mutex, take_the_bql)


def test_switched_off_it_is_a_deadlock_waiting_to_happen(run: Any) -> None:
    check_lock_order(False)
    dev = Dev()
    with bql_lock_guard():
        inverted = run(lambda: locks_and_wants(dev.regs, take_the_bql))
        inverted.wait_blocked()
        # The hook of a migration would wait without a timeout.
        with pytest.raises(TimeoutError):
            dev.regs.lock(timeout=0.1)
    inverted.result()


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_variable_switches_it_on(value: str, on: bool) -> None:
    source = "from qemu_vmstate.state import lock_order; print(lock_order.state.on)"
    ended = subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"QEMU_VMSTATE_CHECK_LOCK_ORDER": value},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.strip() == str(on)
