# SPDX-License-Identifier: GPL-2.0-or-later
"""A save or load that fails in a VM is a QEMU error and changes nothing; the next one succeeds."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from qemu_vmstate.errors import InvalidError, RegistrationError
from qemu_vmstate.vm.vm import VM, MigrationError, VMError

from .conftest import SCRIPTS, Emulator, StartVM, defaults, enable, error_text, wait_status

FRAGILE = SCRIPTS / "fragile.py"


def fails_to_migrate(here: VM, there: VM, message: str) -> None:
    """Migrate, and expect the message as an error and the source to continue unchanged."""
    before = here.python.eval("as_seen()")
    with pytest.raises(MigrationError) as caught:
        here.migrate_to(there)
    assert message in str(caught.value), error_text(caught.value)
    assert message in here.qmp("query-migrate")["error-desc"]
    assert here.qmp("query-status")["status"] in ("running", "prelaunch")
    assert here.python.eval("as_seen()") == before


FAILING_SNAPSHOTS = {
    "raises": (
        "dev.notes.into_inner().fail_snapshot = 'cannot save now'",
        "dev.notes.into_inner().fail_snapshot = None",
        "pyfragile.notes: cannot save now",
    ),
    "out-of-range": (
        "dev.notes.into_inner().total = 2**32",
        "dev.notes.into_inner().total = 0",
        "pyfragile.notes.total: 4294967296 is out of range for u32 (0 to 4294967295)",
    ),
    "registers": (
        "dev.notes.into_inner().fail_snapshot = 'register'",
        "dev.notes.into_inner().fail_snapshot = None",
        "pyother cannot be registered: a migration hook is running",
    ),
    "unregisters": (
        "dev.notes.into_inner().fail_snapshot = 'unregister'",
        "dev.notes.into_inner().fail_snapshot = None",
        "pyfragile cannot be unregistered: a migration hook is running",
    ),
    "poisoned": (
        "try:\n    with dev.regs.lock(): raise KeyError\nexcept KeyError: pass",
        "dev.regs.clear_poison()",
        "pyfragile.regs is poisoned",
    ),
    "borrowed-cell": (
        "with_bql = dev.level; dev.level._value = 256",
        "dev.level._value = 3",
        "pyfragile.level: 256 is out of range for u8 (0 to 255)",
    ),
}


@pytest.mark.parametrize("fault", FAILING_SNAPSHOTS)
def test_a_failing_snapshot_fails_the_migration_and_the_next_one_succeeds(
    start: StartVM, fault: str, shim: str
) -> None:
    break_it, mend_it, message = FAILING_SNAPSHOTS[fault]
    here = start("here", script=FRAGILE, shim=shim)
    there = start("there", script=FRAGILE, shim=shim, incoming=True)
    here.python.exec("change(77, 3)")
    here.python.exec(break_it)
    if fault in ("raises", "registers", "unregisters"):
        fails_to_migrate(here, there, message)
    else:  # as_seen() would fail as well
        with pytest.raises(MigrationError) as caught:
            here.migrate_to(there)
        assert message in str(caught.value), error_text(caught.value)
        assert here.qmp("query-status")["status"] in ("running", "prelaunch")
    here.python.exec(mend_it)
    again = start("again", script=FRAGILE, shim=shim, incoming=True)
    assert here.migrate_to(again)["status"] == "completed"
    assert again.python.eval("as_seen()") == here.python.eval("as_seen()")
    assert again.python.eval("dev.regs.lock().value.first") == 77


def test_a_failing_restore_fails_the_load_and_leaves_the_object_as_it_was(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    here = start("here", script=FRAGILE, shim=shim)
    here.python.exec("change(77, 3)")
    file = tmp_path / "stream"
    here.migrate_to_file(file)
    here.quit()

    there = start("there", script=FRAGILE, shim=shim, incoming=True)
    there.python.exec("change(5, 1)")
    before = there.python.eval("as_seen()")
    there.python.exec("dev.notes.into_inner().fail_restore = 'half a cup'")
    with pytest.raises(VMError) as caught:
        there.load_from_file(file)
    assert "pyfragile.notes: ValueError: half a cup" in error_text(caught.value)
    assert "Traceback" in error_text(caught.value)
    if there.version >= (9, 1, 0):  # an older QEMU exits
        assert there.python.eval("as_seen()") == before


def test_a_failing_snapshot_load_leaves_the_object_and_a_good_one_follows(
    start: StartVM, shim: str
) -> None:
    vm = start(script=FRAGILE, shim=shim, disk=True)
    vm.python.exec("change(77, 3)")
    vm.snapshot_save("good")
    saved = vm.python.eval("as_seen()")
    vm.python.exec("change(5, 1); items = dev.notes.into_inner().items")
    before = vm.python.eval("as_seen()")
    vm.python.exec("dev.notes.into_inner().fail_restore = 'half a cup'")
    with pytest.raises(VMError):
        vm.snapshot_load("good")
    assert "half a cup" in vm.log
    assert vm.python.eval("as_seen()") == before
    assert vm.python.eval("dev.notes.into_inner().items is items")
    vm.python.exec("dev.notes.into_inner().fail_restore = None")
    vm.snapshot_load("good")
    assert vm.python.eval("as_seen()") == saved


def test_a_failing_snapshot_save_leaves_the_vm_and_a_good_one_follows(
    start: StartVM, shim: str
) -> None:
    vm = start(script=FRAGILE, shim=shim, disk=True)
    vm.python.exec("dev.notes.into_inner().fail_snapshot = 'cannot save now'")
    status = vm.qmp("query-status")["status"]
    with pytest.raises(VMError):
        vm.snapshot_save("bad")
    assert "pyfragile.notes: cannot save now" in vm.log
    assert vm.qmp("query-status")["status"] == status
    vm.python.exec("dev.notes.into_inner().fail_snapshot = None")
    vm.snapshot_save("good")


def test_a_failing_save_of_the_scripts_own_is_no_failed_migration(
    start: StartVM, shim: str
) -> None:
    vm = start(script=FRAGILE, shim=shim)
    vm.python.exec("dev.notes.into_inner().fail_snapshot = 'cannot save now'")
    with pytest.raises(InvalidError, match=r"pyfragile\.notes: cannot save now"):
        vm.python.eval("save(dev)")
    assert "error-desc" not in vm.qmp("query-migrate")
    assert "pre-save failed" not in vm.log or vm.version < (8, 2, 0)


@pytest.mark.parametrize(
    ("mine", "theirs"), [("3", "2"), ("2", "3")], ids=["a newer stream", "an older stream"]
)
def test_streams_of_other_versions(start: StartVM, tmp_path: Path, mine: str, theirs: str) -> None:
    here = start("here", script=FRAGILE, args=["--version", mine])
    here.python.exec("change(77, 3)")
    file = tmp_path / "stream"
    here.migrate_to_file(file)
    there = start("there", script=FRAGILE, args=["--version", theirs], incoming=True)
    if mine < theirs:
        there.load_from_file(file)
        assert there.python.eval("as_seen()") == here.python.eval("as_seen()")
        return
    with pytest.raises(VMError) as caught:
        there.load_from_file(file)
    assert "pyfragile" in error_text(caught.value)
    assert "version" in error_text(caught.value)


def test_a_stream_that_is_cut_or_of_another_device_is_refused(
    emulator: Emulator, start: StartVM, tmp_path: Path
) -> None:
    here = start("here", script=FRAGILE)
    here.python.exec("change(77, 3)")
    file = tmp_path / "stream"
    here.migrate_to_file(file)
    stream = file.read_bytes()
    at = stream.index(b"\x09pyfragile") + 10 + 8
    broken = {
        "cut": stream[: at + 6],
        "foreign": stream.replace(b"\x09pyfragile", b"\x09pyfragilf"),
        "longer": stream[: at + 6] + b"\0" + stream[at + 6 :],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        options = defaults(emulator, script=FRAGILE, incoming=True)
        with VM(name=name, **options) as there:
            before = there.python.eval("as_seen()")
            with pytest.raises(VMError) as caught:
                there.load_from_file(tmp_path / name)
            assert error_text(caught.value)
            if there.version >= (9, 1, 0) and name != "longer":
                assert there.python.eval("as_seen()") == before


def registration_error(vm: VM, source: str) -> str:
    """Return the RegistrationError that *source* raises in the VM."""
    with pytest.raises(RegistrationError) as caught:
        vm.python.exec(source)
    return str(caught.value)


def test_registrations_that_qemu_would_end_on_are_refused(start: StartVM, shim: str) -> None:
    vm = start(script=FRAGILE, shim=shim)
    assert "registered already" in registration_error(vm, "register(Fragile())")
    assert "registered already" in registration_error(vm, "register(dev, 5)")
    assert "instance_id -1" in registration_error(vm, "register(Fragile(), -1)")
    assert "not registered" in registration_error(vm, "unregister(Fragile())")
    vm.python.exec("second = register(Fragile(), 1)")
    vm.python.exec("with register(Fragile(), 2): pass")
    vm.python.exec("register(Fragile(), 2); unregister(second)")
    assert "not registered" in registration_error(vm, "second.unregister()")
    assert vm.quit() == 0


def test_an_unregistered_device_is_not_in_the_stream(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=FRAGILE)
    vm.python.exec("other = register(Other())")
    vm.migrate_to_file(tmp_path / "with")
    vm.cont()
    vm.python.exec("other.unregister()")
    vm.migrate_to_file(tmp_path / "without")
    assert b"\x07pyother" in (tmp_path / "with").read_bytes()
    assert b"pyother" not in (tmp_path / "without").read_bytes()


def test_a_registered_object_that_the_script_forgot_still_migrates(
    start: StartVM, tmp_path: Path
) -> None:
    vm = start(script=FRAGILE)
    vm.python.exec("import gc\nregister(Other(value=0x11223344))\ngc.collect()")
    vm.migrate_to_file(tmp_path / "stream")
    assert bytes.fromhex("11223344") in (tmp_path / "stream").read_bytes()


def test_registering_while_a_migration_runs_is_refused(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=FRAGILE)
    enable(vm, "pause-before-switchover")
    vm.qmp("migrate", uri=f"exec:cat > {shlex.quote(str(tmp_path / 'stream'))}")
    wait_status(vm, "pre-switchover")
    assert "a migration is running" in registration_error(vm, "register(Other())")
    assert "a migration is running" in registration_error(vm, "registration.unregister()")
    vm.qmp("migrate_cancel")
    wait_status(vm, "cancelled")
    vm.python.exec("with register(Other()): pass")
