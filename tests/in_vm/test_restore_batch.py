# SPDX-License-Identifier: GPL-2.0-or-later
"""Restores of objects whose sections follow one another are one batch, and undone as one."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm.vm import VM, MigrationError, VMError

from .conftest import SCRIPTS, Emulator, StartVM, enable, error_text, wait_status

SCRIPT = SCRIPTS / "restore_batch.py"

INCOMING_STAYS = (9, 1, 0)
"""The first version that continues after a failed incoming migration."""
ROWS = ([0, 2, 3], [4, 6, 7])
"""The numbers of the devices that need Python, before and behind the C device."""
PYTHON = [number for row in ROWS for number in row]


def values(vm: VM) -> set[int]:
    """Return the values of all devices, which are the same if all are of one ``assign()``."""
    return set(vm.python.eval("[value for value in values().values()]"))


def restored(vm: VM) -> list[int]:
    """Return the numbers of the devices that Python restored since the last call."""
    return [number for number, *_ in vm.python.eval("[list(one) for one in take_restored()]")]


# -------------------------------------------------------------- rows, one entry


def check_rows(vm: VM) -> None:
    """Check that each row was read before it was restored, and restored before what follows."""
    found = vm.python.eval("[list(one) for one in take_restored()]")
    assert [number for number, *_ in found] == PYTHON
    first, second = found[:3], found[3:]
    staged = vm.python.eval("[list(one) for one in staged]")
    assert staged == 6 * [3 * [10]]
    began, between = vm.python.eval("marks()")
    assert began < first[0][2] < first[-1][2] < between < second[0][2]


def test_an_incoming_migration_restores_a_row_together(start: StartVM) -> None:
    here, there = start("here", script=SCRIPT), start("there", script=SCRIPT, incoming=True)
    here.python.exec("assign(1)")
    here.migrate_to(there)
    check_rows(there)
    assert values(there) == {10}


def test_busy_threads_give_the_gil_up_sooner_while_a_migration_comes_in(start: StartVM) -> None:
    """The interval is short when a row waits for the GIL, but not while it works."""
    here, there = start("here", script=SCRIPT), start("there", script=SCRIPT, incoming=True)
    for vm in (here, there):
        vm.python.exec("watch()")
    there.python.exec("sys.setswitchinterval(0.25)")
    here.migrate_to(there)
    assert there.python.eval("intervals") == [0.25] * len(PYTHON)
    assert there.python.eval("outside") == [pytest.approx(0.0001)]
    assert there.python.eval("sys.getswitchinterval()") == 0.25


def test_a_snapshot_restores_a_row_together(start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.exec("assign(1)")
    vm.snapshot_save("one")
    vm.python.exec("assign(2)")
    vm.snapshot_load("one")
    check_rows(vm)
    assert values(vm) == {10}


def test_a_row_longer_than_qemus_buffer_enters_python_once(start: StartVM) -> None:
    """QEMU reads 32 KiB at a time; a header that is cut by that is read as a whole."""
    here, there = start("here", script=SCRIPT), start("there", script=SCRIPT, incoming=True)
    for vm in (here, there):
        vm.python.exec("add(range(1000, 3000))")
    here.python.exec("assign(1)")
    there.python.exec("spin()")
    here.migrate_to(there)
    found = there.python.eval("[list(one) for one in take_restored()]")
    assert [number for number, *_ in found] == [*PYTHON, *range(1000, 3000)]
    # A thread that computes counts between two entries, or if a row takes it half a second.
    assert len({ticks for _, ticks, _ in found}) <= 6
    assert values(there) == {10}


# ------------------------------------------------------------------ failures


@pytest.mark.parametrize("number", PYTHON)
def test_a_failing_restore_undoes_the_load_and_a_good_one_follows(
    start: StartVM, number: int
) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.exec("assign(1)")
    vm.snapshot_save("one")
    vm.python.exec(f"assign(2); refuse.add({number})")
    with pytest.raises(VMError) as caught:
        vm.snapshot_load("one")
    [last] = (row[-1] for row in ROWS if number in row)
    message = "row-part.state: not now"
    if number != last:
        message += (
            f" (this is 'row-part', instance {number}; it is restored together with the devices "
            "behind it in the stream, so QEMU names the last one, 'row-part')"
        )
    assert f"post_load failed: {message}\n" in vm.log
    if vm.version >= (10, 2, 0):
        assert message in error_text(caught.value)
    assert restored(vm) == PYTHON[: PYTHON.index(number) + 1]
    assert values(vm) == {20}
    vm.python.exec("refuse.clear()")
    vm.snapshot_load("one")
    assert restored(vm) == PYTHON
    assert values(vm) == {10}


MARK = b"qemu-vmstate-mark\x00\x00\x00\x01"
NATIVE = b"row-native\x00\x00\x00\x01"
BREAKS = {
    # The C device between the rows is of a version that this QEMU does not have.
    "c-device-behind": (MARK, len(MARK) + 3, 9),
    # The second device of a row is one that is not registered; so is its number in the header.
    "unknown-in-row": (NATIVE, len(NATIVE) - 1, 7),
    "version-in-row": (NATIVE, len(NATIVE) + 3, 9),
    # The footers of the second and of the last device of the row.
    "footer-in-row": (NATIVE, len(NATIVE) + 4 + 4, 0x7F),
    "footer-number-in-row": (NATIVE, len(NATIVE) + 4 + 4 + 4, 0xFE),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_failure_behind_a_device_of_a_row_leaves_no_device_changed(
    start: StartVM, tmp_path: Path, broken: str
) -> None:
    source = start("source", script=SCRIPT, paused=True)
    source.python.exec("assign(1)")
    source.migrate_to_file(tmp_path / "good")
    section, at, byte = BREAKS[broken]
    good = (tmp_path / "good").read_bytes()
    place = good.index(section) + at
    assert good[place] != byte
    (tmp_path / "bad").write_bytes(good[:place] + bytes([byte]) + good[place + 1 :])
    vm = start("vm", script=SCRIPT, incoming=True)
    vm.python.exec("assign(2)")
    with pytest.raises(MigrationError):
        vm.load_from_file(tmp_path / "bad")
    if vm.version < INCOMING_STAYS:
        assert vm.wait() == 1
        return
    assert values(vm) == {20}
    assert restored(vm) == (ROWS[0] if broken == "c-device-behind" else restored_before(broken))


def restored_before(broken: str) -> list[int]:
    """Return what Python restored of a row that breaks at its second device."""
    # A header of an unknown device, or none, ends the row; else QEMU fails while devices wait.
    return [0] if broken in ("unknown-in-row", "footer-in-row") else []


# ------------------------------------------------- what happens while others wait


class Sender:
    """Sends a stream to an incoming migration in pieces."""

    def __init__(self, vm: VM, stream: bytes) -> None:
        self._vm, self._stream, self._sent = vm, stream, 0
        path = vm.folder / "pieces"
        vm.migrate_incoming(f"unix:{path}")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))

    def send(self, until: int | None = None) -> None:
        """Send up to an offset."""
        self.socket.sendall(self._stream[self._sent : until])
        self._sent = len(self._stream) if until is None else until

    def wait_read(self) -> None:
        """Wait until QEMU has read all that was sent and waits for more."""

        def unread() -> int:
            answer = fcntl.ioctl(self.socket, termios.TIOCOUTQ, struct.pack("i", 0))
            return int(struct.unpack("i", answer)[0])

        self._vm.wait_until(lambda: unread() == 0 or None, "QEMU to read all")


@pytest.fixture
def stream(start: StartVM, tmp_path: Path) -> bytes:
    source = start("source", script=SCRIPT, paused=True)
    source.python.exec("assign(1)")
    source.migrate_to_file(tmp_path / "stream")
    return (tmp_path / "stream").read_bytes()


@pytest.fixture
def sender(start: StartVM, stream: bytes) -> Iterator[tuple[VM, Sender, int]]:
    """Yield a VM whose incoming migration has read half of device 2, while 0 and 1 wait."""
    vm = start("vm", script=SCRIPT, incoming=True)
    vm.python.exec("assign(2)")
    sender = Sender(vm, stream)
    second = stream.index(b"\x08row-part\x00\x00\x00\x02") + 1 + 8 + 4 + 4 + 2
    sender.send(second)
    sender.wait_read()
    assert vm.python.call("with_bql", "restored") == []
    assert vm.python.call("with_bql", "marks()[0]") != 0
    yield vm, sender, second
    sender.socket.close()


Sent = tuple[VM, Sender, int]


def test_a_device_waits_only_for_a_header_that_it_has_seen(start: StartVM, stream: bytes) -> None:
    vm = start("vm", script=SCRIPT, incoming=True)
    sender = Sender(vm, stream)
    name = stream.index(b"\x0arow-native\x00\x00\x00\x01")
    # QEMU would wait for the rest of the header, too.
    sender.send(name + 3)
    sender.wait_read()
    assert vm.python.call("with_bql", "[restored, marks()[0] != 0]") == [[], True]
    sender.send()
    vm.wait_migration()
    assert values(vm) == {10}
    sender.socket.close()


def test_a_device_that_waits_is_saved_and_loaded_as_it_is(sender: Sent) -> None:
    vm, rest, _ = sender
    vm.python.exec("from qemu_vmstate import load, save; assert save(devices[0])[-1] == 20")
    vm.python.exec("load(devices[1], save(devices[1]))")
    assert values(vm) == {20}
    rest.send()
    vm.wait_migration()
    assert restored(vm) == PYTHON
    assert values(vm) == {10}


def test_a_device_that_waits_is_in_no_save(sender: Sent, tmp_path: Path) -> None:
    vm, rest, _ = sender
    # QEMU itself refuses snapshots and migrations meanwhile, but not this command.
    with pytest.raises(VMError):
        vm.qmp("xen-save-devices-state", filename=str(tmp_path / "early"))
    message = (
        "row-part cannot be saved while a load of the VM runs, which has read its section and not "
        "yet restored it; save after the end of the load"
    )
    assert message in vm.qmp("query-migrate").get("error-desc", vm.log)
    if vm.version < (10, 0, 0):  # later ones fail the load for the error of the save
        rest.send()
        vm.wait_migration()
        assert values(vm) == {10}


def test_a_device_that_waits_may_be_unregistered(sender: Sent) -> None:
    vm, rest, _ = sender
    vm.python.exec("registrations[0].unregister()")
    rest.send()
    vm.wait_migration()
    assert restored(vm) == PYTHON[1:]
    found = vm.python.eval("list(values().values())")
    assert found == [20, *7 * [10]]


def test_a_load_that_ends_while_devices_wait_changes_none(sender: Sent, stream: bytes) -> None:
    vm, first, _ = sender
    first.socket.close()
    if vm.version < INCOMING_STAYS:
        assert vm.wait() == 1
        return
    assert wait_status(vm, "failed")
    assert restored(vm) == []
    assert values(vm) == {20}


def test_a_snapshot_that_ends_while_devices_wait_is_forgotten(start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.exec("assign(1)")
    vm.snapshot_save("one")
    # Device 2 is now one whose version QEMU refuses, after 0 and 1 have seen its header.
    vm.python.exec("assign(2); registrations[2].unregister(); old = register(Old(), 2)")
    with pytest.raises(VMError) as caught:
        vm.snapshot_load("one")
    assert "unsupported version 1 for 'row-part' v0" in vm.log + error_text(caught.value)
    assert restored(vm) == []
    assert values(vm) == {20}
    vm.python.exec("old.unregister(); add([2])")
    vm.snapshot_load("one")
    assert restored(vm) == PYTHON
    assert values(vm) == {10}


# ------------------------------------------------------------ states and locks


def test_of_devices_with_one_state_the_last_one_counts(start: StartVM) -> None:
    here = start("here", script=SCRIPT, disk=True)
    here.python.exec("add([100, 101]); assign(1)")
    there = start("there", script=SCRIPT, incoming=True)
    there.python.exec("share(); assign(2)")
    here.migrate_to(there)
    assert there.python.eval("devices[100].state.into_inner().value") == 111
    assert restored(there) == [*PYTHON, 100, 101]


def test_devices_with_one_state_are_rolled_back_in_order(start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.exec("share(); add([102]); assign(1)")
    vm.snapshot_save("one")
    vm.python.exec("assign(2); refuse.add(102)")
    with pytest.raises(VMError):
        vm.snapshot_load("one")
    assert vm.python.eval("devices[100].state.into_inner().value") == 121


def test_a_lock_that_is_held_is_waited_for_without_the_gil(start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.exec("assign(1)")
    vm.snapshot_save("one")
    for number in (1, 2):
        vm.python.exec("assign(2)")
        vm.python.call("hold", number, 0.3)
        vm.snapshot_load("one")
        assert values(vm) == {10}


# ------------------------------------------------------------ kinds of migration


def test_a_postcopy_restores_each_device_at_once(start: StartVM, emulator: Emulator) -> None:
    options: dict[str, Any] = {"script": SCRIPT, "extra": [*emulator["args"], "-m", "64"]}
    here, there = start("here", **options), start("there", **options, incoming=True)
    for vm in (here, there):
        enable(vm, "postcopy-ram")
    here.python.exec("assign(1)")
    slowly = {"zero-page-detection": "none"} if here.version >= (9, 0, 0) else {}
    here.qmp("migrate-set-parameters", slowly, max_bandwidth=1000)
    uri = f"unix:{there.folder / 'incoming'}"
    there.migrate_incoming(uri)
    here.migrate(uri)
    wait_status(here, "active")
    here.qmp("migrate-start-postcopy")
    here.qmp("migrate-set-parameters", max_bandwidth=1 << 30, max_postcopy_bandwidth=1 << 30)
    here.wait_migration()
    there.wait_migration()
    assert restored(there) == PYTHON
    assert values(there) == {10}


def test_colo_restores_each_device_at_every_checkpoint(start: StartVM) -> None:
    """Only Debian's 7.2 supports COLO."""
    here = start("here", script=SCRIPT)
    if here.version >= (8, 0, 0):
        return
    there = start("there", script=SCRIPT, incoming=True)
    for vm in (here, there):
        enable(vm, "x-colo")
    here.python.exec("assign(1)")
    here.qmp("migrate-set-parameters", x_checkpoint_delay=50)
    uri = f"unix:{there.folder / 'incoming'}"
    there.migrate_incoming(uri)
    here.migrate(uri)
    wait_status(here, "colo")
    there.wait_until(lambda: there.python.eval("len(restored)") > 12 or None, "some checkpoints")
    assert restored(there)[:12] == 2 * PYTHON
    here.qmp("x-colo-lost-heartbeat")
