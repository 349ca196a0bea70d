# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that use the rarer members of a VMStateDescription; arguments say which."""

from __future__ import annotations

import sys

from qemu_vmstate import Device, Registration, register, u8, unregister

loaded: list[str] = []


class Early(Device, name="low", priority=0):
    x: u8 = 1

    def post_load(self, version_id: int) -> None:
        loaded.append("low")


class High(Device, name="high", priority=3):
    x: u8 = 1

    def post_load(self, version_id: int) -> None:
        loaded.append("high")


class Stays(Device, name="stays", unmigratable=True):
    x: u8 = 1


class AtOnce(Device, name="at-once", early_setup=True):
    x: u8 = 1

    def post_load(self, version_id: int) -> None:
        loaded.append("at-once")


devices: list[Device] = [Early(), High()]
if "early" in sys.argv:
    devices.append(AtOnce())
registrations: list[Registration] = [register(device) for device in devices]
stays = Stays()


def stay() -> None:
    register(stays)


def go() -> None:
    unregister(stays)
