# SPDX-License-Identifier: GPL-2.0-or-later
"""Making a C ``VMStateDescription`` of a layout class."""

from .priority import MigrationPriority

__all__ = ["MigrationPriority"]
