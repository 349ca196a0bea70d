# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python model of the PC's HPET: the section ``hpet`` of hw/timer/hpet.c.

The bytes are the same in QEMU 7.2, 10.0 and 10.2 and in its Rust device (rust/hw/timer/hpet).
The versions differ in what else they read, and in what they refuse:

* 7.2 and 10.0 also read version 1 of the section, which has three timers and no field for their
  number; 10.2 and Rust do not;
* 7.2 accepts any number of timers from 3 to 32 in the stream, as this model does; the later
  ones, which call the field ``num_timers_save``, accept only the number that they were created
  with;
* 7.2 sets that number in the guest's capability register; the later ones need not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qemu_vmstate import (
    DerivedState,
    Device,
    Migratable,
    Mutex,
    Subsection,
    VArray,
    VMStruct,
    clock_get_ns,
    derive_to_migration_state,
    field,
    register,
    timer,
    u8,
    u64,
    validate,
)

MIN_TIMERS, MAX_TIMERS = 3, 32
CLOCK_PERIOD_NS = 10
ENABLE = 1
"""In the device's ``config``: the main counter runs."""
LEGACY = 2
"""In the device's ``config``: timers 0 and 1 stand in for the PIT and the RTC."""


@derive_to_migration_state(name="hpet_timer")
@dataclass
class HPETTimer(DerivedState):
    """A comparator after a reset: 64 bits wide, capable of periodic mode, on IRQ 2."""

    tn: u8 = 0
    config: u64 = 0x4_0000_0030
    cmp: u64 = 2**64 - 1
    fsb: u64 = 0
    period: u64 = 0
    wrap_flag: bool = field(default=False, into=u8)
    qemu_timer: timer = -1


class RtcIrqLevel(VMStruct, name="hpet/rtc_irq_level"):
    """The RTC's interrupt, which the HPET delivers; sent while it is raised."""

    rtc_irq_level: u8 = 0


class Offset(VMStruct, name="hpet/offset"):
    """The main counter in ns minus the machine's clock; sent while the counter runs."""

    hpet_offset: u64 = 0


def counter_runs(state: Any) -> bool:
    """Return whether the main counter runs."""
    return bool(state.config & ENABLE)


class HPET(Device, name="hpet", version_id=2, minimum_version_id=1):
    """The device: registers that the BQL guards, and timers that have a lock each.

    ``now`` is the machine's clock in ns; without one, time stands still.
    """

    config: u64 = 0
    isr: u64 = 0
    hpet_counter: u64 = 0
    num_timers: u8 = field(default=MIN_TIMERS, minimum=MIN_TIMERS, maximum=MAX_TIMERS, version_id=2)
    timer: VArray[Migratable[Mutex[HPETTimer]], Literal[32]] = field(num="num_timers")
    rtc_irq_level: Subsection[RtcIrqLevel]
    hpet_offset: Subsection[Offset] = field(needed=counter_runs)
    now: Callable[[], int] | None = field(default=None, omit=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        for number, part in enumerate(self.timer):
            with part.lock() as one:
                one.tn = number

    @validate("the timers must be numbered as they come")
    def timers_are_numbered(self, source: Any) -> bool:
        """Return whether each timer has its index as number: C uses the number as an index."""
        return [one.tn for one in source.timer] == list(range(source.num_timers))

    def pre_save(self) -> None:
        """Set the counter to its current value, if it runs."""
        if self.now and self.config & ENABLE:
            ticks = (self.now() + self.hpet_offset.hpet_offset) // CLOCK_PERIOD_NS
            self.hpet_counter = ticks % 2**64


if __name__ == "__main__":
    # For a machine without HPET: qemu-vmstate run hpet.py -- qemu-system-x86_64 -M pc,hpet=off
    dev = HPET(now=clock_get_ns)
    register(dev)
