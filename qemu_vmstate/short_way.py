# SPDX-License-Identifier: GPL-2.0-or-later
"""The short way from QEMU's hooks to states that only convert themselves.

cdefs/trampoline.c locks each state's ``Mutex``, calls its conversion and unlocks,
without a frame of this package in between.  Whatever else there is to do, and
every lock that cannot be had at once, is left to the long way: staging.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .cells import Arc, Mutex
from .layout import VMStruct
from .loader import _state
from .native import ffi
from .to_migration_state import ToMigrationState, snapshot_if_possible

if TYPE_CHECKING:
    from .staging import Staging

__all__ = ["put_back_all", "short_way"]

# As in cdefs/trampoline.c.
_UNDO_NOTHING, _UNDO_MEMORY, _UNDO_LONG_WAY = range(3)


def short_way(staging: Staging, parts: list[tuple[Any, Any]]) -> _state.Trampoline | None:
    """The trampoline of ``parts``, each a value and where it is staged; ``None``: there is none."""
    steps = []
    for value, staged in parts:
        while type(value) is Arc:
            value = value.target
        if type(value) is not Mutex or not isinstance(value._value, ToMigrationState):
            return None
        restore = type(value._value).restore_migrated_state_mut
        forgets = getattr(restore, "only_numbers", False)
        steps.append((value, value._value, staged, _undo(value._value), forgets))
    own_version = staging.description.version_id
    return _state.Trampoline(
        partial(_failed, weakref.ref(staging)),
        partial(_undone, own_version),
        tuple(steps),
        tuple(staging._mutexes),
    )


def _undo(state: ToMigrationState[Any]) -> int:
    """How a restore of the state that raises is undone."""
    cls = type(state)
    if isinstance(state, VMStruct):
        # Memory is all it has, unless a subclass gave it more.
        alone = cls.__basicsize__ == VMStruct.__basicsize__
        return _UNDO_MEMORY if alone else _UNDO_LONG_WAY
    if getattr(cls.restore_migrated_state_mut, "all_or_nothing", False):
        return _UNDO_NOTHING if cls.__setattr__ is object.__setattr__ else _UNDO_LONG_WAY
    return _UNDO_LONG_WAY


def _undone(own_version: int, state: VMStruct, exc: BaseException) -> None:
    """Undo what else a failed restore changed, as its own restore does it."""
    before = snapshot_if_possible(state)
    if before is None:
        return
    try:
        state.restore_migrated_state_mut(before, own_version)
    except BaseException as second:
        exc.add_note(f"and taking the former state back raised {second!r}")


def put_back_all(put_back: Callable[[Staging, Any], object]) -> None:
    """``put_back(staging, former)`` for each restore of a load of QEMU's, newest first."""
    for failed, former in reversed(_state.take_formers()):
        staging = failed.args[0]()
        if staging is not None:
            put_back(staging, former)


def _failed(
    reference: weakref.ref[Staging], index: int, saving: int, exc: BaseException, why: int
) -> int:
    staging = reference()
    assert staging is not None
    hook = "pre_save" if saving else "post_load"
    return staging.fail_at(index, exc, ffi.cast("char **", why), hook)
