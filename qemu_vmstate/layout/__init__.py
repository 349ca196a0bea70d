# SPDX-License-Identifier: GPL-2.0-or-later
"""Layout classes: an instance's memory is the migrated layout itself."""

from .validation import validate
from .vmstruct import VMStruct, asdict

__all__ = ["VMStruct", "asdict", "validate"]
