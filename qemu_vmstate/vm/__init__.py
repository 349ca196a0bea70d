# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts VMs with Python in them, migrates them and takes snapshots; needs nothing compiled."""

from .vm import VM, MigrationError, VMError, VMLaunchError

__all__ = ["VM", "MigrationError", "VMError", "VMLaunchError"]
