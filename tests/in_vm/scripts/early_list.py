# SPDX-License-Identifier: GPL-2.0-or-later
"""A device of any length whose section lies in front of RAM."""

from __future__ import annotations

from typing import Literal

from qemu_vmstate import Array, Device, MigrationPriority, QTailQ, VMStruct, register, u8, zeroed


class Leaf(VMStruct, name="leaf"):
    size: u8 = 0
    data: Array[u8, Literal[8191]] = zeroed()


# Of a higher priority than RAM's, whose first section has the pages with mapped-ram.
class EarlyList(Device, name="early-list", early_setup=True, priority=MigrationPriority.VIRTIO_MEM):
    leaves: QTailQ[Leaf, Literal[999]]


if __name__ == "__main__":
    dev = EarlyList(leaves=[Leaf(size=1)])
    register(dev)
