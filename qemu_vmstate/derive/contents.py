# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaces what is in a live collection, which stays the same object, and undoes that."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

from ..errors import InvalidError

__all__ = ["copy_contents", "fillable", "refill_contents", "roll_contents_back"]

_PLAIN_DICTS = (dict, defaultdict, Counter)


def fillable(current: Any, loaded: Any, path: str) -> Any:
    """Return ``current`` if it can be filled with ``loaded``, or ``None`` if that replaces it.

    Raises ``InvalidError`` with ``path`` if a deque would drop elements.
    """
    for cls in (list, dict, set, bytearray):
        if isinstance(loaded, cls):
            return current if isinstance(current, cls) else None
    if not isinstance(loaded, deque) or not isinstance(current, deque):
        return None
    if current.maxlen is not None and len(loaded) > current.maxlen:
        raise InvalidError(
            f"the stream has {len(loaded)} elements, and the deque's maxlen is {current.maxlen}; "
            "make its maxlen the max_length of the field",
            path,
        )
    return current


def refill_contents(current: Any, loaded: Any) -> None:
    """Replace what is in a collection by what ``loaded`` has."""
    if isinstance(current, list | bytearray):
        current[:] = loaded
    elif type(current) in _PLAIN_DICTS:
        # Counter.update() adds, and an update of a defaultdict that has a class of its own may
        # do anything.
        dict.clear(current)
        dict.update(current, loaded)
    elif isinstance(current, deque):
        current.clear()
        current.extend(loaded)
    else:
        current.clear()
        current.update(loaded)


def copy_contents(current: Any) -> Any:
    """Return a copy of what is in a collection, or ``None`` if it is none."""
    if current.__class__ in (list, set, deque, *_PLAIN_DICTS, OrderedDict):
        return current.copy()
    if isinstance(current, bytearray):
        return current[:]
    if isinstance(current, list | dict | set | deque):
        raise TypeError
    return None


def roll_contents_back(current: Any, previous: Any) -> None:
    """Reset what is in a collection to ``previous``, a result of ``copy_contents``."""
    if previous is not None:
        refill_contents(current, previous)
