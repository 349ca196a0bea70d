# SPDX-License-Identifier: GPL-2.0-or-later
"""The BQL in process: one thread at a time, never twice, and no borrow outlives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from qemu_vmstate import (
    BorrowError,
    BqlError,
    BqlRefCell,
    Device,
    Migratable,
    Mutex,
    VMStruct,
    bql_lock_guard,
    bql_locked,
    load,
    save,
    u8,
)

from ..conftest import PATIENCE, repeated

Run = Callable[[Callable[[], Any]], Any]


class Regs(VMStruct):
    a: u8 = 1


class Timer(Device, name="timer"):
    regs: Migratable[Mutex[Regs]]


def test_guard_holds_the_bql_for_this_thread_only(run: Run) -> None:
    assert not bql_locked()
    with bql_lock_guard():
        assert bql_locked()
        assert run(bql_locked).result() is False
    assert not bql_locked()


def test_exception_releases_the_bql() -> None:
    with pytest.raises(ZeroDivisionError), bql_lock_guard():
        raise ZeroDivisionError
    assert not bql_locked()
    with bql_lock_guard():
        pass


def test_second_lock_in_one_thread_is_refused_and_the_first_stays() -> None:
    with bql_lock_guard():
        with pytest.raises(BqlError, match="twice"), bql_lock_guard():
            pass
        assert bql_locked()


def test_another_thread_waits_for_the_bql(run: Run) -> None:
    order: list[str] = []

    def other() -> None:
        with bql_lock_guard():
            order.append("got it")

    with bql_lock_guard():
        waiting = run(other)
        waiting.wait_blocked()
        order.append("release")
    waiting.result()
    assert order == ["release", "got it"]


def test_a_thread_that_takes_the_bql_often_leaves_the_gil_to_others() -> None:
    """A thread that waits for the GIL is not starved by one that releases it very briefly.

    Four hundred turns take a second or two, but minutes if the BQL does not yield.
    """

    def work() -> None:
        for _ in range(3000):
            pass
        with bql_lock_guard():
            pass

    end = time.monotonic() + PATIENCE
    with repeated(work):
        for turn in range(400):
            time.sleep(0.0001)  # releases the GIL, and waits for it again
            assert time.monotonic() < end, f"only {turn} turns"


@pytest.mark.parametrize("call", [lambda d: save(d), lambda d: load(d, b"\5")])
def test_save_and_load_wait_for_the_bql(call: Callable[[Timer], object], run: Run) -> None:
    dev = Timer()
    with bql_lock_guard():
        waiting = run(lambda: call(dev))
        waiting.wait_blocked()
        with dev.regs.lock() as regs:
            regs.a = 9
    waiting.result()
    assert dev.regs.into_inner().a in (9, 5)


def test_holder_of_the_bql_may_save_while_another_save_of_the_same_device_waits(run: Run) -> None:
    dev = Timer()
    with bql_lock_guard():
        waiting = run(lambda: save(dev))
        waiting.wait_blocked()
        assert save(dev) == b"\1"
    assert waiting.result() == b"\1"


# Each of these runs in a thread of its own, because borrows are counted per thread.


@pytest.mark.parametrize("how", ["borrow", "borrow_mut"])
def test_borrow_that_outlives_the_bql_is_an_error(how: str, run: Run) -> None:
    def body() -> None:
        cell = BqlRefCell(Regs())
        borrow = getattr(cell, how)()
        with pytest.raises(BorrowError, match="1 BqlRefCell borrow"), bql_lock_guard():
            borrow.__enter__()
        assert not bql_locked()
        with pytest.raises(BorrowError):
            load(Migratable(cell), b"\5")
        borrow.__exit__(None, None, None)
        load(Migratable(cell), b"\5")
        assert save(Migratable(cell)) == b"\5"

    run(body).result()


def test_borrow_that_ended_late_is_not_held_against_the_next_guard(run: Run) -> None:
    def body() -> None:
        cell = BqlRefCell(Regs())
        borrow = cell.borrow()
        with pytest.raises(BorrowError), bql_lock_guard():
            borrow.__enter__()
        borrow.__exit__(None, None, None)
        with bql_lock_guard():
            pass
        with bql_lock_guard(), cell.borrow_mut():
            pass

    run(body).result()


def test_exception_is_not_replaced_by_the_borrow_it_leaves(run: Run) -> None:
    def body() -> None:
        cell = BqlRefCell(Regs())
        borrow = cell.borrow()
        with pytest.raises(ZeroDivisionError), bql_lock_guard():  # noqa: PT012
            borrow.__enter__()
            raise ZeroDivisionError
        assert not bql_locked()

    run(body).result()
