# SPDX-License-Identifier: GPL-2.0-or-later
"""Two rows of devices whose restores need Python, with a C device before, between and behind.

Each row is a device that needs Python, one that C restores alone, and two more of the first kind.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
import time
from typing import Any

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    VMStruct,
    bql_lock_guard,
    register,
    u32,
)
from qemu_vmstate.bench.native import lib
from qemu_vmstate.device.device import staging_of

restored: list[tuple[int, int, int]] = []
"""``(number, ticks, time)`` of each restore that Python made."""
staged: list[list[int]] = []
"""What the staging structs of a device's row had at each restore, as in ``values()``."""
intervals: list[float] = []
"""The interpreter's switch interval at each of these restores."""
outside: list[float] = []
"""The same in a hook outside of the rows."""
refuse: set[int] = set()
ticks = 0


class State(VMStruct):
    number: u32 = 0
    value: u32 = 0

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        frame = inspect.currentframe()
        if frame and frame.f_back is None:  # QEMU calls, not an undo
            restored.append((source.number, ticks, time.monotonic_ns()))
            intervals.append(sys.getswitchinterval())
            if source.number < 8:
                first = source.number // 4 * 4
                staged.append([loaded(first + number) for number in (0, 2, 3)])
        if source.number in refuse:
            raise InvalidError("not now")
        super().restore_migrated_state_mut(source, version_id)


def loaded(number: int) -> int:
    """Return the value in a device's staging struct."""
    memory = (ctypes.c_uint32 * 2).from_address(staging_of(devices[number]).address)
    return memory[1] - memory[0]


class Plain(VMStruct):
    value: u32 = 0


class Part(Device, name="row-part"):
    state: Migratable[Mutex[State]]


class Old(Device, name="row-part", version_id=0, minimum_version_id=0):
    """What the part was once."""

    state: Migratable[Mutex[Plain]]


class Native(Device, name="row-native"):
    state: Migratable[Mutex[Plain]]


class Watcher(Device, name="row-watcher"):
    """A device that is in no row, because its load calls Python before the restore."""

    state: Migratable[Mutex[Plain]]

    def pre_load(self) -> None:
        outside.append(sys.getswitchinterval())


devices: dict[int, Any] = {}
registrations = {}
lib().qv_mark_register(0)
for number in range(8):
    if number == 4:
        lib().qv_mark_register(1)
    device: Any = Native() if number % 4 == 1 else Part(state=Mutex(State(number=number)))
    devices[number] = device
    registrations[number] = register(device, number)


def share() -> None:
    """Add two devices that have one state."""
    state = Mutex(State(number=100))
    for number in (100, 101):
        devices[number] = Part(state=state)
        registrations[number] = register(devices[number], number)


def add(numbers: list[int]) -> None:
    """Add devices, each with a state of its own."""
    for number in numbers:
        devices[number] = Part(state=Mutex(State(number=number)))
        registrations[number] = register(devices[number], number)


def watch() -> None:
    """Add a device that is in no row."""
    devices[200] = Watcher()
    registrations[200] = register(devices[200], 200)


def assign(value: int) -> None:
    """Give each device's state a value of its own."""
    for number, device in devices.items():
        with device.state.lock() as state:
            state.value = 10 * value + number


def values() -> dict[int, int]:
    """Return every device's value without the last digit's number."""
    found = {}
    for number, device in devices.items():
        with device.state.lock() as state:
            found[number] = state.value - number
    return found


def take_restored() -> list[tuple[int, int, int]]:
    """Return the restores since the last call."""
    found, restored[:] = list(restored), []
    return found


def marks() -> list[int]:
    """Return when the C devices before and between the rows were loaded."""
    return [lib().qv_mark_loaded(0), lib().qv_mark_loaded(1)]


def spin() -> None:
    """Count in a thread that gives up the GIL only to one that has waited for half a second."""

    def count() -> None:
        global ticks
        while True:
            ticks += 1

    sys.setswitchinterval(0.5)
    threading.Thread(target=count, daemon=True).start()


def hold(number: int, seconds: float) -> None:
    """Lock a device for a while, in a thread that needs the GIL to unlock it."""
    ready = threading.Event()
    passed = threading.Event()

    def work() -> None:
        with devices[number].state.lock() as state:
            ready.set()
            passed.wait(seconds)
            state.value = 99

    threading.Thread(target=work, daemon=True).start()
    ready.wait()


def with_bql(expression: str) -> Any:
    """Evaluate an expression at a moment when QEMU waits for something."""
    with bql_lock_guard():
        return eval(expression, globals())
