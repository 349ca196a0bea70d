# SPDX-License-Identifier: GPL-2.0-or-later
"""``MigrationPriority``: the order in which QEMU saves and loads the devices of a VM."""

from __future__ import annotations

import enum

from ..bindings.native import lib

__all__ = ["MigrationPriority"]


class MigrationPriority(enum.Enum):
    """The ``priority`` of a device: one of a higher priority is saved and loaded earlier.

    The members are those of ``migration/vmstate.h: MigrationPriority``, without their prefix
    ``MIG_PRI_``, the lowest first.  Their numbers differ between QEMU versions.
    """

    DEFAULT = "DEFAULT"
    IOMMU = "IOMMU"
    PCI_BUS = "PCI_BUS"
    VIRTIO_MEM = "VIRTIO_MEM"
    GICV3_ITS = "GICV3_ITS"
    GICV3 = "GICV3"

    @property
    def number(self) -> int:
        """The number of the priority in the QEMU that the native parts were built for."""
        found: int = getattr(lib(), f"MIG_PRI_{self.name}")
        return found
