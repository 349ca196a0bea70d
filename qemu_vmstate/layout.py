# SPDX-License-Identifier: GPL-2.0-or-later
"""Layout classes: an instance's memory is the migrated layout itself.

What ``#[repr(C)]`` and ``impl_vmstate_struct!`` are in Rust.  A snapshot is one
copy of that memory; attributes are read and written at C speed, and a value out
of range is refused where it is assigned.
"""

from __future__ import annotations

import inspect
import sys
from abc import ABCMeta
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_origin

from .errors import DeclarationError, OutOfRangeError
from .loader import _state
from .to_migration_state import ToMigrationState
from .wire import (
    SCALARS,
    ArrayType,
    FieldOptions,
    Scalar,
    StructType,
    WireType,
    field,
    wire_type,
)

__all__ = ["VMStruct", "asdict"]

# A section's name has one length byte on the wire, and QEMU's own
# analyze-migration.py reads it as signed.
LONGEST_NAME = 127


@dataclass(frozen=True)
class FieldInfo:
    """One field: its attribute, its name in the description, where it lies."""

    attribute: str
    name: str
    type: WireType
    offset: int


@dataclass(frozen=True)
class Layout:
    """What a layout class is for C: ``size`` and ``align`` in bytes."""

    name: str
    version_id: int
    minimum_version_id: int
    fields: tuple[FieldInfo, ...]
    size: int
    align: int


def check_name(name: object, what: str) -> str:
    """Refuse a name that would crash QEMU or that its tools cannot read."""
    if not isinstance(name, str) or not name:
        raise DeclarationError(
            f"{what} has no name; QEMU dereferences it while it saves, so give one: name='...'"
        )
    if "\0" in name or len(name.encode()) > LONGEST_NAME:
        raise DeclarationError(
            f"{what}: the name {name[:40]!r}... has {len(name.encode())} bytes; a section's name "
            f"has at most {LONGEST_NAME}, and no NUL"
        )
    return name


def check_versions(version_id: int, minimum_version_id: int, what: str) -> None:
    """Refuse versions that no stream could have."""
    if not 0 <= minimum_version_id <= version_id < 2**31:
        raise DeclarationError(
            f"{what}: minimum_version_id {minimum_version_id} and version_id {version_id}; "
            "they must be 0 or more, and the minimum not above the version"
        )


def own_annotations(cls: type, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """A class's own annotations, evaluated; ``namespace`` has the names around it."""
    hints = {}
    for name, hint in inspect.get_annotations(cls).items():
        if isinstance(hint, str):
            scope = vars(sys.modules[cls.__module__])
            try:
                hint = eval(hint, dict(scope), dict(namespace))
            except DeclarationError:
                raise
            except Exception as exc:
                raise DeclarationError(
                    f"{cls.__name__}.{name}: the annotation {hint!r} cannot be evaluated: {exc}"
                ) from exc
        origin: Any = get_origin(hint)
        if origin is not ClassVar:
            hints[name] = hint
    return hints


def _refused(target: _state.Field, index: int, value: object, why: str) -> Exception:
    """What a refused store raises; called from cdefs/values.c."""
    path = target.name if index < 0 else f"{target.name}[{index}]"
    scalar = SCALARS.get(target.kind)
    if why == "range" and scalar:
        limits = f"({scalar.low} to {scalar.high})"
        return OutOfRangeError(f"{_shown(value)} is out of range for {scalar.name} {limits}", path)
    if why == "length":
        given = len(value) if isinstance(value, Sized) else "other than that many"
        reason = f"{given} elements for {target.count}; an array's length is fixed"
        return OutOfRangeError(reason, path)
    wanted = scalar.name if scalar else target.cls.__name__ if target.cls else "an array"
    return _WrongTypeError(f"{_shown(value)} is a {type(value).__name__}, not {wanted}", path)


def _shown(value: object) -> str:
    """A value's ``repr``, cut to what a sentence can hold."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits has none, for instance
        return f"a value of {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else text[:77] + "..."


class _WrongTypeError(OutOfRangeError, TypeError):
    """A value of a type that its field cannot hold."""


_state.set_error_factory(_refused)


def _c_field(name: str, type_: WireType, offset: int) -> _state.Field:
    if isinstance(type_, Scalar):
        return _state.Field(name, type_.kind, offset, type_.size)
    if isinstance(type_, StructType):
        return _state.Field(name, "s", offset, type_.size, 0, type_.cls)
    inner = _c_field(name, type_.element, 0)
    return _state.Field(name, "a", offset, type_.size, type_.length, None, inner)


def _up(offset: int, align: int) -> int:
    return -(-offset // align) * align


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class VMStructMeta(ABCMeta):
    """Lays out a class's annotated fields as a C compiler would."""

    __layout__: Layout
    __image__: bytes
    Migrated: type[Any]

    def __new__(
        mcls,
        cls_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        version_id: int = 1,
        minimum_version_id: int = 1,
    ) -> VMStructMeta:
        """Make the class; keywords are those of ``class X(VMStruct, name=...)``."""
        # Memory is all an instance has: a misspelt attribute must not find a dict.
        namespace.setdefault("__slots__", ())
        if len([base for base in bases if getattr(base, "__layout__", None)]) > 1:
            raise DeclarationError(
                f"class {cls_name} derives from two layout classes, whose fields would lie on "
                "top of each other; make one of them a field"
            )
        cls = super().__new__(mcls, cls_name, bases, namespace)
        hints = own_annotations(cls, sys._getframe(1).f_locals)
        values = {key: namespace[key] for key in hints if key in namespace}
        wire_name = check_name(cls_name if name is None else name, f"class {cls_name}")
        check_versions(version_id, minimum_version_id, f"class {cls_name}")
        cls.__lay_out(hints, values, wire_name, version_id, minimum_version_id)
        cls.Migrated = cls
        return cls

    def __lay_out(
        cls,
        hints: dict[str, Any],
        values: dict[str, Any],
        name: str,
        version_id: int,
        minimum_version_id: int,
    ) -> None:
        inherited: Layout | None = getattr(cls, "__layout__", None)
        fields = list(inherited.fields) if inherited else []
        offset = inherited.size if inherited and inherited.fields else 0
        align = inherited.align if inherited else 1
        names = {info.name: info.attribute for info in fields}
        defaults = {}
        for attribute, hint in hints.items():
            where = f"{cls.__name__}.{attribute}"
            options = values.get(attribute, _NO_OPTIONS)
            if not isinstance(options, FieldOptions):
                options = FieldOptions(default=options)
            options.refuse_conversions(where)
            if options.omit or options.default_factory:
                raise DeclarationError(
                    f"{where}: every field of a layout class is migrated and has a constant "
                    "default; field(omit=...) and field(default_factory=...) are for devices"
                )
            type_ = wire_type(hint, where)
            wire_name = check_name(attribute if options.name is None else options.name, where)
            if wire_name in names or (inherited and hasattr(cls.__base__, attribute)):
                taken = names.get(wire_name, "an attribute of its base class")
                raise DeclarationError(
                    f"{where}: the name {wire_name!r} is taken by {taken}; give another one"
                )
            names[wire_name] = attribute
            offset = _up(offset, type_.align)
            align = max(align, type_.align)
            fields.append(FieldInfo(attribute, wire_name, type_, offset))
            setattr(cls, attribute, _c_field(where, type_, offset))
            offset += type_.size
            if options.has_default:
                defaults[attribute] = options.default
        # As in C++, an empty struct takes a byte, so that each of several has a place.
        size = _up(max(offset, 1), align)
        if size > 2**31 - 1:
            raise DeclarationError(f"{cls.__name__} takes {size} bytes; the limit is 2147483647")
        cls.__layout__ = Layout(name, version_id, minimum_version_id, tuple(fields), size, align)
        cls.__set_image(inherited, defaults)

    def __set_image(cls, inherited: Layout | None, defaults: dict[str, Any]) -> None:
        image = bytearray(getattr(cls, "__image__", b"") if inherited else b"")
        image.extend(bytes(cls.__layout__.size - len(image)))
        for info in cls.__layout__.fields[len(inherited.fields) if inherited else 0 :]:
            if isinstance(info.type, StructType):
                inner = info.type.cls.__image__
                image[info.offset : info.offset + len(inner)] = inner
            elif isinstance(info.type, ArrayType) and isinstance(info.type.element, StructType):
                inner = info.type.element.cls.__image__ * info.type.length
                image[info.offset : info.offset + len(inner)] = inner
        cls.__image__ = bytes(image)
        if not defaults:
            return
        at_rest = cls()
        for info in cls.__layout__.fields:
            if info.attribute in defaults:
                value = defaults[info.attribute]
                setattr(at_rest, info.attribute, filled(info.type, value))
        cls.__image__ = bytes(at_rest)


def filled(type_: WireType, value: Any) -> Any:
    """``value``, or for an array so many times a number as it has elements."""
    if isinstance(type_, ArrayType) and isinstance(value, int):
        return [filled(type_.element, value)] * type_.length
    return value


_NO_OPTIONS = FieldOptions()


class VMStruct(_state.Memory, ToMigrationState["VMStruct"], metaclass=VMStructMeta):
    """Base of layout classes: annotate the fields in wire order.

    ::

        class TimerRegs(VMStruct):
            config: u64 = 0
            fifo: Array[u8, Literal[16]] = zeroed()

    Class keywords, each of the ``VMStateDescription`` member of that name
    (include/migration/vmstate.h): ``name`` (default: the class's),
    ``version_id`` and ``minimum_version_id`` (default 1).

    An instance has exactly its fields.  Assigning raises ``OutOfRangeError``
    for a value the field cannot hold, ``AttributeError`` for any other name.
    Fields lie as a C compiler would lay them out, in the machine's byte order;
    the buffer protocol gives the raw bytes.  A snapshot of it is one copy.
    """

    __layout__: ClassVar[Layout]

    def snapshot_migration_state(self, target: Any) -> None:
        """Copy this state's memory into ``target``, an instance of the same class."""
        _state.assign(target, self)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        """Copy ``source``'s memory, an instance of the same class, into this state."""
        _state.assign(self, source)

    def __repr__(self) -> str:
        inner = ", ".join(
            f"{info.attribute}={getattr(self, info.attribute)!r}" for info in self.__layout__.fields
        )
        return f"{type(self).__name__}({inner})"

    def __copy__(self: S) -> S:
        twin = type(self)()
        _state.assign(twin, self)
        return twin

    def __deepcopy__(self: S, memo: object) -> S:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (type(self), bytes(self))


S = TypeVar("S", bound=VMStruct)


def _from_bytes(cls: type[S], data: bytes) -> S:
    made = cls()
    memoryview(made)[:] = data
    return made


def asdict(struct: VMStruct) -> dict[str, Any]:
    """A layout class instance as plain Python: numbers, lists, bytes and dicts.

    Keys are the attributes' names, in wire order; a ``Buffer`` becomes ``bytes``.
    """

    def plain(value: Any, type_: WireType) -> Any:
        if isinstance(type_, StructType):
            return asdict(value)
        if isinstance(type_, ArrayType):
            return bytes(value) if type_.is_buffer else [plain(v, type_.element) for v in value]
        return value

    return {
        info.attribute: plain(getattr(struct, info.attribute), info.type)
        for info in struct.__layout__.fields
    }
