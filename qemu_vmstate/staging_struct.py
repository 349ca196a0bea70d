# SPDX-License-Identifier: GPL-2.0-or-later
"""The staging struct of an object that C fills and commits without Python."""

from __future__ import annotations

from typing import Any

from .cells import BqlRefCell
from .description import VMStateDescription
from .layout import VMStruct
from .loader import _state
from .native import ffi, lib
from .parts import StatePart
from .plan import Plan, plan_of

__all__ = ["ByC", "StagingStruct"]

ByC = tuple[StatePart, Any, VMStruct]
"""A part that C copies, the cell that guards it, and its memory."""


class StagingStruct:
    """The staging struct of one object, and its description.

    ``cls`` is the layout class of the struct, ``by_c`` what fills it.  ``owner`` is what
    is registered with it, to keep it alive, or ``None``.
    """

    # There may be ten thousand.
    __slots__ = ("_guards", "cdata", "cls", "description", "owner")

    needs_python = False
    """Whether a save or load asks Python for anything."""

    def __init__(
        self,
        description: VMStateDescription,
        cls: type[VMStruct],
        by_c: list[ByC],
        handle: Any = ffi.NULL,
        hook_flags: int = 0,
    ) -> None:
        self.description = description
        self.cls = cls
        self.owner: Any = None
        plan = plan_of(cls)
        made = lib().qv_object_new(description.cdata, plan.image, handle, hook_flags)
        if made == ffi.NULL:
            size = cls.__layout__.size
            raise MemoryError(f"{description.name}: no memory for a staging struct of {size} bytes")
        self.cdata = ffi.gc(made, lib().qv_object_free)
        # C points to their cells and states.
        guards = tuple(cell for _, cell, _ in by_c)
        self._guards = guards[0] if len(guards) == 1 else guards
        for part, cell, inner in by_c:
            self._add_part(plan, part, cell, inner)
        if plan.whole:
            lib().qv_object_set_whole(made)
        for offset, length in plan.kept:
            lib().qv_object_keep(made, offset, length)
        for array in plan.pointer_arrays:
            lib().qv_object_add_pointers(made, *array)

    def _add_part(self, plan: Plan, part: StatePart, cell: Any, inner: VMStruct) -> None:
        offset = 0
        if part.attribute is not None:
            offset = plan.offsets[part.attribute] + (part.index or 0) * inner.__layout__.size
        lib().qv_object_add_part(
            self.cdata,
            plan.c_name(part.path.removeprefix(f"{self.description.name}.")),
            ffi.cast("void *", cell._cell.address),
            isinstance(cell, BqlRefCell),
            ffi.cast("void *", _state.address(inner)),
            offset,
            inner.__layout__.size,
        )

    @property
    def address(self) -> int:
        """Where the struct lies."""
        return int(ffi.cast("uintptr_t", lib().qv_object_staging(self.cdata)))

    @property
    def staged(self) -> Any:
        """The staging struct, as the last save or load left it."""
        return _state.view(self.cls, self.address, self.cls.__layout__.size, self.cdata)
