# SPDX-License-Identifier: GPL-2.0-or-later
"""``Migratable``, a wrapper around state that migrates as a private copy.

Like ``Migratable<T>`` of rust/migration/src/migratable.rs, it dereferences to the state, and
C sees only a snapshot.  The snapshot lies in the staging struct of the object that has
the section, not behind a pointer of its own.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ..errors import DeclarationError
from .cells import Arc, BqlRefCell, Mutex
from .to_migration_state import ToMigrationStateShared, migrated_class

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .cells import MutexGuard

__all__ = ["Migratable"]

T = TypeVar("T", bound=ToMigrationStateShared[Any])
S = TypeVar("S")

_wrapped = attrgetter("_value")


class Migratable(Generic[T]):
    """A transparent proxy for state that migrates: ``Migratable(Mutex(state))``.

    The wrapped state must be restorable through a shared reference: a ``Mutex``, a
    ``BqlRefCell``, an ``Arc`` of these, or an object of a class of yours that derives from
    ``ToMigrationStateShared``; anything else raises ``DeclarationError``.  Attributes are
    those of the wrapped object, so ``dev.regs.lock()`` locks the mutex.  For type checkers,
    a ``Migratable`` field of a ``Device`` has the wrapped type.

    It is ``Migratable<T>`` of rust/migration/src/migratable.rs; on the wire it is a struct
    (``migration/vmstate.h: VMSTATE_STRUCT``).
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: T) -> None:
        migrated_class(value)
        shared: Any = value
        while isinstance(shared, Arc):
            shared = shared.target
        if not hasattr(shared, "restore_migrated_state"):
            raise DeclarationError(
                f"Migratable({type(shared).__name__}): it cannot be restored while others hold "
                "it; wrap it in a Mutex or a BqlRefCell"
            )
        object.__setattr__(self, "_value", value)

    def __getattr__(self, name: str) -> Any:
        if name == "_value":  # copy and pickle read attributes before __init__
            raise AttributeError(name)
        return getattr(self._value, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._value, name, value)

    def __repr__(self) -> str:
        return f"Migratable({self._value!r})"

    if not TYPE_CHECKING:
        # These are called often, and a property of an attrgetter needs no Python frame.
        lock = property(attrgetter("_value.lock"))
        borrow = property(attrgetter("_value.borrow"))
        borrow_mut = property(attrgetter("_value.borrow_mut"))
    else:

        @overload
        def __get__(self, instance: None, owner: type) -> Any: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: Migratable[T] | T) -> None: ...

        @overload
        def lock(self: Migratable[Mutex[S]], timeout: float = -1) -> MutexGuard[S]: ...
        @overload
        def lock(self: Migratable[Arc[Mutex[S]]], timeout: float = -1) -> MutexGuard[S]: ...
        def lock(self, timeout: float = -1) -> Any: ...
        @overload
        def borrow(self: Migratable[BqlRefCell[S]]) -> AbstractContextManager[S]: ...
        @overload
        def borrow(self: Migratable[Arc[BqlRefCell[S]]]) -> AbstractContextManager[S]: ...
        def borrow(self) -> Any: ...
        @overload
        def borrow_mut(self: Migratable[BqlRefCell[S]]) -> AbstractContextManager[S]: ...
        @overload
        def borrow_mut(self: Migratable[Arc[BqlRefCell[S]]]) -> AbstractContextManager[S]: ...
        def borrow_mut(self) -> Any: ...


def getter_of_wrapped(attributes: list[str]) -> Callable[[Any], Any]:
    """Return a function that returns what the ``Migratable`` in each attribute wraps.

    It is a tuple, but of a single attribute the state itself.
    """
    return attrgetter(*[f"{attribute}._value" for attribute in attributes])


def unwrap(value: Any) -> Any:
    """Return the state that a ``Migratable`` wraps; ``value`` if it is no ``Migratable``."""
    return _wrapped(value) if isinstance(value, Migratable) else value
