# SPDX-License-Identifier: GPL-2.0-or-later
"""Converts single values between an attribute and the wire, with errors that name both."""

from __future__ import annotations

import copy
import enum
import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

from ..errors import InvalidError
from ..layout.refusals import short_repr
from ..wire.types import PackedType, Scalar, StructType
from .spec import Codec

__all__ = [
    "attempt",
    "enum_member",
    "enum_value",
    "in_range",
    "plain_value",
    "type_name",
    "wire_name",
    "with_none",
]


def type_name(hint: Any) -> str:
    """Return an annotation as errors show it, as it is written in a program."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        scalars = [extra for extra in arguments[1:] if isinstance(extra, Scalar)]
        return scalars[0].name if scalars else type_name(arguments[0])
    if isinstance(hint, Scalar):
        return hint.name
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(each) for each in arguments)
    if hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, PackedType):
        return f"Packed[{type_name(hint.hint)}, Literal[{hint.maximum}]]"
    if isinstance(origin, type) and arguments:
        return f"{origin.__name__}[{', '.join(type_name(each) for each in arguments)}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")


def wire_name(type_: Any) -> str:
    """Return a wire type as errors show it."""
    if isinstance(type_, Scalar):
        return type_.name
    if isinstance(type_, StructType):
        return type_.cls.__name__
    if type_.is_buffer:
        return f"Buffer[{type_.length}]"
    return f"Array[{wire_name(type_.element)}, {type_.length}]"


def plain_value(type_: Any, value: Any) -> Any:
    """Return a copy of a layout class's value that does not refer to its memory.

    Numbers, bytes and lists are plain already; a struct is copied.
    """
    if isinstance(type_, Scalar):
        return value
    if isinstance(type_, StructType):
        return copy.copy(value)
    if type_.is_buffer:
        return bytes(value)
    if isinstance(type_.element, Scalar):
        return value[:]
    return [plain_value(type_.element, item) for item in value]


def in_range(scalar: Scalar, value: Any) -> int:
    """Return ``value`` as an ``int``; raise ``InvalidError`` if ``scalar`` cannot hold it."""
    if not scalar.low <= value <= scalar.high:
        raise InvalidError(
            f"{value} is out of range for {scalar.name} ({scalar.low} to {scalar.high})"
        )
    return int(value)


def attempt(convert: Callable[[Any], Any], wanted: str, path: str, value: Any) -> Any:
    """Return ``convert(value)``; raise ``InvalidError`` with ``path`` for whatever it raises."""
    try:
        return convert(value)
    except InvalidError as exc:
        exc.path = exc.path or path
        raise
    except Exception as exc:
        raise InvalidError(
            f"{short_repr(value)} is no {wanted}: {type(exc).__name__}: {exc}", path
        ) from exc


def enum_member(cls: type[enum.Enum], path: str, value: Any) -> Any:
    """Return the member of ``cls`` with ``value``; raise ``InvalidError`` if there is none."""
    try:
        member = cls(value)
        # By default Python 3.11.2, Debian 12's, drops unknown bits where later ones raise.
        if isinstance(member, enum.Flag) and member.value != value:
            raise ValueError
        return member
    except ValueError as exc:
        members = [f"{name} ({_shown(member.value)})" for name, member in cls.__members__.items()]
        shown = ", ".join(members[:16]) + (", ..." if len(members) > 16 else "")
        raise InvalidError(
            f"{short_repr(value)} is no {cls.__name__}, which has {shown or 'no members'}", path
        ) from exc


def _shown(value: Any) -> str:
    return repr(int(value) if isinstance(value, int) else value)


def enum_value(cls: type[enum.Enum], path: str, value: Any) -> Any:
    """Return the number of a member of ``cls``; raise ``InvalidError`` for anything else."""
    # An IntEnum attribute often holds the bare number.
    member = value if isinstance(value, cls) else enum_member(cls, path, value)
    return getattr(member, "value", member)


def with_none(codec: Codec, none: int, path: str) -> Codec:
    """Return ``codec`` for values that can be ``None``, which is ``none`` on the wire."""
    inner_to, inner_back = codec.to, codec.back

    def to(value: Any) -> Any:
        if value is None:
            return none
        value = inner_to(value) if inner_to else value
        if value == none:
            raise InvalidError(f"{none} stands for None on the wire", path)
        return value

    def back(value: Any) -> Any:
        if value == none:
            return None
        return inner_back(value) if inner_back else value

    return Codec(to, back)
