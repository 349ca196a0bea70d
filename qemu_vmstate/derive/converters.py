# SPDX-License-Identifier: GPL-2.0-or-later
"""Converters: how objects of classes that are not this package's become values of others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from ..errors import DeclarationError
from ..layout.refusals import short_repr
from ..wire.annotations import Buffer, i32, u32
from ..wire.field_options import field

__all__ = ["Converter", "converter_of", "register_converter"]

T = TypeVar("T")


class Converter(NamedTuple):
    """The conversion of a class to a value with the annotation ``wire``, and back."""

    cls: type
    wire: Any
    to: Callable[[Any], Any]
    from_: Callable[[Any], Any]


_converters: dict[type, Converter] = {}


def register_converter(
    cls: type[T], wire: Any, to: Callable[[T], Any], from_: Callable[[Any], T]
) -> None:
    """Give a class a form in all derived classes that are declared from now on.

    ::

        from dataclasses import dataclass

        from qemu_vmstate import derive_to_migration_state, field, register_converter, u32, save

        class Color:
            def __init__(self, rgb: int) -> None:
                self.rgb = rgb

        register_converter(Color, u32, lambda color: color.rgb, Color)

        @derive_to_migration_state
        @dataclass
        class Screen:
            palette: list[Color] = field(default_factory=list, max_length=256)

        assert save(Screen([Color(0xFF0000)])) == bytes([0, 1, 0, 0xFF, 0, 0])

    ``wire`` is any annotation that a derived class can have, for example ``u32``,
    ``Annotated[str, field(max_length=64)]`` or ``tuple[u32, bool]``.  ``to`` gets an object and
    returns a value for it; ``from_`` gets a loaded value and returns a new object, or raises an
    exception, which becomes an ``InvalidError``: no load succeeds with an object that it refuses.
    A load does not check that ``to`` would return the loaded value for that object.  Both are
    called under the lock of the state, so they must not take another.  An annotation means the
    class itself, not its subclasses; ``to`` also gets objects of those.

    These classes have a converter already: ``datetime``, ``date``, ``time``, ``timedelta``,
    ``UUID``, ``Path`` and the other classes of pathlib, ``IPv4Address``, ``IPv6Address``,
    ``Decimal`` and ``Fraction``.  They are exact: an object of a subclass is refused, because a
    load would make one of the class, and so is a stream with what no save writes, such as a
    ``Decimal`` of ``1_0``.  A time zone is a ``datetime.timezone`` or a ``zoneinfo.ZoneInfo``, of
    which the key is on the wire and not the rules: the destination needs it too.

    Raises ``DeclarationError`` if ``cls`` is no class.
    """
    if not isinstance(cls, type):
        raise DeclarationError(
            f"register_converter() takes a class, and {cls!r} is none; for a parametrised one, "
            "register the class without its parameters"
        )
    _converters[cls] = Converter(cls, wire, to, from_)


def converter_of(cls: object) -> Converter | None:
    """Return the converter of a class, or ``None``."""
    return _converters.get(cls) if isinstance(cls, type) else None


def _text(most: int) -> Any:
    return Annotated[str, field(max_length=most)]


# A moment is its wall clock, "~" if that is the second of an ambiguous hour, and its time zone:
# 2026-10-25T02:30:00~[Europe/Berlin] or 2026-10-25T02:30:00+01:00(CET).


def _zone_to_text(zone: tzinfo | None) -> str:
    if zone is None:
        return ""
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        text = time(tzinfo=timezone(offset)).isoformat()[len("00:00:00") :]
        return f"{text}({name[0]})" if name else text
    # Its module is imported if there is an object of it, and takes 5 ms else.
    zoneinfo = sys.modules.get("zoneinfo")
    key = getattr(zone, "key", None)
    if zoneinfo and type(zone) is zoneinfo.ZoneInfo and key:
        return f"[{key}]"
    raise ValueError(
        f"its time zone is a {type(zone).__name__}; take a datetime.timezone or a "
        "zoneinfo.ZoneInfo with a key"
    )


def _zone_from_text(text: str) -> tzinfo | None:
    if not text:
        return None
    if text.startswith("["):
        from zoneinfo import ZoneInfo

        return ZoneInfo(text[1:-1])
    text, named, name = text.partition("(")
    # CPython 3.11's fromisoformat() takes an offset of less than a second for none.
    size = datetime.combine(date.min, time.fromisoformat(text[1:])) - datetime.min
    offset = -size if text.startswith("-") else size
    return timezone(offset, name[:-1]) if named else timezone(offset)


def _moment_to_text(moment: Any) -> str:
    zone = moment.tzinfo
    wall = moment if zone is None else moment.replace(tzinfo=None)
    return f"{wall.isoformat()}{'~' if moment.fold else ''}{_zone_to_text(zone)}"


def _moment_from_text(cls: type[Any], seconds_end: int, text: str) -> Any:
    end = (
        seconds_end + len(".000000") if text[seconds_end : seconds_end + 1] == "." else seconds_end
    )
    moment, rest = cls.fromisoformat(text[:end]), text[end:]
    fold = rest.startswith("~")
    return moment.replace(fold=fold, tzinfo=_zone_from_text(rest[fold:])) if rest else moment


def _address_to_pair(address: IPv6Address) -> tuple[bytes, str]:
    return address.packed, address.scope_id or ""


def _address_from_pair(pair: tuple[bytes, str]) -> IPv6Address:
    packed, scope = pair
    address = IPv6Address(packed)
    return IPv6Address(f"{address}%{scope}") if scope else address


def _decimal_to_text(value: Decimal) -> str:
    # The context decides on the letter, and no other text has an "e".
    return str(value).replace("e", "E")


def _fraction_from_text(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")
    return Fraction(int(numerator), int(denominator))


def _path_from_bytes(cls: type[PurePath], path: bytes) -> PurePath:
    return cls(os.fsdecode(path))


def _register_exact(
    cls: type[T],
    wire: Any,
    to: Callable[[T], Any],
    from_: Callable[[Any], T],
    made: type | None = None,
) -> None:
    """Register a converter that refuses whatever would not come back as it was.

    That is an object of another class than ``made`` (default: ``cls``) at a save, and at a load
    what no save writes, such as ``1_0`` for a Decimal.
    """
    wanted = made or cls

    def checked_to(value: T) -> Any:
        if type(value) is not wanted:
            raise TypeError(
                f"it is a {type(value).__name__}, and a load would make a {wanted.__name__}"
            )
        return to(value)

    def checked_from(loaded: Any) -> T:
        value = from_(loaded)
        written = to(value)
        if written != loaded:
            raise ValueError(f"a save writes that as {short_repr(written)}")
        return value

    register_converter(cls, wire, checked_to, checked_from)


_PATH_MAX = 4096  # linux/limits.h

_register_exact(
    datetime,
    _text(96),
    _moment_to_text,
    partial(_moment_from_text, datetime, len("2026-01-01T00:00:00")),
)
_register_exact(time, _text(96), _moment_to_text, partial(_moment_from_text, time, len("00:00:00")))
_register_exact(date, u32, date.toordinal, date.fromordinal)
_register_exact(
    timedelta,
    tuple[i32, u32, u32],
    lambda span: (span.days, span.seconds, span.microseconds),
    lambda parts: timedelta(parts[0], parts[1], parts[2]),
)
_register_exact(UUID, Buffer[Literal[16]], lambda value: value.bytes, lambda raw: UUID(bytes=raw))
_register_exact(IPv4Address, u32, int, IPv4Address)
_register_exact(
    IPv6Address,
    tuple[Buffer[Literal[16]], Annotated[str, field(max_length=64)]],
    _address_to_pair,
    _address_from_pair,
)
_register_exact(Decimal, _text(128), _decimal_to_text, Decimal)
_register_exact(
    Fraction,
    _text(256),
    lambda value: f"{value.numerator}/{value.denominator}",
    _fraction_from_text,
)
for _cls in (Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath):
    _register_exact(
        _cls,
        Annotated[bytes, field(max_length=_PATH_MAX)],
        os.fsencode,
        partial(_path_from_bytes, _cls),
        type(_cls()),
    )
