# SPDX-License-Identifier: GPL-2.0-or-later
"""The staging struct of an object that C fills and commits without Python."""

from __future__ import annotations

from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, free_object, lib
from ..layout.vmstruct import VMStruct
from ..state.cells import address_of
from ..vmsd.description import VMStateDescription
from .object_class import NativePart, object_class_of

__all__ = ["Staging"]


class Staging:
    """The staging struct of one object, and its description.

    ``native_parts`` are the parts that C copies.  ``owner`` keeps the registered object alive,
    or is ``None``.
    """

    # A VM may have ten thousand objects.
    __slots__ = ("_guards", "cdata", "description", "owner")

    needs_python = False
    """Whether a save or load calls Python."""

    def __init__(
        self,
        description: VMStateDescription,
        native_parts: list[NativePart],
        handle: Any = ffi.NULL,
        hook_flags: int = 0,
    ) -> None:
        self.description = description
        self.owner: Any = None
        object_class = object_class_of(description, native_parts)
        self.cdata = lib().qv_object_new(object_class, handle, hook_flags)
        if self.cdata == ffi.NULL:
            size = self.cls.__layout__.size
            raise MemoryError(f"{description.name}: no memory for a staging struct of {size} bytes")
        lib().qv_object_set_hooks(self.cdata)
        # Keeps the locks and states alive that C points to.
        guards = tuple(cell for _, cell, _ in native_parts)
        self._guards = guards[0] if len(guards) == 1 else guards
        for index, (_, cell, inner) in enumerate(native_parts):
            lock = ffi.cast("void *", address_of(cell))
            memory = ffi.cast("void *", _state.address(inner))
            lib().qv_object_set_part(self.cdata, index, lock, memory)

    def __del__(self, free: Any = free_object) -> None:
        if getattr(self, "cdata", None):
            free(self.cdata)

    @property
    def cls(self) -> type[VMStruct]:
        """The layout class of the struct."""
        return self.description.cls

    @property
    def address(self) -> int:
        """The address of the struct."""
        return int(ffi.cast("uintptr_t", lib().qv_object_staging(self.cdata)))

    def view(self, owner: Any) -> Any:
        """Return a view of the struct that keeps ``owner`` alive."""
        return _state.view(self.cls, self.address, self.cls.__layout__.size, owner)

    @property
    def migration_state(self) -> Any:
        """The staging struct, as the last save or load left it."""
        return self.view(self)
