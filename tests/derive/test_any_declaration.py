# SPDX-License-Identifier: GPL-2.0-or-later
"""Randomly declared dataclasses: the round trip, any bytes, and values out of range."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import make_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    derive_to_migration_state,
    field,
    i8,
    i16,
    i32,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
)

from .states import (
    Mode,
    any_list,
    dataclass_field,
)

NUMBERS: list[tuple[Any, str, int, int]] = [
    (bool, "?", 0, 1),
    *((kind, letter, 0, 2**bits - 1) for kind, letter, bits in
      ((u8, "B", 8), (u16, "H", 16), (u32, "I", 32), (u64, "Q", 64))),
    *((kind, letter, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for kind, letter, bits in
      ((i8, "b", 8), (i16, "h", 16), (i32, "i", 32), (i64, "q", 64))),
]  # fmt: skip

Kind = tuple[Any, dict[str, Any], str, Any, Callable[[Any], list[Any]]]
"""Annotation, options, format for ``struct``, strategy of values, a value's numbers on the wire."""

Derived = tuple[Any, str, Any, Callable[[Any], list[Any]]]
"""Derived class, format for ``struct``, strategy of objects, an object's numbers on the wire."""


@st.composite
def kinds(draw: st.DrawFn, depth: int = 2) -> Kind:
    """Draw the declaration of one field."""
    hint, letter, low, high = draw(st.sampled_from(NUMBERS))
    number = st.booleans() if letter == "?" else st.integers(low, high)
    shapes = ["number", "number", "number", "list", "bytes", "enum", "none", "sentinel"]
    shape = draw(st.sampled_from([*shapes, "state", "states"] if depth else shapes))
    length = draw(st.integers(1, 3))
    if shape == "list":
        return (
            any_list[hint],
            {"length": length},
            letter * length,
            st.lists(number, min_size=length, max_size=length),
            list,
        )
    if shape == "bytes":
        return (
            bytes,
            {"length": length},
            f"{length}s",
            st.binary(min_size=length, max_size=length),
            lambda value: [value],
        )
    if shape == "enum":
        return Mode, {"try_into": u16}, "H", st.sampled_from(Mode), lambda value: [value.value]
    if shape == "none":
        return (
            hint | None,
            {"none": bool},
            f"?{letter}",
            st.none() | number,
            lambda value: [value is not None, value or 0],
        )
    if shape == "sentinel":
        return (
            u16 | None,
            {"none": 0x8000},
            "H",
            st.none() | st.integers(0, 0x7FFF),
            lambda value: [0x8000 if value is None else value],
        )
    if shape == "state":
        cls, letters, values, wire = draw(classes(depth - 1))
        return cls, {}, letters, values, wire
    if shape == "states":
        return _list_of(draw(classes(depth - 1)), length)
    return hint, {}, letter, number, lambda value: [value]


def _list_of(derived: Derived, length: int) -> Kind:
    """Return the declaration of a list of ``length`` states."""
    cls, letters, values, wire = derived
    return (
        any_list[cls],
        {"length": length},
        letters * length,
        st.lists(values, min_size=length, max_size=length),
        lambda value: [number for each in value for number in wire(each)],
    )


@st.composite
def classes(draw: st.DrawFn, depth: int = 2) -> Derived:
    """Draw a derived class with up to six fields."""
    fields = draw(st.lists(kinds(depth), max_size=6))
    slots = draw(st.booleans())
    made = make_dataclass(
        "Drawn",
        [(f"f{n}", kind[0], dataclass_field(field(**kind[1]))) for n, kind in enumerate(fields)],
        slots=slots,
    )
    derived: Any = derive_to_migration_state(made)

    def wire(value: Any) -> list[Any]:
        return [
            number for n, kind in enumerate(fields) for number in kind[4](getattr(value, f"f{n}"))
        ]

    values = st.builds(derived, *(kind[3] for kind in fields))
    return derived, "".join(kind[2] for kind in fields), values, wire


@given(st.data())
def test_any_declaration_makes_the_round_trip(data: st.DataObject) -> None:
    _, letters, values, wire = data.draw(classes())
    first, second = data.draw(values), data.draw(values)
    expected = struct.pack(">" + letters, *wire(first))
    assert save(first) == expected
    load(second, expected)
    assert second == first
    assert save(Migratable(Mutex(second))) == expected


@given(st.data())
def test_any_bytes_give_a_state_that_saves_or_leave_it_as_it_was(data: st.DataObject) -> None:
    _, letters, values, wire = data.draw(classes())
    state = data.draw(values)
    before = copy.deepcopy(state)
    size = struct.calcsize(">" + letters)
    try:
        load(state, data.draw(st.binary(min_size=size, max_size=size)))
    except InvalidError:
        assert state == before
    again = save(state)
    assert again == struct.pack(">" + letters, *wire(state))


@given(st.data())
def test_any_value_out_of_range_is_refused_by_its_field(data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=9))
    made: Any = derive_to_migration_state(
        make_dataclass("Run", [(f"f{n}", kind[0]) for n, kind in enumerate(drawn)])
    )
    at = data.draw(st.integers(0, len(drawn) - 1))
    _, _, low, high = drawn[at]
    numbers = [0] * len(drawn)
    numbers[at] = data.draw(st.integers(max_value=low - 1) | st.integers(min_value=high + 1))
    with pytest.raises(OutOfRangeError) as caught:
        save(made(*numbers))
    assert caught.value.path == f"RunMigration.f{at}"
