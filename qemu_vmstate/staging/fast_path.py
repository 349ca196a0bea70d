# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast path from QEMU's hooks to the conversions of states in Mutexes.

cdefs/state/fast_path.c locks all Mutexes of an object, calls each state's conversion and
unlocks, without a Python frame of this package.  Whether an object has a fast path is decided
when its staging is made.  python_staging.py, the slow path, serves the other objects, and calls
that find a Mutex poisoned or locked by their own thread.
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

# The enums of cdefs/state/fast_path.c.
_UNDO_CALL, _UNDO_MEMORY, _ALL_OR_NOTHING = range(3)
_STAGED, _LENT, _LENT_ONCE = range(3)


def attach_fast_path(staging: PythonStaging) -> None:
    """Give ``staging`` a fast path if all of its parts can use one."""
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
        # C borrows this reference; the staging lives as long as the object.
        address = ffi.cast("void *", id(staging.fast_path))
        lib().qv_object_set_fast_path(staging.cdata, address)


def _fast_path(staging: PythonStaging, parts: list[tuple[Any, Any]]) -> _state.FastPath | None:
    """Return the fast path of ``parts``, pairs of a value and its place; ``None`` if unfit."""
    conversions = []
    for value, staged in parts:
        value = pointee(value)
        if type(value) is not Mutex:
            return None
        state = inner_of(value)
        if not hasattr(state, "__undo_migrated_state__"):
            return None
        conversions.append((state, staged, _undo_kind(state), _source_kind(state, staged)))
    return _state.FastPath(
        weakref.ref(staging),
        _failed,
        _roll_back,
        _undo_of_memory,
        staging.description.version_id,
        tuple(conversions),
        tuple(staging.mutexes),
    )


def _undo_kind(state: ToMigrationState[Any]) -> int:
    """Return how the fast path undoes a restore of the state."""
    cls = type(state)
    if isinstance(state, VMStruct):
        return _UNDO_MEMORY if _is_only_memory(cls) else _UNDO_CALL
    # A subclass that inherits its restore may change more than the base class.
    restore = cls.__dict__.get("restore_migrated_state_mut")
    return _ALL_OR_NOTHING if getattr(restore, "all_or_nothing", False) else _UNDO_CALL


def _source_kind(state: ToMigrationState[Any], staged: VMStruct) -> int:
    """Return what the fast path restores the state from."""
    if getattr(type(state).restore_migrated_state_mut, "forgets_source", False):
        return _STAGED
    cls = type(staged)
    return _LENT if _is_only_memory(cls) and not cls.__weakrefoffset__ else _LENT_ONCE


def _is_only_memory(cls: type) -> bool:
    """Return whether objects of a layout class have no attributes beside their memory."""
    return cls.__basicsize__ == VMStruct.__basicsize__ and not cls.__dictoffset__


def _undo_of_memory(state: VMStruct, memory: bytes, own_version: int) -> Undo:
    """Return the undo of a state whose bytes were ``memory`` before the restore."""

    def roll_back() -> None:
        _state.fill(state, memory)
        # The state's own restore may have changed more than the memory: repeat it for these bytes.
        state.__undo_migrated_state__(own_version)()

    return roll_back


def _roll_back(
    reference: weakref.ref[PythonStaging], undos: tuple[Undo | None, ...], exc: BaseException
) -> None:
    """Undo the restores of the first parts; the fast path holds the locks."""
    staging = reference()
    assert staging is not None
    staging.roll_back_parts(undos, exc)


def _failed(
    reference: weakref.ref[PythonStaging], index: int, hook: str, exc: BaseException, errmsg: int
) -> int:
    staging = reference()
    assert staging is not None
    return staging.fail_at(index, exc, ffi.cast("char **", errmsg), hook)
