# SPDX-License-Identifier: GPL-2.0-or-later
"""Random values for the annotations of derived dataclasses: valid ones, and ones to be refused."""

from __future__ import annotations

import collections
import enum
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from os import fsdecode
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

from ..derive.conversions import declaration_of
from ..derive.converters import converter_of
from ..derive.lookup import UNIONS, ClassOptions, plain_hint
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.lookup import find_wire_type
from ..wire.record import replace
from ..wire.types import SCALARS, ArrayType, PackedType, Scalar, StructType
from .places import is_migrated, places
from .struct_values import fill_struct, wire_value

__all__ = ["PythonValues", "Unfit"]

_NANS = (float("nan"), *struct.unpack("<2d", b"\1\0\0\0\0\0\xf8\xff\2\0\0\0\0\0\xf8\x7f"))
"""Always the same objects: no save accepts a set with two that have the same bits."""

_FLOATS = (0.0, -0.0, 1.5, float("inf"), float("-inf"), 2.0**100, -(2.0**-100), *_NANS)
_CHARACTERS = "aZ09 _+-/.:~[]()%é€\U0001f600\0\n"
_TOO_LARGE_FOR_A_FLOAT = 10**400

_TEXTS = (str, bytes, bytearray)
_SEQUENCES = (list, tuple, collections.deque)
_SETS = (set, frozenset)
_DICTS = (dict, collections.OrderedDict, collections.Counter, collections.defaultdict)

_ZONES = (
    *(None, None, UTC, timezone(timedelta(hours=1), "CET"), timezone(timedelta(0), "")),
    *(timezone(timedelta(hours=-23, seconds=-1)), timezone(timedelta(microseconds=1))),
)

_MOMENTS = (datetime.min, datetime.max, datetime(2026, 10, 25, 2))
_SCOPED = IPv6Address("fe80::1%eth0")
_DECIMALS = tuple(
    map(Decimal, ("0", "-0", "1.50", "-1E+9999", "NaN", "-NaN12", "sNaN", "Infinity", "1E-30"))
)
_PATHS = ("", "/", "a/b", "..", "//a", "grün", fsdecode(b"\xff/x"), "c:x", "0123456789abcdef")

_CONVERTED: dict[type, Callable[[random.Random], Any]] = {
    datetime: lambda rng: rng.choice(_MOMENTS).replace(
        fold=rng.choice((0, 1)), tzinfo=rng.choice(_ZONES)
    ),
    date: lambda rng: rng.choice((date.min, date.max, date(2026, 1, 2))),
    time: lambda rng: rng.choice((time.min, time.max, time(1, fold=1))).replace(
        tzinfo=rng.choice(_ZONES)
    ),
    timedelta: lambda rng: rng.choice(
        (timedelta.min, timedelta.max, timedelta(), -timedelta.resolution)
    ),
    UUID: lambda rng: UUID(int=rng.getrandbits(128)),
    IPv4Address: lambda rng: IPv4Address(rng.getrandbits(32)),
    IPv6Address: lambda rng: rng.choice((_SCOPED, IPv6Address(rng.getrandbits(128)))),
    Decimal: lambda rng: rng.choice(_DECIMALS),
    Fraction: lambda rng: Fraction(rng.getrandbits(64) - 2**63, rng.getrandbits(64) + 1),
    Path: lambda rng: Path(rng.choice(_PATHS)),
    PureWindowsPath: lambda rng: PureWindowsPath(rng.choice(_PATHS)),
}


_SMALL = ClassOptions(SCALARS["B"], 1)
"""For what is inside ``Packed``, whose maximum is that of its bytes."""


class Unfit(Exception):
    """An annotation whose values are not drawn here, such as a ``Mutex``."""


class PythonValues:
    """Draws values for the annotations of a class; reproducible by ``rng``.

    ``owner`` is the class, whose decorator may have been given a type and a length.
    """

    def __init__(self, owner: type | None, rng: random.Random) -> None:
        self._rng = rng
        declaration = declaration_of(owner) if owner else None
        given = declaration.given if declaration else _SMALL
        self._int: Any = given.int_type
        self._most = given.max_length or 1
        self._valid: dict[str, Callable[[Any, FieldOptions], Any]] = {
            "converted": self._converted,
            "number": self._number,
            "float": lambda hint, _: rng.choice(_FLOATS if hint is float else _FLOATS[:-2]),
            "packed": lambda hint, _: PythonValues(None, rng).valid(hint.hint),
            "enum": self._member,
            "text": self._text,
            "tuple": lambda hint, _: tuple(self.valid(each) for each in get_args(hint)),
            "sequence": self._sequence,
            "set": self._set,
            "dict": self._dict,
            "array": lambda hint, _: wire_value(_wire(hint), rng, None),
            "struct": self._struct,
            "object": self._object,
        }

    def valid(self, hint: Any, options: FieldOptions = NO_OPTIONS) -> Any:
        """Return a value that an annotation can have; raise ``Unfit``."""
        hint, options, can_be_none = _resolved(hint, options)
        if can_be_none and self._rng.random() < 0.3:
            return None
        value = self._valid[_kind(hint)](hint, options)
        is_none = can_be_none and not isinstance(options.none, bool) and value == options.none
        return None if is_none else value

    def beyond(self, hint: Any, options: FieldOptions = NO_OPTIONS) -> Any:
        """Return a value that no save of an annotation accepts; raise ``Unfit``."""
        hint, options, _ = _resolved(hint, options)
        kind = _kind(hint)
        draw = {
            "number": self._number_beyond,
            "float": lambda _hint, _options: self._rng.choice((_TOO_LARGE_FOR_A_FLOAT, "1.0")),
            "text": self._text_beyond,
            "tuple": self._tuple_beyond,
            "sequence": self._sequence_beyond,
            "set": lambda _, options: set(range(self._room(options) + 1)),
            "dict": self._dict_beyond,
            "object": self._object_beyond,
        }.get(kind)
        return draw(hint, options) if draw and self._rng.random() < 0.9 else ...

    # ------------------------------------------------------------------ one value

    def _converted(self, hint: Any, options: FieldOptions) -> Any:
        if hint in _CONVERTED:
            return _CONVERTED[hint](self._rng)
        converter = converter_of(hint)
        assert converter
        lengths = replace(NO_OPTIONS, max_length=options.max_length, length=options.length)
        for _ in range(20):
            with suppress(ValueError):  # refused as drawn
                return converter.from_(self.valid(converter.wire, lengths))
        raise Unfit

    def _limits(self, hint: Any, options: FieldOptions) -> tuple[int, int]:
        scalar = self._int if hint is int else _wire(hint)
        low = scalar.low if options.minimum is None else options.minimum
        return low, scalar.high if options.maximum is None else options.maximum

    def _number(self, hint: Any, options: FieldOptions) -> Any:
        low, high = self._limits(hint, options)
        number = self._rng.choice((low, high, min(max(0, low), high), self._rng.randint(low, high)))
        return bool(number) if _wire(hint) is SCALARS["?"] else number

    def _number_beyond(self, hint: Any, options: FieldOptions) -> Any:
        low, high = self._limits(hint, options)
        return self._rng.choice((low - 1, high + 1, high + 2**64, "0", 1.5))

    def _member(self, hint: Any, _options: FieldOptions) -> Any:
        members = list(hint.__members__.values())
        if issubclass(hint, enum.Flag) and self._rng.random() < 0.5:
            return members[0] | self._rng.choice(members)
        return self._rng.choice(members)

    def _room(self, options: FieldOptions) -> int:
        if options.length is not None:
            return options.length
        return self._most if options.max_length is None else options.max_length

    def _count(self, options: FieldOptions) -> int:
        most = self._room(options)
        if options.length is not None:
            return most
        few = self._rng.randint(0, min(most, 4))
        return self._rng.choice((0, most, few, few, few, few) if most > 8 else (0, most, few))

    def _text(self, hint: Any, options: FieldOptions) -> Any:
        size = self._count(options)
        if hint is not str:
            return hint(self._rng.randbytes(size))
        text = ""
        for _ in range(size):
            longer = text + self._rng.choice(_CHARACTERS)
            text = longer if len(longer.encode()) <= size else text
        return text + "." * (size - len(text.encode()))

    def _text_beyond(self, hint: Any, options: FieldOptions) -> Any:
        longer = bytes(self._room(options) + 1)
        if hint is str:
            return self._rng.choice((longer.decode(), "\ud800"))
        return hint(longer)

    # ------------------------------------------------------------------ with others inside

    def _tuple_beyond(self, hint: Any, options: FieldOptions) -> Any:
        values = list(self._valid["tuple"](hint, options))
        index = self._rng.randrange(len(values) + 1)
        if index == len(values):
            return (*values, None)
        values[index] = self.beyond(get_args(hint)[index])
        return tuple(values)

    def _sequence(self, hint: Any, options: FieldOptions) -> Any:
        element = get_args(hint)[0]
        values = [self.valid(element) for _ in range(self._count(options))]
        return (get_origin(hint))(values)

    def _sequence_beyond(self, hint: Any, options: FieldOptions) -> Any:
        values = list(self._sequence(hint, options))
        if not values or self._rng.random() < 0.5:
            return [None] * (self._room(options) + 1)
        values[self._rng.randrange(len(values))] = self.beyond(get_args(hint)[0])
        return values

    def _set(self, hint: Any, options: FieldOptions) -> Any:
        values = set()
        for _ in range(self._count(options)):
            with suppress(TypeError):  # a signaling NaN has no hash
                values.add(self.valid(get_args(hint)[0]))
        return (get_origin(hint))(values)

    def _dict(self, hint: Any, options: FieldOptions) -> Any:
        origin: Any = get_origin(hint)
        key, *value = get_args(hint)
        made = collections.defaultdict(int) if origin is collections.defaultdict else origin()
        for _ in range(self._count(options)):
            with suppress(TypeError):
                drawn = self.valid(value[0]) if value else self._rng.choice((0, 1, -1, 99))
                made[self.valid(key)] = drawn
        return made

    def _dict_beyond(self, hint: Any, options: FieldOptions) -> Any:
        made = self._dict(hint, options)
        value = get_args(hint)[1:]
        if not made or self._rng.random() < 0.5:
            return dict.fromkeys(range(self._room(options) + 1))
        made[self._rng.choice(list(made))] = self.beyond(value[0]) if value else 2**64
        return made

    def _struct(self, hint: Any, _options: FieldOptions) -> Any:
        made = _wire(hint).cls()
        fill_struct(made, self._rng)
        return made

    def _object(self, hint: Any, _options: FieldOptions) -> Any:
        made, values = hint(), PythonValues(hint, self._rng)
        for place in places(hint):
            with suppress(Unfit, ValueError):  # or a setter refuses it
                place.set(made, values.valid(place.hint, place.options))
        with suppress(AttributeError):
            try:
                made.__post_init__()
            except ValueError:  # refused as drawn
                return hint()
        return made

    def _object_beyond(self, hint: Any, options: FieldOptions) -> Any:
        made, values = self._object(hint, options), PythonValues(hint, self._rng)
        found = [place for place in places(hint) if place.is_ordinary]
        if not found:
            return ...
        place = self._rng.choice(found)
        place.set(made, values.beyond(place.hint, place.options))
        return made


def _wire(hint: Any) -> Any:
    return None if isinstance(hint, PackedType) else find_wire_type(hint)


def _resolved(hint: Any, options: FieldOptions) -> tuple[Any, FieldOptions, bool]:
    """Return an annotation without options and None, its options, and whether it can be None."""
    hint, can_be_none = plain_hint(hint), False
    while True:
        arguments = get_args(hint)
        inner = [extra for extra in arguments[1:] if isinstance(extra, FieldOptions)]
        if get_origin(hint) is Annotated and inner:
            given = options.given("max_length", "count_type", "length")
            options = replace(inner[0], **{name: getattr(options, name) for name in given})
            hint = plain_hint(arguments[0])
        elif get_origin(hint) in UNIONS and type(None) in arguments:
            hint = plain_hint(next(each for each in arguments if each is not type(None)))
            can_be_none = True
        else:
            return hint, options, can_be_none


def _kind(hint: Any) -> str:
    """Return which of the values of ``PythonValues`` an annotation has; raise ``Unfit``."""
    if converter_of(hint):
        return "converted"
    origin = get_origin(hint) or hint
    if origin is tuple and Ellipsis not in get_args(hint):
        return "tuple"
    kinds = {
        "number": hint is int,
        "float": hint is float,
        "packed": isinstance(hint, PackedType),
        "text": origin in _TEXTS,
        "sequence": origin in _SEQUENCES,
        "set": origin in _SETS,
        "dict": origin in _DICTS,
        "enum": isinstance(hint, type) and issubclass(hint, enum.Enum),
    }
    return next((kind for kind, fits in kinds.items() if fits), None) or _wire_kind(hint)


def _wire_kind(hint: Any) -> str:
    match _wire(hint):
        case Scalar() as scalar if not scalar.live:
            return "number" if scalar.is_whole or scalar.kind == "?" else "float"
        case ArrayType():
            return "array"
        case StructType():
            return "struct"
    if isinstance(hint, type) and is_migrated(hint):
        return "object"
    raise Unfit
