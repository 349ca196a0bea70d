# SPDX-License-Identifier: GPL-2.0-or-later
"""f32 and f64: IEEE 754 bits on the wire, as QEMU's float32 and float64 have them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    DeclarationError,
    OutOfRangeError,
    VMStruct,
    derive_to_migration_state,
    describe,
    f32,
    f64,
    field,
    load,
    save,
    u8,
    zeroed,
)

from .. import c_reference
from ..derive.states import any_type

GREATEST_F32 = 2.0**128 - 2.0**104


class Numbers(VMStruct):
    single: f32 = 1.5
    double: f64 = 0.25
    row: Array[f32, Literal[3]] = field(default=-2.0)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.5, 0x3FC00000),
        (-0.0, 0x80000000),
        (0.1, 0x3DCCCCCD),  # rounded to the nearest
        (2.0**-149, 1),
        (GREATEST_F32, 0x7F7FFFFF),
        (math.inf, 0x7F800000),
        (3, 0x40400000),
    ],
)
def test_f32_is_its_bits(value: float, bits: int) -> None:
    class State(VMStruct):
        value: f32 = 0.0

    state = State(value=value)
    assert save(state) == bits.to_bytes(4, "big")
    load(state, (0x41280000).to_bytes(4, "big"))
    assert state.value == 10.5


@pytest.mark.parametrize(
    ("value", "bits"),
    [(1.5, 0x3FF8 << 48), (-math.inf, 0xFFF0 << 48), (5e-324, 1), (0.1, 0x3FB999999999999A)],
)
def test_f64_is_its_bits(value: float, bits: int) -> None:
    class State(VMStruct):
        value: f64 = 0.0

    state = State(value=value)
    assert save(state) == bits.to_bytes(8, "big")
    load(state, (0x4025 << 48).to_bytes(8, "big"))
    assert state.value == 10.5


def test_nan_stays_bit_for_bit() -> None:
    """Python would make a signalling NaN quiet, and does not touch what nobody reads."""
    state = Numbers()
    data = bytes.fromhex("7fa00001 7ff4000000000001 ffc00000 7f800001 00000000")
    load(state, data)
    assert save(state) == data
    assert math.isnan(state.single)
    assert math.isnan(state.double)


@pytest.mark.parametrize(
    ("kind", "macro", "number", "bits"),
    [("f32", "VMSTATE_UINT32", 1.5, 0x3FC00000), ("f64", "VMSTATE_UINT64", 1.5, 0x3FF8 << 48)],
)
def test_bytes_and_description_are_those_of_c(
    kind: str, macro: str, number: float, bits: int
) -> None:
    declared: Any = {"f32": f32, "f64": f64}[kind]

    class S(VMStruct, name="s", version_id=3, minimum_version_id=1):
        a: declared = 0.0

    reference = c_reference.rows()[macro].reference
    state = S(a=number)
    data, description = reference.save(reference.make({"a": bits}))
    assert (save(state), describe(state)) == (data, description)
    loaded = reference.make({"a": 0})
    reference.load(loaded, data)
    assert c_reference.read(loaded, {"a": 0}) == {"a": bits}


def test_array_is_a_view_of_floats() -> None:
    state = Numbers()
    assert list(state.row) == [-2.0] * 3
    state.row[1:] = [0.5, 7]
    view: Any = memoryview(state.row)
    assert (view.format, view.itemsize, view.tolist()) == ("f", 4, [-2.0, 0.5, 7.0])
    view[0] = 4.0
    assert save(state)[12:] == struct.pack(">3f", 4.0, 0.5, 7.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1e39, r"1e\+39 is out of range for f32 \(its greatest is 3\.402823466\d*e\+38\)"),
        (-(10**400), "is out of range for f32"),
        ("x", "'x' is a str, not f32"),
        (None, "None is a NoneType, not f32"),
    ],
)
def test_f32_refuses_what_it_cannot_hold(value: Any, said: str) -> None:
    state = Numbers()
    with pytest.raises(OutOfRangeError, match=said):
        state.single = value
    with pytest.raises(OutOfRangeError, match=r"Numbers\.row\[2\]"):
        state.row = [1.0, 2.0, value]
    assert (state.single, list(state.row)) == (1.5, [-2.0] * 3)


@pytest.mark.parametrize("kind", [f32, f64])
def test_has_no_limits(kind: Any) -> None:
    with pytest.raises(DeclarationError, match="for whole numbers"):

        class State(VMStruct):
            value: kind = field(maximum=2)


@derive_to_migration_state
@dataclass
class Derived:
    ratio: f32 = 0.0
    price: Decimal = field(default=Decimal(0), into=f64)
    level: float = field(default=0.0, into=f32)
    row: list[float] = field(default_factory=lambda: [0.0, 0.0], try_into=any_type[f64, 2])
    after: u8 = 0


def test_derived_dataclass_has_floats() -> None:
    state = Derived(0.5, Decimal("2.5"), 1.25, [3.0, 4.5], 7)
    data = struct.pack(">fdfddB", 0.5, 2.5, 1.25, 3.0, 4.5, 7)
    assert save(state) == data
    other = Derived()
    load(other, data)
    assert other == state


def test_derived_dataclass_refuses_what_f32_cannot_hold() -> None:
    for state in (Derived(ratio=1e39), Derived(level=1e39)):
        with pytest.raises(OutOfRangeError, match=r"(ratio|level).* out of range for f32"):
            save(state)


def test_float_is_not_cut_to_a_whole_number() -> None:
    with pytest.raises(DeclarationError, match="would lose its fraction"):

        @derive_to_migration_state
        @dataclass
        class State:
            ratio: float = field(default=0.0, into=u8)


def test_zeroed_is_zero() -> None:
    class State(VMStruct):
        single: f32 = zeroed()
        double: f64 = zeroed()

    assert save(State()) == bytes(12)
