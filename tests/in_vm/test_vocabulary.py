# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with a field of every type crosses migrations, snapshots and QEMU versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu_vmstate.stream.reader import read
from qemu_vmstate.vm.vm import VM, MigrationError

from .conftest import SCRIPTS, Emulator, StartVM, defaults, emulators

EVERYTHING = SCRIPTS / "everything.py"


def test_every_type_of_field_crosses_a_live_migration(start: StartVM, shim: str) -> None:
    here = start("here", script=EVERYTHING, shim=shim)
    there = start("there", script=EVERYTHING, shim=shim, incoming=True)
    initial = there.python.call("wire")
    here.python.call("change")
    changed = here.python.call("wire")
    assert changed != initial
    here.migrate_to(there)
    assert there.python.call("wire") == changed
    assert there.python.eval("dev.calls")[-2] == "post_load 2"
    assert there.python.eval("[len(n._value._value.names) for n in dev.names]") == [1, 5]
    # And it is still loaded as itself, which a second migration shows.
    again = start("again", script=EVERYTHING, shim=shim, incoming=True)
    there.migrate_to(again)
    assert again.python.call("wire") == changed


def test_every_type_of_field_is_in_a_snapshot(start: StartVM) -> None:
    vm = start(script=EVERYTHING, disk=True)
    initial = vm.python.call("wire")
    vm.python.call("change")
    changed = vm.python.call("wire")
    vm.snapshot_save("changed")
    vm.python.exec("dev.count = 0; dev.queue = []; dev.newer = 1")
    assert vm.python.call("wire") not in (initial, changed)
    vm.snapshot_load("changed")
    assert vm.python.call("wire") == changed


def test_a_stream_of_one_qemu_loads_in_every_other(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    file = tmp_path / "everything.mig"
    extra = list(emulator["args"])
    if not emulator["version"].startswith("7."):
        # What machine types before 10.0 leave out, which 7.2 does not know.
        extra += ["-global", "migration.send-switchover-start=off"]
    here = start("here", script=EVERYTHING, extra=extra)
    here.python.call("change")
    changed = here.python.call("wire")
    here.migrate_to_file(file)
    section = read(file).section("everything")
    assert section.payload_size == len(changed)
    assert section.field("regs.items[1].b").value == 3
    assert section.field("everything/extra.x").value == 10
    for other in emulators():
        name = f"to-{other['name']}"
        options = defaults(other, script=EVERYTHING, incoming=True)
        with VM(name=name, **options) as there:
            there.load_from_file(file)
            assert there.python.call("wire") == changed, name


@pytest.mark.one_emulator
def test_versions_in_a_vm(start: StartVM, tmp_path: Path) -> None:
    old, new = tmp_path / "old.mig", tmp_path / "new.mig"
    for version, file in (("1", old), ("2", new)):
        vm = start(f"v{version}", script=EVERYTHING, args=["--version", version])
        vm.python.call("change")
        vm.migrate_to_file(file)
    there = start("there", script=EVERYTHING, incoming=True)
    there.python.exec("dev.newer = 5")
    there.load_from_file(old)
    # The old stream has no such field: it has its default.
    assert there.python.eval("(dev.newer, dev.count, dev.calls[-1])") == (77, 2, "post_load 1")
    late = start("late", script=EVERYTHING, args=["--version", "1"], incoming=True)
    with pytest.raises(MigrationError):
        late.load_from_file(new)
