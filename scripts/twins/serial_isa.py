# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python twin of the PC's serial port: the section ``serial`` that ``isa-serial`` writes.

Its fields are those of hw/char/serial.c and hw/char/serial-isa.c, whose wire is the same in QEMU
7.2, 10.0 and 10.2.
"""

from __future__ import annotations

from qemu_vmstate import Device, Migratable, Mutex, VMStruct, u8, u16


class SerialRegs(VMStruct, name="serial", version_id=3, minimum_version_id=2):
    """A 16550's registers, as a reset leaves them."""

    divider: u16 = 12
    rbr: u8 = 0
    ier: u8 = 0
    iir: u8 = 1
    lcr: u8 = 0
    mcr: u8 = 8
    lsr: u8 = 0x60
    msr: u8 = 0xB0
    scr: u8 = 0
    fcr_vmstate: u8 = 0


class SerialISA(Device, name="serial", version_id=3, minimum_version_id=2):
    """The port; its registers are a struct of their own, as in C."""

    state: Migratable[Mutex[SerialRegs]]
