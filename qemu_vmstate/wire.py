# SPDX-License-Identifier: GPL-2.0-or-later
"""The types a field can have, spelled as annotations.

Every one has a width of its own: a bare ``int`` is refused, because what goes
on the wire must not depend on the machine.  On the wire all are big endian, as
QEMU's ``vmstate_info_*`` write them (migration/vmstate-types.c); in memory they
are as the compiler has them.

=================================  =============================================
``bool``                           VMSTATE_BOOL
``u8 u16 u32 u64``                 VMSTATE_UINT8, VMSTATE_UINT16 ...
``i8 i16 i32 i64``                 VMSTATE_INT8, VMSTATE_INT16 ...
``Array[u32, Literal[8]]``         VMSTATE_UINT32_ARRAY
``Array[Regs, Literal[4]]``        VMSTATE_STRUCT_ARRAY
``Buffer[Literal[64]]``            VMSTATE_BUFFER
a layout class                     VMSTATE_STRUCT
=================================  =============================================

``Array[u32, 8]`` means the same at run time; ``Literal`` is for type checkers.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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

from .errors import DeclarationError

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

    from .layout import VMStruct

__all__ = [
    "Array",
    "Buffer",
    "FieldOptions",
    "field",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "zeroed",
]

_MISSING: Any = object()


@dataclass(frozen=True)
class Scalar:
    """A number of a fixed width.

    ``kind`` is its letter in :mod:`struct`, ``info`` its ``vmstate_info_*``,
    ``size`` in bytes, ``low`` and ``high`` the least and greatest value.
    """

    name: str
    kind: str
    info: str
    size: int
    low: int
    high: int

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return self.size


@dataclass(frozen=True)
class ArrayType:
    """``length`` elements in a row; ``is_buffer``: bytes that C moves in one go."""

    element: WireType
    length: int
    is_buffer: builtins.bool = False

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.element.size * self.length

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return self.element.align


@dataclass(frozen=True)
class StructType:
    """A layout class inside another."""

    cls: type[VMStruct]

    @property
    def size(self) -> int:
        """Bytes in memory, padding included."""
        return self.cls.__layout__.size

    @property
    def align(self) -> int:
        """Bytes that its offset in memory is a multiple of."""
        return self.cls.__layout__.align


WireType: TypeAlias = Scalar | ArrayType | StructType

_UNSIGNED = (("B", 1), ("H", 2), ("I", 4), ("Q", 8))
_SIGNED = (("b", 1), ("h", 2), ("i", 4), ("q", 8))

SCALARS = {
    scalar.kind: scalar
    for scalar in (
        Scalar("bool", "?", "bool", 1, 0, 1),
        *(Scalar(f"u{8 * n}", k, f"uint{8 * n}", n, 0, 2 ** (8 * n) - 1) for k, n in _UNSIGNED),
        *(
            Scalar(f"i{8 * n}", k, f"int{8 * n}", n, -(2 ** (8 * n - 1)), 2 ** (8 * n - 1) - 1)
            for k, n in _SIGNED
        ),
    )
}
"""Every scalar by its letter in :mod:`struct`."""

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


T = TypeVar("T")
N = TypeVar("N")


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

else:

    class Array:
        """``Array[u32, Literal[8]]``: a fixed array; reading gives a view, not a copy.

        The view has the buffer protocol, so ``numpy.asarray(regs.fifo)`` shares its memory.
        """

        def __class_getitem__(cls, params):
            if not isinstance(params, tuple) or len(params) != 2:
                raise DeclarationError("Array takes an element and a length: Array[u8, 16]")
            element, length = params
            return ArrayType(wire_type(element, "Array"), _length("Array", length))

    class Buffer:
        """``Buffer[Literal[64]]``: bytes; reading gives a view that ``bytes()`` copies."""

        def __class_getitem__(cls, length):
            return ArrayType(SCALARS["B"], _length("Buffer", length), is_buffer=True)


def wire_type(annotation: object, where: str) -> WireType:
    """What an annotation means; raises ``DeclarationError`` that begins with ``where``."""
    found = find_wire_type(annotation)
    if found is None:
        raise DeclarationError(
            f"{where}: {getattr(annotation, '__name__', annotation)} has no width on the wire; "
            "use bool, u8 to u64, i8 to i64, Array, Buffer or a VMStruct, "
            "or leave it out with field(omit=True)"
        )
    return found


def find_wire_type(annotation: object) -> WireType | None:
    """What an annotation means, or ``None`` if it is not a wire type."""
    if isinstance(annotation, Scalar | ArrayType | StructType):
        return annotation
    if get_origin(annotation) is Annotated:
        for extra in annotation.__metadata__:  # type: ignore[attr-defined]
            if isinstance(extra, Scalar):
                return extra
    if annotation is bool:
        return SCALARS["?"]
    if isinstance(annotation, type) and hasattr(annotation, "__layout__"):
        return StructType(annotation)
    return None


@dataclass(frozen=True)
class FieldOptions:
    """What :func:`field` was told."""

    default: Any = _MISSING
    default_factory: Callable[[], Any] | None = None
    name: str | None = None
    omit: builtins.bool = False
    into: Any = None
    try_into: Any = None
    clone: builtins.bool = False
    length: int | None = None
    none: Any = None

    @property
    def has_default(self) -> builtins.bool:
        """Whether either kind of default was given."""
        return self.default is not _MISSING or self.default_factory is not None

    def make_default(self) -> Any:
        """The default value, made anew."""
        return self.default_factory() if self.default_factory else self.default

    def refuse_conversions(self, where: str) -> None:
        """Raise ``DeclarationError`` for options that a dataclass only can have."""
        if (self.into, self.try_into, self.length, self.none) != (None,) * 4 or self.clone:
            raise DeclarationError(
                f"{where}: into, try_into, clone, length and none are for dataclasses with "
                "@derive_to_migration_state; a layout class and a device have the wire's own types"
            )

    def __set_name__(self, owner: type, attribute: str) -> None:
        # Layout classes and devices read this object themselves.  Any other class
        # that holds one is about to become a dataclass: speak its language.
        if hasattr(owner, "__layout__") or hasattr(owner, "__parts__"):
            return
        known: dict[str, Any] = {"metadata": {FieldOptions: self}}
        if self.default_factory is not None:
            known["default_factory"] = self.default_factory
        elif self.has_default:
            known["default"] = self.default
        setattr(owner, attribute, dataclasses.field(**known))


def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    name: str | None = None,
    omit: builtins.bool = False,
    into: Any = None,
    try_into: Any = None,
    clone: builtins.bool = False,
    length: int | None = None,
    none: Any = None,
) -> Any:
    """Say more about a field than its annotation does.

    ``default``: its value at rest and before a load; one number fills an array.
    ``default_factory``: makes it (devices and dataclasses only).  ``name``: its
    name in the description, if that is not the attribute's.  ``omit``: an
    attribute of a device or dataclass that is not migrated, as upstream's
    ``#[migration_state(omit)]``.

    ``into``, ``try_into``, ``clone``, ``length`` and ``none`` are for dataclasses;
    see :func:`~qemu_vmstate.derive_to_migration_state`.
    """
    if default is not _MISSING and default_factory is not None:
        raise DeclarationError("field() takes default or default_factory, not both")
    return FieldOptions(default, default_factory, name, omit, into, try_into, clone, length, none)


def zeroed() -> Any:
    """``= zeroed()``: a field that is zero at rest, as every field without a default is.

    It tells type checkers that the field need not be given.
    """
    return FieldOptions()
