# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with timers that QEMU's main loop runs."""

from __future__ import annotations

from qemu_vmstate import (
    Device,
    QEMUTimer,
    bql_lock_guard,
    bql_locked,
    clock_get_ns,
    register,
    u32,
)


class Alarm(Device, name="pyalarm"):
    first: QEMUTimer
    second: QEMUTimer
    rung: u32 = 0

    def __init__(self) -> None:
        self.first = QEMUTimer(self.ring)
        self.second = QEMUTimer(self.fail)

    def ring(self) -> None:
        assert bql_locked()
        self.rung += 1

    def fail(self) -> None:
        raise ValueError("boom in the callback")


dev = Alarm()
register(dev)


def soon(timer: QEMUTimer) -> None:
    timer.mod_ns(clock_get_ns() + 1_000_000)


def drop_many() -> int:
    """Arm timers, drop them, and return how many of them are not released yet."""
    with bql_lock_guard():  # none expires meanwhile
        timers = [QEMUTimer(dev.ring) for _ in range(100)]
        for timer in timers:
            soon(timer)
        soon(dev.first)
        del timer, timers
        return unreleased()


def unreleased() -> int:
    """Return the number of dropped timers that are not released so far."""
    from qemu_vmstate.state import qemu_timer

    return len(qemu_timer._dead)  # noqa: SLF001 - no public name counts what users cannot see
