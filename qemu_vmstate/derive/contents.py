# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaces what is in a live collection, which stays the same object, and undoes that."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from ..errors import InvalidError

__all__ = ["copy_contents", "is_filled", "made_like", "refill_of", "roll_contents_back"]


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
"""The classes without methods in Python that could fail; a loaded collection is of one of them."""

_FILLED: tuple[Any, ...] = (dict, list, set, bytearray, deque)


def refill_of(current: Any, loaded: Any, path: str) -> Callable[[Any, Any], None] | None:
    """Return the function that fills ``current`` with what ``loaded`` has.

    ``None``: ``loaded`` replaces it.  Raises ``InvalidError`` with ``path`` if a deque would drop
    elements, or a bytearray cannot change its size.
    """
    cls = loaded.__class__
    refill = _REFILLS.get(cls)
    if refill is None or (cls is current.__class__ and cls not in _CHECKED):
        return refill
    base = next(base for base in _FILLED if isinstance(loaded, base))
    if not isinstance(current, base):
        return None
    if base in _CHECKED:
        _CHECKED[base](current, loaded, path)
    return _refill_of_class(current)


def _check_room(current: deque[Any], loaded: deque[Any], path: str) -> None:
    if current.maxlen is not None and len(loaded) > current.maxlen:
        raise InvalidError(
            f"the stream has {len(loaded)} elements, and the deque's maxlen is {current.maxlen}; "
            "give it the max_length of the field",
            path,
        )


def _check_resizable(current: bytearray, loaded: bytearray, path: str) -> None:
    if len(current) == len(loaded):
        return
    try:
        bytearray.append(current, 0)
    except BufferError as exc:
        raise InvalidError(
            f"a memoryview of its {len(current)} bytes is in use, so that their number cannot "
            "change; release it",
            path,
        ) from exc
    bytearray.pop(current)


_CHECKED: dict[Any, Callable[[Any, Any, str], None]] = {
    deque: _check_room,
    bytearray: _check_resizable,
}
"""The classes whose objects cannot have all contents."""


def _refill_of_class(current: Any) -> Callable[[Any, Any], None]:
    found = _REFILLS.get(current.__class__)
    return found or next(_REFILLS[base] for base in _FILLED if isinstance(current, base))


def made_like(current: Any, loaded: Any, path: str) -> Any:
    """Return what replaces ``current``: ``loaded``, with the ``default_factory`` or ``maxlen``.

    Raises ``InvalidError`` with ``path`` if a deque would drop elements.
    """
    if isinstance(current, defaultdict) and isinstance(loaded, dict):
        return defaultdict(current.default_factory, loaded)
    if isinstance(current, deque) and isinstance(loaded, deque):
        _check_room(current, loaded, path)
        return deque(loaded, current.maxlen)
    return loaded


def is_filled(current: Any) -> bool:
    """Return whether a restore can fill a value, instead of replacing it."""
    return isinstance(current, _FILLED)


def copy_contents(current: Any) -> Any:
    """Return a copy of what is in a collection, or ``None`` if a restore replaces it.

    Raises ``TypeError`` for an object of a subclass, whose methods may do anything.
    """
    copy = getattr(current, "copy", None)
    if copy is not None and current.__class__ in _REFILLS:
        return copy()
    if is_filled(current):
        raise TypeError
    return None


def roll_contents_back(current: Any, previous: Any) -> None:
    """Reset what is in a collection to that of ``previous``, unless that is ``None``."""
    if previous is not None:
        _refill_of_class(current)(current, previous)
