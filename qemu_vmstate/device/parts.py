# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of a device that are no Migratables: plain fields, cells and timers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..bindings.loader import _state
from ..layout.vmstruct import VMStruct
from ..state.cells import BqlCell
from ..state.qemu_timer import QEMUTimer
from ..state.undo import Undo
from ..wire.types import UnusedType

__all__ = ["CellPart", "PlainField", "PlainPart"]


class PlainField:
    """A wire-typed field of a device, whose value lies in the device's plain layout object."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    def __get__(self, instance: Any | None, owner: type) -> Any:
        return self if instance is None else getattr(instance.__plain__, self.attribute)

    def __set__(self, instance: Any, value: Any) -> None:
        setattr(instance.__plain__, self.attribute, value)


class PlainPart:
    """All plain fields of a device, as one part."""

    def __init__(self, path: str, plain: VMStruct) -> None:
        self.path = path
        self._plain = plain
        self._attributes = [
            info.attribute
            for info in plain.__layout__.fields
            if not isinstance(info.type, UnusedType)
        ]

    def save(self, staging: Any) -> None:
        """Copy the values into the staging struct."""
        for attribute in self._attributes:
            setattr(staging, attribute, getattr(self._plain, attribute))

    def load(self, source: Any, version_id: int) -> None:
        """Assign the values of ``source``."""
        for attribute in self._attributes:
            setattr(self._plain, attribute, getattr(source, attribute))

    def undo(self, _own_version: int) -> Undo:
        """Return the undo of all values."""
        return partial(_state.assign, self._plain, copy.copy(self._plain))


class CellPart:
    """A ``BqlCell`` or ``QEMUTimer`` of a device."""

    def __init__(self, path: str, attribute: str, cell: BqlCell[Any] | QEMUTimer) -> None:
        self.path = path
        self._attribute = attribute
        self._cell = cell

    def save(self, staging: Any) -> None:
        """Copy the value into the staging struct."""
        setattr(staging, self._attribute, self._cell.get())

    def load(self, source: Any, version_id: int) -> None:
        """Set the cell to the value of ``source``."""
        value: Any = getattr(source, self._attribute)
        if isinstance(value, Mapping):
            value = dict(value)
        elif not isinstance(value, int | float | VMStruct):
            value = list(value)
        self._cell.set(value)

    def undo(self, _own_version: int) -> Undo:
        """Return the undo of the value."""
        return partial(self._cell.set, self._cell.get())
