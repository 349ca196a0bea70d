# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock QEMUs' C devices take what their Python twins wrote, and the twins what they wrote.

Nothing of ours is in these VMs.  Each test goes in a circle: a register that was written into
the C device is read in Python, changed there, and read out of another VM's C device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import load, save
from qemu_vmstate.stream import read, replace
from qemu_vmstate.vm import VM

from .conftest import DEMO, Emulator, StartVM
from .qtest import QTest
from .test_stream_vm import has_machines

sys.path.insert(0, str(DEMO.parent))
from twins.mc146818rtc import RTC
from twins.serial_isa import SerialISA

PC = ("pc", ["-m", "16", "-chardev", "null,id=tty", "-serial", "chardev:tty"])
HPET_AT = 0xFED0_0000


@dataclass(frozen=True)
class Register:
    """A register, in the C device and in the Python one, and two values that it can have."""

    read: Callable[[QTest], int]
    write: Callable[[QTest, int], None]
    get: Callable[[Any], int]
    set: Callable[[Any, int], None]
    values: tuple[int, int]


@dataclass(frozen=True)
class Twin:
    section: str
    make: Callable[[], Any]
    machine: tuple[str, list[str]]
    registers: Mapping[str, Register]


@contextmanager
def latched(q: QTest) -> Iterator[None]:
    """While the port's first two addresses are its divider's."""
    lcr = q.inb(0x3FB)
    q.outb(0x3FB, lcr | 0x80)
    yield
    q.outb(0x3FB, lcr)


def read_divider(q: QTest) -> int:
    with latched(q):
        return q.inb(0x3F8) | q.inb(0x3F9) << 8


def write_divider(q: QTest, value: int) -> None:
    with latched(q):
        q.outb(0x3F8, value & 0xFF)
        q.outb(0x3F9, value >> 8)


def port(at: int, name: str, *values: int) -> Register:
    """A register of the serial port."""

    def change(dev: SerialISA, value: int) -> None:
        with dev.state.lock() as regs:
            setattr(regs, name, value)

    def get(dev: SerialISA) -> int:
        with dev.state.lock() as regs:
            return int(getattr(regs, name))

    if name == "divider":
        return Register(read_divider, write_divider, get, change, (values[0], values[1]))
    return Register(
        lambda q: q.inb(at), lambda q, v: q.outb(at, v), get, change, (values[0], values[1])
    )


def cmos(index: int, *values: int) -> Register:
    """A byte of the clock's memory."""

    def through(q: QTest) -> int:
        q.outb(0x70, index)
        return q.inb(0x71)

    def write(q: QTest, value: int) -> None:
        q.outb(0x70, index)
        q.outb(0x71, value)

    def change(dev: RTC, value: int) -> None:
        with dev.regs.lock() as regs:
            regs.cmos_data = bytes(
                value if at == index else byte for at, byte in enumerate(regs.cmos_data)
            )

    def get(dev: RTC) -> int:
        with dev.regs.lock() as regs:
            return regs.cmos_data[index]

    return Register(through, write, get, change, (values[0], values[1]))


TWINS = {
    "serial": Twin(
        "serial",
        SerialISA,
        PC,
        {
            "scratch": port(0x3FF, "scr", 0x5A, 0xA5),
            "line control": port(0x3FB, "lcr", 0x03, 0x1B),
            "divider": port(0x3F8, "divider", 0x0102, 0x0304),
        },
    ),
    "rtc": Twin(
        "mc146818rtc",
        RTC,
        PC,
        # 0x0a's lower half is the periodic interrupt's rate, the rest is memory.
        {"0x0a": cmos(0x0A, 0x25, 0x2C), "0x50": cmos(0x50, 0x77, 0x88), "0x7f": cmos(0x7F, 1, 2)},
    ),
}


@dataclass
class Bench:
    """One emulator, and the VMs of it that a test starts one after the other."""

    start: StartVM
    emulator: Emulator
    folder: Path

    @contextmanager
    def vm(
        self, name: str, machine: tuple[str, list[str]], **options: Any
    ) -> Iterator[tuple[VM, QTest]]:
        path = self.folder / f"{name}.qtest"
        extra = [*self.emulator["args"], *machine[1], *QTest.options(path)]
        vm = self.start(name, machine=machine[0], extra=extra, paused=True, **options)
        with QTest(path) as q:
            yield vm, q


@pytest.fixture
def bench(start: StartVM, emulator: Emulator, tmp_path: Path) -> Bench:
    return Bench(start, emulator, tmp_path)


@pytest.mark.parametrize("name", TWINS)
def test_a_register_goes_in_a_circle(bench: Bench, name: str) -> None:
    if not has_machines(bench.emulator):
        return
    twin = TWINS[name]
    file, changed = bench.folder / "vm.mig", bench.folder / "changed.mig"
    with bench.vm("here", twin.machine) as (vm, q):
        for register in twin.registers.values():
            assert register.read(q) not in register.values
            register.write(q, register.values[0])
        vm.migrate_to_file(file)
    stream = read(file)
    payload = stream.payload(twin.section)
    dev = twin.make()
    for register in twin.registers.values():
        assert register.get(dev) not in register.values
    load(dev, payload, stream.section(twin.section).version_id)
    assert save(dev) == payload
    for register in twin.registers.values():
        assert register.get(dev) == register.values[0]
        register.set(dev, register.values[1])
    replace(file, changed, {(twin.section, 0): save(dev)})
    with bench.vm("there", twin.machine, incoming=True) as (vm, q):
        for register in twin.registers.values():
            assert register.read(q) not in register.values
        vm.load_from_file(changed)
        for register in twin.registers.values():
            assert register.read(q) == register.values[1]
