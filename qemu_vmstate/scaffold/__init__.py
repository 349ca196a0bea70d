# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes Python classes for the devices in a migration file, and checks them by a round trip."""

from .generator import Made, Scaffold, scaffold, sections_named

__all__ = ["Made", "Scaffold", "scaffold", "sections_named"]
