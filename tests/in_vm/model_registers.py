# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses of registers in C devices, and their fields in Python models, for test_c_devices.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .conftest import DEMO
from .qtest import QTest

sys.path.insert(0, str(DEMO.parent))
from qemu_devices.hpet import HPET
from qemu_devices.mc146818rtc import RTC
from qemu_devices.pl011 import PL011
from qemu_devices.serial_isa import SerialISA

PORT = 0x3F8
HPET_AT = 0xFED0_0000
PL011_AT = 0x0900_0000


@dataclass(frozen=True)
class Register:
    """A register of the C device and of the model, with two valid values."""

    read: Callable[[QTest], int]
    write: Callable[[QTest, int], None]
    get: Callable[[Any], int]
    set: Callable[[Any, int], None]
    values: tuple[int, int]


@contextmanager
def latched(q: QTest) -> Iterator[None]:
    """Map the divider to the serial port's first two addresses."""
    lcr = q.inb(PORT + 3)
    q.outb(PORT + 3, lcr | 0x80)
    yield
    q.outb(PORT + 3, lcr)


def read_divider(q: QTest) -> int:
    with latched(q):
        return q.inb(PORT) | q.inb(PORT + 1) << 8


def write_divider(q: QTest, value: int) -> None:
    with latched(q):
        q.outb(PORT, value & 0xFF)
        q.outb(PORT + 1, value >> 8)


def of_port(name: str, values: tuple[int, int], at: int | None = None) -> Register:
    """Return a register of the serial port; without an address it is the divider."""

    def get(dev: SerialISA) -> int:
        with dev.state.lock() as regs:
            return int(getattr(regs, name))

    def change(dev: SerialISA, value: int) -> None:
        with dev.state.lock() as regs:
            setattr(regs, name, value)

    if at is None:
        return Register(read_divider, write_divider, get, change, values)
    return Register(lambda q: q.inb(at), lambda q, v: q.outb(at, v), get, change, values)


def cmos(index: int, values: tuple[int, int]) -> Register:
    """Return a byte of the clock's memory."""

    def through(q: QTest) -> int:
        q.outb(0x70, index)
        return q.inb(0x71)

    def write(q: QTest, value: int) -> None:
        q.outb(0x70, index)
        q.outb(0x71, value)

    def change(dev: RTC, value: int) -> None:
        data = bytearray(dev.cmos_data)
        data[index] = value
        dev.cmos_data = bytes(data)

    return Register(through, write, lambda dev: dev.cmos_data[index], change, values)


def of_hpet(name: str, at: int, values: tuple[int, int], timer: int | None = None) -> Register:
    """Return 64 bits of the HPET, or of one of its timers."""

    @contextmanager
    def owner(dev: HPET) -> Iterator[Any]:
        if timer is None:
            yield dev
        else:
            with dev.timer[timer].lock() as one:
                yield one

    def get(dev: HPET) -> int:
        with owner(dev) as one:
            return int(getattr(one, name))

    def change(dev: HPET, value: int) -> None:
        with owner(dev) as one:
            setattr(one, name, value)

    at += HPET_AT + (0 if timer is None else 0x100 + 0x20 * timer)
    return Register(lambda q: q.readq(at), lambda q, v: q.writeq(at, v), get, change, values)


def of_pl011(name: str, at: int, values: tuple[int, int]) -> Register:
    """Return a register of the PL011."""

    def get(dev: PL011) -> int:
        with dev.regs.lock() as regs:
            return int(getattr(regs, name))

    def change(dev: PL011, value: int) -> None:
        with dev.regs.lock() as regs:
            setattr(regs, name, type(getattr(regs, name))(value))

    at += PL011_AT
    return Register(lambda q: q.readl(at), lambda q, v: q.writel(at, v), get, change, values)


@dataclass(frozen=True)
class Model:
    """A Python model, and the registers of it and of its C device."""

    section: str
    make: Callable[[], Any]
    registers: Mapping[str, Register]


SERIAL = Model(
    "serial",
    SerialISA,
    {
        "scratch": of_port("scr", (0x5A, 0xA5), PORT + 7),
        "line control": of_port("lcr", (0x03, 0x1B), PORT + 3),
        "divider": of_port("divider", (0x0102, 0x0304)),
    },
)
CLOCK = Model(
    "mc146818rtc",
    RTC,
    # The lower half of register A is the periodic interrupt's rate, the others are memory.
    {
        "register A": cmos(0x0A, (0x25, 0x2C)),
        "0x50": cmos(0x50, (0x77, 0x88)),
        "0x7f": cmos(0x7F, (1, 2)),
    },
)
TIMERS = Model(
    "hpet",
    HPET,
    {
        "main counter": of_hpet("hpet_counter", 0xF0, (0x1111_2222_3333, 2**64 - 2)),
        "configuration of timer 1": of_hpet("config", 0x00, (0x4_0000_0832, 0x4_0000_0C34), 1),
        "comparator of timer 0": of_hpet("cmp", 0x08, (0x1234_5678_9ABC, 7), 0),
        "comparator of timer 2": of_hpet("cmp", 0x08, (3, 0xFFFF_0000_0000), 2),
    },
)
UART = Model(
    "pl011",
    PL011,
    {
        "integer baud rate": of_pl011("ibrd", 0x24, (0x123, 0xFFFF)),
        "fractional baud rate": of_pl011("fbrd", 0x28, (0x15, 0x3F)),
        "line control": of_pl011("lcr", 0x2C, (0x70, 0x60)),
        "control": of_pl011("cr", 0x30, (0x301, 0x101)),
        "interrupt levels": of_pl011("ifl", 0x34, (0x09, 0x24)),
        "interrupt mask": of_pl011("int_enabled", 0x38, (0x50, 0x10)),
    },
)
