# SPDX-License-Identifier: GPL-2.0-or-later
"""All wire types, which the other modules of this package define.

To add one: derive from :class:`~qemu_vmstate.wire.base.WireType`, name it here, and give it an
annotation in :mod:`~qemu_vmstate.wire.annotations`.
"""

from __future__ import annotations

from typing import Any

from .base import LONGEST_NAME, POINTER, FieldInfo, HasLayout, Layout, WireType, up
from .lists import ListType
from .packed import PackedType
from .pointers import PointersType
from .raw import BitmapType, UnusedType
from .record import record
from .rows import ArrayType, CountedType
from .scalar import SCALARS, Scalar
from .structs import StructType, SubsectionType, TmpType

__all__ = [
    "LONGEST_NAME",
    "POINTER",
    "SCALARS",
    "ArrayType",
    "BitmapType",
    "CountedType",
    "FieldInfo",
    "HasLayout",
    "Layout",
    "ListType",
    "PackedType",
    "PointersType",
    "Scalar",
    "StatesType",
    "StructType",
    "SubsectionType",
    "TmpType",
    "UnusedType",
    "WireType",
    "up",
]


@record()
class StatesType:
    """An ``Array``, ``VArray`` or ``Subsection`` whose element is no wire type.

    A device accepts it if the element is a ``Migratable``.  ``length`` is None for a subsection.
    """

    hint: Any
    length: int | None
    counted: bool = False
