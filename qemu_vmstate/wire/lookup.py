# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the wire type of an annotation."""

from __future__ import annotations

from typing import Annotated, Literal, get_args, get_origin

from ..errors import DeclarationError
from .record import replace
from .types import (
    SCALARS,
    PackedType,
    Scalar,
    StatesType,
    StructType,
    SubsectionType,
    TmpType,
    WireType,
)

__all__ = [
    "EQUAL",
    "SUBSECTION",
    "TMP",
    "find_wire_type",
    "length_of",
    "subsection_of",
    "wire_type",
]

EQUAL, TMP, SUBSECTION = "equal", "tmp", "subsection"
"""The metadata that marks ``Equal[...]``, ``Tmp[...]`` and ``Subsection[...]``."""


def wire_type(annotation: object, where: str) -> WireType:
    """Return the wire type of an annotation, or raise an error that begins with ``where``."""
    found = find_wire_type(annotation)
    if found is None:
        if isinstance(annotation, PackedType):
            raise DeclarationError(
                f"{where}: Packed is the annotation of an attribute of a dataclass with "
                "@derive_to_migration_state; a layout class and a device take such a dataclass, "
                "or a VBuffer for bytes that you pack yourself"
            )
        if isinstance(annotation, StatesType):
            annotation = annotation.hint
        raise DeclarationError(
            f"{where}: {getattr(annotation, '__name__', annotation)} has no width on the wire; "
            "use bool, u8 to u64, i8 to i64, Array, Buffer or a VMStruct, "
            "or leave it out with field(omit=True)"
        )
    return found


def find_wire_type(annotation: object) -> WireType | None:
    """Return the wire type of an annotation, or ``None``."""
    if isinstance(annotation, WireType):
        return annotation
    if get_origin(annotation) is Annotated:
        return _annotated(*get_args(annotation))
    if annotation is bool:
        return SCALARS["?"]
    if isinstance(annotation, type) and hasattr(annotation, "__layout__"):
        return StructType(annotation)
    return None


def _annotated(inner: object, *extras: object) -> WireType | None:
    scalars = [extra for extra in extras if isinstance(extra, Scalar)]
    found = scalars[0] if scalars else find_wire_type(inner)
    if EQUAL in extras:
        if not isinstance(found, Scalar) or found.kind not in "BHIQi" or found.live:
            raise DeclarationError("Equal takes u8, u16, u32, u64 or i32, as C does")
        return replace(found, name=f"Equal[{found.name}]", info=f"{found.info}_equal", live=True)
    for marker, cls in ((TMP, TmpType), (SUBSECTION, SubsectionType)):
        if marker in extras:
            return cls(found.cls) if type(found) is StructType else None
    return found


def subsection_of(annotation: object) -> object:
    """Return the ``Extra`` of ``Subsection[Extra]``, or ``None`` for another annotation."""
    if get_origin(annotation) is Annotated and SUBSECTION in annotation.__metadata__:  # type: ignore[attr-defined]
        return get_args(annotation)[0]
    return None


def length_of(name: str, value: object) -> int:
    """Return the length in ``name[...]``; raise ``DeclarationError`` if it is none."""
    if get_origin(value) is Literal:
        (value,) = get_args(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise DeclarationError(
            f"{name}: {value!r} is no length; write a number of elements from 1 to 2147483647, "
            f"as in {name}[Literal[16]]"
        )
    return value
