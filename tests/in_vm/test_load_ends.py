# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a load of the whole VM: devices that the stream lacks, and what devices are told.

Expected values follow from the defaults in scripts/load_ends.py: a new ``pyplain`` has 3 and 4 in
both parts, a new ``pybare`` 3, a new ``pymixed`` 3, 4, no items, 0, 5 and 6; what is declared
with ``keep=True`` stays.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu_vmstate.vm.vm import VM, MigrationError, VMError

from .conftest import SCRIPTS, Emulator, StartVM, enable, wait_status

SCRIPT = SCRIPTS / "load_ends.py"

INCOMING_STAYS = (9, 1, 0)
"""The first version that continues after a failed incoming migration."""

NEW_BUT_KEPT = {
    "pyplain": [3, 9, 3, 9],
    "pylate": [3, 9, 3, 9],
    "pybare": [3],
    "pymixed": [3, 9, 0, 0, 5, 9],
}
"""All devices as new, but for what ``change(9)`` had put into fields with ``keep=True``."""


def seen(vm: VM) -> dict[str, list[int]]:
    """Return the fields of the VM's devices."""
    values: dict[str, list[int]] = vm.python.eval("{k: list(v) for k, v in seen().items()}")
    return values


def told(vm: VM) -> list[tuple[object, ...]]:
    """Return what the VM's devices were told since the last call."""
    return [tuple(entry) for entry in vm.python.eval("take_told()")]


def leave_out(vm: VM) -> None:
    vm.python.exec("mixed.migrated = port.migrated = False")


def begin(here: VM, there: VM) -> None:
    """Begin a migration, and do not wait."""
    uri = f"unix:{there.folder / 'incoming'}"
    there.migrate_incoming(uri)
    here.migrate(uri)


COMPLETE_BUT_MISSED = [
    ("pymixed", "post_load", 2),
    ("pyport", "post_load", 1),
    ("pymixed", "load_complete", False),
    ("pyport", "load_complete", False),
]


def test_a_snapshot_makes_devices_new_that_it_was_saved_without(start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.exec("change(1)")
    leave_out(vm)
    vm.snapshot_save("without")
    vm.python.exec("mixed.migrated = port.migrated = True; register_late(); change(9)")
    assert told(vm) == []
    vm.snapshot_load("without")
    # pyplain is in the snapshot.
    assert seen(vm) == NEW_BUT_KEPT | {"pyplain": [1, 1, 1, 1]}
    assert told(vm) == COMPLETE_BUT_MISSED
    vm.python.exec("change(9)")
    vm.cont()
    vm.python.exec("assert seen()['pymixed'][0] == 9, seen()")  # only a load changes it
    assert told(vm) == []


def test_loadvm_makes_devices_new_that_the_snapshot_was_saved_without(
    start: StartVM, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.qcow2"
    vm = start("first", script=SCRIPT, disk=disk)
    leave_out(vm)
    vm.snapshot_save("without")
    assert vm.quit() == 0
    changed = tmp_path / "changed.py"
    changed.write_text(SCRIPT.read_text() + "\nregister_late()\nchange(9)\n")
    vm = start("second", script=changed, disk=disk, extra=["-loadvm", "without"])
    assert seen(vm) == NEW_BUT_KEPT | {"pyplain": [3, 4, 3, 4]}
    assert told(vm) == COMPLETE_BUT_MISSED


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
@pytest.mark.parametrize("script", [SCRIPT, None], ids=["left-out", "no-python"])
def test_an_incoming_migration_makes_devices_new_that_it_lacks(
    start: StartVM, script: Path | None, paused: bool
) -> None:
    here = start("here", script=script, paused=paused)
    there = start("there", script=SCRIPT, incoming=True, paused=paused)
    if script:
        leave_out(here)
    there.python.exec("register_late(); change(9)")
    here.migrate_to(there)
    if script:
        assert seen(there) == NEW_BUT_KEPT | {"pyplain": [3, 4, 3, 4]}
    else:
        assert seen(there) == NEW_BUT_KEPT
    assert told(there) == COMPLETE_BUT_MISSED
    there.python.exec("change(9)")
    there.cont()
    there.python.exec("assert seen()['pymixed'][0] == 9, seen()")
    assert told(there) == []


# ------------------------------------------------------- certain, or rolled back


def ports(vm: VM, number: int) -> list[int]:
    """Return ports that nothing listens on, no two the same."""
    found: list[int] = vm.python.eval(f"free_ports({number})")
    return found


def loads_port(vm: VM, port: int) -> None:
    """Give ``pyport`` a port, and listen on it."""
    vm.python.exec(f"port.port = {port}; port.bind()")


def test_a_load_is_complete_after_the_last_device_and_tells_all(start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    first, second = ports(vm, 2)
    loads_port(vm, first)
    vm.snapshot_save("good")
    loads_port(vm, second)
    vm.snapshot_load("good")
    assert told(vm) == [
        ("pyport", "post_load", 1),
        ("pymixed", "post_load", 2),
        ("pymixed", "load_complete", True),
        ("pyport", "load_complete", True),
    ]
    assert vm.python.eval("(port.port, port.bound())") == (first, first)


@pytest.mark.parametrize("hook", ["post_load", "restore"])
def test_a_device_is_told_that_a_later_one_refused(start: StartVM, hook: str) -> None:
    vm = start(script=SCRIPT, disk=True)
    first, second = ports(vm, 2)
    loads_port(vm, first)
    vm.snapshot_save("good")
    loads_port(vm, second)
    vm.python.exec(f"refusing.add(('pymixed', {hook!r})); change(9)")
    with pytest.raises(VMError):
        vm.snapshot_load("good")
    own = [("pymixed", "post_load", 2), ("pymixed", "load_rolled_back")]
    assert told(vm) == [
        ("pyport", "post_load", 1),
        *(own if hook == "post_load" else []),
        ("pyport", "load_rolled_back"),
    ]
    assert vm.python.eval("(port.port, port.bound())") == (second, second)
    assert seen(vm) == {name: [9] * len(values) for name, values in NEW_BUT_KEPT.items()}
    vm.cont()
    assert told(vm) == []


def test_a_device_is_told_that_an_incoming_migration_failed(start: StartVM, tmp_path: Path) -> None:
    source = start("source", script=SCRIPT, paused=True)
    source.migrate_to_file(tmp_path / "stream")
    vm = start("vm", script=SCRIPT, incoming=True)
    [port] = ports(vm, 1)
    loads_port(vm, port)
    vm.python.exec("refusing.add(('pymixed', 'post_load'))")
    with pytest.raises(MigrationError):
        vm.load_from_file(tmp_path / "stream")
    if vm.version < INCOMING_STAYS:
        assert vm.wait() == 1
        return
    assert told(vm) == [
        ("pyport", "post_load", 1),
        ("pymixed", "post_load", 2),
        ("pymixed", "load_rolled_back"),
        ("pyport", "load_rolled_back"),
    ]
    assert vm.python.eval("(port.port, port.bound())") == (port, port)


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_a_postcopy_is_certain_before_the_pages_have_come(
    start: StartVM, emulator: Emulator, paused: bool
) -> None:
    here = start("here", script=SCRIPT, extra=[*emulator["args"], "-m", "64"])
    there = start(
        "there", script=SCRIPT, incoming=True, paused=paused, extra=[*emulator["args"], "-m", "64"]
    )
    for vm in (here, there):
        enable(vm, "postcopy-ram")
    here.python.exec("change(7); mixed.migrated = False")
    there.python.exec("register_late(); change(9)")
    slowly = {"zero-page-detection": "none"} if here.version >= (9, 0, 0) else {}
    here.qmp("migrate-set-parameters", slowly, max_bandwidth=1000, max_postcopy_bandwidth=1000)
    begin(here, there)
    wait_status(here, "active")
    here.qmp("migrate-start-postcopy")
    if not paused:
        wait_status(there, "postcopy-active")
        there.wait_until(lambda: there.python.eval("len(told)") == 4, "the end of the load")
        assert there.qmp("query-migrate")["status"] == "postcopy-active"
    here.qmp("migrate-set-parameters", max_postcopy_bandwidth=1 << 40)
    here.wait_migration()
    # QEMU 7.2 says that a postcopy is completed before it ends the load.
    there.wait_until(lambda: there.python.eval("len(told)") == 4, "the end of the load")
    there.wait_migration()
    assert seen(there) == NEW_BUT_KEPT | {"pyplain": [7, 7, 7, 7]}
    assert told(there) == [
        ("pyport", "post_load", 1),
        ("pymixed", "post_load", 2),
        ("pymixed", "load_complete", False),
        ("pyport", "load_complete", True),
    ]


def test_what_fails_after_the_end_is_logged_and_the_other_devices_are_told(
    start: StartVM,
) -> None:
    vm = start(script=SCRIPT, disk=True)
    leave_out(vm)
    vm.snapshot_save("without")
    vm.python.exec("refusing.update({('pymixed', 'load_complete')})")
    vm.snapshot_load("without")
    assert told(vm)[-2:] == COMPLETE_BUT_MISSED[-2:]
    assert (
        "load_complete failed after the end of the load: pymixed.load_complete(): OSError: no "
        "load_complete now" in vm.log
    )
    vm.python.exec("refusing.update({('pymixed', 'post_load')}); change(9)")
    vm.snapshot_load("without")
    assert (
        "pymixed keeps its state from before the load, which has no section of it, and should be "
        "new: pymixed.post_load(): OSError: no post_load now" in vm.log
    )
    assert seen(vm)["pymixed"] == [9, 9, 9, 9, 9, 9]
    vm.python.exec("refusing.clear(); change(9)")
    vm.snapshot_load("without")
    assert seen(vm)["pymixed"] == NEW_BUT_KEPT["pymixed"]


def test_every_checkpoint_of_colo_is_certain(start: StartVM) -> None:
    """Only Debian's 7.2 supports COLO."""
    here = start("here", script=SCRIPT)
    if here.version >= (8, 0, 0):
        return
    there = start("there", script=SCRIPT, incoming=True)
    for vm in (here, there):
        enable(vm, "x-colo")
    here.python.exec("change(7); mixed.migrated = False")
    here.qmp("migrate-set-parameters", x_checkpoint_delay=50)
    begin(here, there)
    wait_status(here, "colo")
    there.wait_until(lambda: there.python.eval("len(told)") > 10 or None, "some checkpoints")
    seen_so_far = told(there)
    assert seen_so_far[:4] == [
        ("pyport", "post_load", 1),
        ("pymixed", "post_load", 2),
        ("pymixed", "load_complete", False),
        ("pyport", "load_complete", True),
    ]
    assert seen_so_far[4:8] == 2 * [("pyport", "post_load", 1), ("pyport", "load_complete", True)]
    here.qmp("x-colo-lost-heartbeat")
