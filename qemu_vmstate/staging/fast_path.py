# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast path from QEMU's hooks to states that only convert themselves.

cdefs/state/fast_path.c locks all of an object's Mutexes, calls each state's conversion and
unlocks, without a frame of this package in between.  A restore that raises undoes those
before it: their memory as it was, or what their class made of them.  Whatever else there
is to do, and every lock that this thread has or that is poisoned, is left to the slow
path: python_staging.py.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..layout.vmstruct import VMStruct
from ..state.cells import Mutex, lock_all, pointee
from ..state.to_migration_state import Former, ToMigrationState
from ..state.undo import Undo, noted
from .parts import StatePart

if TYPE_CHECKING:
    from .python_staging import PythonStaging

__all__ = ["attach_fast_path"]

# As in cdefs/state/fast_path.c.
_UNDO_NOTHING, _UNDO_FORMER, _UNDO_MEMORY, _UNDO_SLOW_PATH = range(4)


def attach_fast_path(staging: PythonStaging) -> None:
    """Give ``staging`` its fast path, if its parts have one; known when it is made."""
    if not staging.only_converts:
        return
    parts = [
        (part.value, part.place(staging.migration_state))
        for part in staging.python_parts
        if isinstance(part, StatePart) and not part.count_of(staging.cls)
    ]
    if len(parts) != len(staging.python_parts):
        return
    staging.fast_path = _fast_path(staging, parts)
    if staging.fast_path:
        # The staging keeps it as long as the object.
        address = ffi.cast("void *", id(staging.fast_path))
        lib().qv_object_set_fast_path(staging.cdata, address)


def _fast_path(staging: PythonStaging, parts: list[tuple[Any, Any]]) -> _state.FastPath | None:
    """Return the fast path of ``parts``, each a value and its place, or ``None``."""
    conversions = []
    for value, staged in parts:
        value = pointee(value)
        if type(value) is not Mutex or not isinstance(value.inner, ToMigrationState):
            return None
        restore = type(value.inner).restore_migrated_state_mut
        forgets = getattr(restore, "keeps_nothing", False)
        conversions.append((value.inner, staged, _undo(value.inner), forgets))
    return _state.FastPath(
        weakref.ref(staging),
        _failed,
        _put_back,
        _make_undo,
        tuple(conversions),
        tuple(staging.mutexes),
    )


def _undo(state: ToMigrationState[Any]) -> int:
    """How a restore of the state is undone."""
    cls = type(state)
    if isinstance(state, VMStruct):
        # Memory is all it has, unless a subclass gave it more.
        alone = cls.__basicsize__ == VMStruct.__basicsize__
        return _UNDO_MEMORY if alone else _UNDO_FORMER
    # Of a subclass nobody knows what it changes besides.
    restore = cls.__dict__.get("restore_migrated_state_mut")
    if getattr(restore, "all_or_nothing", False):
        return _UNDO_NOTHING
    return _UNDO_FORMER if hasattr(cls, "__former_migrated_state__") else _UNDO_SLOW_PATH


def _put_back(
    reference: weakref.ref[PythonStaging], index: int, former: Any, exc: BaseException
) -> None:
    """Undo a part's restore; what goes wrong is noted on ``exc``.

    ``former``: the state's bytes; ``None``: it has them, but may keep more elsewhere;
    or what the state's class made.
    """
    staging = reference()
    assert staging is not None
    part = staging.python_parts[index]
    assert isinstance(part, StatePart)
    state = pointee(part.value).inner
    own_version = staging.description.version_id
    with noted(exc, f"the former state of {part.path}"):
        if isinstance(former, bytes):
            _state.fill(state, former)
            former = None
        if former is None:
            Former(state).put_back(own_version)
        else:
            state.__put_back_migrated_state__(former, own_version)


def _make_undo(reference: weakref.ref[PythonStaging], formers: tuple[Any, ...]) -> Undo:
    """Return what rolls a whole restore back; ``formers`` is what ``_put_back`` takes."""
    staging = reference()
    assert staging is not None

    def roll_back(exc: BaseException) -> None:
        staging = reference()
        if staging is None:
            return
        with lock_all(staging.mutexes):
            for index in reversed(range(len(formers))):
                _put_back(reference, index, formers[index], exc)

    return Undo(staging.description.name, roll_back)


def _failed(
    reference: weakref.ref[PythonStaging], index: int, saving: int, exc: BaseException, why: int
) -> int:
    staging = reference()
    assert staging is not None
    hook = "pre_save" if saving else "post_load"
    return staging.fail_at(index, exc, ffi.cast("char **", why), hook)
