# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the form of an annotation."""

from __future__ import annotations

import collections
import enum
import inspect
import types
from functools import partial
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from ..errors import DeclarationError
from ..layout.refusals import short_repr
from ..state.cells import Arc, BqlRefCell, Mutex
from ..state.to_migration_state import migrated_class, restore_without_undo
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.lookup import find_wire_type, length_of
from ..wire.record import replace
from ..wire.types import SCALARS, ArrayType, PackedType, Scalar, StructType, WireType
from .converters import converter_of
from .forms import (
    BytesForm,
    DictForm,
    FixedForm,
    Form,
    FunctionForm,
    NumberForm,
    ObjectForm,
    ObjectParts,
    OptionalForm,
    Room,
    SequenceForm,
    StructForm,
    TupleForm,
)
from .packed import packed_form
from .runtime import snapshot_state
from .values import enum_member, enum_value, type_name

__all__ = [
    "UNIONS",
    "ClassOptions",
    "class_options",
    "enum_scalar",
    "find_form",
    "plain_hint",
    "remedy",
]

UNIONS = (Union, types.UnionType)
"""The possible origins of ``A | None``, which depend on A."""

_SEQUENCES = (list, tuple, collections.deque)
_SETS = (set, frozenset)
_DICTS = (dict, collections.defaultdict, collections.OrderedDict, collections.Counter)
_TEXTS = (str, bytes, bytearray)
_COUNTS = {False: "BHI", True: "I"}
"""The counts of elements and of bytes, from the smallest."""

_ELEMENT_OPTIONS = ("max_length", "count_type", "length")


class ClassOptions(NamedTuple):
    """What the decorator was given for annotations without options of their own."""

    int_type: Scalar | None = None
    max_length: int | None = None


def class_options(where: str, int_type: Any, max_length: int | None) -> ClassOptions:
    """Return the options of a class; raise ``DeclarationError``, which begins with ``where``."""
    scalar = None if int_type is None else find_wire_type(int_type)
    if int_type is not None and not (isinstance(scalar, Scalar) and scalar.is_whole):
        raise DeclarationError(f"{where}: int_type={int_type!r}; take u8 to u64 or i8 to i64")
    most = None if max_length is None else length_of(where, max_length)
    return ClassOptions(scalar if isinstance(scalar, Scalar) else None, most)


def plain_hint(hint: Any) -> Any:
    """Return an annotation without the names that ``NewType`` and ``type`` gave it."""
    while True:
        if hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType" and hasattr(hint, "__value__"):
            hint = hint.__value__
        else:
            return hint


def find_form(
    hint: Any, options: FieldOptions, where: str, name: str, given: ClassOptions
) -> Form | None:
    """Return the form of an annotation, or ``None`` if it has none.

    ``options`` are those of its field, ``where`` names it in errors, and ``name`` is the first
    part of the name of each layout class that is made for it.
    Raises ``DeclarationError`` for a form that lacks something.
    """
    return _Finder(where, name, given).find(hint, options)


def enum_scalar(cls: type[enum.Enum]) -> Scalar | None:
    """Return the smallest type that holds the numbers of an Enum or Flag, or ``None``."""
    values = [member.value for member in cls.__members__.values()]
    if not all(isinstance(value, int) for value in values):
        return None
    low, high = min(values, default=0), max(values, default=0)
    if issubclass(cls, enum.Flag):
        for value in values:
            high |= value
    kinds = "BHIQ" if low >= 0 else "bhiq"
    fitting = (SCALARS[kind] for kind in kinds)
    return next((each for each in fitting if each.low <= low and high <= each.high), None)


class _Finder:
    """Finds the form of one field's annotation."""

    def __init__(
        self, where: str, name: str, given: ClassOptions, *, is_inside: bool = False
    ) -> None:
        self.where = where
        self.name = name
        self.given = given
        self.is_inside = is_inside

    def find(self, hint: Any, options: FieldOptions = NO_OPTIONS) -> Form | None:
        hint = plain_hint(hint)
        if get_origin(hint) is Annotated:
            inner = [extra for extra in get_args(hint)[1:] if isinstance(extra, FieldOptions)]
            if inner:
                return self.find(get_args(hint)[0], self._merged(inner[0], options))
        none, members = _without_none(hint)
        if none:
            if len(members) > 1:
                return None
            # Behind None, a load makes a new object as it does inside a collection.
            found = self.inside("").find(members[0], options)
            return found and OptionalForm(found)
        return self._converted(hint, options) or self._plain(hint, options)

    def _merged(self, inner: FieldOptions, outer: FieldOptions) -> FieldOptions:
        unfit = [name for name in vars(inner) if inner.given(name) and name not in _ELEMENT_OPTIONS]
        if unfit:
            raise DeclarationError(
                f"{self.where}: {', '.join(unfit)} in an annotation has no meaning; inside one, "
                "field() takes max_length, count_type and length"
            )
        changes = {name: getattr(outer, name) for name in outer.given(*_ELEMENT_OPTIONS)}
        return replace(inner, **changes)

    def inside(self, name: str) -> _Finder:
        """Return the finder of what is in the element ``name`` of a collection."""
        return _Finder(self.where, f"{self.name}{name}", self.given, is_inside=True)

    def needed(self, hint: Any) -> Form:
        """Return the form of an annotation inside another; raise ``DeclarationError``."""
        found = self.find(hint)
        if found is None:
            raise DeclarationError(f"{self.where}: {remedy(plain_hint(hint))}")
        return found

    def _converted(self, hint: Any, options: FieldOptions) -> Form | None:
        converter = converter_of(hint)
        if converter is None:
            return None
        inner = self.find(converter.wire, _lengths_only(options))
        if inner is None:
            raise DeclarationError(
                f"{self.where}: the converter of {type_name(hint)} makes a "
                f"{type_name(converter.wire)}, which has no form on the wire"
            )
        return FunctionForm(inner, converter.to, converter.from_, converter.cls)

    def _plain(self, hint: Any, options: FieldOptions) -> Form | None:
        origin = get_origin(hint) or hint
        if hint in (int, float):
            scalar = self.given.int_type if hint is int else SCALARS["d"]
            return NumberForm(scalar) if scalar else None
        if isinstance(hint, PackedType):
            return packed_form(hint, self.where, options)
        if (wire := find_wire_type(hint)) is not None:
            return self._wire(wire, hint)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return self._enum(hint)
        if origin in _TEXTS:
            return self._text(origin, options)
        if origin is tuple and Ellipsis not in get_args(hint) and get_args(hint):
            return TupleForm([self.inside(str(i)).needed(e) for i, e in enumerate(get_args(hint))])
        if origin in (*_SEQUENCES, *_SETS, *_DICTS):
            return self._collection(origin, hint, options)
        return self._state(hint) if isinstance(hint, type) else None

    def _wire(self, wire: WireType, hint: Any) -> Form | None:
        if isinstance(wire, Scalar):
            return None if wire.live else NumberForm(wire)
        if isinstance(wire, StructType):
            return self._state(wire.cls)
        if type(wire) is not ArrayType or not isinstance(wire.element, Scalar):
            return None
        return FixedForm(wire, bytes if wire.is_buffer else list)

    def _enum(self, cls: type[enum.Enum]) -> Form | None:
        to, back = partial(enum_value, cls, ""), partial(enum_member, cls, "")
        members = {member.value: member for member in cls.__members__.values()}
        scalar = enum_scalar(cls)
        if scalar is not None:
            return FunctionForm(NumberForm(scalar), to, back, cls, members)
        if not all(type(value) is str for value in members):
            shown = ", ".join(short_repr(value) for value in list(members)[:8])
            raise DeclarationError(
                f"{self.where}: the values of {cls.__name__} are {shown}; give its members "
                "numbers of at most 64 bits, or all of them a str"
            )
        most = max(len(value.encode()) for value in members)
        text = BytesForm(str, Room(max(most, 1), SCALARS["I"]))
        return FunctionForm(text, to, back, cls, members)

    # Variable length

    def _text(self, cls: type, options: FieldOptions) -> Form:
        if options.length is not None and cls is not str:
            length = length_of(self.where, options.length)
            return FixedForm(ArrayType(SCALARS["B"], length, is_buffer=True), cls)
        return BytesForm(cls, self._room(cls, options, of_bytes=True))

    def _room(self, cls: type, options: FieldOptions, *, of_bytes: bool = False) -> Room:
        if options.length is not None:
            if cls not in (list, tuple):
                raise DeclarationError(
                    f"{self.where}: length={options.length!r} is for list, tuple, bytes and "
                    f"bytearray, not for {cls.__name__}; take max_length"
                )
            return Room(length_of(self.where, options.length), None)
        most = self.given.max_length if options.max_length is None else options.max_length
        if most is None:
            always = ", length=16 for always 16" if cls in (list, bytes, bytearray) else ""
            unit = "bytes" if of_bytes else "elements"
            raise DeclarationError(
                f"{self.where}: {cls.__name__} has no length on the wire; add "
                f"field(max_length=64) for at most 64 {unit}{always}, or max_length= to the "
                "decorator, or leave it out with field(omit=True)"
            )
        most = length_of(self.where, most)
        return Room(most, self._count(options.count_type, most, of_bytes=of_bytes))

    def _count(self, declared: Any, most: int, *, of_bytes: bool) -> Scalar:
        kinds = _COUNTS[of_bytes]
        if declared is None:
            return next(SCALARS[kind] for kind in kinds if most <= SCALARS[kind].high)
        found = find_wire_type(declared)
        allowed = [SCALARS[kind] for kind in (*kinds, *("Qi" if of_bytes else "i"))]
        if found not in allowed or most > found.high:
            names = ", ".join(each.name for each in allowed if each.high >= most)
            raise DeclarationError(
                f"{self.where}: count_type={type_name(declared)} cannot count to {most} as C's "
                f"{'VBUFFER' if of_bytes else 'VARRAY'} does; take one of {names}"
            )
        return found

    def _collection(self, cls: type, hint: Any, options: FieldOptions) -> Form:
        room = self._room(cls, options)
        arguments = get_args(hint)
        wanted = 1 if cls not in _DICTS or cls is collections.Counter else 2
        if cls is tuple:
            arguments = tuple(each for each in arguments if each is not Ellipsis)
        if len(arguments) != wanted:
            example = f"{cls.__name__}[str, u32]" if wanted == 2 else f"{cls.__name__}[u32]"
            raise DeclarationError(
                f"{self.where}: nothing says what is in the {cls.__name__}; annotate it as in "
                f"{example}"
            )
        forms = [
            self.inside("Key" if wanted == 2 and not index else "Value").needed(each)
            for index, each in enumerate(arguments)
        ]
        if cls in _SETS or cls in _DICTS:
            self._check_hashable(arguments[0])
        if cls is collections.defaultdict:
            if self.is_inside:
                raise DeclarationError(
                    f"{self.where}: a load would make a new defaultdict, and does not know its "
                    "default_factory; take a dict"
                )
            cls = dict
        if cls in _DICTS:
            value = forms[1] if wanted == 2 else NumberForm(self.given.int_type or SCALARS["q"])
            return DictForm(cls, room, forms[0], value, self.name, self.where)
        return SequenceForm(cls, room, forms[0], self.name, self.where)

    def _check_hashable(self, hint: Any) -> None:
        hint = plain_hint(hint)
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        for each in (hint, *_without_none(hint)[1]):
            cls = get_origin(each) or each
            if isinstance(cls, type) and cls.__hash__ is None:
                raise DeclarationError(
                    f"{self.where}: a {type_name(each)} has no hash, so it is no key of a dict and "
                    "no element of a set; take a tuple, frozenset, bytes or a frozen class"
                )

    # States

    def _state(self, cls: type[Any]) -> Form | None:
        found = cls.__dict__.get("__migration_object__")
        if isinstance(found, ObjectParts):
            return ObjectForm(found)
        # A device cannot be in another object, because it has a section of its own.
        if getattr(cls, "Migrated", None) is None or hasattr(cls, "__parts__"):
            return None
        self._check_makeable(cls)
        return StructForm(migrated_class(cls), cls, _snapshot_to, partial(_made_of, cls))

    def _check_makeable(self, cls: type[Any]) -> None:
        try:
            inspect.signature(cls).bind()
        except TypeError as exc:
            raise DeclarationError(
                f"{self.where}: each load makes new objects of {cls.__name__}, and "
                f"{cls.__name__}() lacks arguments ({exc}); give them defaults"
            ) from exc
        except ValueError:
            return  # of a class in C that does not tell


def _snapshot_to(state: Any, struct: Any) -> None:
    snapshot_state(state, struct, "")


def _made_of(cls: type[Any], struct: Any, version_id: int) -> Any:
    if isinstance(struct, cls):
        return struct
    made = cls()
    restore_without_undo(made, struct, version_id)
    return made


def _lengths_only(options: FieldOptions) -> FieldOptions:
    return replace(NO_OPTIONS, **{name: getattr(options, name) for name in _ELEMENT_OPTIONS})


def _without_none(hint: Any) -> tuple[bool, list[Any]]:
    """Return whether an annotation is a union with ``None``, and its other members."""
    if get_origin(hint) not in UNIONS:
        return False, [hint]
    members = [each for each in get_args(hint) if each is not type(None)]
    return len(members) < len(get_args(hint)), members


def remedy(hint: Any) -> str:
    """Return what to write instead of an annotation that has no form."""
    import dataclasses

    name = type_name(hint)
    if get_origin(hint) in (Mutex, BqlRefCell, Arc):
        return (
            f"a {name} in a collection would be made anew by each load, and a lock has to stay; "
            "put the lock around the collection"
        )
    if hint is int:
        return (
            "int has no width on the wire; annotate it u8 to u64 or i8 to i64, or give the "
            "decorator int_type=i64"
        )
    if get_origin(hint) in UNIONS:
        return f"{name} can be of several classes; take Packed[{name}, Literal[4096]]"
    if dataclasses.is_dataclass(hint):
        return f"{name} is no ToMigrationState; write @derive_to_migration_state above it too"
    return (
        f"{name} has no form on the wire; add field(try_into=...) with a wire type that it "
        "converts to and from, use register_converter() or Packed, or leave it out with "
        "field(omit=True)"
    )
