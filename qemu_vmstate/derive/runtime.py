# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions that a derived class's generated code calls to save and load a state.

A restore has two steps: ``prepare`` converts and checks all loaded values, and returns a
function that puts them into the state and cannot fail.
"""

from __future__ import annotations

import copy
import dataclasses
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..bindings.loader import _state
from ..errors import DeclarationError, InvalidError
from ..layout.refusals import short_repr
from ..layout.vmstruct import VMStruct
from ..state.to_migration_state import restore_without_undo, undo_of
from ..state.undo import Undo, roll_back_all
from .values import attempt

__all__ = [
    "as_kind_of",
    "check_classes",
    "copy_items",
    "copy_rows",
    "nothing",
    "prepare_state",
    "prepare_states",
    "refilled",
    "restore_all",
    "roll_items_back",
    "roll_rows_back",
    "roll_states_back",
    "snapshot_state",
    "snapshot_states",
    "undos_of_states",
    "wrong_state",
]


def check_classes(
    cls: type, migrated: type[Any], known: weakref.WeakSet[type] | None, state: Any, struct_: Any
) -> None:
    """Raise an error for a subclass whose further fields would be lost, and for a wrong struct.

    ``known`` has the classes that passed before, or is ``None`` if a subclass may have more.
    """
    own = type(state)
    if not isinstance(struct_, migrated):
        raise TypeError(
            f"{cls.__name__} migrates as {migrated.__name__}, and was given a "
            f"{type(struct_).__name__}"
        )
    if known is None or own in known:
        return
    fields = dataclasses.fields(own) if dataclasses.is_dataclass(own) else ()
    if fields != dataclasses.fields(cls):
        raise DeclarationError(
            f"class {own.__name__} has other fields than {cls.__name__}, from which it "
            "inherits its conversions; write @derive_to_migration_state above it too"
        )
    known.add(own)


def as_kind_of(current: Any, loaded: Any, path: str) -> Any:
    """Return ``loaded`` as an object that can replace or fill ``current``.

    A tuple or bytes is replaced by one of the same class; any other sequence is filled.
    Raises ``InvalidError`` with ``path`` if that is not possible.
    """
    if isinstance(current, tuple | bytes) and not isinstance(loaded, type(current)):
        return attempt(type(current), type(current).__name__, path, loaded)
    if current is None or isinstance(current, list | tuple | bytes | bytearray):
        return loaded
    if not hasattr(current, "__setitem__") or len(current) != len(loaded):
        raise InvalidError(
            f"{short_repr(current)} cannot hold {len(loaded)} elements; make it a list of that "
            "many",
            path,
        )
    return loaded


def refilled(current: Any, loaded: Any) -> bool:
    """Put ``loaded`` into ``current`` if it is mutable, else return ``False``."""
    if current is None or loaded is None or isinstance(current, tuple | bytes):
        return False
    _fill(current, loaded)
    return True


def _fill(current: Any, loaded: Any) -> None:
    if not isinstance(current, list | bytearray):
        for index, item in enumerate(loaded):
            current[index] = item
    elif (
        len(current) == len(loaded)
        and all(isinstance(item, list) for item in loaded)
        and all(isinstance(item, list) for item in current)
    ):
        for old, new in zip(current, loaded, strict=True):
            _fill(old, new)
    else:
        current[:] = loaded


def copy_items(current: Any) -> Any:
    """Return a copy of the numbers that a restore changes inside ``current``, or ``None``."""
    if current is None or current.__class__ in (bytes, tuple):
        return None
    if current.__class__ not in (list, bytearray):
        raise TypeError
    return current[:]


def roll_items_back(current: Any, previous: Any) -> None:
    """Reset the numbers inside ``current`` to ``previous``, a result of ``copy_items``."""
    if previous is not None:
        current[:] = previous


def copy_rows(current: Any) -> Any:
    """Do what ``copy_items`` does, for lists in a list, which stay the same objects."""
    if current.__class__ is not list:
        return copy_items(current)
    return [(item, copy_rows(item) if item.__class__ is list else None) for item in current]


def roll_rows_back(current: Any, previous: Any) -> None:
    """Reset the lists inside ``current`` to ``previous``, a result of ``copy_rows``."""
    if current.__class__ is not list:
        roll_items_back(current, previous)
        return
    for item, inner in previous:
        if inner is not None:
            roll_rows_back(item, inner)
    current[:] = [item for item, _ in previous]


def wrong_state(value: Any, cls: type[Any], path: str) -> InvalidError:
    """Return the error for ``value``, which does not migrate as ``cls``."""
    return InvalidError(
        f"{short_repr(value)} is a {type(value).__name__}, which does not migrate as "
        f"{cls.__name__}",
        path,
    )


def snapshot_state(state: Any, target: Any, path: str, index: int | None = None) -> None:
    """Snapshot a nested state into ``target``, at ``path`` or element ``index`` of it.

    Raises ``InvalidError`` if it migrates as another class, else what its snapshot raises.
    """
    cls = type(target)
    if getattr(state, "Migrated", None) is not cls:
        raise wrong_state(state, cls, _element_path(path, index))
    try:
        state.snapshot_migration_state(target)
    except InvalidError as exc:
        _put_under(exc, cls, path, index)
        raise


def _element_path(path: str, index: int | None) -> str:
    return path if index is None else f"{path}[{index}]"


def _put_under(exc: InvalidError, cls: type[Any], path: str, index: int | None = None) -> None:
    """Make the path of ``exc``, which begins at ``cls``, begin at ``path`` or an element of it."""
    path = _element_path(path, index)
    first, dot, rest = exc.path.partition(".")
    if first in [base.__name__ for base in cls.__mro__]:
        exc.path = f"{path}{dot}{rest}"
    else:
        exc.path = f"{path} ({exc.path})" if exc.path else path


def _elements(states: Any, targets: Any, path: str) -> Iterable[tuple[int, Any, Any]]:
    try:
        given = len(states)
    except TypeError:
        raise InvalidError(f"{short_repr(states)} is no list of {len(targets)}", path) from None
    if given != len(targets):
        raise InvalidError(f"{given} elements for {len(targets)}; an array's length is fixed", path)
    return zip(range(given), states, targets, strict=True)


def snapshot_states(states: Any, targets: Any, path: str) -> None:
    """Snapshot each of ``states`` into the element of ``targets`` at its place."""
    for index, state, target in _elements(states, targets, path):
        snapshot_state(state, target, path, index)


def undos_of_states(states: Any, own_version: int) -> list[Undo]:
    """Return the undo of each state; raise ``TypeError`` if a state's class has no quick one."""
    return [_undo_of_state(state, own_version) for state in states]


def _undo_of_state(state: Any, own_version: int) -> Undo:
    own: Any = type(state)
    if _is_derived(own):
        undo: Undo = own.__undo_migrated_state__(state, own_version)
        return undo
    if own.restore_migrated_state_mut is VMStruct.restore_migrated_state_mut:
        return partial(_state.fill, state, bytes(state))
    raise TypeError


def roll_states_back(undos: Iterable[Undo]) -> None:
    """Call each undo in a result of ``undos_of_states``."""
    for undo in undos:
        undo()


def _is_derived(cls: type) -> bool:
    """Return whether the class's conversions are those that its own decorator made."""
    own = cls.__dict__
    return "__prepare_migrated_state__" in own and "restore_migrated_state_mut" in own


_Fallible = list[tuple[Callable[[], Undo], Callable[[], None], type[Any], str]]
"""States whose restore can fail: a function that makes the undo, the restore, ``Migrated``, a path.

They are restored, and undone if one fails, before all that cannot fail is assigned.
"""


def prepare_state(
    state: Any,
    source: Any,
    version_id: int,
    fallible: _Fallible,
    path: str,
    index: int | None = None,
) -> Callable[[], None]:
    """Validate ``source``; return a function that puts it into ``state`` and cannot fail.

    A state that only its own restore can validate, or whose assignments can fail, is added to
    ``fallible``.  Raises ``InvalidError`` with a path that begins with ``path``.
    """
    cls = type(source)
    if getattr(state, "Migrated", None) is not cls:
        raise wrong_state(state, cls, _element_path(path, index))
    own = type(state)
    restore = getattr(own, "restore_migrated_state_mut", None)
    if restore is VMStruct.restore_migrated_state_mut:
        return partial(_state.assign, state, source)
    if _is_derived(own):
        try:
            commit: Callable[[], None] = own.__prepare_migrated_state__(
                state, source, version_id, fallible
            )
        except InvalidError as exc:
            _put_under(exc, cls, path, index)
            raise
        if not own.__prepare_migrated_state__.commit_can_fail:
            return commit
    else:
        # Its restore may keep the struct that it gets, and the source is QEMU's memory.
        commit = partial(restore_without_undo, state, copy.copy(source), version_id)
    undo = partial(undo_of, state, cls.__layout__.version_id)
    fallible.append((undo, commit, cls, _element_path(path, index)))
    return nothing


def nothing() -> None:
    """Do nothing: ``restore_all`` restores a fallible state before the others are committed."""


def prepare_states(
    states: Any, sources: Any, version_id: int, fallible: _Fallible, path: str
) -> Callable[[], None]:
    """Do what ``prepare_state`` does, for an array of states."""
    commits = [
        prepare_state(state, source, version_id, fallible, path, index)
        for index, state, source in _elements(states, sources, path)
    ]

    def commit() -> None:
        for each in commits:
            each()

    return commit


def restore_all(fallible: _Fallible, commit: Callable[[], None]) -> None:
    """Restore the ``fallible`` states, then commit the rest.

    If one fails, the states before it are undone and its exception is raised.
    """
    undos: list[tuple[str, Undo]] = []
    try:
        for make_undo, restore, migrated, path in fallible:
            undos.append((path, make_undo()))
            try:
                restore()
            except InvalidError as exc:
                _put_under(exc, migrated, path)
                raise
        commit()
    except BaseException as exc:
        roll_back_all(undos, exc)
        raise
