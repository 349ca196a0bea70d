# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides how one field of a derived class is converted; refuses a field that cannot be."""

from __future__ import annotations

import contextlib
import copy
import enum
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, get_args, get_origin

from ..errors import DeclarationError
from ..layout.refusals import short_repr
from ..state.cells import Arc, BqlRefCell, Mutex
from ..state.to_migration_state import migrated_class
from ..wire.field_options import FieldOptions
from ..wire.lookup import find_wire_type, length_of, wire_type
from ..wire.record import replace
from ..wire.types import SCALARS, ArrayType, PackedType, Scalar, StructType, WireType
from .access import access_of
from .converters import converter_of
from .forms import FixedForm, Form, FunctionForm, NumberForm, OptionalForm
from .lookup import UNIONS, ClassOptions, enum_scalar, find_form, plain_hint, remedy
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


_UNFIT = (
    *("minimum", "maximum", "num", "size", "multiply", "start", "struct_version_id", "needed"),
    "err_hint",
)
"""The options that a value of a form cannot have, because it has several fields on the wire."""


def conversion_of(
    cls: type,
    migrated_name: str,
    attribute: str,
    hint: Any,
    options: FieldOptions,
    given: ClassOptions,
) -> FieldConversion:
    """Return the conversion of an attribute with annotation ``hint``.

    ``migrated_name`` is the name that the ``Migrated`` of ``cls`` will have, ``given`` what its
    decorator says about annotations without options.
    Raises ``DeclarationError`` for a field that cannot be converted as declared.
    """
    return _Field(cls, migrated_name, attribute, hint, options, given).conversion()


class _Field:
    """Decides how one field is converted."""

    def __init__(
        self,
        cls: type,
        migrated_name: str,
        attribute: str,
        hint: Any,
        options: FieldOptions,
        given: ClassOptions,
    ) -> None:
        self.attribute = attribute
        self.where = f"{cls.__name__}.{attribute}"
        self.path = f"{migrated_name}.{attribute}"
        self.access = access_of(cls, attribute, options.attribute, self.where, self.path)
        self.options = options
        self.given = given
        self.whole_hint = hint
        self.struct_name = f"{migrated_name}{attribute.title().replace('_', '')}"
        self.hint, self.optional = self._without_none(plain_hint(hint))
        self.hint = plain_hint(self.hint)
        self.element = get_args(self.hint)[0] if get_origin(self.hint) is list else self.hint

    def conversion(self) -> FieldConversion:
        """Return the conversion; raise ``DeclarationError`` if there is none."""
        if isinstance(self.hint, PackedType) and (packed := self._formed()):
            return packed
        if self.options.into is not None or self.options.try_into is not None:
            return self._converted()
        return self._as_annotated()

    def _conversion(self, shape: Shape, type_: WireType, codec: Codec) -> FieldConversion:
        if shape is not Shape.STATES:
            self._check_setter()
        return FieldConversion(
            *(self.attribute, self.access, self.where, self.path, self.options),
            *(shape, type_, codec),
            *(self.element, self._form_inside(shape, type_, codec)),
        )

    def _check_setter(self) -> None:
        if self.access.lacks_setter:
            raise DeclarationError(
                f"{self.where}: {self.access.lacks_setter}, so it cannot be restored; "
                + (
                    "say with attribute= where its value is stored, or give two functions, "
                    "get(obj) and set(obj, value)"
                    if self.options.given("annotation")
                    else "write one, or leave the field out with field(omit=True)"
                )
            )

    def _form_inside(self, shape: Shape, type_: WireType, codec: Codec) -> Form | None:
        """Return the form of a field that is not converted by one unless it is in a collection."""
        form: Form | None = None
        if shape is Shape.NUMBER and isinstance(type_, Scalar):
            form = NumberForm(type_)
            if codec.to or codec.back:
                form = FunctionForm(form, codec.to or _same, codec.back or _same, None)
        elif shape is Shape.ARRAY and isinstance(type_, ArrayType):
            if isinstance(type_.element, Scalar) and not self.options.clone:
                cls = bytes if type_.is_buffer else list
                form = FixedForm(type_, bytearray if self.hint is bytearray else cls)
        elif shape is Shape.STATES and not self.optional:
            # A restore keeps the state; only in a collection it would have to be made.
            with contextlib.suppress(DeclarationError):
                form = self._find_form()
        return OptionalForm(form) if form and self.options.none is bool else form

    def _find_form(self) -> Form | None:
        return find_form(self.whole_hint, self.options, self.where, self.struct_name, self.given)

    def _formed(self) -> FieldConversion | None:
        """Return the conversion by a form; ``None`` if the annotation has none."""
        form = self._find_form()
        if form is None:
            return None
        if unfit := self.options.given(*_UNFIT):
            raise DeclarationError(
                f"{self.where}: {', '.join(unfit)} has no meaning for {type_name(self.hint)}; "
                "leave it out"
            )
        self._presence_only()
        self._check_setter()
        if self.options.clone:
            raise DeclarationError(
                f"{self.where}: clone is for wire types and layout classes; a restore makes new "
                f"values for {type_name(self.hint)} anyway, so leave clone out"
            )
        _, first, _ = next(iter(form.fields(self.attribute)))
        return FieldConversion(
            *(self.attribute, self.access, self.where, self.path, self.options),
            *(Shape.FORM, first),
            form=form,
        )

    def _without_none(self, hint: Any) -> tuple[Any, bool]:
        none = self.options.none
        is_union = get_origin(hint) in UNIONS
        members = [arg for arg in get_args(hint) if arg is not type(None)] if is_union else []
        if not is_union or len(members) == len(get_args(hint)):
            if none is not None:
                raise DeclarationError(
                    f"{self.where}: none={none!r} is for a field that can be None; annotate it "
                    "as in u16 | None, or leave none out"
                )
            return hint, False
        if none is None:
            self.options = replace(self.options, none=bool)
        return (members[0] if len(members) == 1 else hint), True

    def _as_annotated(self) -> FieldConversion:
        """Return the conversion of a field whose annotation is its wire type or a state."""
        if number := self._plain_number():
            return number
        if self._is_formed() and (formed := self._formed()):
            return formed
        type_ = self._fixed(self._annotated_type())
        if isinstance(type_, Scalar):
            return self._number(type_, Codec())
        if isinstance(type_, ArrayType) and not isinstance(type_.element, StructType):
            return self._array(type_)
        if self.options.clone:
            return self._cloned(type_)
        return self._conversion(Shape.STATES, type_, Codec())

    def _plain_number(self) -> FieldConversion | None:
        """Return the conversion of an annotation that has no width but is made a number."""
        if converter_of(self.hint):
            return None
        if self.hint is int and self.given.int_type:
            return self._number(self.given.int_type, Codec())
        if self.hint is float:
            return self._number(SCALARS["d"], Codec())
        if isinstance(self.hint, type) and issubclass(self.hint, enum.Enum):
            scalar = enum_scalar(self.hint)
            return (
                self._number(scalar, self._enum_codec(self.hint, scalar, True)) if scalar else None
            )
        return None

    def _is_formed(self) -> bool:
        """Return whether a form, and no wire type of a fixed length, converts the field."""
        if find_wire_type(self.hint) is not None:
            return self.optional and isinstance(find_wire_type(self.hint), StructType)
        if self.options.length is not None:
            inner = plain_hint(self.element)
            return self.hint not in (bytes, bytearray) and not (
                get_origin(self.hint) is list and (find_wire_type(inner) or _is_state(inner))
            )
        return self.optional or not _is_state(self.hint)

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
        raise DeclarationError(f"{self.where}: {remedy(hint)}")

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
        while get_origin(plain) not in (None, *UNIONS):
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


def _same(value: Any) -> Any:
    return value


def _is_state(hint: Any) -> bool:
    """Return whether an annotation is a state, or one in a cell, which a restore keeps."""
    is_class = isinstance(hint, type) and getattr(hint, "Migrated", None) is not None
    return is_class or get_origin(hint) in (Mutex, BqlRefCell, Arc)
