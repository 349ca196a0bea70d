# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds a wait for the BQL inside a ``Mutex``, before it hangs: a debugging aid.

The lock order is BQL, then a ``Mutex``.  A migration holds the BQL and waits for the
``Mutex``; a thread that does it the other way round waits for the migration, and both for
ever, but only if they meet.  With this on, the wrong order is an error each time, with the
places of both locks.
"""

from __future__ import annotations

import inspect
import os
import threading
import traceback
from types import FrameType
from typing import Any

from ..bindings.loader import _state
from ..errors import LockError

__all__ = ["check_lock_order"]

_VARIABLE = "QEMU_VMSTATE_CHECK_LOCK_ORDER"
"""Set to anything but 0: as ``check_lock_order()`` at the start."""

_FRAMES = 12
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


class _Held(threading.local):
    """The Mutexes that this thread holds, oldest first, with the stack of each ``lock()``."""

    def __init__(self) -> None:
        self.locks: list[tuple[object, str, traceback.StackSummary]] = []


class _State:
    on = os.environ.get(_VARIABLE, "0") not in ("", "0")


_held = _Held()
state = _State()
_state.see_locks(state.on)


def check_lock_order(on: bool = True) -> None:
    """Raise ``LockError`` from now on where a thread waits for the BQL inside a ``Mutex``.

    ``bql_lock_guard()``, ``register()``, ``unregister()``, ``save()`` and ``load()`` wait for
    the BQL unless their thread has it.  The error names the place of that wait and the place
    where the ``Mutex`` was locked, whether or not anyone else wanted either at the time.

    For every thread of the process; also switched on by QEMU_VMSTATE_CHECK_LOCK_ORDER=1 in the
    environment.  A ``Mutex`` that was locked before is not known.  Costs some 20 microseconds
    for each ``lock()``, so it is for tests and for looking into a VM that hangs.
    """
    state.on = on
    _state.see_locks(on)
    if not on:
        _held.locks.clear()


def _stack() -> traceback.StackSummary:
    """Where this package was called from, innermost last; lines are read when they are shown."""
    frame: FrameType | None = inspect.currentframe()
    while frame and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    walk = traceback.walk_stack(frame) if frame else iter(())
    stack = traceback.StackSummary.extract(walk, limit=_FRAMES, lookup_lines=False)
    stack.reverse()
    return stack


def locked(mutex: Any, what: str) -> None:
    """Record that this thread holds ``mutex``, a ``Mutex`` of ``what``."""
    _held.locks.append((mutex, what, _stack()))


def released(mutex: Any) -> None:
    """Record that this thread does not hold ``mutex`` any more."""
    _held.locks[:] = [entry for entry in _held.locks if entry[0] is not mutex]


def before_bql() -> None:
    """Raise ``LockError`` if this thread holds a ``Mutex``: it is about to wait for the BQL."""
    if not _held.locks:
        return
    _, what, locked_at = _held.locks[-1]
    wanted_at = _stack()
    error = LockError(
        f"the BQL is wanted at {_place(wanted_at)} inside the Mutex of {what}, which this thread "
        f"locked at {_place(locked_at)}: a migration holds the BQL while it waits for the Mutex, "
        "so the two would wait for each other; take the BQL first, or leave the Mutex before"
    )
    for title, stack in (("The Mutex was locked", locked_at), ("The BQL is wanted", wanted_at)):
        error.add_note(f"{title} here:\n{''.join(stack.format()).rstrip()}")
    raise error


def _place(stack: traceback.StackSummary) -> str:
    if not stack:
        return "an unknown place"
    frame = stack[-1]
    return f"{frame.filename}:{frame.lineno} in {frame.name}"
