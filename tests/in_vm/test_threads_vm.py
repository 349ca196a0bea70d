# SPDX-License-Identifier: GPL-2.0-or-later
"""A few of the trials with threads, killed VMs and random moments that scripts/soak repeats."""

from __future__ import annotations

import itertools
import random
import sys
from typing import Any

import pytest

from qemu_vmstate.errors import LockError
from qemu_vmstate.vm.vm import VM

from .conftest import BUSY_DEVICE, Emulator, StartVM

sys.path.insert(0, str(BUSY_DEVICE.parent.parent))
from soak_tests import soak_trials


@pytest.fixture
def dice(record_property: Any) -> random.Random:
    """Return a generator with a new seed, which the report names."""
    seed = random.randrange(10**9)
    record_property("seed", seed)
    print(f"seed {seed}")
    return random.Random(seed)


def test_eight_threads_beside_live_migrations_lose_and_tear_nothing(emulator: Emulator) -> None:
    assert len(list(itertools.islice(soak_trials.hops(emulator), 5))) == 5


def test_the_survivor_of_a_kill_at_a_random_moment_is_consistent(
    emulator: Emulator, dice: random.Random
) -> None:
    for _ in range(6):
        print(soak_trials.kill(emulator, dice))


def test_a_migration_that_is_cancelled_at_a_random_moment_leaves_the_source_consistent(
    emulator: Emulator, dice: random.Random
) -> None:
    for _ in range(3):
        print(soak_trials.cancel(emulator, dice))


def test_snapshot_cycles_are_consistent_and_leak_no_memory(emulator: Emulator) -> None:
    memory = list(itertools.islice(soak_trials.snapshots(emulator), 20))
    assert memory[-1] - memory[5] < 2048, memory


def test_a_qemu_that_ends_at_a_random_moment_ends_cleanly(
    emulator: Emulator, dice: random.Random
) -> None:
    for _ in range(8):
        soak_trials.end(emulator, dice)


INVERTED = """
import threading
def inverted():
    with dev.by_c.lock():
        wanted()
def wanted():
    with bql_lock_guard():
        pass
"""


def locked_and_wanted(vm: VM) -> str:
    with pytest.raises(LockError) as caught:
        vm.python.eval("inverted()")
    vm.python.exec("dev.by_c.clear_poison()")
    return "\n".join([str(caught.value), *caught.value.__notes__])


@pytest.mark.parametrize("switched", ["by the environment", "by the script"])
def test_the_lock_inversion_is_an_error_with_both_places_where_it_would_hang(
    start: StartVM, emulator: Emulator, switched: str
) -> None:
    env = dict(emulator["env"])
    if switched == "by the environment":
        env["QEMU_VMSTATE_CHECK_LOCK_ORDER"] = "1"
    here = start("here", script=BUSY_DEVICE, env=env)
    if switched == "by the script":
        here.python.exec("import qemu_vmstate; qemu_vmstate.check_lock_order()")
    here.python.exec(INVERTED)
    error = locked_and_wanted(here)
    assert "the BQL is wanted at <control>:7 in wanted" in error
    assert (
        "inside the Mutex of Counts, which this thread locked at <control>:4 in inverted" in error
    )
    # Threads that follow the order are not affected, and a migration succeeds.
    here.python.exec("dev.start(pause=0.001)")
    there = start("there", script=BUSY_DEVICE, env=env, incoming=True)
    soak_trials.hop(here, there)
    assert here.quit() == there.quit() == 0


def test_without_the_check_the_inversion_does_hang(start: StartVM) -> None:
    """Create the deadlock: a hook waits for the Mutex, and its owner for the BQL."""
    vm = start(script=BUSY_DEVICE)
    vm.python.exec(INVERTED)
    vm.python.exec("""
held, migrating = threading.Event(), threading.Event()
def inverted():
    with dev.by_c.lock():
        held.set()
        migrating.wait(120)
        # As `with bql_lock_guard()`, but it gives up, so that this test ends.
        global got
        got = bql_in_time(1.0)
def bql_in_time(seconds):
    taker = threading.Thread(target=wanted, daemon=True)
    taker.start()
    taker.join(seconds)
    return not taker.is_alive()
owner = threading.Thread(target=inverted)
owner.start()
held.wait(120)
""")
    vm.migrate("exec:cat > /dev/null")
    vm.wait_event("STOP")  # from here on the migration holds the BQL until its hooks are done
    vm.python.exec("migrating.set(); owner.join(120)")
    assert vm.python.eval("got") is False
    assert vm.wait_migration()["status"] == "completed"
