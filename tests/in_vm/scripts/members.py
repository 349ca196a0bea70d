# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that use the rarer members of a VMStateDescription; the arguments select them."""

from __future__ import annotations

import sys

from qemu_vmstate import (
    Device,
    Migratable,
    MigrationPriority,
    Mutex,
    Registration,
    VMStruct,
    field,
    register,
    u8,
    unregister,
)

loaded: list[str] = []


class Early(Device, name="low", priority=MigrationPriority.DEFAULT):
    x: u8 = 1

    def post_load(self, version_id: int) -> None:
        loaded.append("low")


class High(Device, name="high", priority=MigrationPriority.VIRTIO_MEM):
    x: u8 = 1

    def post_load(self, version_id: int) -> None:
        loaded.append("high")


class Stays(Device, name="stays", unmigratable=True):
    x: u8 = 1


class AtOnce(Device, name="at-once", early_setup=True):
    x: u8 = 1

    def post_load(self, version_id: int) -> None:
        loaded.append("at-once")


class Regs(VMStruct):
    x: u8 = 1


class Optional(Device, name="optional"):
    """A device of native parts; ``wanted`` is what ``needed()`` returns or raises."""

    regs: Migratable[Mutex[Regs]]
    wanted: object = field(default=True, omit=True)
    calls: list[str] = field(default_factory=list, omit=True)

    def needed(self) -> bool:
        self.calls.append("needed")
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted  # type: ignore[return-value]


class OptionalHooks(Optional, name="optional-hooks"):
    """The same with a snapshot in Python."""

    def pre_save(self) -> None:
        self.calls.append("pre_save")

    def post_load(self, version_id: int) -> None:
        self.calls.append("post_load")


optional: dict[str, Optional] = {}


def offer(wanted: dict[str, object]) -> None:
    """Register both devices, each wanted or not."""
    for cls in (Optional, OptionalHooks):
        device = cls(wanted=wanted.get(cls.__name__, True))
        optional[cls.__name__] = device
        register(device)


devices: list[Device] = [Early(), High()]
if "early" in sys.argv:
    devices.append(AtOnce())
registrations: list[Registration] = [register(device) for device in devices]
stays = Stays()


def stay() -> None:
    register(stays)


def go() -> None:
    unregister(stays)
