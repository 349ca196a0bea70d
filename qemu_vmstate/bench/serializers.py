# SPDX-License-Identifier: GPL-2.0-or-later
"""The serializers beside which derived dataclasses are measured: pickle, and msgspec.

Each has objects of its own classes, with the fields and values of a shape's derived dataclass, so
that nothing of this package's decorator is in their figures.
"""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from .shapes import Shape

__all__ = [
    "MSGSPEC_DATACLASS",
    "MSGSPEC_STRUCT",
    "PICKLE",
    "Serializer",
    "message_pack",
    "msgspec_version",
    "pickle_of",
    "pickled",
    "serializers",
]

PICKLE = "pickle"
MSGSPEC_DATACLASS = "msgspec dataclass"
MSGSPEC_STRUCT = "msgspec Struct"

_Fields = tuple[tuple[str, Any], ...]
_MakeClass = Callable[[str, _Fields], Any]


def msgspec_version() -> str | None:
    """Return the version of msgspec, or None where it is not installed."""
    try:
        import msgspec
    except ImportError:
        return None
    return msgspec.__version__


class Serializer:
    """What a serializer saves, and its calls without arguments that are timed."""

    def __init__(
        self, states: Any, save: Callable[[Any], bytes], load: Callable[[bytes], Any]
    ) -> None:
        self.states = states
        # A call of a partial costs less than one of a method, and its cost is in their figures.
        self.save: Callable[[], bytes] = functools.partial(save, states)
        self.load: Callable[[], Any] = functools.partial(load, self.save())


def pickled(shape: Shape) -> Serializer:
    """Return ``pickle`` of dataclasses, as is usual today."""
    states, _ = _equal_states(shape, _dataclass)
    return pickle_of(states)


def serializers(shape: Shape) -> Iterator[tuple[str, Serializer]]:
    """Yield each serializer that is installed, with its name: pickle, and msgspec's MessagePack."""
    yield PICKLE, pickled(shape)
    if msgspec_version():
        yield MSGSPEC_DATACLASS, message_pack(*_equal_states(shape, _dataclass))
        yield MSGSPEC_STRUCT, message_pack(*_equal_states(shape, _struct))


def pickle_of(value: Any) -> Serializer:
    """Return ``pickle`` of a value."""
    save = functools.partial(pickle.dumps, protocol=pickle.HIGHEST_PROTOCOL)
    return Serializer(value, save, pickle.loads)


def message_pack(value: Any, type_: Any) -> Serializer:
    """Return msgspec's MessagePack of a value with the annotation ``type_``."""
    import msgspec

    return Serializer(
        value, msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(type_).decode
    )


@functools.cache
def _dataclass(name: str, fields: _Fields) -> Any:
    made = dataclasses.make_dataclass(name, fields)
    # pickle finds a class by its name.
    made.__module__ = __name__
    globals()[name] = made
    return made


@functools.cache
def _struct(name: str, fields: _Fields) -> Any:
    import msgspec

    return msgspec.defstruct(name, fields)


def _equal_states(shape: Shape, make: _MakeClass) -> tuple[list[Any], Any]:
    """Return the states of a shape's parts in classes that ``make`` makes, and their type."""
    states = []
    for _ in range(shape.parts):
        state = shape.derived()
        shape.fill(state)
        states.append(state)
    return _equal(states, make)


def _equal(value: Any, make: _MakeClass) -> tuple[Any, Any]:
    """Return a value that equals ``value`` in classes that ``make`` makes, and its type."""
    if isinstance(value, list):
        equal = [_equal(item, make) for item in value]
        return [item for item, _ in equal], list[equal[0][1]]  # type: ignore[misc]
    if not dataclasses.is_dataclass(value):
        return value, type(value)
    names = [field.name for field in dataclasses.fields(value)]
    values = [_equal(getattr(value, name), make) for name in names]
    types = tuple((name, type_) for name, (_, type_) in zip(names, values, strict=True))
    made = make(type(value).__name__, types)
    return made(*(item for item, _ in values)), made
