# SPDX-License-Identifier: GPL-2.0-or-later
"""``MigrationPriority``: each member is QEMU's number, and nothing else is a priority."""

from __future__ import annotations

from typing import Any

import pytest

from qemu_vmstate import DeclarationError, Device, MigrationPriority, u8
from qemu_vmstate.bindings.native import lib
from qemu_vmstate.device.device import staging_of


@pytest.mark.parametrize("priority", MigrationPriority)
def test_a_device_has_the_number_of_the_running_qemu(priority: MigrationPriority) -> None:
    class Dev(Device, name="dev", priority=priority):
        x: u8 = 0

    expected = getattr(lib(), f"MIG_PRI_{priority.name}")
    assert staging_of(Dev()).description.cdata.priority == expected


def test_members_are_in_the_order_of_their_numbers() -> None:
    numbers = [priority.number for priority in MigrationPriority]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("priority", [0, 3, "IOMMU", None])
def test_anything_but_a_member_is_refused(priority: Any) -> None:
    with pytest.raises(DeclarationError, match=r"class Dev: priority=.* is no MigrationPriority"):

        class Dev(Device, name="dev", priority=priority):
            x: u8 = 0
