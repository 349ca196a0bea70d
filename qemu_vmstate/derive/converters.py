# SPDX-License-Identifier: GPL-2.0-or-later
"""Converters: how objects of classes that are not this package's become values of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from ..errors import DeclarationError
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
    Both are called under the lock of the state, so they must not take another.  The class itself
    is meant, not its subclasses.

    These classes have a converter already: ``datetime``, ``date``, ``time``, ``timedelta``,
    ``UUID``, ``Path`` and the other classes of pathlib, ``IPv4Address``, ``IPv6Address``,
    ``Decimal`` and ``Fraction``.

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


def _zone_to_text(zone: tzinfo | None) -> str:
    key = getattr(zone, "key", None)
    if isinstance(key, str):
        return f"[{key}]"
    if zone is not None and type(zone) is not timezone:
        raise ValueError(
            f"its time zone is a {type(zone).__name__}; take a datetime.timezone or a "
            "zoneinfo.ZoneInfo with a key"
        )
    return ""


def _datetime_to_text(moment: datetime) -> str:
    fold = "~" if moment.fold else ""
    return f"{moment.isoformat()}{fold}{_zone_to_text(moment.tzinfo)}"


def _datetime_from_text(text: str) -> datetime:
    text, _, key = text.removesuffix("]").partition("[")
    moment = datetime.fromisoformat(text.removesuffix("~"))
    if key:
        from zoneinfo import ZoneInfo

        moment = moment.replace(tzinfo=ZoneInfo(key))
    if text.endswith("~"):
        moment = moment.replace(fold=1)
    return moment


def _time_to_text(moment: time) -> str:
    if moment.tzinfo is not None and type(moment.tzinfo) is not timezone:
        raise ValueError("its time zone is no datetime.timezone; keep the time zone apart")
    return moment.isoformat() + ("~" if moment.fold else "")


def _time_from_text(text: str) -> time:
    return time.fromisoformat(text.removesuffix("~")).replace(fold=int(text.endswith("~")))


def _address_to_pair(address: IPv6Address) -> tuple[bytes, str]:
    return address.packed, address.scope_id or ""


def _address_from_pair(pair: tuple[bytes, str]) -> IPv6Address:
    packed, scope = pair
    address = IPv6Address(packed)
    return IPv6Address(f"{address}%{scope}") if scope else address


def _fraction_from_text(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")
    return Fraction(int(numerator), int(denominator))


def _path_from_bytes(cls: type[PurePath]) -> Callable[[bytes], PurePath]:
    return lambda path: cls(os.fsdecode(path))


_PATH_MAX = 4096  # linux/limits.h

register_converter(datetime, _text(96), _datetime_to_text, _datetime_from_text)
register_converter(time, _text(48), _time_to_text, _time_from_text)
register_converter(date, u32, date.toordinal, date.fromordinal)
register_converter(
    timedelta,
    tuple[i32, u32, u32],
    lambda span: (span.days, span.seconds, span.microseconds),
    lambda parts: timedelta(parts[0], parts[1], parts[2]),
)
register_converter(
    UUID, Buffer[Literal[16]], lambda value: value.bytes, lambda raw: UUID(bytes=raw)
)
register_converter(IPv4Address, u32, int, IPv4Address)
register_converter(
    IPv6Address,
    tuple[Buffer[Literal[16]], Annotated[str, field(max_length=64)]],
    _address_to_pair,
    _address_from_pair,
)
register_converter(Decimal, _text(128), str, Decimal)
register_converter(
    Fraction,
    _text(256),
    lambda value: f"{value.numerator}/{value.denominator}",
    _fraction_from_text,
)
for _cls in (Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath):
    register_converter(
        _cls,
        Annotated[bytes, field(max_length=_PATH_MAX)],
        os.fsencode,
        _path_from_bytes(_cls),
    )
