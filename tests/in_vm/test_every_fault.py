# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures in every hook, in the first, the middle and the last of three devices of a VM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qemu_vmstate.vm.vm import VM, MigrationError, VMError

from .conftest import SCRIPTS, Emulator, StartVM, defaults, error_text
from .scripts.faulty import LOADING, SAVING, expected_message

FAULTY = SCRIPTS / "faulty.py"
DEVICES = pytest.mark.parametrize("device", ["pyfirst", "pymiddle", "pylast"])

INCOMING_STAYS = (9, 1, 0)
"""The first version that continues after a failed incoming migration, and reports the error."""


def fails(vm: VM, call: Callable[[], object]) -> tuple[str, str]:
    """Return the error of a call that changes nothing, and what it added to the log."""
    seen, copies = vm.python.eval("all_seen()"), vm.python.eval("copies()")
    before = len(vm.log)
    with pytest.raises(VMError) as caught:
        call()
    assert vm.python.eval("all_seen()") == seen
    assert vm.python.eval("copies()") == copies
    return str(caught.value), vm.log[before:]


@DEVICES
def test_a_failing_save_reports_the_reason_and_the_next_one_succeeds(
    start: StartVM, device: str, tmp_path: Path
) -> None:
    vm = start(script=FAULTY, disk=True)
    vm.python.exec("change_all(1); all_saved(); copies()")
    status = vm.qmp("query-status")["status"]
    for number, hook in enumerate(SAVING):
        file = tmp_path / hook
        vm.python.exec(f"change_all({number + 2}); fail({device!r}, {hook!r})")
        wanted = expected_message(device, hook)

        message, log = fails(vm, lambda file=file: vm.migrate_to_file(file))  # type: ignore[misc]
        assert wanted in message
        assert wanted in vm.qmp("query-migrate")["error-desc"]
        assert wanted in log
        assert "Traceback" in log
        assert not file.exists()
        assert vm.qmp("query-status")["status"] == status

        message, log = fails(vm, lambda hook=hook: vm.snapshot_save(hook))  # type: ignore[misc]
        assert "Error while writing VM state" in message
        assert wanted in log
        assert wanted in vm.qmp("query-migrate")["error-desc"]
        assert vm.qmp("query-status")["status"] == status

        vm.python.exec("mend_all()")
        seen = vm.python.eval("all_seen()")
        vm.snapshot_save(hook)
        assert vm.migrate_to_file(file)["status"] == "completed"
        assert vm.python.eval("all_seen()") == seen
        vm.cont()
    vm.python.exec("change_all(50)")
    vm.snapshot_load(SAVING[0])
    assert vm.python.eval("[dev.size for dev in devices.values()]") == [2, 2, 2, 2]
    assert vm.quit() == 0


@DEVICES
def test_a_snapshot_that_fails_to_load_changes_no_device_and_the_next_one_loads(
    start: StartVM, device: str
) -> None:
    vm = start(script=FAULTY, disk=True)
    vm.python.exec("change_all(77)")
    vm.snapshot_save("good")
    saved = vm.python.eval("all_saved()")
    for number, hook in enumerate(LOADING):
        vm.python.exec(f"change_all({number + 2}); fail({device!r}, {hook!r})")
        wanted = expected_message(device, hook)
        message, log = fails(vm, lambda: vm.snapshot_load("good"))
        assert wanted in log
        assert "snapshot-load" in message
        if vm.version >= (10, 2, 0):  # an older QEMU's job says "Error -22" only
            assert wanted in message
        vm.python.exec("mend_all()")
        vm.snapshot_load("good")
        assert vm.python.eval("all_saved()") == saved
    assert vm.quit() == 0


@DEVICES
def test_a_failing_incoming_migration_reports_the_reason_and_changes_no_device(
    emulator: Emulator, start: StartVM, device: str, tmp_path: Path
) -> None:
    source = start("source", script=FAULTY, paused=True)
    source.python.exec("change_all(77)")
    file = tmp_path / "stream"
    source.migrate_to_file(file)
    for hook in LOADING:
        options = defaults(emulator, script=FAULTY, incoming=True)
        with VM(name=hook.replace("_", "-"), **options) as vm:
            vm.python.exec(f"change_all(5); all_saved(); fail({device!r}, {hook!r})")
            wanted = expected_message(device, hook)
            if vm.version < INCOMING_STAYS:
                # It exits in the step that finds the failure, and answers no further QMP command.
                with pytest.raises(MigrationError, match="QEMU ended with status 1"):
                    vm.load_from_file(file)
                assert wanted in vm.log
                continue
            message, _ = fails(vm, lambda vm=vm: vm.load_from_file(file))  # type: ignore[misc]
            assert wanted in message
            assert wanted in vm.qmp("query-migrate")["error-desc"]
            assert vm.quit() == 0


def broken_after(stream: bytes, device: str, payload: int) -> bytes:
    """Return the stream with a wrong footer after the section of ``device``."""
    name = device.encode()
    at = stream.index(bytes([len(name)]) + name) + 1 + len(name) + 8 + payload
    assert stream[at] == 0x7E
    return stream[:at] + b"\x7f" + stream[at + 1 :]


@pytest.mark.parametrize("device", ["pynative", "pyseveral", "pyborrower", "pylast"])
def test_a_stream_that_breaks_behind_a_device_changes_none(
    start: StartVM, device: str, tmp_path: Path
) -> None:
    source = start("source", script=FAULTY, paused=True)
    source.python.exec("change_all(77)")
    source.migrate_to_file(tmp_path / "good")
    saved = source.python.eval("all_saved()")
    good = (tmp_path / "good").read_bytes()
    (tmp_path / "bad").write_bytes(broken_after(good, device, len(saved[device])))
    vm = start("vm", script=FAULTY, incoming=True)
    vm.python.exec("change_all(5); all_saved(); copies()")
    if vm.version < INCOMING_STAYS:
        with pytest.raises(MigrationError, match="QEMU ended with status 1"):
            vm.load_from_file(tmp_path / "bad")
        return
    fails(vm, lambda: vm.load_from_file(tmp_path / "bad"))


def test_a_load_that_fails_is_undone_to_what_came_before_it_only(
    start: StartVM, tmp_path: Path
) -> None:
    """After an incoming migration the VM has run, so that load has ended."""
    source = start("source", script=FAULTY, paused=True)
    source.python.exec("change_all(77)")
    source.migrate_to_file(tmp_path / "stream")
    vm = start("vm", script=FAULTY, incoming=True, disk=True)
    vm.load_from_file(tmp_path / "stream")
    vm.cont()
    assert vm.python.eval("all_saved()") == source.python.eval("all_saved()")
    vm.snapshot_save("good")
    vm.python.exec("change_all(5); fail('pylast', 'restore')")
    fails(vm, lambda: vm.snapshot_load("good"))
    vm.python.exec("mend_all()")
    vm.snapshot_load("good")
    assert vm.python.eval("all_saved()") == source.python.eval("all_saved()")
    vm.python.exec("change_all(6); fail('pyfirst', 'restore')")
    fails(vm, lambda: vm.snapshot_load("good"))
    assert vm.quit() == 0


def test_a_snapshot_loads_after_one_could_not_be_saved(start: StartVM) -> None:
    vm = start(script=FAULTY, disk=True)
    vm.python.exec("change_all(77)")
    vm.snapshot_save("good")
    vm.python.exec("change_all(5); fail('pylast', 'pre_save')")
    fails(vm, lambda: vm.snapshot_save("bad"))
    vm.python.exec("mend_all()")
    vm.snapshot_load("good")
    assert vm.python.eval("[dev.size for dev in devices.values()]") == [77] * 4


def test_a_section_of_the_name_that_watches_loads_is_refused(
    start: StartVM, tmp_path: Path
) -> None:
    source = start("source", script=FAULTY, paused=True)
    source.migrate_to_file(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    (tmp_path / "bad").write_bytes(good.replace(b"\x08pynative", b"\x0cqemu_vmstate", 1))
    vm = start("vm", script=FAULTY, incoming=True)
    with pytest.raises(MigrationError) as caught:
        vm.load_from_file(tmp_path / "bad")
    assert "device 'qemu_vmstate'" in error_text(caught.value)
    if vm.version < INCOMING_STAYS:
        assert vm.wait() == 1
