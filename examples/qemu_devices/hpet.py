# SPDX-License-Identifier: GPL-2.0-or-later
"""A Python model of the PC's HPET: the section ``hpet`` of hw/timer/hpet.c.

The bytes are the same in QEMU 7.2, 10.0 and 10.2 and in its Rust device (rust/hw/timer/hpet).
What differs is what else is read, and what is refused:

* 7.2 and 10.0 also read version 1 of the section, which has three timers and does not say so;
  10.2 and Rust do not;
* 7.2 takes the number of timers from the stream, 3 to 32, as this one does; the later ones,
  which call the field ``num_timers_save``, take only the number that they were made with;
* 7.2 tells the guest that number anew in the capability register; the later ones need not.
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
    """A comparator, as a reset leaves it: 64 bits wide, periodic if asked, on IRQ 2."""

    tn: u8 = 0
    config: u64 = 0x4_0000_0030
    cmp: u64 = 2**64 - 1
    fsb: u64 = 0
    period: u64 = 0
    wrap_flag: bool = field(default=False, into=u8)
    qemu_timer: timer = -1


class RtcIrqLevel(VMStruct, name="hpet/rtc_irq_level"):
    """The RTC's interrupt, which is the HPET's to deliver; sent while it is raised."""

    rtc_irq_level: u8 = 0


class Offset(VMStruct, name="hpet/offset"):
    """The main counter, in ns, less the machine's clock; sent while the counter runs."""

    hpet_offset: u64 = 0


def counter_runs(state: Any) -> bool:
    """Whether the main counter does."""
    return bool(state.config & ENABLE)


class HPET(Device, name="hpet", version_id=2, minimum_version_id=1):
    """The device: registers that the BQL guards, and timers that each have a lock of their own.

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
        """C indexes its timers with what the stream says."""
        return [one.tn for one in source.timer] == list(range(source.num_timers))

    def pre_save(self) -> None:
        """Set the counter of a machine that runs to what it is by now."""
        if self.now and self.config & ENABLE:
            ticks = (self.now() + self.hpet_offset.hpet_offset) // CLOCK_PERIOD_NS
            self.hpet_counter = ticks % 2**64


if __name__ == "__main__":
    # In a VM whose machine has none: qemu-vmstate run hpet.py -- qemu-system-x86_64 -M pc,hpet=off
    dev = HPET(now=clock_get_ns)
    register(dev)
