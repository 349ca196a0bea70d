# SPDX-License-Identifier: GPL-2.0-or-later
"""The device that the doctor migrates: a script for a VM, and in process a save and a load."""

from __future__ import annotations

from qemu_vmstate import (
    Device,
    Migratable,
    Mutex,
    VMStruct,
    in_vm,
    load,
    register,
    save,
    u64,
)

__all__ = ["VALUE", "Counter", "dev"]

VALUE = 0x0123456789ABCDEF


class Registers(VMStruct):
    """One field."""

    count: u64 = 0


class Counter(Device, name="qemu-vmstate-doctor"):
    """A device of one field."""

    registers: Migratable[Mutex[Registers]]


dev = Counter()


def set_value() -> None:
    """Give the field a value that another device has not."""
    with dev.registers.lock() as registers:
        registers.count = VALUE


def has_value(device: Counter = dev) -> bool:
    """Return whether the field has that value."""
    with device.registers.lock() as registers:
        return bool(registers.count == VALUE)


if in_vm():
    register(dev)
elif __name__ == "__main__":
    set_value()
    copy = Counter()
    load(copy, save(dev))
    if not has_value(copy):
        raise SystemExit("a device that was saved and loaded has another value")
