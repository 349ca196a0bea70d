# SPDX-License-Identifier: GPL-2.0-or-later
"""Single trials with random moments; the tests run a few of them, ``scripts/soak`` many.

Each starts its own VMs with ``crowd_device.py``, whose eight threads are busy, and raises an
assertion error, or a ``VMError`` with the logs, if a state is inconsistent, an update is lost, or
a VM hangs or crashes.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from qemu_vmstate.process_memory import resident_memory
from qemu_vmstate.vm.vm import VM, VMError

CROWD = Path(__file__).resolve().parent / "crowd_device.py"
PAUSE = 0.001
"""Seconds between a thread's updates, so that all eight threads get the GIL."""

MEGABYTES = 32
"""The size of the guest memory to migrate."""

FULL_SPEED = 1 << 30
"""A bandwidth in bytes per second."""

Emulator = dict[str, Any]


def settings(emulator: Emulator, **more: Any) -> dict[str, Any]:
    """Return the arguments of a VM with this emulator and memory to send."""
    return {
        "qemu": emulator["path"],
        "env": emulator["env"],
        "script": CROWD,
        "timeout": 60,
        "extra": [*emulator["args"], "-m", str(MEGABYTES)],
        **more,
    }


def begin_and_wait_a_while(here: VM, there: VM, dice: random.Random) -> None:
    """Begin a migration at a random speed, and wait until a random moment of it."""
    speed = dice.choice([200_000, 500_000, FULL_SPEED])
    here.qmp("migrate-set-parameters", max_bandwidth=speed)
    uri = f"unix:{there.folder / 'incoming'}"
    there.migrate_incoming(uri)
    here.migrate(uri)
    # Empty pages take 9 bytes each; the constant is for the device.
    expected = MEGABYTES * 256 * 9 / speed + 0.05
    time.sleep(dice.uniform(0, 1.2 * expected))


def expect_consistent(vm: VM, before: list[int]) -> None:
    """Check that each part is consistent and not older than ``before``."""
    assert vm.python.eval("dev.fault()") is None
    totals = vm.python.eval("dev.totals()")
    assert all(a <= b for a, b in zip(before, totals, strict=True)), (before, totals)


def expect_nothing_lost(vm: VM) -> None:
    """Check that all threads run, and that none of their updates is missing."""
    done: list[list[int]] = vm.python.eval("dev.done")

    def all_went_on() -> bool | None:
        now: list[list[int]] = vm.python.eval("dev.done")
        return all(sum(b) > sum(a) for a, b in zip(done, now, strict=True)) or None

    vm.wait_until(all_went_on, "the device's threads to go on")
    vm.python.exec("dev.stop()")
    assert vm.python.eval("dev.lost()") is None
    assert vm.python.eval("dev.fault()") is None


def hop(here: VM, there: VM) -> None:
    """Migrate beside the threads, and start them at the destination."""
    before = here.python.eval("dev.totals()")
    here.migrate_to(there)
    expect_consistent(there, before)
    expect_nothing_lost(here)
    there.python.exec(f"dev.start({PAUSE})")


def hops(emulator: Emulator) -> Generator[None, None, None]:
    """Migrate repeatedly, each time from the last destination to a new VM."""
    number = 0
    current = contextlib.ExitStack()
    try:
        here = current.enter_context(VM(name="vm0", **settings(emulator)))
        here.python.exec(f"dev.start({PAUSE})")
        while True:
            number += 1
            with contextlib.ExitStack() as following:
                vm = VM(name=f"vm{number}", incoming=True, **settings(emulator))
                there = following.enter_context(vm)
                hop(here, there)
                current.close()
                here, current = there, following.pop_all()
            yield
    finally:
        current.close()


def kill(emulator: Emulator, dice: random.Random) -> str:
    """Kill the source or the destination at a random moment, and return the survivor's result."""
    victim_is_here = dice.random() < 0.5
    with (
        VM(name="here", **settings(emulator)) as here,
        VM(name="there", incoming=True, **settings(emulator)) as there,
    ):
        here.python.exec(f"dev.start({PAUSE})")
        before = here.python.eval("dev.totals()")
        begin_and_wait_a_while(here, there, dice)
        victim, survivor = (here, there) if victim_is_here else (there, here)
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        if victim_is_here:
            _hang_up(there)
            return _destination_after_kill(survivor, before)
        return _source_continues(survivor, emulator)


def _hang_up(there: VM) -> None:
    """Connect to the destination and disconnect, in case the source was killed before it connected.

    ``migrate`` does not wait for its connection, and without one the destination waits for ever.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(there.folder / "incoming"))


def _destination_after_kill(there: VM, before: list[int]) -> str:
    try:
        end = there.wait_until(
            lambda: (
                status
                if (status := there.qmp("query-migrate").get("status")) in ("completed", "failed")
                else None
            ),
            "the end of the incoming migration",
        )
    except VMError:
        # QEMU before 9.1 exits after a failed incoming migration.
        assert there.version < (9, 1, 0)
        assert there.wait() == 1
        return "destination: ended with status 1"
    if end == "failed":
        assert there.python.eval("dev.totals()") == [0, 0, 0]
        return "destination: failed, device untouched"
    expect_consistent(there, before)
    there.python.exec(f"dev.start({PAUSE})")
    expect_nothing_lost(there)
    return "destination: completed, device whole"


def _source_continues(here: VM, emulator: Emulator) -> str:
    """Check that the source continues and migrates again; return the status of the first one."""
    ends = ("completed", "failed", "cancelled")
    end: str = here.wait_until(
        lambda: status if (status := here.qmp("query-migrate").get("status")) in ends else None,
        "the end of the migration",
    )
    if end == "completed":
        here.wait_migration()
        here.cont()
    here.wait_until(lambda: here.qmp("query-status")["running"] or None, "the source to run on")
    here.qmp("migrate-set-parameters", max_bandwidth=FULL_SPEED)
    with VM(name="again", incoming=True, **settings(emulator)) as again:
        hop(here, again)
    return f"source: {end}, runs on and migrates again"


def cancel(emulator: Emulator, dice: random.Random) -> str:
    """Cancel a migration at a random moment, and check that the source migrates again."""
    with VM(name="here", **settings(emulator)) as here:
        here.python.exec(f"dev.start({PAUSE})")
        with VM(name="there", incoming=True, **settings(emulator)) as there:
            begin_and_wait_a_while(here, there, dice)
            here.qmp("migrate_cancel")
            os.kill(there.pid, signal.SIGKILL)
            there.wait()
        return _source_continues(here, emulator)


def snapshots(emulator: Emulator) -> Generator[int, None, None]:
    """Repeatedly save and load a snapshot, and yield QEMU's resident KiB after each cycle."""
    with VM(name="vm", disk=True, **settings(emulator)) as vm:
        vm.python.exec(f"dev.start({PAUSE})")
        while True:
            before = vm.python.eval("dev.totals()")
            vm.snapshot_save("one")
            after = vm.python.eval("dev.totals()")
            vm.python.exec("dev.stop()")
            vm.snapshot_load("one")
            expect_consistent(vm, before)
            totals = vm.python.eval("dev.totals()")
            assert all(a <= b for a, b in zip(totals, after, strict=True)), (totals, after)
            if vm.qmp("query-status")["status"] == "paused":
                vm.cont()
            vm.snapshot_delete("one")
            vm.python.exec(f"dev.start({PAUSE})")
            yield resident_memory(vm.pid) >> 10


def end(emulator: Emulator, dice: random.Random) -> str:
    """End QEMU by a random method at a random moment, while threads take the BQL and Mutexes."""
    method = dice.choice(["quit", "SIGTERM", "SIGINT", "SIGHUP"])
    shim = dice.choice(["plugin", "preload"])
    with VM(name="vm", shim=shim, **settings(emulator)) as vm:  # type: ignore[arg-type]
        vm.python.exec("dev.start()")
        time.sleep(dice.uniform(0, 0.1))  # the random moment itself
        if method == "quit":
            assert vm.quit() == 0
        else:
            os.kill(vm.pid, getattr(signal, method))
            assert vm.wait() == 0
        assert "Traceback" not in vm.log, vm.log
    return f"{method}: status 0"
