# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of all objects that need Python are one batch, and are not used in later saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu_vmstate.vm.launch import VMError

from .conftest import SCRIPTS, Emulator, StartVM

SCRIPT = SCRIPTS / "snapshot_batch.py"


def test_each_save_takes_every_snapshot_anew_and_once(emulator: Emulator, start: StartVM) -> None:
    vm = start(script=SCRIPT, disk=True)
    for value in (1, 2):
        vm.python.call("assign", value)
        vm.snapshot_save(f"tag{value}")
        assert vm.python.call("take_asked") == [0, 1, 2]
    for value in (2, 1, 2):
        vm.snapshot_load(f"tag{value}")
        assert vm.python.call("values") == [10 * value, 10 * value + 1, 10 * value + 2]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_save_that_fails_leaves_no_snapshot_behind(
    emulator: Emulator, start: StartVM, number: int
) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.call("assign", 1)
    vm.python.exec(f"refuse.add({number})")
    with pytest.raises(VMError):
        vm.snapshot_save("bad")
    # Python is entered once for all of them, whichever of them fails.
    assert vm.python.call("take_asked") == [0, 1, 2]
    vm.python.exec("refuse.clear()")
    vm.python.call("assign", 2)
    vm.snapshot_save("good")
    vm.python.call("assign", 3)
    vm.snapshot_load("good")
    assert vm.python.call("values") == [20, 21, 22]


def test_an_object_that_is_gone_does_not_keep_the_others_old(
    emulator: Emulator, start: StartVM
) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.call("assign", 1)
    vm.python.exec("refuse.add(1)")
    with pytest.raises(VMError):
        vm.snapshot_save("bad")
    vm.python.exec("refuse.clear(); registrations[0].unregister()")
    vm.python.call("assign", 2)
    vm.snapshot_save("good")
    vm.python.call("assign", 3)
    vm.snapshot_load("good")
    assert vm.python.call("values") == [30, 21, 22]


def test_a_lock_that_is_held_is_waited_for_without_the_gil(
    emulator: Emulator, start: StartVM, tmp_path: Path
) -> None:
    vm = start(script=SCRIPT, disk=True)
    vm.python.call("assign", 1)
    vm.python.call("hold", 1, 0.3)
    vm.snapshot_save("held")
    vm.python.call("assign", 2)
    vm.snapshot_load("held")
    assert vm.python.call("values") == [10, 99, 12]


def test_save_in_the_vm_and_a_migration_do_not_mix(
    emulator: Emulator, start: StartVM, tmp_path: Path
) -> None:
    here = start("here", script=SCRIPT)
    there = start("there", script=SCRIPT, incoming=True)
    here.python.call("assign", 1)
    here.python.exec("import qemu_vmstate; wire = qemu_vmstate.save(devices[1])")
    here.python.call("assign", 2)
    here.migrate_to(there)
    assert there.python.call("values") == [20, 21, 22]
    here.python.call("assign", 3)
    assert here.python.eval("qemu_vmstate.save(devices[1])[-1]") == 31
