# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that eight threads change, each part under its lock and with an invariant.

For tests and for scripts/soak: ``Crowd.fault()`` finds a part with fields of different moments,
and ``Crowd.lost()`` a missing update.  Run inside a VM, it registers one device, ``dev``.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import Literal

from qemu_vmstate import (
    Array,
    BqlRefCell,
    Device,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    bql_lock_guard,
    field,
    load,
    register,
    save,
    u32,
    u64,
    zeroed,
)

THREADS = 8


class Counts(VMStruct, name="pycrowd/counts"):
    """The updates of each thread, their sum and its complement: a layout class, copied by C."""

    total: u64 = 0
    by_thread: Array[u64, Literal[8]] = zeroed()
    complement: u64 = 2**64 - 1

    def step(self, thread: int) -> None:
        self.total += 1
        self.by_thread[thread] += 1
        self.complement = self.total ^ (2**64 - 1)

    def fault(self) -> str | None:
        consistent = self.total == sum(self.by_thread) == self.complement ^ (2**64 - 1)
        return None if consistent else f"torn: {self!r}"


class Seen(ToMigrationState[Counts]):
    """The same with a layout of its own, converted by Python."""

    def __init__(self) -> None:
        self.by_thread = dict.fromkeys(range(THREADS), 0)
        self.total = 0

    def step(self, thread: int) -> None:
        self.total += 1
        self.by_thread[thread] += 1

    def snapshot_migration_state(self, target: Counts) -> None:
        target.total = self.total
        target.by_thread = list(self.by_thread.values())
        target.complement = self.total ^ (2**64 - 1)

    def restore_migrated_state_mut(self, source: Counts, version_id: int) -> None:
        self.total = source.total
        self.by_thread = dict(enumerate(source.by_thread))


class Crowd(Device, name="pycrowd"):
    by_c: Migratable[Mutex[Counts]]
    by_python: Migratable[Mutex[Seen]]
    by_bql: Migratable[BqlRefCell[Counts]]
    owner: u32 = 0
    running: bool = field(default=False, omit=True)
    workers: list[threading.Thread] = field(default_factory=list, omit=True)
    done: list[list[int]] = field(default_factory=list, omit=True)
    """By part, the updates of each thread since ``start()``, counted by the thread itself."""
    since: list[list[int]] = field(default_factory=list, omit=True)
    """By part, the updates of each thread at that time."""
    failures: list[str] = field(default_factory=list, omit=True)

    def start(self, pause: float = 0.0) -> None:
        """Start eight threads that change the device, with ``pause`` seconds between updates."""
        self.running = True
        self.done = [[0] * THREADS for _ in range(3)]
        self.since = self.held()
        paused = threading.Event()
        self.workers = [
            threading.Thread(target=self._work, args=(number, pause, paused), daemon=True)
            for number in range(THREADS)
        ]
        for worker in self.workers:
            worker.start()

    def stop(self, timeout: float = 60) -> None:
        """End the threads; an assertion fails if one does not end, or ended by an exception."""
        self.running = False
        for worker in self.workers:
            worker.join(timeout)
            assert not worker.is_alive(), "a device thread hangs"
        assert not self.failures, self.failures

    def _work(self, number: int, pause: float, paused: threading.Event) -> None:
        by_c, by_python, by_bql = self.done
        rounds = 0
        try:
            while self.running:
                rounds += 1
                with self.by_c.lock() as counts:
                    counts.step(number)
                by_c[number] += 1
                with self.by_python.lock() as seen:
                    seen.step(number)
                by_python[number] += 1
                if rounds % 8 == number:  # In the order of the locks: the BQL, then a Mutex.
                    with bql_lock_guard(), self.by_bql.borrow_mut() as guarded:
                        guarded.step(number)
                        with self.by_c.lock() as counts:
                            counts.step(number)
                    by_bql[number] += 1
                    by_c[number] += 1
                if pause:
                    paused.wait(pause)
        except BaseException as error:
            self.failures.append(repr(error))
            raise

    def parts(self) -> tuple[Counts, Counts, Counts]:
        """Return a copy of each part, made under its lock."""
        copies = Counts(), Counts(), Counts()
        with self.by_c.lock() as counts:
            counts.snapshot_migration_state(copies[0])
        with self.by_python.lock() as seen:
            seen.snapshot_migration_state(copies[1])
        with bql_lock_guard(), self.by_bql.borrow() as guarded:
            guarded.snapshot_migration_state(copies[2])
        return copies

    def fault(self) -> str | None:
        """Return the first part that is torn, or ``None``."""
        return next((fault for part in self.parts() if (fault := part.fault())), None)

    def lost(self) -> str | None:
        """Return a message about updates that the parts lack, or ``None``.

        It must be called after ``stop()``.  Nothing must have been loaded since ``start()``.
        """
        made = [
            [old + new for old, new in zip(*both, strict=True)]
            for both in zip(self.since, self.done, strict=True)
        ]
        return (
            None if self.held() == made else f"the threads made {made}, but here is {self.held()}"
        )

    def totals(self) -> list[int]:
        """Return the number of updates of each part."""
        return [part.total for part in self.parts()]

    def held(self) -> list[list[int]]:
        """Return the number of updates by each thread, for each part."""
        return [list(part.by_thread) for part in self.parts()]


def saves_and_loads(source: Crowd, target: Crowd) -> Iterator[None]:
    """Repeatedly save ``source`` and load it into ``target``, while threads change both."""
    reader = Crowd()
    last = b""
    while True:
        while (wire := save(source)) == last:
            time.sleep(0)  # releases the GIL for the device's threads
        last = wire
        load(reader, wire)
        assert reader.fault() is None
        load(target, wire)
        assert target.fault() is None
        yield


def trials() -> Generator[None, None, None]:
    """Run ``saves_and_loads()`` beside sixteen threads, and check that no update is lost."""
    usual = sys.getswitchinterval()
    # A short interval makes more interleavings possible in the same time.
    sys.setswitchinterval(1e-5)
    source, target = Crowd(), Crowd()
    for dev in (source, target):
        dev.start(pause=0.0005)
    try:
        yield from saves_and_loads(source, target)
    finally:
        sys.setswitchinterval(usual)
        for dev in (source, target):
            dev.stop()
        assert source.lost() is None
        assert source.fault() is target.fault() is None
        for dev in (source, target):
            assert all(all(part) for part in dev.done), "a thread never had its turn"


if __name__ == "__main__":
    dev = Crowd()
    register(dev)
