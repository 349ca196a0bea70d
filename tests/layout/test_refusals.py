# SPDX-License-Identifier: GPL-2.0-or-later
"""What the errors of refused values say to write instead, however the value gets into a field."""

from __future__ import annotations

import ctypes
import decimal
import fractions
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from qemu_vmstate import (
    Array,
    Device,
    Migratable,
    Mutex,
    OutOfRangeError,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    f64,
    save,
    u8,
    u16,
    u32,
    zeroed,
)


class Regs(VMStruct):
    number: u32 = 0
    real: f64 = 0.0
    row: Array[u16, Literal[4]] = zeroed()
    raw: Array[u8, Literal[4]] = zeroed()


class Converted(ToMigrationState[Regs]):
    """A state whose conversion assigns the value."""

    def __init__(self, attribute: str, value: Any) -> None:
        self.attribute = attribute
        self.value = value

    def snapshot_migration_state(self, target: Regs) -> None:
        setattr(target, self.attribute, self.value)

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        raise NotImplementedError


class Dev(Device, name="dev"):
    part: Migratable[Mutex[Converted]]


@derive_to_migration_state
@dataclass
class Derived:
    row: Array[u16, Literal[4]]
    number: u32 = 0
    real: f64 = 0.0


Put = Callable[[str, Any], None]


def assign(attribute: str, value: Any) -> None:
    setattr(Regs(), attribute, value)


def snapshot(attribute: str, value: Any) -> None:
    save(Dev(part=Converted(attribute, value)))


def derived(attribute: str, value: Any) -> None:
    row: Any = [0] * 4
    state = Derived(row)
    setattr(state, attribute, value)
    save(Migratable(Mutex(state)))


def refusal(put: Put, attribute: str, value: Any) -> str:
    """Return the message, without the notes on the hook."""
    with pytest.raises(OutOfRangeError) as caught:
        put(attribute, value)
    return str(caught.value)


WAYS = pytest.mark.parametrize("put", [assign, snapshot, derived])


@WAYS
@pytest.mark.parametrize(
    ("value", "end"),
    [
        (3.0, "3.0 is a float, not u32; write int(VALUE)"),
        (3.5, "3.5 is a float, not u32; write int(VALUE) or round(VALUE)"),
        (np.float64(3), "is a float64, not u32; write int(VALUE)"),
        (decimal.Decimal(3), "Decimal('3') is a Decimal, not u32; write int(VALUE)"),
        (fractions.Fraction(3, 2), "not u32; write int(VALUE) or round(VALUE)"),
        (ctypes.c_uint32(3), "is a c_uint, not u32; write VALUE.value"),
        (float("nan"), "nan is a float, not u32"),
        (float("inf"), "inf is a float, not u32"),
        (decimal.Decimal("sNaN"), "is a Decimal, not u32"),
        (3j, "3j is a complex, not u32"),
        ("3", "'3' is a str, not u32"),
    ],
)
def test_a_number_of_another_type(put: Put, value: Any, end: str) -> None:
    assert refusal(put, "number", value).endswith(end)
    if "write" in end:
        put("number", value.value if "value" in end.split()[-1] else int(value))


@pytest.mark.parametrize("put", [assign, snapshot])
def test_a_number_for_a_float(put: Put) -> None:
    assert refusal(put, "real", decimal.Decimal("0.5")).endswith("not f64; write float(VALUE)")
    assert refusal(put, "real", ctypes.c_double(0.5)).endswith("not f64; write VALUE.value")


@WAYS
def test_elements_of_another_type(put: Put) -> None:
    message = refusal(put, "row", [1, 2.0, 3, 4])
    assert message.endswith("row[1]: 2.0 is a float, not u16; write int(VALUE)")
    put("row", (ctypes.c_uint16 * 4)(1, 2, 3, 4))


@WAYS
def test_an_array_of_two_dimensions(put: Put) -> None:
    table = np.arange(4, dtype="uint16").reshape(2, 2)
    end = (
        "row: 2 elements for 4; an array's length is fixed; this one has 2 dimensions, and the "
        "field has one: write VALUE.ravel()"
    )
    assert refusal(put, "row", table).endswith(end)
    put("row", table.ravel())
    assert refusal(put, "row", table[:1]).endswith("; an array's length is fixed")


def test_bytes_of_two_dimensions() -> None:
    table = np.arange(4, dtype="uint8").reshape(2, 2)
    regs: Any = Regs()
    message = refusal(assign, "raw", table)
    assert message.startswith("Regs.raw: 2 elements for 4; ")
    assert message.endswith("write VALUE.ravel()")
    regs.raw = table.ravel()
    assert bytes(regs.raw) == bytes([0, 1, 2, 3])
