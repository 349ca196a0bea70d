# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads migration files, shows them and replaces their sections; needs nothing compiled."""

from ..errors import StreamError
from .configuration import Configuration
from .decoder import Field
from .iterable import MappedBlock, Pages
from .reader import read
from .replace import replace
from .sections import Kind, Section, Stream

__all__ = [
    "Configuration",
    "Field",
    "Kind",
    "MappedBlock",
    "Pages",
    "Section",
    "Stream",
    "StreamError",
    "read",
    "replace",
]
