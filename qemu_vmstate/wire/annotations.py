# SPDX-License-Identifier: GPL-2.0-or-later
"""The types that a field can have, as annotations.

Each has a width of its own: a bare ``int`` is refused, because the bytes on the
wire must not depend on the machine.  Numbers are big endian on the wire, as
QEMU's ``vmstate_info_*`` write them (migration/vmstate-types.c), and in the
machine's byte order in memory.

===================================  ============================================
``bool``                             VMSTATE_BOOL
``u8 u16 u32 u64``                   VMSTATE_UINT8, VMSTATE_UINT16 ...
``i8 i16 i32 i64``                   VMSTATE_INT8, VMSTATE_INT16 ...
``Equal[u32]``, ``i32_positive_le``  VMSTATE_UINT32_EQUAL, VMSTATE_INT32_POSITIVE_LE
``f32``, ``f64``                     IEEE 754 bits, as VMSTATE_UINT32 and VMSTATE_UINT64
``cpudouble``                        an element of VMSTATE_CPUDOUBLE_ARRAY
``timer``                            VMSTATE_TIMER
``Array[u32, Literal[8]]``           VMSTATE_UINT32_ARRAY
``Array[Regs, Literal[4]]``          VMSTATE_STRUCT_ARRAY
``Buffer[Literal[64]]``              VMSTATE_BUFFER
``VArray[u32, Literal[8]]``          VMSTATE_VARRAY_UINT32, VMSTATE_STRUCT_VARRAY_UINT32
``VBuffer[Literal[64]]``             VMSTATE_VBUFFER
``Packed[T, Literal[65536]]``        VMSTATE_VBUFFER_UINT32 of MessagePack
``Bitmap[Literal[100]]``             VMSTATE_BITMAP
``Unused[Literal[4]]``               VMSTATE_UNUSED
``PointerArray[Regs, Literal[4]]``   VMSTATE_ARRAY_OF_POINTER_TO_STRUCT
``QTailQ[Item, Literal[99]]``        VMSTATE_QTAILQ_V; ``QList``: VMSTATE_QLIST_V
``GTree[Key, Item, Literal[99]]``    VMSTATE_GTREE_V
a layout class                       VMSTATE_STRUCT; ``Tmp[...]``: VMSTATE_WITH_TMP
``Subsection[Extra]``                a subsection
===================================  ============================================

``Array[u32, 8]`` means the same at run time; ``Literal`` is for type checkers.
:func:`~qemu_vmstate.field` has the options that are not part of a field's type.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeAlias, TypeVar, overload

from ..errors import DeclarationError
from .lookup import EQUAL, SUBSECTION, TMP, find_wire_type, length_of, wire_type
from .record import replace
from .types import (
    SCALARS,
    ArrayType,
    BitmapType,
    CountedType,
    ListType,
    PackedType,
    PointersType,
    Scalar,
    StatesType,
    StructType,
    UnusedType,
    WireType,
)

if TYPE_CHECKING:
    import typing_extensions

__all__ = [
    "Array",
    "Bitmap",
    "Buffer",
    "Equal",
    "GTree",
    "Packed",
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
]

u8: TypeAlias = Annotated[int, SCALARS["B"]]
"""An unsigned byte, 0 to 255 (``migration/vmstate.h: VMSTATE_UINT8``)."""
u16: TypeAlias = Annotated[int, SCALARS["H"]]
"""An unsigned number of 2 bytes, 0 to 65535 (``migration/vmstate.h: VMSTATE_UINT16``)."""
u32: TypeAlias = Annotated[int, SCALARS["I"]]
"""An unsigned number of 4 bytes, 0 to 2**32 - 1 (``migration/vmstate.h: VMSTATE_UINT32``)."""
u64: TypeAlias = Annotated[int, SCALARS["Q"]]
"""An unsigned number of 8 bytes, 0 to 2**64 - 1 (``migration/vmstate.h: VMSTATE_UINT64``)."""
i8: TypeAlias = Annotated[int, SCALARS["b"]]
"""A signed byte, -128 to 127 (``migration/vmstate.h: VMSTATE_INT8``)."""
i16: TypeAlias = Annotated[int, SCALARS["h"]]
"""A signed number of 2 bytes, -32768 to 32767 (``migration/vmstate.h: VMSTATE_INT16``)."""
i32: TypeAlias = Annotated[int, SCALARS["i"]]
"""A signed number of 4 bytes, -2**31 to 2**31 - 1 (``migration/vmstate.h: VMSTATE_INT32``)."""
i64: TypeAlias = Annotated[int, SCALARS["q"]]
"""A signed number of 8 bytes, -2**63 to 2**63 - 1 (``migration/vmstate.h: VMSTATE_INT64``)."""

f32: TypeAlias = Annotated[float, SCALARS["f"]]
"""A number of IEEE 754 single precision: 4 bytes (``migration/vmstate.h: VMSTATE_UINT32``).

QEMU's ``float32`` (``fpu/softfloat-types.h``) is a ``uint32_t``. Python rounds what is assigned
to the nearest value that 32 bits hold; a signalling NaN that is read becomes quiet.
"""
f64: TypeAlias = Annotated[float, SCALARS["d"]]
"""A number of IEEE 754 double precision: 8 bytes (``migration/vmstate.h: VMSTATE_UINT64``).

QEMU's ``float64`` (``fpu/softfloat-types.h``) is a ``uint64_t``.
"""
cpudouble: TypeAlias = Annotated[float, replace(SCALARS["d"], name="cpudouble", info="cpudouble")]
"""A ``CPU_DoubleU`` (``qemu/cpu-float.h``), which is 8 bytes on the wire as an ``f64``.

In C it is an element of an array (``migration/vmstate.h: VMSTATE_CPUDOUBLE_ARRAY``).
"""
timer: TypeAlias = Annotated[int, replace(SCALARS["q"], name="timer", info="timer", default=-1)]
"""The time in ns when a timer expires, 8 bytes (``migration/vmstate.h: VMSTATE_TIMER``).

It is -1, its default, if the timer is not armed.

For a timer that QEMU runs see :class:`~qemu_vmstate.QEMUTimer`.
"""
i32_positive_le: TypeAlias = Annotated[
    int,
    replace(SCALARS["i"], name="i32_positive_le", info="int32_le", low=0, live=True),
]
"""An ``i32`` from 0 to the value that the object has when it is loaded, else the load fails.

In C: ``migration/vmstate.h: VMSTATE_INT32_POSITIVE_LE``.
"""

T = TypeVar("T")
K = TypeVar("K")
N = TypeVar("N")
Read = TypeVar("Read")
Assigned = TypeVar("Assigned")
BytesLike: TypeAlias = "typing_extensions.Buffer"

Equal: TypeAlias = Annotated[T, EQUAL]
"""``Equal[u32]``: a load fails unless the object has the same value as the stream.

It takes ``u8``, ``u16``, ``u32``, ``u64`` and ``i32``, as in C
(``migration/vmstate.h: VMSTATE_UINT32_EQUAL``); ``field(err_hint=...)`` is added to the error.
"""
Tmp: TypeAlias = Annotated[T, TMP]
"""``Tmp[Extra]``: a layout class that exists on the wire only.

In C: ``migration/vmstate.h: VMSTATE_WITH_TMP``.

Fill it in ``snapshot_migration_state`` and read it in ``restore_migrated_state_mut``.
"""
Subsection: TypeAlias = Annotated[T, SUBSECTION]
"""``Subsection[Extra]``: is on the wire if ``field(needed=...)`` returns true.

``Extra`` is a layout class named ``parent/something``, or in a device also a
``Migratable``.  If a stream lacks it, it gets its defaults, or with ``keep``
stays as it is in the object.

In C it is an element of ``subsections`` of a ``VMStateDescription`` (``migration/vmstate.h``;
docs/devel/migration/main.rst, "Subsections").
"""


class _Attribute(Generic[Read, Assigned]):
    """The attribute of a field, for type checkers: the types that it returns and takes.

    At run time a subclass with parameters, as in ``Array[u8, 4]``, is a :class:`WireType`.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Any: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Read: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: Assigned) -> None: ...

    else:

        def __class_getitem__(cls, params):
            if cls is _Attribute:  # as the base of the classes below, for type checkers
                return super().__class_getitem__(params)
            return cls._wire_type(params)

    @classmethod
    def _wire_type(cls, params: Any) -> WireType | StatesType | PackedType:
        raise NotImplementedError

    @classmethod
    def _length(cls, value: object) -> int:
        return length_of(cls.__name__, value)

    @classmethod
    def _element_and_length(cls, params: Any) -> tuple[Any, int]:
        name = cls.__name__
        if not isinstance(params, tuple) or len(params) != 2:
            raise DeclarationError(f"{name} takes an element and a length: {name}[u8, 16]")
        element, length = params
        return element, cls._length(length)

    @classmethod
    def _element(cls, found: WireType | None, *types: type[WireType]) -> Any:
        if type(found) in (Scalar, StructType, *types):
            return found
        raise DeclarationError(
            f"{cls.__name__}: C has no arrays of these; declare one as a field of a layout class, "
            "and make that class the element"
        )

    @classmethod
    def _struct(cls, hint: Any) -> StructType:
        found = find_wire_type(hint)
        if type(found) is not StructType:
            raise DeclarationError(
                f"{cls.__name__}: the elements of a list are of a layout class, derived from "
                f"VMStruct, which {getattr(hint, '__name__', hint)} is not"
            )
        return found


class Array(_Attribute["Array[T, N]", Iterable[T]], Generic[T, N]):
    """``Array[u32, Literal[8]]``: an array of 8 elements.

    An element is a number, a layout class or another ``Array``; in a device a ``Migratable``
    too.  Reading the attribute returns a view, not a copy: its elements can be assigned, and it
    has the buffer protocol, so ``numpy.asarray(regs.fifo)`` shares its memory.  Assigning to the
    attribute copies as many elements as the array has.

    Raises ``OutOfRangeError`` for another number of elements and for an element that the type
    cannot hold, ``IndexError`` for an index beyond the end.

    In C: ``migration/vmstate.h: VMSTATE_UINT32_ARRAY``, ``VMSTATE_STRUCT_ARRAY``,
    ``VMSTATE_UINT32_2DARRAY``.
    """

    if TYPE_CHECKING:

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

    @classmethod
    def _wire_type(cls, params: Any) -> WireType | StatesType:
        element, length = cls._element_and_length(params)
        found = find_wire_type(element)
        if found is None:
            return StatesType(element, length)
        return ArrayType(cls._element(found, ArrayType), length)


class Buffer(_Attribute["Array[int, N]", BytesLike], Generic[N]):
    """``Buffer[Literal[64]]``: 64 bytes.

    Reading the attribute returns a view, which ``bytes()`` copies.  Assigning takes any object
    with the buffer protocol; raises ``OutOfRangeError`` for another length.

    In C: ``migration/vmstate.h: VMSTATE_BUFFER``.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        return ArrayType(SCALARS["B"], cls._length(params), is_buffer=True)


class VArray(_Attribute["Array[T, N]", Iterable[T]], Generic[T, N]):
    """``VArray[u32, Literal[8]] = field(num="n")``: an array of ``n`` elements, 8 at most.

    ``n`` is a ``u8``, ``u16``, ``u32`` or ``i32`` field declared before it.  Assigning a
    sequence sets ``n`` too.  All 8 elements have their place in memory; the first ``n`` are on
    the wire.  Raises ``OutOfRangeError`` for more than 8 elements; a stream with a larger ``n``
    is refused.

    In C: ``migration/vmstate.h: VMSTATE_VARRAY_UINT32``, ``VMSTATE_STRUCT_VARRAY_UINT32``.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType | StatesType:
        element, length = cls._element_and_length(params)
        found = find_wire_type(element)
        if found is None:
            return StatesType(element, length, counted=True)
        return CountedType(cls._element(found), length)


class VBuffer(_Attribute["Array[int, N]", BytesLike], Generic[N]):
    """``VBuffer[Literal[64]] = field(size="n")``: ``n`` bytes, 64 at most.

    ``n`` is a ``u32``, ``u64`` or ``i32`` field declared before it, which an assignment sets too.
    Raises ``OutOfRangeError`` for more than 64 bytes; a stream with a larger ``n`` is refused.

    In C: ``migration/vmstate.h: VMSTATE_VBUFFER``.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        return CountedType(SCALARS["B"], cls._length(params), is_buffer=True)


class Packed(_Attribute[T, T], Generic[T, N]):
    """``Packed[dict[str, int], Literal[65536]]``: an object as MessagePack of at most 65536 bytes.

    For an attribute of a dataclass with :func:`~qemu_vmstate.derive_to_migration_state` that has
    no fixed form on the wire.  The object is of any type that msgspec encodes and decodes:
    dataclasses, attrs classes, ``TypedDict``, ``NamedTuple``, ``msgspec.Struct``, unions, ``dict``,
    ``list``, ``tuple``, ``set``, ``str``, ``int`` (-2**63 to 2**64 - 1), ``float``, ``bytes``,
    ``Enum``, ``datetime``, ``UUID``, ``Decimal``.  It needs the extra ``qemu-vmstate[packed]``.

    A load decodes the declared type and nothing else.  A ``dict``, ``list``, ``set`` or
    ``bytearray`` of the attribute remains the same object and gets other contents; an object of
    another class is replaced.  A save does not compare the object with the declared type.

    Raises ``InvalidError`` with the path for an object that cannot be saved or loaded, and
    ``DeclarationError`` for a type that msgspec does not support, and where msgspec is missing.

    In C: ``migration/vmstate.h: VMSTATE_VBUFFER_UINT32``, after a field ``size_<attribute>`` with
    the number of its bytes.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> PackedType:
        if not isinstance(params, tuple) or len(params) != 2:
            raise DeclarationError(
                "Packed takes a type and the most bytes that it is packed into: "
                "Packed[dict[str, int], Literal[65536]]"
            )
        hint, maximum = params
        return PackedType(hint, cls._length(maximum))


class Bitmap(_Attribute["Array[int, N]", Iterable[int]], Generic[N]):
    """``Bitmap[Literal[100]]``: 100 bits in ``u64`` words; bit 0 is the lowest of the first word.

    The attribute is an array of the words.  With ``field(size="n")`` only the words of the first
    ``n`` bits are on the wire; ``n`` is a ``u32`` or ``i32`` field declared before it.

    In C: ``migration/vmstate.h: VMSTATE_BITMAP``.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        return BitmapType(cls._length(params))


class Unused(_Attribute["Unused[N]", "Unused[N]"], Generic[N]):
    """``Unused[Literal[4]]``: 4 bytes without a meaning, for example those of an older version.

    They are written as zeros and ignored on load; an instance has no attribute for them.

    In C: ``migration/vmstate.h: VMSTATE_UNUSED``.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        return UnusedType(cls._length(params))


class PointerArray(_Attribute["PointerArray[T, N]", Iterable[T | None]], Generic[T, N]):
    """``PointerArray[Regs, Literal[4]]``: elements that can be ``None``.

    An element is a number or a layout class.  The same elements must be ``None`` in the stream
    and in the object that loads it.  With ``field(num="n")`` the first ``n`` are on the wire.
    Raises ``OutOfRangeError`` for another number of elements.

    In C: ``migration/vmstate.h: VMSTATE_ARRAY_OF_POINTER_TO_STRUCT``.
    """

    if TYPE_CHECKING:

        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[T | None]: ...
        def __getitem__(self, index: int) -> T | None: ...
        def __setitem__(self, index: int, value: T | None) -> None: ...
        def __eq__(self, other: object) -> builtins.bool: ...

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        element, length = cls._element_and_length(params)
        return PointersType(cls._element(wire_type(element, cls.__name__)), length)


class QTailQ(_Attribute["Array[T, N]", Iterable[T]], Generic[T, N]):
    """``QTailQ[Item, Literal[99]]``: a list of up to 99 instances of a layout class.

    Assign a sequence to change its length.  Raises ``OutOfRangeError`` for more elements; a
    stream with more is refused.

    In C: ``migration/vmstate.h: VMSTATE_QTAILQ_V`` of a ``QTAILQ`` (``qemu/queue.h``).
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        element, length = cls._element_and_length(params)
        return ListType(cls._struct(element), length, "qtailq")


class QList(_Attribute["Array[T, N]", Iterable[T]], Generic[T, N]):
    """``QList[Item, Literal[99]]``: the same as a :class:`QTailQ` for a ``QLIST``.

    In C: ``migration/vmstate.h: VMSTATE_QLIST_V`` of a ``QLIST`` (``qemu/queue.h``).
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        element, length = cls._element_and_length(params)
        return ListType(cls._struct(element), length, "qlist")


class GTree(_Attribute[Mapping[Any, T], Mapping[Any, T]], Generic[K, T, N]):
    """``GTree[u64, Item, Literal[99]]``: a dict of up to 99 instances of a layout class.

    A key is a ``u64``, or a layout class of numbers, given as their tuple.  Items are saved in
    the order of the keys.  Reading returns a read-only mapping; assign a dict to change the keys.
    Raises ``OutOfRangeError`` for more items; a stream with more is refused.

    In C: ``migration/vmstate.h: VMSTATE_GTREE_DIRECT_KEY_V`` for a ``u64``, else
    ``VMSTATE_GTREE_V``.
    """

    @classmethod
    def _wire_type(cls, params: Any) -> WireType:
        if not isinstance(params, tuple) or len(params) != 3:
            raise DeclarationError(
                "GTree takes a key, an element and a length: GTree[u64, Item, 16]"
            )
        key = wire_type(params[0], "GTree")
        if type(key) is StructType:
            for info in key.layout.fields:
                if not isinstance(info.type, Scalar):
                    raise DeclarationError(
                        f"GTree: a key is a tuple of numbers, and {key.cls.__name__}."
                        f"{info.attribute} is no number"
                    )
        elif key != SCALARS["Q"]:
            raise DeclarationError("GTree: a key is a u64 or a layout class")
        return ListType(cls._struct(params[1]), cls._length(params[2]), "gtree", key)
