# SPDX-License-Identifier: GPL-2.0-or-later
"""Derives a dataclass's, or any class's, migrated class and both conversions."""

from .converters import register_converter
from .decorator import DerivedState, derive_to_migration_state
from .foreign import migrates

__all__ = ["DerivedState", "derive_to_migration_state", "migrates", "register_converter"]
