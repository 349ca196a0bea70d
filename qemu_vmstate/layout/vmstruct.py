# SPDX-License-Identifier: GPL-2.0-or-later
"""Layout classes: an instance's memory is the migrated layout itself.

They correspond to ``#[repr(C)]`` and ``impl_vmstate_struct!`` in Rust.  A snapshot
is one copy of that memory; attributes are read and written at C speed, and
assigning a value out of range raises an exception.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from ..bindings.loader import _state
from ..errors import DeclarationError
from ..state.to_migration_state import ToMigrationState
from ..wire.base import Limits
from ..wire.caller import caller_locals
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.lookup import wire_type
from ..wire.record import replace
from ..wire.structs import plain_struct
from ..wire.types import FieldInfo, Layout, Scalar, WireType, up
from .annotations import check_name, check_versions, own_annotations
from .checks import check_neighbours, check_subsections, limits_of
from .descriptors import compact, descriptors
from .refusals import refused
from .traversal import structs_in
from .validation import Validator, validators_of

__all__ = ["VMStruct", "asdict"]


_state.set_error_factory(refused)


# field() is no field specifier, because a field without default= has a default too.
@dataclass_transform(kw_only_default=True)
class VMStructMeta(ABCMeta):
    """The metaclass of layout classes: it lays out annotated fields as a C compiler would."""

    __layout__: Layout
    __image__: bytes | memoryview
    __checked__: bool
    __elements__: dict[str, _state.Field]
    __validators__: tuple[Validator, ...]
    __validated__: bool
    __class_data__: Any
    __descriptions__: dict[tuple[Any, ...], Any]
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
        # Assigning to a misspelt attribute must raise, so instances have no __dict__.
        namespace.setdefault("__slots__", ())
        if len([base for base in bases if getattr(base, "__layout__", None)]) > 1:
            raise DeclarationError(
                f"class {cls_name} derives from two layout classes, whose fields would lie on "
                "top of each other; make one of them a field"
            )
        cls = super().__new__(mcls, cls_name, bases, namespace)
        hints = own_annotations(cls, caller_locals())
        values = {key: namespace[key] for key in hints if key in namespace}
        wire_name = check_name(cls_name if name is None else name, f"class {cls_name}")
        check_versions(version_id, minimum_version_id, f"class {cls_name}")
        cls.__validators__ = validators_of(cls)
        cls.__lay_out(hints, values, Layout(wire_name, version_id, minimum_version_id, (), 0, 1))
        cls.Migrated = cls
        return cls

    def __lay_out(cls, hints: dict[str, Any], values: dict[str, Any], layout: Layout) -> None:
        inherited: Layout | None = getattr(cls, "__layout__", None)
        fields = list(inherited.fields) if inherited else []
        offset = inherited.size if inherited and inherited.fields else 0
        align = inherited.align if inherited else 1
        own = [cls.__declared(name, hint, values.get(name)) for name, hint in hints.items()]
        limits = limits_of(cls.__name__, own)
        by_attribute: dict[str, FieldInfo] = {}
        names = {info.name: info.attribute for info in fields}
        cls.__elements__ = dict(getattr(cls, "__elements__", {}))
        for attribute, type_, options in own:
            where = f"{cls.__name__}.{attribute}"
            wire_name = cls.__wire_name(attribute, type_, options, where)
            if type_.has_attribute:
                if wire_name in names or (inherited and hasattr(cls.__base__, attribute)):
                    taken = names.get(wire_name, "an attribute of its base class")
                    raise DeclarationError(
                        f"{where}: the name {wire_name!r} is taken by {taken}; give another one"
                    )
                names[wire_name] = attribute
            offset = up(offset, type_.align)
            align = max(align, type_.align)
            number = options.num if isinstance(options.num, str) else options.size
            num = by_attribute[number] if isinstance(number, str) else None
            info = FieldInfo(attribute, wire_name, type_, offset, options, num)
            by_attribute[attribute] = info
            fields.append(info)
            cls.__set_attribute(info, where, limits.get(attribute, (None, None)))
            offset += type_.size
        # As in C++, an empty struct takes a byte, so that each of several has a place.
        size = up(max(offset, 1), align)
        if size > 2**31 - 1:
            raise DeclarationError(f"{cls.__name__} takes {size} bytes; the limit is 2147483647")
        cls.__checked__ = any(
            bool(limits.get(info.attribute))
            or info.type.limits_own_count
            or any(struct.__checked__ for struct in info.type.structs())
            for info in fields
        ) or bool(inherited and getattr(cls.__base__, "__checked__", False))
        cls.__validated__ = bool(cls.__validators__) or any(
            inner.__validated__ for info in fields for inner in info.type.structs()
        )
        cls.__layout__ = replace(layout, fields=tuple(fields), size=size, align=align)
        check_subsections(cls.__layout__, cls.__layout__.name, f"class {cls.__name__}")
        check_neighbours(cls.__layout__, f"class {cls.__name__}")
        cls.__set_image(inherited, {name: options for name, _, options in own})

    def __declared(cls, attribute: str, hint: Any, value: Any) -> tuple[str, Any, FieldOptions]:
        where = f"{cls.__name__}.{attribute}"
        options = value if isinstance(value, FieldOptions) else FieldOptions()
        if value is not None and not isinstance(value, FieldOptions):
            options = FieldOptions(default=value)
        options.refuse_conversions(where)
        if options.omit or options.default_factory:
            raise DeclarationError(
                f"{where}: every field of a layout class is migrated and has a constant "
                "default; field(omit=...) and field(default_factory=...) are for devices"
            )
        type_ = wire_type(hint, where)
        type_.check_options(options, where)
        return attribute, type_.as_declared(options, partial(_entry_class, where)), options

    def __wire_name(cls, attribute: str, type_: WireType, options: FieldOptions, where: str) -> str:
        if options.name is not None:
            return check_name(options.name, where)
        return check_name(type_.default_name(attribute), where)

    def __set_attribute(cls, info: FieldInfo, where: str, limits: Limits) -> None:
        found = info.type.attribute(descriptors, info, where, limits)
        if found is not None:
            setattr(cls, info.attribute, found)
            if info.num is not None and isinstance(found, _state.Field) and found.kind == "v":
                found.counted_by(getattr(cls, info.num.attribute))
        elif info.attribute in cls.__dict__:
            delattr(cls, info.attribute)
        elements = info.type.elements(descriptors, info, where)
        if elements is not None:
            cls.__elements__[info.attribute] = elements

    def __set_image(cls, inherited: Layout | None, options: dict[str, FieldOptions]) -> None:
        image = bytearray(getattr(cls, "__image__", b"") if inherited else b"")
        image.extend(bytes(cls.__layout__.size - len(image)))
        for info in cls.__layout__.fields[len(inherited.fields) if inherited else 0 :]:
            initial = info.type.initial()
            image[info.offset : info.offset + len(initial)] = initial
        cls.__image__ = compact(bytes(image))
        if not any(option.has_default for option in options.values()):
            return
        struct = cls()
        for info in cls.__layout__.fields:
            option = options.get(info.attribute, NO_OPTIONS)
            if option.has_default:
                setattr(struct, info.attribute, info.type.filled(option.default))
        cls.__image__ = compact(bytes(struct))


def _entry_class(where: str, key: WireType, value: WireType) -> type[VMStruct]:
    """Return the layout class of a gtree's entries in memory, each a key and a value."""
    fields = {"key": key, "value": value}
    made: Any = VMStructMeta(
        where, (VMStruct,), {"__module__": __name__, "__annotations__": fields}
    )
    return made  # type: ignore[no-any-return]


class VMStruct(_state.Memory, ToMigrationState["VMStruct"], metaclass=VMStructMeta):
    """Base of layout classes: annotate the fields in wire order.

    ::

        from typing import Literal

        from qemu_vmstate import Array, VMStruct, u8, u64, zeroed

        class TimerRegs(VMStruct):
            config: u64 = 0
            fifo: Array[u8, Literal[16]] = zeroed()

        regs = TimerRegs(config=1)
        regs.fifo[0] = 0xFF
        assert len(bytes(regs)) == 24

    Class keywords are the ``VMStateDescription`` members of the same names
    (include/migration/vmstate.h): ``name`` (default: the class's),
    ``version_id`` and ``minimum_version_id`` (default 1).

    An instance has exactly its fields.  Assigning raises ``OutOfRangeError``
    for a value that the field cannot hold, ``AttributeError`` for any other name.  The class
    itself raises ``DeclarationError`` for a declaration that QEMU could not walk.
    The memory is laid out as by a C compiler, in the machine's byte order; the
    buffer protocol gives the raw bytes.  A snapshot of an instance is one copy.

    In C: a struct and its ``VMStateDescription``.
    """

    __layout__: ClassVar[Layout]
    __image__: ClassVar[bytes | memoryview]
    __checked__: ClassVar[bool]
    __elements__: ClassVar[dict[str, _state.Field]]
    __validators__: ClassVar[tuple[Validator, ...]]
    __validated__: ClassVar[bool]

    if TYPE_CHECKING:

        def snapshot_migration_state(self, target: Any) -> None:
            """Copy the memory; see cdefs/state/memory.c."""

        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            """Copy the memory; see cdefs/state/memory.c."""
    else:
        snapshot_migration_state = _state.memory_snapshot
        restore_migrated_state_mut = _state.memory_restore

    def _snapshot(self, target: Any) -> None:
        _state.assign(target, self)

    def _restore(self, source: Any, version_id: int) -> None:
        _state.assign(self, source)

    def __repr__(self) -> str:
        inner = ", ".join(
            f"{info.attribute}={_readable(getattr(self, info.attribute))!r}"
            for info in self.__layout__.fields
            if info.type.has_attribute
        )
        return f"{type(self).__name__}({inner})"

    def __copy__(self: S) -> S:
        made = type(self)()
        _state.assign(made, self)
        return made

    def __deepcopy__(self: S, memo: object) -> S:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (type(self), bytes(self))


def _readable(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


S = TypeVar("S", bound=VMStruct)


def _from_bytes(cls: type[S], data: bytes) -> S:
    made = cls()
    _state.fill(made, data)
    _check_again(made)
    return made


def _check_again(struct: VMStruct) -> None:
    """Raise ``OutOfRangeError`` for a number beyond its limits, some of which C relies on."""
    if not type(struct).__checked__:
        return
    for info in struct.__layout__.fields:
        if isinstance(info.type, Scalar):
            setattr(struct, info.attribute, getattr(struct, info.attribute))
        for inner in structs_in(struct, info):
            _check_again(inner)


def asdict(struct: VMStruct) -> dict[str, Any]:
    """Return a layout class instance as plain Python: numbers, lists, bytes and dicts.

    Keys are the attributes' names, in wire order; a ``Buffer`` becomes ``bytes``.
    """
    return plain_struct(struct)
