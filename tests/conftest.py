# SPDX-License-Identifier: GPL-2.0-or-later
"""Helpers of the tests: memory of the process, and threads."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

PATIENCE = 120.0
"""Seconds after which a wait for a condition fails.

It is long because a host may stop a virtual machine, and with it this process, for most of a
minute.
"""

settings.register_profile(
    "suite",
    max_examples=60,
    print_blob=True,
    # The time depends on the machine; tests for which it matters check it themselves.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


def own_memory() -> int:
    """Return the bytes of this process's private memory, in RAM or swapped out.

    smaps_rollup counts pages exactly; statm may miss up to 32 pages for each processor.
    """
    rollup = Path("/proc/self/smaps_rollup").read_text()
    lines = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    return sum(int(lines[kind].split()[0]) for kind in ("Anonymous", "Swap")) * 1024


def memory_growth(turn: Callable[[int], None], warm_up: int, times: int) -> int:
    """Return the bytes of memory that ``turn(times)`` adds after ``turn(warm_up)``."""
    turn(warm_up)
    gc.collect()
    before = own_memory()
    turn(times)
    gc.collect()
    return own_memory() - before


def until(condition: Callable[[], bool], what: str, least: int) -> Iterator[int]:
    """Count until ``condition`` is true, and at least to ``least``.

    For loops beside other threads, where the scheduler decides how many turns are needed.
    """
    end = time.monotonic() + PATIENCE
    for number in itertools.count():
        if number >= least:
            if condition():
                return
            assert time.monotonic() < end, f"{number} turns without: {what}"
        yield number


def sleeps(task: str) -> bool:
    """Return whether a process or thread sleeps, by its folder in /proc."""
    return Path(task, "stat").read_text().rpartition(")")[2].split()[0] == "S"


class Running(Protocol):
    """A call in another thread."""

    def wait_blocked(self) -> None:
        """Return when the thread sleeps and does not wake up although the GIL is free."""

    def ended(self) -> bool:
        """Return whether the call has returned or raised."""

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised."""


class _Running:
    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._error: list[BaseException] = []
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as exc:
            self._error.append(exc)

    def wait_blocked(self) -> None:
        until = time.monotonic() + PATIENCE
        asleep = 0
        while asleep < 5:
            assert self._thread.is_alive(), "the call came back instead of waiting"
            asleep = asleep + 1 if sleeps(f"/proc/self/task/{self._thread.native_id}") else 0
            assert time.monotonic() < until, "the thread never waits"
            time.sleep(
                0.001
            )  # releases the GIL, so that a thread which waits only for it continues

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the call never came back"
        if self._error:
            raise self._error[0]
        return self._outcome[0]


@pytest.fixture
def run() -> Callable[[Callable[[], Any]], Running]:
    """Return the function ``run(call)``, which begins a call in another thread."""
    return _Running


@contextmanager
def repeated(*calls: Callable[[], object]) -> Iterator[list[Running]]:
    """Repeat each call in a thread of its own until the context ends; raise its exception."""
    stop = threading.Event()

    def repeat(call: Callable[[], object]) -> None:
        while not stop.is_set():
            call()

    running: list[Running] = [_Running(partial(repeat, call)) for call in calls]
    try:
        yield running
    finally:
        stop.set()
    for one in running:
        one.result()


@pytest.fixture
def unchanged() -> Callable[[Any], AbstractContextManager[None]]:
    """Return a context manager that fails if its object saves other bytes after it."""
    from qemu_vmstate import save

    @contextmanager
    def check(obj: Any) -> Iterator[None]:
        before = save(obj)
        yield
        assert save(obj) == before

    return check
