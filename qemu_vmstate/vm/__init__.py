# SPDX-License-Identifier: GPL-2.0-or-later
"""VMs with Python in them, their migrations and snapshots; needs nothing compiled."""

from .vm import VM, MigrationError, VMError, VMLaunchError

__all__ = ["VM", "MigrationError", "VMError", "VMLaunchError"]
