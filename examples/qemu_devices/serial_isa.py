# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python model of the PC's serial port: the section ``serial`` that ``isa-serial`` writes.

Its fields are those of hw/char/serial.c and hw/char/serial-isa.c, whose bytes are the same in
QEMU 7.2, 10.0 and 10.2.
"""

from __future__ import annotations

from typing import Literal

from qemu_vmstate import (
    Buffer,
    Device,
    Migratable,
    Mutex,
    Subsection,
    VMStruct,
    field,
    i32,
    timer,
    u8,
    u16,
    u32,
)


class Fifo8(VMStruct, name="Fifo8"):
    """The ring of util/fifo8.c, with the port's 16 bytes."""

    data: Buffer[Literal[16]] = field(default=bytes(16))
    head: u32 = field(default=0, maximum=15)
    num: u32 = field(default=0, maximum=16)


class ThrIpending(VMStruct, name="serial/thr_ipending"):
    """Whether an empty transmitter interrupts; -1 if ``iir`` has that information."""

    thr_ipending: i32 = -1


class Tsr(VMStruct, name="serial/tsr"):
    """A character that the other side has not accepted so far."""

    tsr_retry: u32 = 0
    thr: u8 = 0
    tsr: u8 = 0


class RecvFifo(VMStruct, name="serial/recv_fifo"):
    """The received characters that the guest has not read."""

    recv_fifo: Fifo8


class XmitFifo(VMStruct, name="serial/xmit_fifo"):
    """The characters that were not transmitted."""

    xmit_fifo: Fifo8


class FifoTimeoutTimer(VMStruct, name="serial/fifo_timeout_timer"):
    """The time at which an incomplete FIFO raises an interrupt."""

    fifo_timeout_timer: timer = -1


class TimeoutIpending(VMStruct, name="serial/timeout_ipending"):
    """Whether that interrupt is pending."""

    timeout_ipending: i32 = 0


class Poll(VMStruct, name="serial/poll"):
    """Polling the modem lines of a host port; -1: no polling."""

    poll_msl: i32 = -1
    modem_status_poll: timer = -1


class SerialRegs(VMStruct, name="serial", version_id=3, minimum_version_id=2):
    """The registers of a 16550 after a reset."""

    divider: u16 = 12
    rbr: u8 = 0
    ier: u8 = 0
    iir: u8 = 1
    lcr: u8 = 0
    mcr: u8 = 8
    lsr: u8 = 0x60
    msr: u8 = 0xB0
    scr: u8 = 0
    fcr_vmstate: u8 = field(default=0, version_id=3)
    thr_ipending: Subsection[ThrIpending]
    tsr: Subsection[Tsr]
    recv_fifo: Subsection[RecvFifo] = field(needed=lambda regs: regs.recv_fifo.recv_fifo.num > 0)
    xmit_fifo: Subsection[XmitFifo] = field(needed=lambda regs: regs.xmit_fifo.xmit_fifo.num > 0)
    fifo_timeout_timer: Subsection[FifoTimeoutTimer]
    timeout_ipending: Subsection[TimeoutIpending]
    poll: Subsection[Poll]


class SerialISA(Device, name="serial", version_id=3, minimum_version_id=2):
    """The port, with a nested struct of registers as in C."""

    state: Migratable[Mutex[SerialRegs]]
