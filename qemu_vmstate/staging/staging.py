# SPDX-License-Identifier: GPL-2.0-or-later
"""The staging struct of an object that C fills and commits without Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..bindings.loader import _state
from ..bindings.native import ffi
from ..layout.vmstruct import VMStruct
from ..vmsd.description import VMStateDescription

if TYPE_CHECKING:
    from ..bindings._native import CData

__all__ = ["Staging"]


class Staging:
    """The staging struct of one object, and its description.

    ``bridge_object`` has the struct, and QEMU's code saves, loads and registers that; ``cells`` are
    those of the parts that C copies.  ``owner`` keeps the registered object alive, or is ``None``.
    """

    # A VM may have ten thousand objects.
    __slots__ = ("_cells", "bridge_object", "description", "owner")

    needs_python = False
    """Whether a save or load calls Python."""

    def __init__(
        self,
        description: VMStateDescription,
        bridge_object: _state.BridgeObject,
        cells: tuple[_state.Cell, ...],
    ) -> None:
        self.description = description
        self.bridge_object = bridge_object
        # Keeps the locks and states alive that C points to; a tuple would take 48 bytes more.
        self._cells = cells[0] if len(cells) == 1 else cells
        self.owner: Any = None

    @property
    def cdata(self) -> CData:
        """The ``QvObject *``, for the bridge's functions that no call in the common case uses."""
        return ffi.cast("QvObject *", self.bridge_object.address)

    @property
    def cls(self) -> type[VMStruct]:
        """The layout class of the struct."""
        return self.description.cls

    @property
    def address(self) -> int:
        """The address of the struct."""
        return self.bridge_object.staging

    def view(self, owner: Any) -> Any:
        """Return a view of the struct that keeps ``owner`` alive."""
        return _state.view(self.cls, self.address, self.cls.__layout__.size, owner)

    @property
    def migration_state(self) -> Any:
        """The staging struct, as the last save or load left it."""
        return self.view(self)
