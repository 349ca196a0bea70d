# SPDX-License-Identifier: GPL-2.0-or-later
"""Real emulators, as scripts/setup provided them."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm.vm import VM

from ..conftest import PATIENCE

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = CHECKOUT / "build" / "test-environment.json"
SCRIPTS = Path(__file__).resolve().parent / "scripts"
DEMO = CHECKOUT / "examples" / "demo_device.py"
CROWD = CHECKOUT / "scripts" / "soak_tests" / "crowd_device.py"

Emulator = dict[str, Any]
StartVM = Callable[..., VM]


def environment() -> dict[str, Any]:
    if not ENVIRONMENT.exists():
        return {"emulators": [], "trees": []}
    loaded: dict[str, Any] = json.loads(ENVIRONMENT.read_text())
    return loaded


def emulators() -> list[Emulator]:
    return [emulator for emulator in environment()["emulators"] if emulator["native"]]


@functools.cache
def runs_guests(qemu: str) -> bool:
    """Whether this emulator was built with a PC; the one that scripts/setup builds is not."""
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
    if "door" in metafunc.fixturenames:
        metafunc.parametrize("door", ["plugin", "preload"])


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
    """A PC's firmware that loops until a key is pressed, then switches the machine off."""
    source, made, image = (tmp_path / f"guest.{kind}" for kind in ("s", "o", "rom"))
    source.write_text(GUEST)
    subprocess.run(["as", "--32", "-o", made, source], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, image], check=True)
    return image


@pytest.fixture
def start(emulator: Emulator, tmp_path: Path) -> Iterator[StartVM]:
    """Start VMs of the test's emulator that end with the test and show their logs."""
    with contextlib.ExitStack() as stack:

        def begin(name: str = "vm", **options: Any) -> VM:
            return stack.enter_context(VM(name=name, **defaults(emulator, tmp_path, options)))

        yield begin


def defaults(emulator: Emulator, tmp_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What every VM of a test gets unless it says otherwise."""
    return {
        "qemu": emulator["path"],
        "extra": emulator["args"],
        "native": emulator["native"],
        "env": emulator["env"],
        "timeout": PATIENCE,
        **options,
    }
