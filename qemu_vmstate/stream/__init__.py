# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads migration files, shows them and replaces sections in them; needs nothing compiled."""

from .reader import Configuration, Field, Kind, Pages, Section, Stream, StreamError, read, replace

__all__ = [
    "Configuration",
    "Field",
    "Kind",
    "Pages",
    "Section",
    "Stream",
    "StreamError",
    "read",
    "replace",
]
