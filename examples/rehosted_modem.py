# SPDX-License-Identifier: GPL-2.0-or-later
"""A peripheral of rehosted firmware: a modem with a queue of requests, and a log of what it did.

Rehosting replaces a board's peripherals by models like this one: a handler of avatar2, HALucinator
or the like calls ``transmit()`` where the firmware's driver sends a command, and ``answer()`` when
the modem is to be done with the oldest one.  Nothing in this file connects it to a guest.
"""

from collections import deque
from dataclasses import dataclass

from qemu_vmstate import (
    DerivedState,
    Device,
    Migratable,
    Mutex,
    derive_to_migration_state,
    field,
    register,
    u32,
)


@derive_to_migration_state
@dataclass
class Request(DerivedState):
    """A command that waits for its answer."""

    number: u32
    command: str = field(max_length=64)


@derive_to_migration_state
@dataclass
class ModemState(DerivedState):
    """What migrates."""

    requests: deque[Request] = field(default_factory=deque, max_length=32)
    log: str = field(default="", max_length=4096)
    sent: u32 = 0


class Modem(Device, name="pymodem"):
    """The modem, whose handlers may be called by any thread."""

    state: Migratable[Mutex[ModemState]]

    def transmit(self, command: str) -> None:
        """Take a command of the firmware's."""
        with self.state.lock() as state:
            state.sent += 1
            state.requests.append(Request(state.sent, command))
            state.log = f"{state.log}> {command}\n"[-4096:]

    def answer(self) -> str:
        """Answer the oldest request."""
        with self.state.lock() as state:
            request = state.requests.popleft()
            state.log = f"{state.log}< OK {request.number}\n"[-4096:]
            return f"OK {request.number}"


dev = Modem()
register(dev)
