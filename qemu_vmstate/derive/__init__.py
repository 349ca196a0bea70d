# SPDX-License-Identifier: GPL-2.0-or-later
"""Derives a dataclass's migrated class and both conversions."""

from .converters import register_converter
from .decorator import DerivedState, derive_to_migration_state

__all__ = ["DerivedState", "derive_to_migration_state", "register_converter"]
