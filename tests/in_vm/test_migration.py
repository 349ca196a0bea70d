# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's device crosses real migrations beside its running thread, byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.process_memory import resident_memory
from qemu_vmstate.vm.vm import VM

from .conftest import DEMO, Emulator, StartVM, defaults

sys.path.insert(0, str(DEMO.parent))
import demo_device

Steps = tuple[int, int, int]


def run_on(vm: VM, more: int = 200) -> Steps:
    """Wait until the device's thread has done ``more`` steps, and return its steps."""
    start: Steps = vm.python.eval("dev.steps()")

    def far_enough() -> Steps | None:
        steps: Steps = vm.python.eval("dev.steps()")
        return steps if steps[0] >= start[0] + more and steps[1] > start[1] else None

    return vm.wait_until(far_enough, f"{more} steps of the device's thread")


def expect_state_between(before: Steps, after: Steps, vm: VM) -> Steps:
    wire, steps, _ = vm.python.eval("state()")
    assert demo_device.fault(wire, steps) is None
    assert all(a <= b <= c for a, b, c in zip(before, steps, after, strict=True))
    return tuple(steps)


@pytest.mark.parametrize("via", ["unix", "tcp"])
def test_live_migration_over_a_socket_there_and_back(start: StartVM, shim: str, via: Any) -> None:
    there = start("there", script=DEMO, shim=shim, incoming=True)
    here = start("here", script=DEMO, shim=shim)
    here.python.exec("dev.start()")
    before = run_on(here)
    assert here.migrate_to(there, via=via)["status"] == "completed"
    after: Steps = here.python.eval("dev.steps()")
    arrived = expect_state_between(before, after, there)

    there.python.exec("dev.start()")
    before = run_on(there)
    assert before > arrived
    again = start("again", script=DEMO, shim=shim, incoming=True)
    assert there.migrate_to(again, via=via)["status"] == "completed"
    expect_state_between(before, there.python.eval("dev.steps()"), again)


def test_migration_to_and_from_a_file(start: StartVM, shim: str, tmp_path: Path) -> None:
    file = tmp_path / "a file, with 'marks'.mig"
    here = start("here", script=DEMO, shim=shim)
    here.python.exec("dev.start()")
    before = run_on(here)
    here.migrate_to_file(file)
    after: Steps = here.python.eval("dev.steps()")
    assert file.read_bytes()[:4] == b"QEVM"

    there = start("there", script=DEMO, shim=shim, incoming=True)
    there.load_from_file(file)
    expect_state_between(before, after, there)


def test_snapshot_save_and_load_of_a_qcow2(start: StartVM, shim: str) -> None:
    vm = start(script=DEMO, shim=shim, disk=True)
    vm.python.exec("dev.start()")
    before = run_on(vm)
    vm.snapshot_save("one")
    after: Steps = vm.python.eval("dev.steps()")
    later = run_on(vm)
    assert later[0] > after[0]
    vm.python.exec("dev.stop()")
    for _ in range(2):
        vm.snapshot_load("one")
        expect_state_between(before, after, vm)
    assert vm.qmp("query-status")["status"] in ("running", "paused")
    vm.snapshot_delete("one")


def test_the_section_is_in_the_streams_own_description(start: StartVM, tmp_path: Path) -> None:
    file = tmp_path / "stream"
    here = start("here", script=DEMO)
    here.migrate_to_file(file)
    stream = file.read_bytes()
    # A section: type, section id, counted name, instance id, version id.
    at = stream.index(b"\x05pynic")
    assert stream[at - 5] == 0x04
    assert stream[at + 6 : at + 14] == bytes.fromhex("00000000 00000001")
    # The payload is what save() returns, and the footer follows.
    wire, steps, _ = here.python.eval("state()")
    assert steps == (0, 0, 0)
    payload = stream[at + 14 : at + 14 + len(wire)]
    assert payload == wire
    assert stream[at + 14 + len(wire)] == 0x7E
    assert b'"pynic/regs"' in stream


def test_a_migration_reaches_a_qemu_booted_booted_with_the_other_shim(start: StartVM) -> None:
    there = start("there", script=DEMO, shim="preload", incoming=True)
    here = start("here", script=DEMO, shim="plugin")
    here.python.exec("dev.start()")
    before = run_on(here)
    here.migrate_to(there)
    expect_state_between(before, here.python.eval("dev.steps()"), there)


@pytest.mark.one_emulator
@pytest.mark.timeout(600)
def test_two_hundred_live_migrations_neither_tear_nor_leak_nor_hang(
    emulator: Emulator, start: StartVM, record_property: Any
) -> None:
    here = start("here", script=DEMO)
    here.python.exec("dev.start()")
    memory = []
    for number in range(200):
        options = defaults(emulator, script=DEMO, incoming=True)
        with VM(name=f"there{number}", **options) as there:
            before: Steps = here.python.eval("dev.steps()")
            here.migrate_to(there)
            expect_state_between(before, here.python.eval("dev.steps()"), there)
        here.cont()
        memory.append(resident_memory(here.pid) >> 10)
    record_property("resident_kib", f"{memory[20]} after 20, {memory[-1]} after 200")
    # 180 migrations of a 155-byte section: a leak of one staging struct, one JSON text or
    # one 32 KiB file buffer each would be 28 KiB, 500 KiB or 5.6 MiB.
    assert memory[-1] - memory[20] < 1024, memory
