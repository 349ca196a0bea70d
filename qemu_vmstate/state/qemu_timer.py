# SPDX-License-Identifier: GPL-2.0-or-later
"""``QEMUTimer``, a timer of QEMU's main loop whose time of expiry migrates."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable
from typing import Any

from ..bindings.native import ffi, in_vm, lib
from ..errors import OutOfRangeError
from ..wire.types import SCALARS
from .bql import bql_locked
from .uncaught import print_exception

__all__ = ["QEMUClockType", "QEMUTimer", "clock_get_ns"]


class QEMUClockType(enum.IntEnum):
    """The clocks of include/qemu/timer.h, without their prefix ``QEMU_CLOCK_``."""

    REALTIME = 0
    VIRTUAL = 1
    HOST = 2
    VIRTUAL_RT = 3


def clock_get_ns(clock: QEMUClockType = QEMUClockType.VIRTUAL) -> int:
    """Return the time of ``clock`` in ns, or 0 outside a VM, where no clock runs.

    In C: ``qemu/timer.h: qemu_clock_get_ns()``.
    """
    return int(lib().qv_clock_get_ns(clock)) if in_vm() else 0


class QEMUTimer:
    """A ``QEMUTimer`` (include/qemu/timer.h) with a Python callback.

    ::

        from qemu_vmstate import Device, QEMUTimer, clock_get_ns, save

        class Watchdog(Device, name="pywatchdog"):
            timer: QEMUTimer

            def __init__(self) -> None:
                self.timer = QEMUTimer(self.expired)

            def expired(self) -> None:
                self.timer.mod_ns(clock_get_ns() + 10**9)

        dog = Watchdog()
        dog.expired()
        assert int.from_bytes(save(dog)) == dog.timer.get()

    ``callback`` is called without arguments in QEMU's main loop, with the BQL
    held; an exception that it raises goes to the log.  As a field of a ``Device``
    it migrates like ``migration/vmstate.h: VMSTATE_TIMER_PTR``: its time of expiry, a signed
    number of ns in 8 bytes, big endian, or -1 if it is not armed.

    Outside a VM a timer stores its time of expiry and never expires.
    """

    def __init__(
        self,
        callback: Callable[[], object] | None = None,
        clock: QEMUClockType = QEMUClockType.VIRTUAL,
    ) -> None:
        self._callback = callback
        self._expire_time_ns = -1
        self._timer: Any = None
        if in_vm():
            _free_dead()
            handle = ffi.new_handle(weakref.ref(self))
            self._timer = lib().qv_timer_new(clock, handle)
            weakref.finalize(self, _dead.append, (self._timer, handle)).atexit = False

    def mod_ns(self, expire_time: int) -> None:
        """Arm the timer to expire at ``expire_time`` of its clock, in ns: ``timer_mod_ns()``.

        Raises ``OutOfRangeError`` if ``expire_time`` is negative or above 2**63 - 1.
        """
        scalar = SCALARS["q"]
        if not 0 <= expire_time <= scalar.high:
            raise OutOfRangeError(
                f"{expire_time} is no time to expire at: 0 to {scalar.high} ns; delete() disarms"
            )
        self.set(expire_time)

    def delete(self) -> None:
        """Disarm the timer: ``timer_del()``."""
        self.set(-1)

    @property
    def pending(self) -> bool:
        """Whether the timer is armed: ``timer_pending()``."""
        return self.get() != -1

    def get(self) -> int:
        """Return the time of expiry in ns of the clock, or -1: ``timer_expire_time_ns()``."""
        if self._timer is None:
            return self._expire_time_ns
        return int(lib().qv_timer_expire_time_ns(self._timer))

    def set(self, expire_time: int) -> None:
        """Set the time that ``get()`` returns, as ``timer_get()`` of migration/savevm.c does."""
        if self._timer is None:
            self._expire_time_ns = expire_time
        else:
            lib().qv_timer_mod_ns(self._timer, expire_time)

    def expire(self) -> None:
        """Call the callback, as the main loop does when the timer has expired."""
        if self._callback is not None:
            self._callback()

    def __repr__(self) -> str:
        return f"QEMUTimer({self.get()} ns)" if self.pending else "QEMUTimer(not armed)"


# Another thread may drop the last reference to a timer while its callback runs in the main
# loop, so its memory is freed later, by a thread that holds the BQL.
_dead: list[tuple[Any, Any]] = []


def _free_dead() -> None:
    if bql_locked():
        while _dead:
            timer, _handle = _dead.pop()
            lib().qv_timer_free(timer)


@ffi.def_extern(onerror=lambda _type, exc, _trace: print_exception(exc))  # type: ignore[untyped-decorator]
def qv_py_timer(handle: Any) -> None:
    """Run the callback of a timer that has expired."""
    timer: QEMUTimer | None = ffi.from_handle(handle)()
    if timer is not None:
        timer.expire()
    _free_dead()
