# SPDX-License-Identifier: GPL-2.0-or-later
"""Eight threads change devices under their locks while these are saved and loaded."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    field,
    load,
    save,
)

from ..conftest import PATIENCE

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from soak_tests.crowd_device import Counts, Crowd, trials


def test_no_save_is_torn_no_load_tears_and_no_update_is_lost() -> None:
    # close() runs the end of the generator, which checks for lost updates.
    runs = trials()
    for _ in itertools.islice(runs, 10_000):
        pass
    runs.close()


def test_a_torn_state_and_a_lost_update_are_found() -> None:
    dev = Crowd()
    dev.start()
    dev.stop()
    assert dev.lost() is None
    with dev.by_c.lock() as counts:
        counts.by_thread[3] += 1
    assert "torn" in str(dev.fault())
    assert "the threads made" in str(dev.lost())


def test_threads_that_use_a_class_first_at_the_same_time_share_what_is_made() -> None:
    """A program of its own, whose first use of the native parts is one of these, too."""
    program = Path(__file__).with_name("first_use.py")
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_two_threads_that_create_a_field_at_once_get_the_same_object() -> None:
    both_in_make = threading.Barrier(2)

    def make() -> Mutex[Counts]:
        both_in_make.wait(PATIENCE)
        return Mutex(Counts())

    class Lazy(Device, name="lazy"):
        counts: Migratable[Mutex[Counts]] = field(default_factory=make)

    dev = Lazy()
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: dev.counts, range(2))
    assert one is two is dev.counts


class Marked(ToMigrationState[Counts]):
    def snapshot_migration_state(self, target: Counts) -> None:
        raise InvalidError(f"of thread {threading.get_ident()}")

    def restore_migrated_state_mut(self, source: Counts, version_id: int) -> None:
        raise InvalidError(f"of thread {threading.get_ident()}")


def test_each_thread_gets_the_exception_of_its_own_save_or_load() -> None:
    class Failing(Device, name="failing"):
        part: Migratable[Mutex[Marked]]

    dev = Failing()
    usual = sys.getswitchinterval()

    def own_only(times: int) -> None:
        mine = f"failing.part: of thread {threading.get_ident()}"
        for _ in range(times):
            for call in (lambda: save(dev), lambda: load(dev, bytes(80))):
                with pytest.raises(InvalidError) as caught:
                    call()
                assert str(caught.value) == mine

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(own_only, 6 * [1500]))
    finally:
        sys.setswitchinterval(usual)
