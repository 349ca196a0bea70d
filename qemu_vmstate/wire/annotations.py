# SPDX-License-Identifier: GPL-2.0-or-later
"""The types a field can have, spelled as annotations.

Every one has a width of its own: a bare ``int`` is refused, because what goes
on the wire must not depend on the machine.  On the wire all are big endian, as
QEMU's ``vmstate_info_*`` write them (migration/vmstate-types.c); in memory they
are as the compiler has them.

===================================  ============================================
``bool``                             VMSTATE_BOOL
``u8 u16 u32 u64``                   VMSTATE_UINT8, VMSTATE_UINT16 ...
``i8 i16 i32 i64``                   VMSTATE_INT8, VMSTATE_INT16 ...
``Equal[u32]``, ``i32_positive_le``           VMSTATE_UINT32_EQUAL, VMSTATE_INT32_POSITIVE_LE
``f32``, ``f64``                     IEEE 754 bits, as VMSTATE_UINT32 and VMSTATE_UINT64
``cpudouble``                        an element of VMSTATE_CPUDOUBLE_ARRAY
``timer``                            VMSTATE_TIMER
``Array[u32, Literal[8]]``           VMSTATE_UINT32_ARRAY
``Array[Regs, Literal[4]]``          VMSTATE_STRUCT_ARRAY
``Buffer[Literal[64]]``              VMSTATE_BUFFER
``VArray[u32, Literal[8]]``          VMSTATE_VARRAY_UINT32, VMSTATE_STRUCT_VARRAY_UINT32
``VBuffer[Literal[64]]``             VMSTATE_VBUFFER
``Bitmap[Literal[100]]``             VMSTATE_BITMAP
``Unused[Literal[4]]``               VMSTATE_UNUSED
``PointerArray[Regs, Literal[4]]``   VMSTATE_ARRAY_OF_POINTER_TO_STRUCT
``QTailQ[Item, Literal[99]]``        VMSTATE_QTAILQ_V; ``QList``: VMSTATE_QLIST_V
``GTree[Key, Item, Literal[99]]``    VMSTATE_GTREE_V
a layout class                       VMSTATE_STRUCT; ``Tmp[...]``: VMSTATE_WITH_TMP
``Subsection[Extra]``                a subsection
===================================  ============================================

``Array[u32, 8]`` means the same at run time; ``Literal`` is for type checkers.
What a field's annotation does not say, :func:`~qemu_vmstate.field` does.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    overload,
)

from ..errors import DeclarationError
from .types import (
    SCALARS,
    ArrayType,
    BitmapType,
    CountedType,
    ListType,
    PointersType,
    Scalar,
    StatesType,
    StructType,
    SubsectionType,
    TmpType,
    UnusedType,
    WireType,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

__all__ = [
    "Array",
    "Bitmap",
    "Buffer",
    "Equal",
    "GTree",
    "PointerArray",
    "QList",
    "QTailQ",
    "Subsection",
    "Tmp",
    "Unused",
    "VArray",
    "VBuffer",
    "cpudouble",
    "f32",
    "f64",
    "find_wire_type",
    "i8",
    "i16",
    "i32",
    "i32_positive_le",
    "i64",
    "timer",
    "u8",
    "u16",
    "u32",
    "u64",
    "wire_type",
]

u8: TypeAlias = Annotated[int, SCALARS["B"]]
"""An unsigned byte: VMSTATE_UINT8."""
u16: TypeAlias = Annotated[int, SCALARS["H"]]
"""An unsigned 16-bit number, big endian on the wire: VMSTATE_UINT16."""
u32: TypeAlias = Annotated[int, SCALARS["I"]]
"""An unsigned 32-bit number, big endian on the wire: VMSTATE_UINT32."""
u64: TypeAlias = Annotated[int, SCALARS["Q"]]
"""An unsigned 64-bit number, big endian on the wire: VMSTATE_UINT64."""
i8: TypeAlias = Annotated[int, SCALARS["b"]]
"""A signed byte: VMSTATE_INT8."""
i16: TypeAlias = Annotated[int, SCALARS["h"]]
"""A signed 16-bit number, big endian on the wire: VMSTATE_INT16."""
i32: TypeAlias = Annotated[int, SCALARS["i"]]
"""A signed 32-bit number, big endian on the wire: VMSTATE_INT32."""
i64: TypeAlias = Annotated[int, SCALARS["q"]]
"""A signed 64-bit number, big endian on the wire: VMSTATE_INT64."""

f32: TypeAlias = Annotated[float, SCALARS["f"]]
"""A number of IEEE 754 single precision, its bits as VMSTATE_UINT32 has them.

QEMU's ``float32`` (include/fpu/softfloat-types.h) is a ``uint32_t``. Python rounds what is
assigned to the nearest value that 32 bits hold; a signalling NaN that is read becomes quiet.
"""
f64: TypeAlias = Annotated[float, SCALARS["d"]]
"""A number of IEEE 754 double precision, its bits as VMSTATE_UINT64 has them: ``float64``."""
cpudouble: TypeAlias = Annotated[
    float, dataclasses.replace(SCALARS["d"], name="cpudouble", info="cpudouble")
]
"""A ``CPU_DoubleU``, the bits of an ``f64`` on the wire: an element of VMSTATE_CPUDOUBLE_ARRAY."""
timer: TypeAlias = Annotated[
    int, dataclasses.replace(SCALARS["q"], name="timer", info="timer", default=-1)
]
"""When a timer expires, in ns, or -1 if it is not armed: VMSTATE_TIMER.

For a timer that QEMU runs see :class:`~qemu_vmstate.QEMUTimer`.
"""
i32_positive_le: TypeAlias = Annotated[
    int,
    dataclasses.replace(SCALARS["i"], name="i32_positive_le", info="int32_le", low=0, live=True),
]
"""Not negative and not above the live value when it is loaded: VMSTATE_INT32_POSITIVE_LE."""

_EQUAL, _TMP, _SUBSECTION = "equal", "tmp", "subsection"

T = TypeVar("T")
K = TypeVar("K")
N = TypeVar("N")

Equal: TypeAlias = Annotated[T, _EQUAL]
"""``Equal[u32]``: must be what the live object has when it is loaded: VMSTATE_UINT32_EQUAL.

For u8, u16, u32, u64 and i32, as in C.
"""
Tmp: TypeAlias = Annotated[T, _TMP]
"""``Tmp[Extra]``: a layout class that exists on the wire only: VMSTATE_WITH_TMP.

Fill it in ``snapshot_migration_state`` and use it in ``restore_migrated_state_mut``.
"""
Subsection: TypeAlias = Annotated[T, _SUBSECTION]
"""``Subsection[Extra]``: on the wire if ``field(needed=...)`` says so.

``Extra`` is a layout class named ``parent/something``; in a device also a
``Migratable``.  What an old stream lacks has its defaults, or with ``keep`` its
live value (docs/devel/migration/main.rst, "Subsections").
"""


def _length(name: str, value: object) -> int:
    if get_origin(value) is Literal:
        (value,) = get_args(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise DeclarationError(
            f"{name}: {value!r} is no length; write a number of elements from 1 to 2147483647, "
            f"as in {name}[Literal[16]]"
        )
    return value


if TYPE_CHECKING:

    class Array(Generic[T, N]):
        """``Array[u32, Literal[8]]``: a fixed array; reading gives a view, not a copy."""

        @overload
        def __get__(self, instance: None, owner: type) -> Any: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Array[T, N]: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: Iterable[T]) -> None: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[T]: ...
        @overload
        def __getitem__(self, index: int) -> T: ...
        @overload
        def __getitem__(self, index: slice) -> list[T]: ...
        def __getitem__(self, index: int | slice) -> Any: ...
        @overload
        def __setitem__(self, index: int, value: T) -> None: ...
        @overload
        def __setitem__(self, index: slice, value: Iterable[T]) -> None: ...
        def __setitem__(self, index: int | slice, value: Any) -> None: ...
        def __contains__(self, value: object) -> builtins.bool: ...
        def __eq__(self, other: object) -> builtins.bool: ...
        def __buffer__(self, flags: int) -> memoryview: ...

    class Buffer(Generic[N]):
        """``Buffer[Literal[64]]``: bytes; reading gives a view that ``bytes()`` copies."""

        @overload
        def __get__(self, instance: None, owner: type) -> Any: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Array[int, N]: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: BytesLike) -> None: ...

    class VArray(Array[T, N]):
        """``VArray[u32, Literal[8]] = field(num="n")``: as many elements as ``n`` says, 8 at most.

        ``n`` is a u8, u16, u32 or i32 field declared before it.  Assigning a
        sequence sets ``n`` too.
        """

    class VBuffer(Buffer[N]):
        """``VBuffer[Literal[64]] = field(size="n")``: as many bytes as ``n`` (u32, i32) says."""

    class Bitmap(Array[int, N]):
        """``Bitmap[Literal[100]]``: bits in u64 words, the first bit the lowest of the first.

        With ``field(size="n")`` only the first ``n`` (u32, i32) bits are on the wire.
        """

    class Unused(Generic[N]):
        """``Unused[Literal[4]]``: bytes that were something once; written as zeros."""

    class PointerArray(Generic[T, N]):
        """``PointerArray[Regs, Literal[4]]``: elements of which each may be ``None``.

        What is ``None`` in the stream must be ``None`` in the object that loads it.
        """

        @overload
        def __get__(self, instance: None, owner: type) -> Any: ...
        @overload
        def __get__(self, instance: object, owner: type) -> PointerArray[T, N]: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: Iterable[T | None]) -> None: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[T | None]: ...
        def __getitem__(self, index: int) -> T | None: ...
        def __setitem__(self, index: int, value: T | None) -> None: ...
        def __eq__(self, other: object) -> builtins.bool: ...

    class QTailQ(Array[T, N]):
        """``QTailQ[Item, Literal[99]]``: a list of up to 99 layout classes: VMSTATE_QTAILQ_V."""

    class QList(Array[T, N]):
        """``QList[Item, Literal[99]]``: a list of up to 99 layout classes: VMSTATE_QLIST_V."""

    class GTree(Generic[K, T, N]):
        """``GTree[u64, Item, Literal[99]]``: a dict of up to 99 layout classes.

        A key is a u64 (VMSTATE_GTREE_DIRECT_KEY_V), or a layout class of numbers,
        given as their tuple (VMSTATE_GTREE_V).  Saved in the order of its keys.
        What reading it gives is only to be read; assign a dict to change its keys.
        """

        @overload
        def __get__(self, instance: None, owner: type) -> Any: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Mapping[Any, T]: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: Mapping[Any, T]) -> None: ...

else:

    def _two(name, params):
        if not isinstance(params, tuple) or len(params) != 2:
            raise DeclarationError(f"{name} takes an element and a length: {name}[u8, 16]")
        element, length = params
        return element, _length(name, length)

    def _row(cls, name, params, counted):
        element, length = _two(name, params)
        found = find_wire_type(element)
        if found is None:
            return StatesType(element, length, counted)
        return cls(_element(name, found, not counted), length)

    def _element(name, found, nested):
        if type(found) in (Scalar, StructType) or (nested and type(found) is ArrayType):
            return found
        raise DeclarationError(
            f"{name}: C has no arrays of these; make them a field of a layout class, and that the "
            "element"
        )

    def _struct(name, hint):
        found = find_wire_type(hint)
        if type(found) is not StructType:
            raise DeclarationError(
                f"{name}: {getattr(hint, '__name__', hint)} is no layout class, derived from "
                "VMStruct, and the elements of a list are"
            )
        return found

    class Array:
        """``Array[u32, Literal[8]]``: a fixed array; reading gives a view, not a copy.

        The view has the buffer protocol, so ``numpy.asarray(regs.fifo)`` shares its memory.
        """

        def __class_getitem__(cls, params):
            return _row(ArrayType, "Array", params, False)

    class Buffer:
        """``Buffer[Literal[64]]``: bytes; reading gives a view that ``bytes()`` copies."""

        def __class_getitem__(cls, length):
            return ArrayType(SCALARS["B"], _length("Buffer", length), is_buffer=True)

    class VArray:
        """``VArray[u32, Literal[8]] = field(num="n")``: as many elements as ``n`` says, 8 at most.

        ``n`` is a u8, u16, u32 or i32 field declared before it.  Assigning a
        sequence sets ``n`` too.
        """

        def __class_getitem__(cls, params):
            return _row(CountedType, "VArray", params, True)

    class VBuffer:
        """``VBuffer[Literal[64]] = field(size="n")``: as many bytes as ``n`` (u32, i32) says."""

        def __class_getitem__(cls, length):
            return CountedType(SCALARS["B"], _length("VBuffer", length), is_buffer=True)

    class Bitmap:
        """``Bitmap[Literal[100]]``: bits in u64 words, the first bit the lowest of the first.

        With ``field(size="n")`` only the first ``n`` (u32, i32) bits are on the wire.
        """

        def __class_getitem__(cls, bits):
            return BitmapType(_length("Bitmap", bits))

    class Unused:
        """``Unused[Literal[4]]``: bytes that were something once; written as zeros."""

        def __class_getitem__(cls, length):
            return UnusedType(_length("Unused", length))

    class PointerArray:
        """``PointerArray[Regs, Literal[4]]``: elements of which each may be ``None``.

        What is ``None`` in the stream must be ``None`` in the object that loads it.
        """

        def __class_getitem__(cls, params):
            element, length = _two("PointerArray", params)
            found = wire_type(element, "PointerArray")
            return PointersType(_element("PointerArray", found, False), length)

    class QTailQ:
        """``QTailQ[Item, Literal[99]]``: a list of up to 99 layout classes: VMSTATE_QTAILQ_V."""

        def __class_getitem__(cls, params):
            element, length = _two("QTailQ", params)
            return ListType(_struct("QTailQ", element), length, "qtailq")

    class QList:
        """``QList[Item, Literal[99]]``: a list of up to 99 layout classes: VMSTATE_QLIST_V."""

        def __class_getitem__(cls, params):
            element, length = _two("QList", params)
            return ListType(_struct("QList", element), length, "qlist")

    class GTree:
        """``GTree[u64, Item, Literal[99]]``: a dict of up to 99 layout classes.

        A key is a u64 (VMSTATE_GTREE_DIRECT_KEY_V), or a layout class of numbers,
        given as their tuple (VMSTATE_GTREE_V).  Saved in the order of its keys.
        What reading it gives is only to be read; assign a dict to change its keys.
        """

        def __class_getitem__(cls, params):
            if not isinstance(params, tuple) or len(params) != 3:
                raise DeclarationError(
                    "GTree takes a key, an element and a length: GTree[u64, Item, 16]"
                )
            key = wire_type(params[0], "GTree")
            if key != SCALARS["Q"] and type(key) is not StructType:
                raise DeclarationError("GTree: a key is a u64 or a layout class")
            for info in key.cls.__layout__.fields if isinstance(key, StructType) else ():
                if not isinstance(info.type, Scalar):
                    raise DeclarationError(
                        f"GTree: a key is the tuple of its numbers, and {key.cls.__name__}."
                        f"{info.attribute} is none"
                    )
            return ListType(_struct("GTree", params[1]), _length("GTree", params[2]), "gtree", key)


def wire_type(annotation: object, where: str) -> WireType:
    """Return what an annotation means; raises ``DeclarationError`` that begins with ``where``."""
    found = find_wire_type(annotation)
    if found is None:
        if isinstance(annotation, StatesType):
            annotation = annotation.hint
        raise DeclarationError(
            f"{where}: {getattr(annotation, '__name__', annotation)} has no width on the wire; "
            "use bool, u8 to u64, i8 to i64, Array, Buffer or a VMStruct, "
            "or leave it out with field(omit=True)"
        )
    return found


def find_wire_type(annotation: object) -> WireType | None:
    """Return what an annotation means, or ``None`` if it is not a wire type."""
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
    if _EQUAL in extras:
        if not isinstance(found, Scalar) or found.kind not in "BHIQi" or found.live:
            raise DeclarationError("Equal takes u8, u16, u32, u64 or i32, as C does")
        return dataclasses.replace(
            found, name=f"Equal[{found.name}]", info=f"{found.info}_equal", live=True
        )
    for marker, cls in ((_TMP, TmpType), (_SUBSECTION, SubsectionType)):
        if marker in extras:
            return cls(found.cls) if type(found) is StructType else None
    return found


def subsection_of(annotation: object) -> object:
    """Return what ``Subsection[...]`` is of, or ``None`` of another annotation."""
    if get_origin(annotation) is Annotated and _SUBSECTION in annotation.__metadata__:  # type: ignore[attr-defined]
        return get_args(annotation)[0]
    return None
