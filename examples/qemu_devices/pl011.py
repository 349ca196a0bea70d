# SPDX-License-Identifier: GPL-2.0-or-later
r"""A Python model of Arm's UART: the section ``pl011`` of hw/char/pl011.c.

It has the structure of QEMU's Rust device (rust/hw/char/pl011), a struct of registers behind a
lock, and the bytes of all three devices, those in C of QEMU 7.2 and 10.0 and the one in Rust.
They differ in the name of the first four bytes (``readbuff`` in 7.2, unused since then), and in
what they refuse: 7.2 accepts any position in the FIFO, the later ones and this model only those
inside it.

    model = PL011()
    load(model, stream.payload("pl011"))
    model.receive(b"root\\n")
    replace("vm.mig", "changed.mig", {("pl011", 0): save(model)})
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Literal

from qemu_vmstate import (
    DerivedState,
    Device,
    Migratable,
    Mutex,
    Subsection,
    Unused,
    VMStruct,
    derive_to_migration_state,
    field,
    i32,
    u32,
    u64,
    validate,
)

FIFO_DEPTH = 16


class Flag(enum.IntFlag):
    """UARTFR, which the guest polls."""

    RXFE = 0x10  # nothing received
    TXFF = 0x20
    RXFF = 0x40  # no room to receive
    TXFE = 0x80


class Interrupt(enum.IntFlag):
    """UARTRIS, and UARTIMSC, its mask."""

    RX = 0x10
    TX = 0x20
    RT = 0x40


class LineControl(enum.IntFlag):
    """The register UARTLCR_H."""

    FEN = 0x10  # the FIFO is on; else it holds one character


@derive_to_migration_state(name="pl011/regs", version_id=2, minimum_version_id=2)
@dataclass
class PL011Registers(DerivedState):
    """The registers after a reset."""

    flags: Flag = field(default=Flag.TXFE | Flag.RXFE, into=u32)
    lcr: LineControl = field(default=LineControl(0), into=u32)
    rsr: u32 = 0
    cr: u32 = 0x300
    dmacr: u32 = 0
    int_enabled: Interrupt = field(default=Interrupt(0), into=u32)
    int_level: Interrupt = field(default=Interrupt(0), into=u32)
    read_fifo: list[u32] = field(default_factory=lambda: [0] * FIFO_DEPTH, length=FIFO_DEPTH)
    ilpr: u32 = 0
    ibrd: u32 = 0
    fbrd: u32 = 0
    ifl: u32 = 0x12
    read_pos: i32 = 0
    read_count: i32 = 0
    read_trigger: i32 = 1

    @property
    def depth(self) -> int:
        """The capacity in characters."""
        return FIFO_DEPTH if LineControl.FEN in self.lcr else 1

    def put(self, character: int) -> None:
        """Add a received character; there must be room for it."""
        self.read_fifo[(self.read_pos + self.read_count) % self.depth] = character
        self.read_count += 1
        self.flags &= ~Flag.RXFE
        if self.read_count == self.depth:
            self.flags |= Flag.RXFF
        if self.read_count >= self.read_trigger:
            self.int_level |= Interrupt.RX

    def take(self) -> int | None:
        """Remove and return the next character; ``None`` if there is none."""
        if self.read_count == 0:
            return None
        character = self.read_fifo[self.read_pos]
        self.read_pos = (self.read_pos + 1) % self.depth
        self.read_count -= 1
        self.flags &= ~Flag.RXFF
        if self.read_count == 0:
            self.flags |= Flag.RXFE
        if self.read_count < self.read_trigger:
            self.int_level &= ~Interrupt.RX
        return character


class ClockRatio(VMStruct, name="clock/muldiv"):
    """The ratio of a clock to its source; sent only if it is not 1."""

    multiplier: u32 = 1
    divider: u32 = 1


class Clock(VMStruct, name="clock", version_id=0, minimum_version_id=0):
    """The clock of hw/core/clock-vmstate.c: its period in units of 2^-32 ns, 0 if it is off."""

    period: u64 = 0
    muldiv: Subsection[ClockRatio]


class ClockSubsection(VMStruct, name="pl011/clock"):
    """The input clock."""

    clk: Clock


class PL011(Device, name="pl011", version_id=2, minimum_version_id=2):
    """The device."""

    unused: Unused[Literal[4]]
    regs: Migratable[Mutex[PL011Registers]]
    # C omits it if the property migrate-clk is off, as in machines before virt-5.2.
    clock: Subsection[ClockSubsection] = field(needed=True)

    def receive(self, characters: bytes) -> None:
        """Receive bytes from the line; raise OverflowError, and receive none, if not all fit."""
        with self.regs.lock() as regs:
            room = regs.depth - regs.read_count
            for character in characters if len(characters) <= room else b"":
                regs.put(character)
        if len(characters) > room:
            raise OverflowError(f"there is room for {room} characters, not for {len(characters)}")

    def read(self) -> bytes:
        """Remove and return all bytes that the guest has not read."""
        with self.regs.lock() as regs:
            return bytes(character & 0xFF for character in iter(regs.take, None))

    @validate("the FIFO's position and level must lie inside it")
    def fifo_is_sane(self, source: Any) -> bool:
        """Return whether they do, as post_load checks in C and Rust; C accepts negative values."""
        regs = source.regs
        return bool(0 <= regs.read_pos < FIFO_DEPTH and 0 <= regs.read_count <= FIFO_DEPTH)

    def post_load(self, version_id: int) -> None:
        """Convert the state of older QEMU versions to the form that this device assumes."""
        with self.regs.lock() as regs:
            if regs.depth == 1 and regs.read_count and regs.read_pos:
                regs.read_fifo[0], regs.read_pos = regs.read_fifo[regs.read_pos], 0
            regs.ibrd &= 0xFFFF
            regs.fbrd &= 0x3F
