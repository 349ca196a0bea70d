# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of an object, which fill its staging struct and are restored from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..layout.vmstruct import VMStruct
from ..state.cells import BqlRefCell, Mutex, inner_of, pointee
from ..state.to_migration_state import ToMigrationState, restore_without_undo, undo_of
from ..state.undo import Undo

__all__ = ["Hooks", "Part", "StatePart", "copied_by_c", "forgets_source"]


class Hooks(NamedTuple):
    """The hooks that an object defines; ``None`` for the others.

    ``needed`` returns whether the object is saved, ``validate`` gets the staging struct, and
    ``load_complete`` gets whether the stream has a section of the object.
    """

    needed: Callable[[], object] | None = None
    pre_save: Callable[[], object] | None = None
    post_save: Callable[[], object] | None = None
    pre_load: Callable[[], object] | None = None
    post_load: Callable[[int], object] | None = None
    load_complete: Callable[[bool], object] | None = None
    load_rolled_back: Callable[[], object] | None = None
    validate: Callable[[Any], object] | None = None


class Part(Protocol):
    """A part of an object that Python copies; ``path`` is its path in errors."""

    path: str

    def save(self, staging: Any) -> None:
        """Copy this part into the staging struct."""

    def load(self, source: Any, version_id: int) -> None:
        """Restore this part from ``source``; a call that raises may have changed half of it."""

    def undo(self, own_version: int) -> Undo:
        """Return the undo of this part."""


class StatePart:
    """A ``ToMigrationState`` as a part.

    ``attribute`` is its field in the staging struct, or ``None`` for the complete struct.
    ``index`` is its element if the field is an array; of a counted array only elements below
    the count are loaded.
    """

    def __init__(
        self,
        path: str,
        attribute: str | None,
        value: ToMigrationState[Any],
        index: int | None = None,
    ) -> None:
        self.path = path
        self.attribute = attribute
        self.value = value
        self.index = index

    def count_of(self, cls: type[VMStruct]) -> tuple[str, int] | None:
        """Return the count's attribute and the largest count without this element, if counted."""
        for info in cls.__layout__.fields if self.index is not None else ():
            if info.attribute == self.attribute and info.num is not None:
                return info.num.attribute, (self.index or 0) // info.options.multiply
        return None

    def place(self, struct: Any) -> Any:
        """Return this part of a staging struct."""
        if self.attribute is None:
            return struct
        if self.index is None:
            return getattr(struct, self.attribute)
        elements: Any = type(struct).__elements__[self.attribute]
        return elements.__get__(struct, type(struct))[self.index]

    def save(self, staging: Any) -> None:
        """Snapshot the state into the staging struct."""
        self.value.snapshot_migration_state(self.place(staging))

    def load(self, source: Any, version_id: int) -> None:
        """Restore the state, under its own lock if it has one."""
        restore_without_undo(pointee(self.value), self.place(source), version_id)

    def undo(self, own_version: int) -> Undo:
        """Return the undo of the state."""
        return undo_of(pointee(self.value), own_version)


def forgets_source(part: Part) -> bool:
    """Return whether a part keeps nothing of the struct that it is restored from."""
    if not isinstance(part, StatePart):
        return False
    value = pointee(part.value)
    state = inner_of(value) if type(value) in (Mutex, BqlRefCell) else value
    restore = getattr(type(state), "restore_migrated_state_mut", None)
    return getattr(restore, "forgets_source", False)


def copied_by_c(value: Any) -> tuple[Any, Any] | None:
    """Return the cell and the memory of a part that C can copy without Python, or ``None``."""
    value = pointee(value)
    if type(value) not in (Mutex, BqlRefCell):
        return None
    inner = inner_of(value)
    if not isinstance(inner, VMStruct):
        return None
    for method in ("snapshot_migration_state", "restore_migrated_state_mut"):
        if getattr(type(inner), method) is not getattr(VMStruct, method):
            return None
    return value, inner
