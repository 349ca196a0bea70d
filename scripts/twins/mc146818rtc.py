# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python twin of the PC's clock: the section ``mc146818rtc`` of hw/rtc/mc146818rtc.c."""

from __future__ import annotations

from typing import Literal

from qemu_vmstate import Buffer, Device, Migratable, Mutex, VMStruct, field, i64, u8, u32, u64


class RTCRegs(VMStruct, name="mc146818rtc", version_id=3, minimum_version_id=3):
    """The clock's CMOS memory, and when its timers fire."""

    cmos_data: Buffer[Literal[128]] = field(default=bytes(128))
    cmos_index: u8 = 0
    unused_0: Buffer[Literal[28]] = field(default=bytes(28))
    periodic_timer: i64 = -1
    next_periodic_time: i64 = 0
    unused_1: Buffer[Literal[24]] = field(default=bytes(24))
    irq_coalesced: u32 = 0
    period: u32 = 0
    base_rtc: u64 = 0
    last_update: u64 = 0
    offset: i64 = 0
    update_timer: i64 = -1
    next_alarm_time: u64 = 0


class RTC(Device, name="mc146818rtc", version_id=3, minimum_version_id=3):
    """The clock."""

    regs: Migratable[Mutex[RTCRegs]]
