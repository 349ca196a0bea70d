# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures that start VMs of the emulators that scripts/setup provided, and shared helpers."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm.vm import VM, VMLaunchError

from ..conftest import PATIENCE

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = CHECKOUT / "build" / "test-environment.json"
SCRIPTS = Path(__file__).resolve().parent / "scripts"
DEMO = CHECKOUT / "examples" / "demo_device.py"
BUSY_DEVICE = CHECKOUT / "scripts" / "soak_tests" / "crowd_device.py"

Emulator = dict[str, Any]
StartVM = Callable[..., VM]
LaunchError = Callable[..., str]


def environment() -> dict[str, Any]:
    if not ENVIRONMENT.exists():
        return {"emulators": [], "trees": []}
    loaded: dict[str, Any] = json.loads(ENVIRONMENT.read_text())
    return loaded


def emulators() -> list[Emulator]:
    return [emulator for emulator in environment()["emulators"] if emulator["native"]]


def source_of(build: str) -> Path:
    """Return the source folder of a QEMU build directory."""
    tool = CHECKOUT / "qemu_vmstate" / "natives" / "qemu_tree.py"
    said = subprocess.run(
        [sys.executable, tool, "info", "--build", build],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Path(dict(line.split("=", 1) for line in said.stdout.splitlines())["source"])


@functools.cache
def runs_guests(qemu: str) -> bool:
    """Return whether this emulator has a PC; the one that scripts/setup builds has none."""
    asked = subprocess.run([qemu, "-M", "help"], capture_output=True, text=True, timeout=60)
    return "\npc " in asked.stdout


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "emulator" in metafunc.fixturenames:
        found = emulators()
        if metafunc.definition.get_closest_marker("guest"):
            found = [emulator for emulator in found if runs_guests(emulator["path"])]
        if metafunc.definition.get_closest_marker("one_emulator"):
            found = found[:1]
        marks = pytest.mark.skip(reason="no emulator was set up: run scripts/setup --for test")
        metafunc.parametrize(
            "emulator",
            found or [pytest.param(None, marks=marks)],
            ids=[emulator["name"] for emulator in found] or ["none"],
        )
    if "shim" in metafunc.fixturenames:
        metafunc.parametrize("shim", ["plugin", "preload"])


GUEST = """
    .code16
start:                          # F000:0000
    movw $0xcf8, %dx            # PCI 00:01.3, the PIIX4's power management:
    movl $0x80000b40, %eax
    outl %eax, %dx
    movw $0xcfc, %dx            # its ports are at 0x600
    movl $0x601, %eax
    outl %eax, %dx
    movw $0xcf8, %dx
    movl $0x80000b80, %eax
    outl %eax, %dx
    movw $0xcfc, %dx            # and switched on.
    movb $1, %al
    outb %al, %dx
wait:
    inb $0x64, %al              # Until a key is pressed,
    testb $1, %al
    jz wait
    inb $0x60, %al              # An escape ends QEMU by its debug exit, if it has one;
    cmpb $0x76, %al
    jne off
    movb $0x10, %al
    outb %al, $0xf4
off:
    movw $0x604, %dx            # anything else ends the machine: PM1a_CNT, SLP_EN, soft off.
    movw $0x2000, %ax
    outw %ax, %dx
    hlt
    .org 0xfff0
    ljmp $0xf000, $start        # where an x86 starts
    .org 0x10000
"""


@pytest.fixture
def rom(tmp_path: Path) -> Path:
    """Return a PC firmware that waits for a key and then powers off."""
    source, made, image = (tmp_path / f"guest.{kind}" for kind in ("s", "o", "rom"))
    source.write_text(GUEST)
    subprocess.run(["as", "--32", "-o", made, source], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, image], check=True)
    return image


@pytest.fixture
def start(emulator: Emulator) -> Iterator[StartVM]:
    """Start VMs of the test's emulator that end with the test and show their logs."""
    with contextlib.ExitStack() as stack:

        def begin(name: str = "vm", **options: Any) -> VM:
            return stack.enter_context(VM(name=name, **defaults(emulator, **options)))

        yield begin


@pytest.fixture
def launch_error(emulator: Emulator) -> LaunchError:
    """Return the error of a VM of the test's emulator that must not start, with its notes."""

    def begin(**options: Any) -> str:
        with pytest.raises(VMLaunchError) as caught, VM(**defaults(emulator, **options)):
            pytest.fail("QEMU went on")
        return error_text(caught.value)

    return begin


def defaults(emulator: Emulator, **options: Any) -> dict[str, Any]:
    """Return *options* with the defaults of the tests' VMs."""
    return {
        "qemu": emulator["path"],
        "extra": emulator["args"],
        "env": emulator["env"],
        "timeout": PATIENCE,
        **options,
    }


def error_text(error: BaseException) -> str:
    """Return an exception's message and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def script(folder: Path, text: str) -> Path:
    """Write a script whose name needs quoting."""
    path = folder / "a script, with spaces.py"
    path.write_text(text)
    return path


BUSY = """
import threading
import atexit
from qemu_vmstate import *
class Regs(VMStruct):
    n: u64 = 0
class Busy(Device, name="pybusy"):
    regs: Migratable[Mutex[Regs]]
dev = Busy()
register(dev)
log = open(LOG, "w")
log.write("written, not flushed; ")
atexit.register(lambda: log.write("atexit ran"))
def work():
    while True:
        with dev.regs.lock() as regs:
            regs.n = (regs.n + 1) % 2**64
        with bql_lock_guard():
            [0] * 1000
for _ in range(4):
    threading.Thread(target=work, daemon=DAEMON).start()
"""


def busy(folder: Path, daemon: bool = True) -> Path:
    """Write a script of four threads that take the BQL and a Mutex in turn.

    It leaves the file ``log`` in *folder* open, into which an exit function writes.
    """
    text = BUSY.replace("LOG", repr(str(folder / "log"))).replace("DAEMON", str(daemon))
    return script(folder, text)


def enable(vm: VM, *names: str) -> None:
    """Enable migration capabilities."""
    capabilities = [{"capability": name, "state": True} for name in names]
    vm.qmp("migrate-set-capabilities", capabilities=capabilities)


def wait_status(vm: VM, *wanted: str) -> str:
    """Wait until the migration's status is one of *wanted*, and return it."""

    def reached() -> str | None:
        status = vm.qmp("query-migrate").get("status")
        return status if status in wanted else None

    return vm.wait_until(reached, f"the migration to be {' or '.join(wanted)}")
