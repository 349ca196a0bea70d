# SPDX-License-Identifier: GPL-2.0-or-later
"""Random valid values of the fields of layout classes."""

from __future__ import annotations

import random
from typing import Any

from ..bindings.loader import _state
from ..layout.vmstruct import VMStruct
from ..wire.types import (
    ArrayType,
    BitmapType,
    CountedType,
    FieldInfo,
    ListType,
    PointersType,
    Scalar,
    StructType,
    UnusedType,
    WireType,
)

__all__ = ["fill_field", "fill_struct", "wire_value"]


def fill_struct(target: VMStruct, rng: random.Random) -> None:
    """Set nearly all fields of a layout class instance."""
    for info in type(target).__layout__.fields:
        if not isinstance(info.type, UnusedType) and rng.random() >= 0.1:
            fill_field(target, info, rng)


def fill_field(target: VMStruct, info: FieldInfo, rng: random.Random) -> None:
    """Set one field of a layout class instance."""
    type_, name = info.type, info.attribute
    if isinstance(type_, StructType):
        fill_struct(getattr(target, name), rng)
    elif isinstance(type_, CountedType) or (isinstance(type_, PointersType) and info.num):
        assert info.num is not None
        number: Any = getattr(type(target), info.num.attribute)
        multiply = info.options.multiply
        most = min(number.high, type_.length // multiply)
        n = rng.randint(min(number.low, most), most) if rng.random() < 0.8 else most
        if type_.length >= 255 and rng.random() < 0.8:
            n = min(n, number.low + 3)
        setattr(target, name, _items(type_, n * multiply, rng))
    else:
        setattr(target, name, wire_value(type_, rng, getattr(type(target), name, None)))


def _items(type_: Any, n: int, rng: random.Random) -> Any:
    if getattr(type_, "is_buffer", False):
        return rng.randbytes(n)
    items = [wire_value(type_.element, rng, None) for _ in range(n)]
    if isinstance(type_, PointersType):
        return [None if rng.random() < 0.3 else item for item in items]
    return items


def wire_value(type_: WireType, rng: random.Random, attribute: Any) -> Any:
    """Return a value of a type, within the limits of the ``attribute`` of its class."""
    match type_:
        case Scalar() if type_.plain_type is float:
            return rng.choice((0.0, 1.5, float("inf"), float("nan"), rng.random()))
        case Scalar():
            low, high = type_.low, type_.high
            if isinstance(attribute, _state.Field):
                low, high = attribute.low, attribute.high
            return rng.choice((low, high, min(max(0, low), high), rng.randint(low, high)))
        case StructType():
            made = type_.cls()
            fill_struct(made, rng)
            return made
        case BitmapType():
            return [rng.getrandbits(64) for _ in range(type_.length)]
        case ListType() if type_.key:
            key, element = (info.type for info in type_.element.cls.__layout__.fields)
            n = rng.randint(0, min(type_.length, 4))
            return {_key(key, rng): wire_value(element, rng, None) for _ in range(n)}
        case ListType():
            return _items(type_, rng.randint(0, min(type_.length, 4)), rng)
        case ArrayType() | PointersType():
            return _items(type_, type_.length, rng)
        case _:
            raise AssertionError(f"a field of type {type_}")


def _key(type_: WireType, rng: random.Random) -> Any:
    value = wire_value(type_, rng, None)
    if isinstance(type_, StructType):
        return tuple(getattr(value, info.attribute) for info in type_.cls.__layout__.fields)
    return value
