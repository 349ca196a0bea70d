# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the objects in the bridge that have the staging structs."""

from __future__ import annotations

from typing import Any

from ..bindings.loader import _state
from ..state.migratable import getter_of_wrapped
from ..vmsd.description import VMStateDescription
from .object_class import NativePart, object_class_of
from .parts import StatePart, copied_by_c
from .staging import Staging

__all__ = ["NativeKind", "make_bridge_object"]


def make_bridge_object(
    description: VMStateDescription,
    native_parts: list[NativePart],
    handle: int = 0,
    hook_flags: int = 0,
) -> tuple[_state.BridgeObject, tuple[_state.Cell, ...]]:
    """Return the object in the bridge with these parts for C to copy, and their cells."""
    object_class = object_class_of(description, native_parts)
    cells = tuple([cell for _, cell, _ in native_parts])
    try:
        return _state.BridgeObject(object_class, handle, hook_flags, cells), cells
    except MemoryError:
        size = description.cls.__layout__.size
        raise MemoryError(
            f"{description.name}: no memory for a staging struct of {size} bytes"
        ) from None


class NativeKind:
    """What the devices of a class share whose ``parts`` C copies, and that need no Python.

    A VM may have ten thousand devices of a class: what the first one needs is found out once.
    """

    __slots__ = ("_cells_of", "_description", "_object_class", "_types")

    def __init__(self, description: VMStateDescription, parts: list[StatePart]) -> None:
        native_parts = [(part, *found) for part in parts if (found := copied_by_c(part.value))]
        self._description = description
        self._object_class = object_class_of(description, native_parts)
        self._cells_of = getter_of_wrapped([str(part.attribute) for part in parts])
        types = [(type(cell), type(memory)) for _, cell, memory in native_parts]
        self._types = tuple([each for pair in types for each in pair])

    def make(self, device: Any) -> Staging | None:
        """Return the staging struct of a device, or ``None`` if its parts are of other types."""
        found = self._cells_of(device)
        cells = (found,) if len(self._types) == 2 else found
        made = _state.BridgeObject.of_types(self._types, cells, self._object_class)
        return None if made is None else Staging(self._description, made, cells)
