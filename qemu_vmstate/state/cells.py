# SPDX-License-Identifier: GPL-2.0-or-later
"""The guards of a state: ``Mutex``, ``BqlCell``, ``BqlRefCell``, and ``Arc`` to share it.

Names and rules are Rust's: std::sync::Mutex, and rust/bql/src/cell.rs.  The lock lies in C
memory (cdefs/shared/cell.h), because QEMU's hooks take it too.
"""

from __future__ import annotations

import contextlib
import errno
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..bindings.loader import _state
from ..errors import BorrowError, LockError, PoisonError
from . import lock_order
from .bql import assert_bql, borrows
from .to_migration_state import ToMigrationStateShared, migrated_class, restore_or_undo, undo_of
from .undo import Undo

__all__ = [
    "Arc",
    "BqlCell",
    "BqlRefCell",
    "Mutex",
    "MutexGuard",
    "inner_of",
    "lock_all",
    "pointee",
]

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

_MOST_BORROWS = 2**15 - 1  # the limit of QvCell.borrow in cdefs/shared/cell.h

# The C members of a Cell.  Properties would take longer.
inner_of: Callable[[Any], Any] = vars(_state.Cell)["_value"].__get__
"""Return the state that a ``Mutex`` or ``BqlRefCell`` guards, without its guard."""
_held_by_group: Callable[[Any], bool] = vars(_state.Cell)["_held_by_group"].__get__
_unlock: Callable[[Any], int] = vars(_state.Cell)["_release"]


class MutexGuard(_state.Guard, Generic[T]):
    """A locked ``Mutex``: ``with`` gives its state; leaving releases the lock.

    An exception that leaves the ``with`` poisons the mutex.
    """

    __slots__ = ()

    _mutex: Mutex[T] | None

    @property
    def value(self) -> T:
        """The guarded state; raises ``LockError`` once the guard is released."""
        if self._mutex is None:
            raise LockError("this guard was released; lock() the Mutex again")
        state: T = inner_of(self._mutex)
        return state

    def release(self) -> None:
        """Release the lock now; a second call does nothing.

        Raises ``LockError`` in another thread than the one that locked.
        """
        mutex = self._mutex
        if mutex is None:
            return
        if _unlock(mutex) != 0:
            raise LockError(
                f"the Mutex of {type(inner_of(mutex)).__name__} was locked by another thread; "
                "only that one can release it"
            )
        if lock_order.state.on:
            lock_order.released(mutex)
        self._mutex = None

    def _dropped(self) -> None:
        """Release the lock of a guard that is freed without ``release()``, if this thread may."""
        with contextlib.suppress(LockError):
            self.release()

    if TYPE_CHECKING:

        def __enter__(self) -> T: ...
        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
        ) -> None: ...


_state.set_guard(MutexGuard)


class _GroupGuard(MutexGuard[T]):
    """A guard made inside :class:`lock_all`, which keeps the lock when this guard ends."""

    __slots__ = ()

    @property
    def value(self) -> T:
        """The guarded state; raises ``LockError`` once the guard is released."""
        if self._mutex is not None and not _held_by_group(self._mutex):
            self._mutex = None
        return super().value

    def release(self) -> None:
        """End this guard, and leave the Mutex locked."""
        self._mutex = None


class lock_all:  # noqa: N801 - a verb, like the context managers of contextlib
    """Lock several mutexes, so that no other thread sees the change of one without the others.

    ``mutexes`` maps each to its name for errors.  Inside the ``with`` this thread may call
    ``lock()`` on them.  Their order does not matter: a thread that has waited too long for
    one of them releases all and begins again.  Raises ``LockError`` if this thread holds one
    already.
    """

    __slots__ = ("_mutexes", "_names")

    def __init__(self, mutexes: Mapping[Mutex[Any], str]) -> None:
        self._names = mutexes
        self._mutexes = tuple(mutex for mutex in mutexes if not _held_by_group(mutex))

    def __enter__(self) -> None:
        index = _state.lock_cells(self._mutexes)
        if index >= 0:
            name = self._names[self._mutexes[index]]
            raise LockError(f"{name} is locked by this very thread; leave the guard first")

    def __exit__(self, *_exc: object) -> None:
        _state.unlock_cells(self._mutexes)


class _Guarded(_state.Cell, ToMigrationStateShared[Any], Generic[T]):
    """A state and its guard, the ``QvCell`` inside this object."""

    __slots__ = ("__weakref__",)

    _value: T

    def __init__(self, value: T) -> None:
        migrated_class(value)
        self._value = value

    @property
    def Migrated(self) -> type[Any]:  # type: ignore[override]  # noqa: N802
        """The state's own ``Migrated``."""
        return migrated_class(self._value)

    @abstractmethod
    def _held(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager that guards the state for a restore, and yields it."""

    def restore_migrated_state(self, source: Any, version_id: int) -> None:
        """Restore the state under its guard; undo what a failed restore has changed."""
        with self._held() as value:
            restore_or_undo(value, source, version_id, type(source).__layout__.version_id)

    def restore_without_undo(self, source: Any, version_id: int) -> None:
        """Restore the state under its guard; the caller undoes what a failed restore changed."""
        with self._held() as value:
            value.restore_migrated_state_mut(source, version_id)

    def __undo_migrated_state__(self, own_version: int) -> Undo:
        """Return the undo of the state, which takes its guard."""
        with self._held() as value:
            undo = undo_of(value, own_version)

        def roll_back() -> None:
            with self._held():
                undo()

        return roll_back

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._value!r})"


class Mutex(_Guarded[T]):
    """State behind a lock of its own, as ``std::sync::Mutex``.

    ``with mutex.lock() as state:`` gives access to the state.  A snapshot or a load
    holds all mutexes of an object while it copies, and never while QEMU writes or reads
    bytes.  A thread that waits has released the GIL.  Do not wait for the BQL inside the
    ``with``: a migration holds the BQL while it waits for this lock.
    ``check_lock_order()`` finds the threads that do.

    Raises ``DeclarationError`` for a state without ``Migrated``.

    In C: the lock is a pthread mutex (cdefs/shared/cell.h), which QEMU's migration thread takes
    too.
    """

    __slots__ = ()

    def _refuse(self, error: int, timeout: float) -> Exception:
        name = type(self._value).__name__
        if error == errno.EDEADLK:
            return LockError(
                f"this thread holds the Mutex of {name} already; "
                "leave the first `with` before you lock it again"
            )
        return TimeoutError(f"the Mutex of {name} was not free within {timeout} s")

    def poison(self) -> PoisonError:
        """Return the error for locking a poisoned mutex."""
        return PoisonError(
            f"the Mutex of {type(self._value).__name__} is poisoned: an exception left its "
            "guard; repair the state (into_inner()), then clear_poison()"
        )

    if TYPE_CHECKING:

        def lock(self, timeout: float = -1) -> MutexGuard[T]:
            """Lock the mutex; raise ``TimeoutError`` after ``timeout`` seconds, if not negative."""
    else:
        lock = _state.mutex_lock

    def _lock(self, timeout: float = -1) -> MutexGuard[T]:
        if error := self._acquire(timeout):
            if _held_by_group(self):
                return _GroupGuard(self)
            raise self._refuse(error, timeout)
        if self._poisoned:
            self._release()
            raise self.poison()
        if lock_order.state.on:
            lock_order.locked(self, type(self._value).__name__)
        return MutexGuard(self)

    def try_lock(self) -> MutexGuard[T] | None:
        """Lock the mutex, or return ``None`` at once if another thread holds it."""
        try:
            return self.lock(timeout=0)
        except TimeoutError:
            return None

    def into_inner(self) -> T:
        """Return the state without locking: for tests, and to repair a poisoned mutex."""
        return self._value

    def is_poisoned(self) -> bool:
        """Return whether an exception left a guard and ``clear_poison()`` was not called since."""
        return self._poisoned

    def clear_poison(self) -> None:
        """Declare that the state is consistent again."""
        self._poisoned = False

    @contextlib.contextmanager
    def _held(self) -> Iterator[Any]:
        """Lock without poisoning: a snapshot changes nothing, and a failed restore is undone."""
        guard = self.lock()
        try:
            yield guard.value
        finally:
            guard.release()

    def snapshot_migration_state(self, target: Any) -> None:
        """Snapshot the state under the lock."""
        with self._held() as value:
            value.snapshot_migration_state(target)


class BqlRefCell(_Guarded[T]):
    """State that the BQL guards, borrowed shared or mutably (rust/bql/src/cell.rs).

    ``borrow()`` and ``borrow_mut()`` raise ``BqlError`` without the BQL and
    ``BorrowError`` if a mutable borrow and any other would overlap.

    Raises ``DeclarationError`` for a state without ``Migrated``.
    """

    __slots__ = ()

    def _refuse(self, how: str) -> BorrowError:
        return BorrowError(
            f"the BqlRefCell of {type(self._value).__name__} is borrowed "
            f"{'mutably ' if self._borrows < 0 else ''}already and cannot be "
            f"borrowed{how}; end the other `with` first"
        )

    @contextlib.contextmanager
    def borrow(self) -> Iterator[T]:
        """Borrow the state to read it: ``with cell.borrow() as state:``."""
        assert_bql("BqlRefCell.borrow()")
        if not 0 <= self._borrows < _MOST_BORROWS:
            raise self._refuse("")
        self._borrows += 1
        borrows.count += 1
        try:
            yield self._value
        finally:
            self._borrows -= 1
            borrows.count -= 1

    @contextlib.contextmanager
    def borrow_mut(self) -> Iterator[T]:
        """Borrow the state to change it: ``with cell.borrow_mut() as state:``."""
        assert_bql("BqlRefCell.borrow_mut()")
        if self._borrows:
            raise self._refuse(" mutably")
        self._borrows = -1
        borrows.count += 1
        try:
            yield self._value
        finally:
            self._borrows = 0
            borrows.count -= 1

    def snapshot_migration_state(self, target: Any) -> None:
        """Snapshot the state, borrowed shared."""
        with self.borrow() as value:
            value.snapshot_migration_state(target)  # type: ignore[attr-defined]

    def _held(self) -> contextlib.AbstractContextManager[Any]:
        return self.borrow_mut()


class BqlCell(Generic[T]):
    """One value that the BQL guards, copied in and out (rust/bql/src/cell.rs).

    A device has it as a plain field: ``irq_level: BqlCell[u32]``.  All methods raise
    ``BqlError`` without the BQL.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def get(self) -> T:
        """Return the value."""
        assert_bql("BqlCell.get()")
        return self._value

    def set(self, value: T) -> None:
        """Set the value."""
        assert_bql("BqlCell.set()")
        self._value = value

    def replace(self, value: T) -> T:
        """Set the value and return the previous one."""
        assert_bql("BqlCell.replace()")
        previous, self._value = self._value, value
        return previous

    def __repr__(self) -> str:
        return f"BqlCell({self._value!r})"


class Arc(ToMigrationStateShared[Any], Generic[T]):
    """A shared reference to state that can be restored through it, as ``std::sync::Arc``.

    Two devices may hold the same ``Mutex`` this way; each migrates it.  An ``Arc`` has the
    attributes of the object that it points to.
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: T) -> None:
        migrated_class(value)
        self._value = value

    @property
    def Migrated(self) -> type[Any]:  # type: ignore[override]  # noqa: N802
        """The ``Migrated`` of the state that it points to."""
        return migrated_class(self._value)

    @property
    def target(self) -> T:
        """The state that it points to."""
        return self._value

    def clone(self) -> Arc[T]:
        """Return another reference to the same state."""
        return Arc(self._value)

    def __getattr__(self, name: str) -> Any:
        if name == "_value":  # copy and pickle read attributes before __init__
            raise AttributeError(name)
        return getattr(self._value, name)

    def __copy__(self) -> Arc[T]:
        return self.clone()

    def snapshot_migration_state(self, target: Any) -> None:
        """Snapshot the state that it points to."""
        self._value.snapshot_migration_state(target)  # type: ignore[attr-defined]

    def restore_migrated_state(self, source: Any, version_id: int) -> None:
        """Restore the state that it points to."""
        self._value.restore_migrated_state(source, version_id)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"Arc({self._value!r})"


def pointee(value: Any) -> Any:
    """Return the object that ``Arc`` objects around it point to; ``value`` if it is no ``Arc``."""
    # A subclass of Arc may have conversions of its own.
    while type(value) is Arc:
        value = value.target
    return value
