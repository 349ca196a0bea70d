# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides how one field of a derived class is converted; refuses a field that cannot be."""

from __future__ import annotations

import copy
import dataclasses
import enum
import types
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Union, get_args, get_origin

from ..errors import DeclarationError
from ..layout.refusals import short_repr
from ..state.cells import Arc, BqlRefCell, Mutex
from ..state.to_migration_state import migrated_class
from ..wire.field_options import FieldOptions
from ..wire.lookup import find_wire_type, length_of, wire_type
from ..wire.types import SCALARS, ArrayType, Scalar, StructType, WireType
from .access import access_of
from .runtime import wrong_state
from .spec import Codec, FieldConversion, Shape
from .values import (
    attempt,
    enum_member,
    enum_value,
    in_range,
    plain_value,
    type_name,
    wire_name,
    with_none,
)

__all__ = ["conversion_of"]

_UNIONS = (Union, types.UnionType)
"""The possible origins of ``A | None``, which depend on A."""


def conversion_of(
    cls: type, migrated_name: str, attribute: str, hint: Any, options: FieldOptions
) -> FieldConversion:
    """Return the conversion of an attribute with annotation ``hint``.

    ``migrated_name`` is the name that the ``Migrated`` of ``cls`` will have.
    Raises ``DeclarationError`` for a field that cannot be converted as declared.
    """
    return _Field(cls, migrated_name, attribute, hint, options).conversion()


class _Field:
    """Decides how one field is converted."""

    def __init__(
        self, cls: type, migrated_name: str, attribute: str, hint: Any, options: FieldOptions
    ) -> None:
        self.attribute = attribute
        self.where = f"{cls.__name__}.{attribute}"
        self.path = f"{migrated_name}.{attribute}"
        self.access = access_of(cls, attribute, options.attribute, self.where, self.path)
        self.options = options
        self.hint, self.optional = self._without_none(hint)
        self.element = get_args(self.hint)[0] if get_origin(self.hint) is list else self.hint

    def conversion(self) -> FieldConversion:
        """Return the conversion; raise ``DeclarationError`` if there is none."""
        if self.options.into is not None or self.options.try_into is not None:
            return self._converted()
        return self._as_annotated()

    def _conversion(self, shape: Shape, type_: WireType, codec: Codec) -> FieldConversion:
        if self.access.lacks_setter and shape is not Shape.STATES:
            raise DeclarationError(
                f"{self.where}: {self.access.lacks_setter}, so it cannot be restored; "
                + (
                    "say with attribute= where its value is stored, or give two functions, "
                    "get(obj) and set(obj, value)"
                    if self.options.given("annotation")
                    else "write one, or leave the field out with field(omit=True)"
                )
            )
        return FieldConversion(
            self.attribute,
            self.access,
            self.where,
            self.path,
            self.options,
            shape,
            type_,
            codec,
            self.element,
        )

    def _without_none(self, hint: Any) -> tuple[Any, bool]:
        none = self.options.none
        is_union = get_origin(hint) in _UNIONS
        members = [arg for arg in get_args(hint) if arg is not type(None)] if is_union else []
        if not is_union or len(members) == len(get_args(hint)):
            if none is not None:
                raise DeclarationError(
                    f"{self.where}: none={none!r} is for a field that can be None; annotate it "
                    "as in u16 | None, or leave none out"
                )
            return hint, False
        if none is None:
            raise DeclarationError(
                f"{self.where}: nothing says how None goes on the wire; add none= and the number "
                "that stands for it, or none=bool for a bool before the value"
            )
        return (members[0] if len(members) == 1 else hint), True

    def _as_annotated(self) -> FieldConversion:
        """Return the conversion of a field whose annotation is its wire type or a state."""
        type_ = self._fixed(self._annotated_type())
        if isinstance(type_, Scalar):
            return self._number(type_, Codec())
        if isinstance(type_, ArrayType) and not isinstance(type_.element, StructType):
            return self._array(type_)
        if self.options.clone:
            return self._cloned(type_)
        if self.optional:
            raise DeclarationError(
                f"{self.where}: a state that can be None has no place to be restored to; write "
                "snapshot_migration_state and restore_migrated_state_mut by hand"
            )
        return self._conversion(Shape.STATES, type_, Codec())

    def _cloned(self, type_: WireType) -> FieldConversion:
        innermost = type_
        while isinstance(innermost, ArrayType):
            innermost = innermost.element
        hint = get_args(self.hint)[0] if get_origin(self.hint) is list else self.hint
        is_wire = find_wire_type(hint) is not None
        if not isinstance(innermost, StructType) or not is_wire:
            raise DeclarationError(
                f"{self.where}: clone copies wire types and layout classes; {type_name(hint)} has "
                "a shape of its own, so leave clone out"
            )
        cls = innermost.cls

        def check(value: Any) -> Any:
            # A subclass's object would lose its further fields.
            if type_ is innermost and getattr(value, "Migrated", None) is not cls:
                raise wrong_state(value, cls, self.path)
            return value

        return self._value(type_, Codec(check, partial(plain_value, type_)))

    def _fixed(self, type_: WireType) -> Scalar | ArrayType | StructType:
        if type(type_) in (Scalar, ArrayType, StructType):
            return type_  # type: ignore[return-value]
        raise DeclarationError(
            f"{self.where}: this wire type has no shape of its own in Python that a restore could "
            "keep; put it in a layout class, and use that here or in snapshot_migration_state"
        )

    def _annotated_type(self) -> WireType:
        hint, length = self.hint, self.options.length
        if length is None:
            if hint in (bytes, bytearray):
                raise DeclarationError(
                    f"{self.where}: {hint.__name__} has no length on the wire; add "
                    "field(length=16), or annotate it Buffer[Literal[16]]"
                )
            if hint is list or get_origin(hint) is list:
                raise DeclarationError(
                    f"{self.where}: a list has no length on the wire; add field(length=16), or "
                    "leave it out with field(omit=True)"
                )
            return self._element(hint)
        if hint in (bytes, bytearray):
            return ArrayType(SCALARS["B"], length_of(self.where, length), is_buffer=True)
        if get_origin(hint) is not list:
            raise DeclarationError(
                f"{self.where}: length={length!r} is for list, bytes and bytearray, not for "
                f"{type_name(hint)}"
            )
        return ArrayType(self._element(*get_args(hint)), length_of(self.where, length))

    def _element(self, hint: Any) -> WireType:
        found = find_wire_type(hint)
        if found is not None:
            return found
        outer = get_origin(hint)
        if outer in (Mutex, BqlRefCell, Arc):
            return self._element(get_args(hint)[0])
        # A device cannot be nested, because it has a section of its own.
        is_state = isinstance(hint, type) and getattr(hint, "Migrated", None) is not None
        if is_state and not hasattr(hint, "__parts__"):
            return StructType(migrated_class(hint))
        raise DeclarationError(f"{self.where}: {self._remedy(hint)}")

    def _remedy(self, hint: Any) -> str:
        name = type_name(hint)
        if hint is int:
            return "int has no width on the wire; annotate it u8 to u64 or i8 to i64"
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return f"{name} has no width on the wire; add field(try_into=u8), or a wider type"
        if dataclasses.is_dataclass(hint):
            return f"{name} is no ToMigrationState; write @derive_to_migration_state above it too"
        return (
            f"{name} has no form on the wire; add field(try_into=...) with a wire type that it "
            "converts to and from, or leave it out with field(omit=True)"
        )

    # The options into and try_into

    def _converted(self) -> FieldConversion:
        if self.options.into is not None and self.options.try_into is not None:
            raise DeclarationError(
                f"{self.where}: into and try_into together; take into if the conversion cannot "
                "fail, else try_into"
            )
        fallible = self.options.try_into is not None
        wire = self.options.try_into if fallible else self.options.into
        keyword = "try_into" if fallible else "into"
        if self.options.length is not None:
            raise DeclarationError(
                f"{self.where}: length beside {keyword}; say it in the type, as in "
                f"{keyword}=Array[u8, Literal[16]]"
            )
        type_ = self._fixed(wire_type(wire, f"{self.where}: {keyword}"))
        hinted = find_wire_type(self.hint)
        plain = self.hint
        while get_origin(plain) not in (None, *_UNIONS):
            plain = get_args(plain)[0] if get_origin(plain) is Annotated else get_origin(plain)
        if not isinstance(plain, type) or get_origin(plain) is not None:
            raise DeclarationError(
                f"{self.where}: {type_name(plain)} is no class, so there is nothing to convert "
                f"{keyword}'s value back with; annotate one"
            )
        if issubclass(plain, enum.Enum):
            codec = self._enum_codec(plain, type_, fallible)
        else:
            codec = self._class_codec(plain, hinted, type_, fallible)
        if self.options.clone:
            convert = codec.to
            assert convert is not None
            codec = Codec(lambda value: convert(copy.deepcopy(value)), codec.back)
        return (
            self._number(type_, codec) if isinstance(type_, Scalar) else self._value(type_, codec)
        )

    def _class_codec(
        self,
        plain: type[Any],
        hinted: WireType | None,
        type_: Scalar | ArrayType | StructType,
        fallible: bool,
    ) -> Codec:
        if isinstance(type_, Scalar):
            if plain is float and type_.is_whole:
                raise DeclarationError(
                    f"{self.where}: a float in {type_.name} would lose its fraction; keep the "
                    "number in a whole unit, or write the conversions by hand"
                )
            if not fallible and isinstance(hinted, Scalar) and hinted.kind not in ("?", type_.kind):
                raise DeclarationError(
                    f"{self.where}: not every {type_.name} is a {hinted.name} and the other way "
                    f"round, so into={type_.name} could fail; use try_into={type_.name}"
                )
            to: Callable[[Any], Any] = type_.plain_type
        elif isinstance(type_, ArrayType):
            to = bytes if type_.is_buffer else list
        else:
            to = type_.cls
        unshared = partial(plain_value, type_)
        back: Callable[[Any], Any] = plain
        if isinstance(hinted, Scalar) and hinted.is_whole:
            back = partial(in_range, hinted)
        if not fallible:
            if isinstance(type_, Scalar):
                return Codec(to, back)
            return Codec(to, lambda value: back(unshared(value)))
        target = wire_name(type_)
        return Codec(
            partial(attempt, to, target, self.path),
            lambda value: attempt(back, plain.__name__, self.path, unshared(value)),
        )

    def _enum_codec(self, plain: type[enum.Enum], type_: WireType, fallible: bool) -> Codec:
        is_flag = issubclass(plain, enum.Flag)
        if not isinstance(type_, Scalar) or (is_flag and type_.low < 0):
            raise DeclarationError(
                f"{self.where}: {plain.__name__} is converted to a number, so try_into takes "
                f"{'u8 to u64' if is_flag else 'bool, u8 to u64 or i8 to i64'}"
            )
        keeps = is_flag and getattr(plain, "_boundary_", None) is enum.FlagBoundary.KEEP
        if not fallible and not keeps:
            raise DeclarationError(
                f"{self.where}: not every {type_.name} is a {plain.__name__}, so "
                f"into={type_.name} could fail; use try_into={type_.name}"
            )
        for name, member in plain.__members__.items():
            if not isinstance(member.value, int) or not type_.low <= member.value <= type_.high:
                raise DeclarationError(
                    f"{self.where}: {plain.__name__}.{name} is {short_repr(member.value)}, which "
                    f"is no {type_.name} ({type_.low} to {type_.high}); take a wider type, or give "
                    "the members numbers"
                )
        return Codec(partial(enum_value, plain, self.path), partial(enum_member, plain, self.path))

    # The shapes on the wire

    def _number(self, type_: Scalar, codec: Codec) -> FieldConversion:
        none = self.options.none
        if self.optional and none is not bool:
            if (
                not isinstance(none, int)
                or isinstance(none, bool)
                or type_.kind == "?"
                or not type_.low <= none <= type_.high
            ):
                raise DeclarationError(
                    f"{self.where}: none={none!r} is no {type_.name} ({type_.low} to "
                    f"{type_.high}) that could stand for None; take one, or none=bool"
                )
            codec = with_none(codec, none, self.path)
        return self._conversion(Shape.NUMBER, type_, codec)

    def _presence_only(self) -> None:
        """Raise ``DeclarationError`` if a number is to stand for ``None``."""
        if self.optional and self.options.none is not bool:
            raise DeclarationError(
                f"{self.where}: none={self.options.none!r} cannot stand for None in "
                "a value that is not one number; use none=bool"
            )

    def _array(self, type_: ArrayType) -> FieldConversion:
        self._presence_only()
        return self._conversion(Shape.ARRAY, type_, Codec())

    def _value(self, type_: WireType, codec: Codec) -> FieldConversion:
        self._presence_only()
        return self._conversion(Shape.VALUE, type_, codec)
