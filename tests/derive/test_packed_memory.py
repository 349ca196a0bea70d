# SPDX-License-Identifier: GPL-2.0-or-later
"""Packed objects are decoded from the migration state's memory, and keep nothing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest

from qemu_vmstate import (
    DerivedState,
    InvalidError,
    Packed,
    VBuffer,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    save,
    u32,
)
from qemu_vmstate.derive.forms import BytesForm, FunctionForm, Room
from qemu_vmstate.wire.types import SCALARS

# Fewer bytes are copied before they are decoded.
SMALLEST_VIEW = 4096
SIZES = [0, 1, SMALLEST_VIEW - 8, SMALLEST_VIEW, 2 * SMALLEST_VIEW]


@derive_to_migration_state
@dataclass
class Block(DerivedState):
    data: Packed[bytes, Literal[16384]] = field(default=b"")


@derive_to_migration_state
@dataclass
class Raw(DerivedState):
    data: Packed[msgspec.Raw, Literal[16384]] = field(default_factory=lambda: msgspec.Raw(b"\xc0"))


@derive_to_migration_state
@dataclass
class Numbers(DerivedState):
    numbers: Packed[list[int], Literal[16384]] = field(default_factory=list)


def bin_of(data: bytes) -> bytes:
    """Return the MessagePack of bytes: bin 8 up to 255, bin 16 above."""
    size = len(data)
    return (b"\xc4" + size.to_bytes(1) if size < 256 else b"\xc5" + size.to_bytes(2)) + data


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_every_size(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    message = bin_of(data)
    wire = len(message).to_bytes(4) + message
    assert save(Block(data)) == wire
    block = Block()
    load(block, wire)
    assert block.data == data


@pytest.mark.parametrize("size", SIZES)
def test_what_refers_to_its_message_has_a_copy_of_it(size: int) -> None:
    message = bin_of(b"a" * size)
    state = Raw()
    load(state, len(message).to_bytes(4) + message)
    first = state.data
    other = bin_of(b"b" * size)
    load(state, len(other).to_bytes(4) + other)
    assert bytes(first) == message
    assert bytes(state.data) == other


@pytest.mark.parametrize("count", [3, SMALLEST_VIEW])
def test_a_message_of_another_type_changes_nothing(count: int) -> None:
    state = Numbers([7])
    # An array 16 of the numbers 1, and at last nil.
    message = b"\xdc" + (count + 1).to_bytes(2) + b"\x01" * count + b"\xc0"
    expected = r"^Numbers.*numbers: its MessagePack is no list\[int\]: Expected `int`, got `None`"
    with pytest.raises(InvalidError, match=expected):
        load(state, len(message).to_bytes(4) + message)
    assert state.numbers == [7]


def test_an_object_with_a_longer_message_than_declared() -> None:
    # A byte for the type, two for the length.
    with pytest.raises(
        InvalidError, match="this bytes is packed into 16385 bytes, and the maximum is 16384"
    ):
        save(Block(bytes(16382)))


class Memory(VMStruct):
    size_value: u32 = 0
    value: VBuffer[Literal[16384]] = field(size="size_value")


def conversion_by(back: Any) -> Any:
    buffer = BytesForm(memoryview, Room(16384, SCALARS["I"]))
    return FunctionForm(buffer, bytes, back, None).conversion(Memory, "value")


def test_a_view_of_the_memory_is_released() -> None:
    kept: list[memoryview] = []

    def keep(view: memoryview) -> int:
        kept.append(view)
        return len(view)

    conversion, memory = conversion_by(keep), Memory()
    conversion.pack(bytes(SMALLEST_VIEW), memory)
    assert conversion.unpack(memory, 1) == SMALLEST_VIEW
    with pytest.raises(ValueError, match="released memoryview"):
        kept[0][0]


def test_an_object_that_refers_to_the_memory_is_refused() -> None:
    conversion, memory = conversion_by(msgspec.msgpack.Decoder(msgspec.Raw).decode), Memory()
    conversion.pack(bin_of(bytes(SMALLEST_VIEW)), memory)
    with pytest.raises(BufferError, match="exported"):
        conversion.unpack(memory, 1)
