# SPDX-License-Identifier: GPL-2.0-or-later
"""What the in-process tests share: threads, and knowing when one is blocked."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

PATIENCE = 120.0
"""Seconds after which a condition that should come true counts as never coming true.

A host may stop a virtual machine, and with it this process, for the better part of a minute.
"""

settings.register_profile(
    "suite",
    max_examples=60,
    print_blob=True,
    # How long things take is the machine's affair, and the tests say where it matters.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


def own_memory() -> int:
    """Bytes of memory that this process has filled, in RAM or swapped out.

    Its pages are counted: statm's sum may lack up to 32 of each processor.
    """
    rollup = Path("/proc/self/smaps_rollup").read_text()
    lines = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    return sum(int(lines[kind].split()[0]) for kind in ("Anonymous", "Swap")) * 1024


def until(condition: Callable[[], bool], what: str, least: int) -> Iterator[int]:
    """Count on until ``condition`` is true, and to ``least`` at least.

    For rounds beside other threads: how many each of them needs is the scheduler's choice.
    """
    end = time.monotonic() + PATIENCE
    for number in itertools.count():
        if number >= least:
            if condition():
                return
            assert time.monotonic() < end, f"{number} rounds, and not yet: {what}"
        yield number


class Running(Protocol):
    """A call in a thread of its own."""

    def wait_blocked(self) -> None:
        """Return once the thread sleeps and goes on sleeping though the GIL is free."""

    def ended(self) -> bool:
        """Whether it has returned or raised."""

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
        stat = Path(f"/proc/self/task/{self._thread.native_id}/stat")
        until = time.monotonic() + PATIENCE
        asleep = 0
        while asleep < 5:
            assert self._thread.is_alive(), "the call came back instead of waiting"
            state = stat.read_text().rpartition(")")[2].split()[0]
            asleep = asleep + 1 if state == "S" else 0
            assert time.monotonic() < until, "the thread never waits"
            time.sleep(0.001)  # frees the GIL: who only waits for that gets on

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
    """``run(call)``: the call, begun in a thread of its own."""
    return _Running


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
