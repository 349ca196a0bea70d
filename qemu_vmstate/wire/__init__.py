# SPDX-License-Identifier: GPL-2.0-or-later
"""The annotations for the type of a field, and ``field()`` for its other options."""

from typing import TYPE_CHECKING

from . import annotations
from .annotations import *  # noqa: F403
from .field_options import field as field
from .field_options import zeroed as zeroed

if not TYPE_CHECKING:  # mypy reads no computed list; without one, all the names are public
    __all__ = [*annotations.__all__, "field", "zeroed"]
