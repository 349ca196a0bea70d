# SPDX-License-Identifier: GPL-2.0-or-later
"""Eight threads change devices under their locks while these are saved and loaded."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qemu_vmstate import Device, Migratable, Mutex, field, load, save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from crowd_device import Counts, Crowd

ROUNDS = 10_000


@pytest.fixture
def busy_gil() -> Iterator[None]:
    """Threads change places often, so that many moments are seen in little time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


def save_and_load(source: Crowd, target: Crowd, rounds: int) -> None:
    """Save ``source`` into ``target`` in so many different states of it."""
    reader = Crowd()
    last = b""
    for _ in range(rounds):
        while (wire := save(source)) == last:
            time.sleep(0)  # lets the device's threads have the GIL
        last = wire
        load(reader, wire)
        assert reader.fault() is None
        load(target, wire)
        assert target.fault() is None


def test_no_save_is_torn_no_load_tears_and_no_update_is_lost(busy_gil: None) -> None:
    source, target = Crowd(), Crowd()
    for dev in (source, target):
        dev.start(pause=0.0005)
    try:
        save_and_load(source, target, ROUNDS)
    finally:
        source.stop()
        target.stop()
    assert source.lost() is None
    assert source.fault() is target.fault() is None
    for dev in (source, target):
        assert all(all(part) for part in dev.done), "a thread never had its turn"
        assert all(all(part) for part in dev.held())


def test_a_torn_state_and_a_lost_update_are_found() -> None:
    dev = Crowd()
    dev.start()
    dev.stop()
    assert dev.lost() is None
    with dev.by_c.lock() as counts:
        counts.by_thread[3] += 1
    assert "torn" in str(dev.fault())
    assert "the threads made" in str(dev.lost())


def test_two_threads_that_ask_for_a_field_first_get_the_same_one() -> None:
    both_make = threading.Barrier(2)

    def make() -> Mutex[Counts]:
        both_make.wait(30)
        return Mutex(Counts())

    class Lazy(Device, name="lazy"):
        counts: Migratable[Mutex[Counts]] = field(default_factory=make)

    dev = Lazy()
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: dev.counts, range(2))
    assert one is two is dev.counts
