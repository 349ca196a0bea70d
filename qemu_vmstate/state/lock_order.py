# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugging aid that finds waits for the BQL inside a ``Mutex``.

The lock order is BQL, then a ``Mutex``.  A migration holds the BQL and waits for the
``Mutex``; a thread that takes the two in the other order deadlocks with it, but only if both
do so at the same time.  While this check is on, the wrong order raises an error every time,
with the places of both locks.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from ..bindings.loader import _state
from ..errors import LockError

if TYPE_CHECKING:
    import traceback
    from types import FrameType

__all__ = ["check_lock_order"]

_VARIABLE = "QEMU_VMSTATE_CHECK_LOCK_ORDER"
"""The environment variable that switches the check on at import, unless it is empty or 0."""

_FRAMES = 12
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


class _Held(threading.local):
    """The Mutexes that each thread holds, oldest first, with the stack of each ``lock()``."""

    def __init__(self) -> None:
        self.locks: list[tuple[object, str, traceback.StackSummary]] = []


class _State:
    on = os.environ.get(_VARIABLE, "0") not in ("", "0")


_held = _Held()
state = _State()
_state.track_locks(state.on)


def check_lock_order(on: bool = True) -> None:
    """Raise ``LockError`` from now on where a thread waits for the BQL inside a ``Mutex``.

    ``bql_lock_guard()``, ``register()``, ``unregister()``, ``save()`` and ``load()`` wait for
    the BQL unless their thread has it.  The error names the place of that wait and the place
    where the ``Mutex`` was locked, even if no other thread wanted either at the time.

    The check applies to every thread of the process; QEMU_VMSTATE_CHECK_LOCK_ORDER=1 in the
    environment switches it on too.  A ``Mutex`` that was locked before that is not recorded.
    Each ``lock()`` takes some 20 microseconds longer, so use it in tests and to examine a VM
    that hangs.
    """
    state.on = on
    _state.track_locks(on)
    if not on:
        _held.locks.clear()


def _stack() -> traceback.StackSummary:
    """Return the stack of the call into this package, innermost frame last."""
    import traceback  # here, because few programs switch the check on

    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - inspect takes 6 ms to import
    while frame and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    walk = traceback.walk_stack(frame) if frame else iter(())
    # Source lines are read only if the stack is shown: this runs for each lock().
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
    """Raise ``LockError`` if this thread, about to wait for the BQL, holds a ``Mutex``."""
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
