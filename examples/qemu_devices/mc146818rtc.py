# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python model of the PC's clock: the section ``mc146818rtc`` of hw/rtc/mc146818rtc.c.

QEMU 7.2 and 10.0 read all three versions of it, 10.2 only the last.  Versions 1 and 2 do not
contain the exact time; C then computes it from ``cmos_data``.
"""

from __future__ import annotations

from typing import Literal

from qemu_vmstate import (
    Buffer,
    Device,
    Subsection,
    Unused,
    VMStruct,
    field,
    i64,
    timer,
    u8,
    u16,
    u32,
    u64,
)


class IrqReinject(VMStruct, name="mc146818rtc/irq_reinject_on_ack_count"):
    """The number of interrupts that are still to be delivered."""

    irq_reinject_on_ack_count: u16 = 0


class RTC(Device, name="mc146818rtc", version_id=3):
    """The clock; the BQL guards all of it, as in C."""

    cmos_data: Buffer[Literal[128]] = field(default=bytes(128))
    cmos_index: u8 = 0
    unused_date: Unused[Literal[28]]
    periodic_timer: timer = -1
    next_periodic_time: i64 = 0
    unused_counts: Unused[Literal[24]]
    irq_coalesced: u32 = field(default=0, version_id=2)
    period: u32 = field(default=0, version_id=2)
    base_rtc: u64 = field(default=0, version_id=3)
    last_update: u64 = field(default=0, version_id=3)
    offset: i64 = field(default=0, version_id=3)
    update_timer: timer = field(default=-1, version_id=3)
    next_alarm_time: u64 = field(default=0, version_id=3)
    irq_reinject: Subsection[IrqReinject]
