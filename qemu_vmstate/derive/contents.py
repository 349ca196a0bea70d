# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaces what is in a live collection, which stays the same object, and undoes that."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from ..errors import InvalidError

__all__ = ["copy_contents", "fillable", "refill_contents", "roll_contents_back"]


def _refill_row(current: Any, loaded: Any) -> None:
    current[:] = loaded


def _refill_deque(current: Any, loaded: Any) -> None:
    current.clear()
    current.extend(loaded)


def _refill_with_update(current: Any, loaded: Any) -> None:
    current.clear()
    current.update(loaded)


def _refill_dict(current: Any, loaded: Any) -> None:
    # Counter.update() adds.
    dict.clear(current)
    dict.update(current, loaded)


_REFILLS: dict[type, Callable[[Any, Any], None]] = {
    list: _refill_row,
    dict: _refill_with_update,
    set: _refill_with_update,
    bytearray: _refill_row,
    deque: _refill_deque,
    defaultdict: _refill_dict,
    Counter: _refill_dict,
    OrderedDict: _refill_with_update,
}
"""The classes without methods in Python that could fail."""

_BASES = (dict, list, set, bytearray)


def fillable(current: Any, loaded: Any, path: str) -> Any:
    """Return ``current`` if it can be filled with ``loaded``, or ``None`` if that replaces it.

    Raises ``InvalidError`` with ``path`` if a deque would drop elements, or a bytearray cannot
    change its size.
    """
    cls = loaded.__class__
    if cls is bytearray and isinstance(current, bytearray) and len(loaded) != len(current):
        _check_resizable(current, path)
    if cls is current.__class__ and cls in _BASES:
        return current
    for base in _BASES:
        if isinstance(loaded, base):
            return current if isinstance(current, base) else None
    if not isinstance(loaded, deque) or not isinstance(current, deque):
        return None
    if current.maxlen is not None and len(loaded) > current.maxlen:
        raise InvalidError(
            f"the stream has {len(loaded)} elements, and the deque's maxlen is {current.maxlen}; "
            "give it the max_length of the field",
            path,
        )
    return current


def _check_resizable(current: bytearray, path: str) -> None:
    try:
        current.append(0)
    except BufferError as exc:
        raise InvalidError(
            f"a memoryview of its {len(current)} bytes is in use, so that their number cannot "
            "change; release it",
            path,
        ) from exc
    current.pop()


def refill_contents(current: Any, loaded: Any) -> None:
    """Replace what is in a collection by what ``loaded`` has."""
    refill = _REFILLS.get(current.__class__)
    if refill is None:
        refill = next(_REFILLS[base] for base in (*_BASES, deque) if isinstance(current, base))
    refill(current, loaded)


def copy_contents(current: Any) -> Any:
    """Return a copy of what is in a collection, or ``None`` if a restore replaces it.

    Raises ``TypeError`` for an object of a subclass, whose methods may do anything.
    """
    copy = getattr(current, "copy", None)
    if copy is not None and current.__class__ in _REFILLS:
        return copy()
    if isinstance(current, (*_BASES, deque)):
        raise TypeError
    return None


def roll_contents_back(current: Any, previous: Any) -> None:
    """Reset what is in a collection to ``previous``, a result of ``copy_contents``."""
    if previous is not None:
        refill_contents(current, previous)
