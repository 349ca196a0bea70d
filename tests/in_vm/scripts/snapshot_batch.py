# SPDX-License-Identifier: GPL-2.0-or-later
"""Three devices whose snapshots need Python, with a record of the snapshots taken."""

from __future__ import annotations

import threading
from typing import Any

from qemu_vmstate import Device, InvalidError, Migratable, Mutex, VMStruct, register, u32

asked: list[int] = []
refuse: set[int] = set()


class State(VMStruct):
    number: u32 = 0
    value: u32 = 0

    def snapshot_migration_state(self, target: Any) -> None:
        asked.append(self.number)
        if self.number in refuse:
            raise InvalidError("not now")
        super().snapshot_migration_state(target)


class Part(Device, name="batch-part"):
    state: Migratable[Mutex[State]]


devices = [Part(state=Mutex(State(number=number))) for number in range(3)]
registrations = [register(device, number) for number, device in enumerate(devices)]


def assign(value: int) -> None:
    """Give each device's state a value of its own."""
    for number, device in enumerate(devices):
        with device.state.lock() as state:
            state.value = 10 * value + number


def values() -> list[int]:
    """Return every device's value."""
    found = []
    for device in devices:
        with device.state.lock() as state:
            found.append(state.value)
    return found


def take_asked() -> list[int]:
    """Return the numbers of the devices that made a snapshot since the last call."""
    found, asked[:] = list(asked), []
    return found


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
