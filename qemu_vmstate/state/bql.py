# SPDX-License-Identifier: GPL-2.0-or-later
"""The big QEMU lock: QEMU's own inside a VM, a lock of this package outside.

The lock order is BQL, then the lock of a state, then the GIL.  Do not wait for the BQL
while you hold a ``Mutex``; ``check_lock_order()`` finds the threads that do.
"""

from __future__ import annotations

import threading
from types import TracebackType

from ..bindings import native
from ..bindings.loader import _state
from ..errors import BorrowError, BqlError
from . import lock_order

__all__ = ["bql_lock_guard", "bql_locked"]


class _Borrows(threading.local):
    """The number of ``BqlRefCell`` borrows that are alive in each thread."""

    count = 0


borrows = _Borrows()


def bql_locked() -> bool:
    """Return whether this thread holds the BQL.

    In C: ``qemu/main-loop.h: bql_locked()``, before 9.0 ``qemu_mutex_iothread_locked()``.
    """
    native.lib()
    return _state.bql_locked()


def assert_bql(what: str) -> None:
    """Raise ``BqlError`` for the operation ``what`` unless this thread holds the BQL."""
    if not bql_locked():
        raise BqlError(
            f"{what} needs the BQL, and this thread does not hold it; "
            "put `with bql_lock_guard():` around it"
        )


def check_bql_order() -> None:
    """Raise ``LockError`` if this thread is about to wait for the BQL inside a ``Mutex``.

    Does nothing unless ``check_lock_order()`` is on.
    """
    if lock_order.state.on and not bql_locked():
        lock_order.before_bql()


class bql_lock_guard:  # noqa: N801 - QEMU's name
    """A context manager that holds the BQL.

    The GIL is released while the thread waits.  Raises ``BqlError`` if this thread holds the
    BQL already, where QEMU would abort, ``LockError`` inside a ``Mutex`` while
    ``check_lock_order()`` is on, and ``BorrowError`` at the end if a ``BqlRefCell`` is still
    borrowed, because only the BQL protects a borrow.

    In C: ``qemu/main-loop.h: BQL_LOCK_GUARD()`` (QEMU 9.0 and later).
    """

    def __enter__(self) -> None:
        if bql_locked():
            raise BqlError("this thread holds the BQL already; it cannot be locked twice")
        check_bql_order()
        _state.bql_lock()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        left = borrows.count
        native.lib()
        _state.bql_unlock()
        if left and exc is None:
            raise BorrowError(
                f"the BQL was released with {left} BqlRefCell borrow(s) alive; end each "
                "`with cell.borrow()` inside the guard"
            )
