# SPDX-License-Identifier: GPL-2.0-or-later
"""``Device``: several Migratables and plain fields under one description."""

from .device import Device

__all__ = ["Device"]
