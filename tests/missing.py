# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs for a Python that lacks packages which this one has."""

from __future__ import annotations

_HIDE = """
import sys
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: (
    None if name.partition(".")[0] in {names!r} else find_spec(name, path, target)
)
"""


def hide(*names: str) -> str:
    """Return the beginning of a program that does not find the packages *names*."""
    return _HIDE.format(names=names)
