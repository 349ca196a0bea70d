# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast path from QEMU's hooks to states that only convert themselves.

cdefs/state/fast_path.c locks all of an object's Mutexes, calls each state's conversion and
unlocks, without a frame of this package in between.  Which objects have one is known when
their staging is made; python_staging.py serves the others, and every lock that this thread
holds already or that is poisoned.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..layout.vmstruct import VMStruct
from ..state.cells import Mutex, inner_of, pointee
from ..state.to_migration_state import ToMigrationState
from ..state.undo import Undo
from .parts import StatePart

if TYPE_CHECKING:
    from .python_staging import PythonStaging

__all__ = ["attach_fast_path"]

# As in cdefs/state/fast_path.c.
_UNDO_CALL, _UNDO_MEMORY, _ALL_OR_NOTHING = range(3)


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
        if type(value) is not Mutex:
            return None
        state = inner_of(value)
        if not hasattr(state, "__undo_migrated_state__"):
            return None
        restore = type(state).restore_migrated_state_mut
        forgets = getattr(restore, "keeps_nothing", False)
        conversions.append((state, staged, _undo(state), forgets))
    return _state.FastPath(
        weakref.ref(staging),
        _failed,
        _roll_back,
        _undo_of_memory,
        staging.description.version_id,
        tuple(conversions),
        tuple(staging.mutexes),
    )


def _undo(state: ToMigrationState[Any]) -> int:
    """How a restore of the state is undone."""
    cls = type(state)
    if isinstance(state, VMStruct):
        # Memory is all it has, unless a subclass gave it more.
        return _UNDO_MEMORY if cls.__basicsize__ == VMStruct.__basicsize__ else _UNDO_CALL
    # Of a subclass nobody knows what it changes besides.
    restore = cls.__dict__.get("restore_migrated_state_mut")
    return _ALL_OR_NOTHING if getattr(restore, "all_or_nothing", False) else _UNDO_CALL


def _undo_of_memory(state: VMStruct, memory: bytes, own_version: int) -> Undo:
    """Return what makes a state again what it was when its memory was ``memory``."""

    def roll_back() -> None:
        _state.fill(state, memory)
        # Its own restore may have changed more than its memory.
        state.__undo_migrated_state__(own_version)()

    return roll_back


def _roll_back(
    reference: weakref.ref[PythonStaging], undos: tuple[Undo | None, ...], exc: BaseException
) -> None:
    """Undo the first parts' restores, under the locks that the fast path holds."""
    staging = reference()
    assert staging is not None
    staging.roll_back_parts(undos, exc)


def _failed(
    reference: weakref.ref[PythonStaging], index: int, hook: str, exc: BaseException, errmsg: int
) -> int:
    staging = reference()
    assert staging is not None
    return staging.fail_at(index, exc, ffi.cast("char **", errmsg), hook)
