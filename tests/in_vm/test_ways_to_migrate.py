# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's kinds of migration, beside eight threads that change the device all the time."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm.vm import VM, MigrationError

from .conftest import (
    BUSY_DEVICE,
    DEMO,
    SCRIPTS,
    Emulator,
    StartVM,
    defaults,
    emulators,
    enable,
    wait_status,
)

Totals = list[int]


class Pair:
    """A source with eight busy threads and memory to send, and its destination."""

    def __init__(self, start: StartVM, emulator: Emulator, script: Path = BUSY_DEVICE) -> None:
        extra = [*emulator["args"], "-m", "64"]
        self._options: dict[str, Any] = {"script": script, "extra": extra}
        self._start = start
        self.here = start("here", **self._options)
        self.there = self.another("there")
        if script == BUSY_DEVICE:
            self.here.python.exec("dev.start(pause=0.001)")

    def another(self, name: str) -> VM:
        """Start another destination."""
        return self._start(name, **self._options, incoming=True)

    def slow_down(self) -> None:
        """Make the source's next migration so slow that it does not end by itself."""
        self.here.qmp("migrate-set-parameters", max_bandwidth=1_000)
        if self.here.version >= (9, 0, 0):
            # It looks at the bandwidth once in 32 KiB, into which a fifth of all pages goes
            # when they are empty: the migration would be over in half a second.
            self.here.qmp("migrate-set-parameters", zero_page_detection="none")

    def begin(self, slowly: bool = False) -> Totals:
        """Begin a migration and return the device's state; a slow one does not end by itself."""
        if slowly:
            self.slow_down()
        before: Totals = self.here.python.eval("getattr(dev, 'totals', list)()")
        uri = f"unix:{self.there.folder / 'incoming'}"
        self.there.migrate_incoming(uri)
        self.here.migrate(uri)
        return before

    def let_there_end(self) -> None:
        """Wait until the destination's migration has failed; QEMU before 9.1 then exits."""
        if self.there.version < (9, 1, 0):
            assert self.there.wait() == 1
        else:
            assert wait_status(self.there, "failed")
            assert self.there.python.eval("dev.totals()") == [0, 0, 0]

    def full_speed(self) -> None:
        """Undo ``slow_down()`` for the migration that runs, and for the next."""
        self.here.qmp("migrate-set-parameters", max_bandwidth=1 << 30)


@pytest.fixture
def pair(start: StartVM, emulator: Emulator) -> Pair:
    return Pair(start, emulator)


def expect_consistent(vm: VM, before: Totals, after: Totals) -> None:
    """Check that each part is consistent, and between these two states."""
    assert vm.python.eval("dev.fault()") is None
    arrived = vm.python.eval("dev.totals()")
    assert all(a <= b <= c for a, b, c in zip(before, arrived, after, strict=True))


def expect_no_update_lost(vm: VM) -> None:
    """Check that the source's threads run, and that none of their updates is missing."""
    done = vm.python.eval("dev.totals()")
    vm.wait_until(
        lambda: all(map(int.__gt__, vm.python.eval("dev.totals()"), done)) or None, "more steps"
    )
    vm.python.exec("dev.stop()")
    assert vm.python.eval("dev.lost()") is None
    assert vm.python.eval("dev.fault()") is None


# -------------------------------------------------------------- capabilities


def test_postcopy_takes_the_device_before_the_memory(pair: Pair) -> None:
    for vm in (pair.here, pair.there):
        enable(vm, "postcopy-ram")
    before = pair.begin(slowly=True)
    wait_status(pair.here, "active")
    pair.here.qmp("migrate-start-postcopy")
    assert pair.here.wait_migration()["status"] == "completed"
    assert pair.there.wait_migration()["status"] == "completed"
    seen = [e["data"].get("status") for e in pair.here.events if e["event"] == "MIGRATION"]
    assert "postcopy-active" in seen
    expect_consistent(pair.there, before, pair.here.python.eval("dev.totals()"))
    expect_no_update_lost(pair.here)


@pytest.mark.parametrize("channels", [2, 4])
def test_multifd_carries_the_device_on_its_main_channel(pair: Pair, channels: int) -> None:
    for vm in (pair.here, pair.there):
        enable(vm, "multifd")
        vm.qmp("migrate-set-parameters", multifd_channels=channels)
    before = pair.here.python.eval("dev.totals()")
    pair.here.migrate_to(pair.there)
    expect_consistent(pair.there, before, pair.here.python.eval("dev.totals()"))
    expect_no_update_lost(pair.here)


def test_background_snapshot_is_of_its_beginning_though_the_machine_runs_on(
    pair: Pair, tmp_path: Path
) -> None:
    enable(pair.here, "background-snapshot")
    file, part, gate = (tmp_path / name for name in ("stream", "part", "gate"))
    os.mkfifo(gate)
    before = pair.here.python.eval("dev.totals()")
    # It ignores the bandwidth, but a pipe takes less than there is to send.
    with gate.open("r+b", buffering=0) as opened:
        seen = len(pair.here.events)
        pair.here.migrate(f"exec:read opened < {gate}; cat > {part} && mv {part} {file}")
        pair.here.wait_event("RESUME", after=seen)
        after = pair.here.python.eval("dev.totals()")
        assert pair.here.qmp("query-migrate")["status"] == "active"
        opened.write(b"\n")
        assert pair.here.wait_migration()["status"] == "completed"
    pair.here.wait_until(file.exists, "the last bytes")
    assert pair.here.qmp("query-status")["running"]
    expect_no_update_lost(pair.here)
    pair.there.load_from_file(file)
    expect_consistent(pair.there, before, after)


def test_mapped_ram_file(pair: Pair, tmp_path: Path) -> None:
    if pair.here.version < (9, 0, 0):
        assert pair.here.version < (8, 2, 0), "a file is no transport of this QEMU"
        return
    file = tmp_path / "stream"
    for vm in (pair.here, pair.there):
        enable(vm, "mapped-ram")
    before = pair.here.python.eval("dev.totals()")
    pair.here.migrate({"transport": "file", "filename": str(file), "offset": 0})
    pair.here.wait_migration()
    pair.there.load_from_file(file)
    expect_consistent(pair.there, before, pair.here.python.eval("dev.totals()"))


@pytest.mark.guest
@pytest.mark.one_emulator
def test_colo_runs_the_hooks_at_every_checkpoint(pair: Pair) -> None:
    """Only Debian's 7.2 supports it: 10.0 ends the migration instead of entering COLO."""
    for vm in (pair.here, pair.there):
        enable(vm, "x-colo")
    pair.here.qmp("migrate-set-parameters", x_checkpoint_delay=50)
    pair.there.python.exec("start_totals = dev.totals()")
    pair.begin()
    wait_status(pair.here, "colo")
    arrived: list[Totals] = []

    def twenty_checkpoints() -> bool | None:
        assert pair.there.python.eval("dev.fault()") is None
        totals = pair.there.python.eval("dev.totals()")
        if not arrived or totals != arrived[-1]:
            arrived.append(totals)
        return len(arrived) > 20 or None

    pair.here.wait_until(twenty_checkpoints, "twenty checkpoints")
    assert arrived == sorted(arrived)
    pair.there.qmp("x-colo-lost-heartbeat")
    pair.there.wait_until(
        lambda: pair.there.qmp("query-status")["status"] == "running" or None, "the failover"
    )
    assert pair.there.python.eval("dev.fault()") is None
    pair.here.qmp("x-colo-lost-heartbeat")
    expect_no_update_lost(pair.here)


# ------------------------------------------------------------------ cancelled

SLOW_SNAPSHOT = """
import threading
from qemu_vmstate import bql_locked
in_hook, go_on = threading.Event(), threading.Event()
seen = type(dev.by_python.into_inner())
usual = seen.snapshot_migration_state
def slow(self, target):
    if bql_locked():  # in the hook, and not in dev.totals()
        in_hook.set()
        go_on.wait(30)
    usual(self, target)
"""


def cancel_in_setup(pair: Pair) -> None:
    """Cancel during the connection; it does not succeed because the backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy:
        address = busy.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for peer in waiting:
            peer.setblocking(False)
            peer.connect_ex(address)
        pair.here.migrate("tcp:{}:{}".format(*address))
        assert pair.here.qmp("query-migrate")["status"] == "setup"
        pair.here.qmp("migrate_cancel")
        wait_status(pair.here, "cancelling", "cancelled")
        for peer in waiting:
            peer.close()
    # QEMU gives the connection up when it is refused.
    pair.here.wait_until(
        lambda: all(one["type"] != "migration" for one in pair.here.qmp("query-yank")) or None,
        "the end of the connection",
    )


def cancel_while_active(pair: Pair) -> None:
    pair.begin(slowly=True)
    wait_status(pair.here, "active")
    pair.here.qmp("migrate_cancel")


def cancel_before_switchover(pair: Pair) -> None:
    enable(pair.here, "pause-before-switchover")
    pair.begin()
    wait_status(pair.here, "pre-switchover")
    pair.here.qmp("migrate_cancel")


def cancel_in_the_hook(pair: Pair) -> None:
    """Cancel in the hook, which may be too late: the monitor waits for the BQL until its end."""
    pair.here.python.exec(SLOW_SNAPSHOT)
    pair.here.python.exec("dev.stop(); seen.snapshot_migration_state = slow")
    pair.begin()
    pair.here.python.eval("in_hook.wait(100)")
    pair.here.python.exec("threading.Timer(0.05, go_on.set).start()")
    pair.here.qmp("migrate_cancel")
    pair.here.python.exec("seen.snapshot_migration_state = usual; before = dev.held()")
    pair.here.python.exec("dev.start(pause=0.001)")


def cancel_after_the_end(pair: Pair) -> None:
    pair.begin()
    pair.here.wait_migration()
    pair.here.qmp("migrate_cancel")


def cancel_twice(pair: Pair) -> None:
    cancel_while_active(pair)
    pair.here.qmp("migrate_cancel")


CANCELS = [
    cancel_in_setup,
    cancel_while_active,
    cancel_before_switchover,
    cancel_in_the_hook,
    cancel_after_the_end,
    cancel_twice,
]


@pytest.mark.parametrize("cancel", CANCELS, ids=lambda cancel: cancel.__name__)
def test_a_cancelled_migration_leaves_the_source_and_the_next_one_succeeds(
    pair: Pair, cancel: Any
) -> None:
    cancel(pair)
    end = wait_status(pair.here, "cancelled", "completed")
    assert end == "cancelled" or cancel in (cancel_in_the_hook, cancel_after_the_end)
    if end == "completed":
        pair.here.wait_migration()
        pair.here.cont()
    if cancel in (cancel_while_active, cancel_before_switchover, cancel_twice):
        pair.let_there_end()
    pair.full_speed()
    before = pair.here.python.eval("dev.totals()")
    assert pair.here.qmp("query-status")["running"]
    again = pair.another("again")
    enable_off = [{"capability": "pause-before-switchover", "state": False}]
    pair.here.qmp("migrate-set-capabilities", capabilities=enable_off)
    pair.here.migrate_to(again)
    expect_consistent(again, before, pair.here.python.eval("dev.totals()"))
    if cancel is not cancel_in_the_hook:  # which stopped and started the threads
        expect_no_update_lost(pair.here)


def test_registrations_may_change_once_a_migration_was_cancelled(pair: Pair) -> None:
    cancel_while_active(pair)
    wait_status(pair.here, "cancelled")
    pair.let_there_end()
    pair.here.python.exec("with register(Crowd(), 7): pass")


def test_a_failing_snapshot_of_a_postcopy_leaves_the_source_running(
    start: StartVM, emulator: Emulator
) -> None:
    """QEMU before 10.2 cannot continue after that, whatever device fails.

    7.2 does not check whether the device state was saved; 10.0 reports its own "Unknown ending
    state" and neither fails nor completes.
    """
    if tuple(map(int, emulator["version"].split("."))) < (10, 2):
        return
    pair = Pair(start, emulator, SCRIPTS / "fragile.py")
    for vm in (pair.here, pair.there):
        enable(vm, "postcopy-ram")
    pair.here.python.exec("change(77, 3); dev.notes.into_inner().fail_snapshot = 'cannot save now'")
    pair.begin(slowly=True)
    wait_status(pair.here, "active")
    pair.here.qmp("migrate-start-postcopy")
    with pytest.raises(MigrationError):
        pair.here.wait_migration()
    assert "pyfragile.notes: cannot save now" in pair.here.log
    pair.here.python.exec("dev.notes.into_inner().fail_snapshot = None")
    pair.full_speed()
    assert pair.here.python.eval("dev.regs.lock().value.first") == 77
    again = pair.another("again")
    enable(again, "postcopy-ram")
    pair.here.migrate_to(again)
    assert again.python.eval("as_seen()") == pair.here.python.eval("as_seen()")


# ------------------------------------------------------------ other versions


NO_SWITCHOVER = ("-global", "migration.send-switchover-start=off")


def major(emulator: Emulator) -> int:
    return int(emulator["version"].split(".")[0])


def version_pairs() -> Sequence[Any]:
    found = emulators()
    return [
        pytest.param(a, b, id=f"{a['name']}-to-{b['name']}")
        for a in found
        for b in found
        if a["version"].split(".")[:2] != b["version"].split(".")[:2]
    ] or [pytest.param(None, None, marks=pytest.mark.skip(reason="one version only was set up"))]


@pytest.mark.parametrize(("writes", "reads"), version_pairs())
def test_a_stream_of_one_version_loads_in_another(
    writes: Emulator, reads: Emulator, tmp_path: Path
) -> None:
    file = tmp_path / "stream"

    def options(emulator: Emulator) -> dict[str, Any]:
        # Versioned machine types set it, but -M none has no versions.
        old = [] if major(emulator) < 10 or major(reads) >= 10 else [NO_SWITCHOVER]
        extra = [*emulator["args"], *(word for pair in old for word in pair)]
        return defaults(emulator, script=DEMO, extra=extra)

    with VM(name="here", **options(writes)) as here:
        here.python.exec("for _ in range(1000): dev.step(with_link=True)")
        here.migrate_to_file(file)
        wire, steps, _ = here.python.eval("state()")
    with VM(name="there", **options(reads), incoming=True) as there:
        there.load_from_file(file)
        assert there.python.eval("state()[:2]") == (wire, steps) == (wire, (1000, 1000, 1000))
