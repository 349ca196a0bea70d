# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of objects under test: random ones, what of them can be compared, and equal ones."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import random
import struct
from collections.abc import Iterator
from typing import Any

from ..derive.converters import converter_of
from ..device.device import Device
from ..errors import InvalidError
from ..layout.vmstruct import VMStruct, asdict
from ..state.cells import Arc, BqlCell, BqlRefCell, Mutex, pointee
from ..state.migratable import unwrap
from .places import is_migrated, places
from .python_values import PythonValues, Unfit
from .struct_values import fill_field, fill_struct, wire_value

__all__ = [
    "derived_states",
    "held_collections",
    "held_structs",
    "keeps_everything",
    "live_structs",
    "randomize",
    "reordered",
    "seen",
]

_FILLED = (list, dict, set, bytearray, collections.deque)
"""The collections that a restore fills again, instead of making new ones."""


def _states(obj: Any) -> Iterator[Any]:
    """Yield the states that an object's parts guard."""
    parts = [obj]
    if isinstance(obj, Device):
        parts = []
        for attribute in obj.__parts__:
            value = getattr(obj, attribute)
            parts += value if isinstance(value, tuple) else (value,)
    for part in parts:
        value = pointee(unwrap(part))
        yield getattr(value, "_value", value)


def keeps_everything(obj: Any) -> bool:
    """Return whether no state has conversions of its own, which may leave something out."""
    return all(
        "__prepare_migrated_state__" in vars(type(value))
        or (isinstance(value, VMStruct) and not _overrides_conversions(type(value)))
        for value in _states(obj)
    )


def _overrides_conversions(cls: type[VMStruct]) -> bool:
    """Return whether a layout class does more in a snapshot or restore than copy its memory."""
    names = ("snapshot_migration_state", "restore_migrated_state_mut")
    return any(getattr(cls, name) is not getattr(VMStruct, name) for name in names)


def live_structs(obj: Any) -> Iterator[VMStruct]:
    """Yield every layout class instance that is a state of an object."""
    if isinstance(obj, Device):
        yield obj.__plain__
    yield from (value for value in _states(obj) if isinstance(value, VMStruct))


def held_structs(obj: Any) -> Iterator[VMStruct]:
    """Yield every layout class instance that is an attribute of a state of an object."""
    for value in _states(obj):
        for held in getattr(value, "__dict__", {}).values():
            if isinstance(held, VMStruct):
                yield held


def derived_states(obj: Any) -> list[Any]:
    """Return every state of an object whose conversions are made from its fields."""
    return [value for value in _states(obj) if is_migrated(type(value))]


def held_collections(obj: Any, *, filled: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the collections of derived states with a name; ``filled``: that a restore fills."""
    for index, state in enumerate(derived_states(obj)):
        for place in places(type(state)):
            value = place.get(state)
            if isinstance(value, _FILLED) and (place.is_filled or not filled):
                yield f"{index}.{place.name}", value


# ------------------------------------------------------------------- comparisons


def seen(value: Any) -> Any:
    """Return what a program can see of a value, comparable by ``repr``, and each float's bits."""
    cls = type(value)
    if cls in _PLAIN:
        return value
    if cls is float:
        return struct.pack(">d", value)
    if cls in (list, tuple, collections.deque):
        return cls.__name__, [seen(each) for each in value]
    if isinstance(value, dict):
        return cls.__name__, [(seen(key), seen(each)) for key, each in value.items()]
    if cls in (set, frozenset):
        return cls.__name__, sorted(repr(seen(each)) for each in value)
    return _seen_object(value)


_PLAIN = {int, bool, str, bytes, bytearray, type(None)}


def _seen_object(value: Any) -> Any:
    cls = type(value)
    if cls in (Mutex, BqlRefCell, Arc):
        return [seen(each) for each in _states(value)]
    converter = converter_of(cls)
    if converter:
        return cls.__name__, seen(converter.to(value))
    if isinstance(value, VMStruct):
        return seen(asdict(value))
    if dataclasses.is_dataclass(value):
        return {item.name: seen(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if is_migrated(cls):
        return {place.name: seen(place.get(value)) for place in places(cls)}
    return repr(value)


def reordered(value: Any) -> Any:
    """Return a value that equals ``value``, whose sets were filled in another order."""
    converter = converter_of(type(value))
    if converter:
        return converter.from_(reordered(converter.to(value)))
    if isinstance(value, set | frozenset):
        return type(value)(sorted(map(reordered, value), key=lambda each: repr(seen(each))))
    if isinstance(value, list | tuple):
        return type(value)(map(reordered, value))
    if isinstance(value, dict | collections.deque):
        made: Any = copy.copy(value)
        made.clear()
        for each in value:
            if isinstance(made, dict):
                made[reordered(each)] = reordered(value[each])
            else:
                made.append(reordered(each))
        return made
    if dataclasses.is_dataclass(value):
        made = copy.copy(value)
        for place in places(type(value)):
            place.set(made, reordered(place.get(value)))
        return made
    return value


# ------------------------------------------------------------------- random states


def randomize(obj: Any, rng: random.Random) -> None:
    """Set every field of an object to a random valid value."""
    for value in (*live_structs(obj), *held_structs(obj)):
        fill_struct(value, rng)
    for value in derived_states(obj):
        _fill_derived(value, rng)
    for attribute in obj.__parts__ if isinstance(obj, Device) else ():
        cell = getattr(obj, attribute)
        if isinstance(cell, BqlCell):
            info = next(i for i in obj.Migrated.__layout__.fields if i.attribute == attribute)
            # Set without the BQL, because nothing uses the object so far.
            cell._value = wire_value(  # noqa: SLF001
                info.type, rng, getattr(obj.Migrated, attribute, None)
            )


def _fill_derived(state: Any, rng: random.Random) -> None:
    layout = state.Migrated.__layout__
    for info in layout.fields:
        staged = state.to_migration_state()
        fill_field(staged, info, rng)
        # A conversion may refuse the value, for example of an enum; the field is then unchanged.
        with contextlib.suppress(InvalidError):
            state.restore_migrated_state_mut(staged, layout.version_id)
    values = PythonValues(type(state), rng)
    for place in places(type(state)):
        with contextlib.suppress(Unfit, ValueError):  # or a setter refuses it
            place.set(state, values.valid(place.hint, place.options))
