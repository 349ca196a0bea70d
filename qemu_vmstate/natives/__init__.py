# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the native parts of each QEMU version, chooses among them, and builds them for a tree."""

from .choice import chosen, use_qemu
from .folders import Native, all_natives

__all__ = ["Native", "all_natives", "chosen", "use_qemu"]
