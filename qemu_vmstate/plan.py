# SPDX-License-Identifier: GPL-2.0-or-later
"""What the staging structs of a class have in common, made once for all of them."""

from __future__ import annotations

from typing import Any

from .layout import VMStruct
from .native import ffi, lib
from .staged import always_whole, has_predicates, kept, pointer_arrays

__all__ = ["Plan", "plan_of"]


class Plan:
    """What the staging structs of a class have in common; lives as long as the class."""

    def __init__(self, cls: type[VMStruct]) -> None:
        data = ffi.from_buffer(cls.__image__)
        made = lib().qv_image_new(data, len(data))
        # The image points into the data, and so keeps it.
        self.image = ffi.gc(made, lambda image, _=data: lib().qv_image_free(image))
        self.whole = always_whole(cls)
        self.kept = tuple(kept(cls))
        self.pointer_arrays = tuple(pointer_arrays(cls))
        self.has_predicates = has_predicates(cls)
        self.offsets = {info.attribute: info.data for info in cls.__layout__.fields}
        self._names: dict[str, Any] = {}

    def c_name(self, name: str) -> Any:
        """As a C string, which lives as long as this plan."""
        if name not in self._names:
            self._names[name] = ffi.new("char[]", name.encode())
        return self._names[name]


def plan_of(cls: type[VMStruct]) -> Plan:
    """That of ``cls``."""
    found: Plan | None = cls.__dict__.get("__plan__")
    if found is None:
        found = Plan(cls)
        cls.__plan__ = found
    return found
