# SPDX-License-Identifier: GPL-2.0-or-later
"""Derived fields that convert: ``into``, ``try_into``, enums, and what stands for None."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    VMStruct,
    derive_to_migration_state,
    field,
    i16,
    i32,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
)

from .states import (
    Bits,
    Level,
    Loose,
    Mode,
    Ticks,
    any_buffer,
    any_type,
)

Unchanged = Callable[[Any], AbstractContextManager[None]]


class Pair(VMStruct):
    re: i16 = 0
    im: i16 = 0

    def __init__(self, value: complex = 0) -> None:
        super().__init__(re=int(value.real), im=int(value.imag))

    def __complex__(self) -> complex:
        return complex(self.re, self.im)


def test_into_every_kind_of_wire_type() -> None:
    @derive_to_migration_state
    @dataclass
    class Kinds:
        number: int = field(default=3, into=u64)
        point: complex = field(default=1 - 2j, into=Pair)
        hosts: frozenset[int] = field(default=frozenset({5, 6}), try_into=any_type[u8, 2])
        key: bytearray = field(default_factory=lambda: bytearray(b"k"), into=any_buffer[1])
        wrapped: bool = field(default=True, into=u8)
        truth: int = field(default=1, into=bool)

    kinds = Kinds()
    assert save(kinds) == struct.pack(">Qhh2BcB?", 3, 1, -2, 5, 6, b"k", 1, True)
    load(kinds, struct.pack(">Qhh2BcB?", 2**63, -1, 9, 7, 8, b"l", 7, False))
    assert kinds == Kinds(2**63, -1 + 9j, frozenset({7, 8}), bytearray(b"l"), True, 0)
    assert type(kinds.key) is bytearray
    assert type(kinds.truth) is int
    kinds.number = -1
    with pytest.raises(OutOfRangeError, match=r"^KindsMigration\.number: -1 is out of range"):
        save(kinds)


class Even:
    """A number that is even; any other is refused in both directions."""

    def __init__(self, value: int) -> None:
        if value % 2:
            raise ValueError("it is odd")
        self.value = value

    def __int__(self) -> int:
        if self.value > 100:
            raise RuntimeError("it is large")
        return self.value


def test_try_into_that_fails_is_an_invalid_error_with_path_and_value(unchanged: Unchanged) -> None:
    @derive_to_migration_state
    @dataclass
    class Tries:
        count: u8 = 1
        even: Even = field(default_factory=lambda: Even(2), try_into=u16)

    class Dev(Device, name="dev"):
        tries: Migratable[Mutex[Tries]]

    dev = Dev()
    with unchanged(dev), pytest.raises(InvalidError) as caught:
        load(dev, struct.pack(">BH", 9, 7))
    assert str(caught.value) == "dev.tries.even: 7 is no Even: ValueError: it is odd"
    assert isinstance(caught.value.__cause__, ValueError)
    dev.tries.into_inner().even.value = 102
    with pytest.raises(
        InvalidError, match=r"^dev\.tries\.even: .* is no u16: RuntimeError: it is large"
    ):
        save(dev)


def test_into_that_fails_all_the_same_raises_its_own_exception_and_changes_nothing() -> None:
    @derive_to_migration_state
    @dataclass
    class Into:
        count: u8 = 1
        even: Even = field(default_factory=lambda: Even(2), into=u16)

    state = Into()
    even = state.even
    with pytest.raises(ValueError, match=r"^it is odd"):
        load(state, struct.pack(">BH", 9, 7))
    assert (state.count, state.even) == (1, even)


def test_try_into_a_wider_number_checks_the_narrower_one() -> None:
    @derive_to_migration_state
    @dataclass
    class Wide:
        a: u8 = field(default=255, try_into=u32)

    wide = Wide()
    assert save(wide) == struct.pack(">I", 255)
    with pytest.raises(
        InvalidError, match=r"^WideMigration\.a: 256 is out of range for u8 \(0 to 255\)"
    ):
        load(wide, struct.pack(">I", 256))
    assert wide.a == 255


def test_clone_with_into_converts_a_copy() -> None:
    class Draining:
        """A queue that is empty after its conversion, as Rust's ``into`` may leave it."""

        def __init__(self, items: list[int]) -> None:
            self.items = items

        def __iter__(self) -> Any:
            while self.items:
                yield self.items.pop(0)

    def drained(**options: Any) -> Any:
        @derive_to_migration_state
        @dataclass
        class Drained:
            queue: Draining = field(into=any_type[u8, 2], **options)

        return Drained(Draining([1, 2]))

    kept, emptied = drained(clone=True), drained()
    assert save(kept) == save(emptied) == b"\1\2"
    assert (kept.queue.items, emptied.queue.items) == ([1, 2], [])
    load(kept, b"\3\4")
    assert kept.queue.items == [3, 4]


# Enums and None


@derive_to_migration_state
@dataclass
class Enums:
    mode: Mode = field(default=Mode.IDLE, try_into=u8)
    level: Level = field(default=Level.LOW, try_into=i32)
    bits: Bits = field(default=Bits.A, try_into=u16)
    loose: Loose = field(default=Loose.A, into=u8)
    maybe: Mode | None = field(default=None, try_into=u8, none=255)


def test_enums_have_the_width_declared() -> None:
    enums = Enums()
    assert save(enums) == struct.pack(">BiHBB", 0, 1, 1, 1, 255)
    load(enums, struct.pack(">BiHBB", 9, 2, 5, 3, 1))
    assert enums == Enums(Mode.HALT, Level.HIGH, Bits.A | Bits.B, Loose(3), Mode.RUN)
    assert type(enums.level) is Level
    enums.level = 1  # type: ignore[assignment]
    assert save(enums)[1:5] == struct.pack(">i", 1)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ((2, 1, 1, 1, 255), "EnumsMigration.mode: 2 is no Mode, which has IDLE (0), RUN (1), "),
        ((0, 0, 1, 1, 255), "EnumsMigration.level: 0 is no Level, which has LOW (1), HIGH (2)"),
        ((0, 1, 2, 1, 255), "EnumsMigration.bits: 2 is no Bits, which has A (1), B (4)"),
        ((0, 1, 1, 1, 254), "EnumsMigration.maybe: 254 is no Mode, which has IDLE (0), RUN (1)"),
    ],
)
def test_unknown_value_on_load_names_the_known_ones(wire: tuple[int, ...], message: str) -> None:
    enums = Enums()
    with pytest.raises(InvalidError) as caught:
        load(enums, struct.pack(">BiHBB", *wire))
    assert str(caught.value).startswith(message)
    assert enums == Enums()


def test_attribute_that_is_no_member_is_refused_on_save() -> None:
    enums = Enums(mode="idle")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match=r"^EnumsMigration\.mode: 'idle' is no Mode"):
        save(enums)


def test_value_that_stands_for_none_is_refused_on_save() -> None:
    with pytest.raises(
        InvalidError, match=r"^TicksMigration\.deadline: 65535 stands for None on the wire"
    ):
        save(Ticks(deadline=0xFFFF))


def test_bool_before_the_value_goes_with_every_shape() -> None:
    @derive_to_migration_state
    @dataclass
    class Maybe:
        flag: bool | None = field(default=None, none=bool)
        mode: Mode | None = field(default=None, try_into=u8, none=bool)
        mac: bytes | None = field(default=None, length=2, none=bool)
        fifo: list[u8] | None = field(default=None, length=1, none=bool)

    maybe = Maybe()
    absent = struct.pack(">???B?2s?B", False, False, False, 0, False, b"\0\0", False, 0)
    assert save(maybe) == absent
    # The value after a false bool is ignored, even an unknown mode.
    load(maybe, struct.pack(">???B?2s?B", False, True, False, 77, False, b"xy", False, 3))
    assert maybe == Maybe()
    present = struct.pack(">???B?2s?B", True, True, True, 9, True, b"xy", True, 3)
    load(maybe, present)
    assert maybe == Maybe(True, Mode.HALT, b"xy", [3])
    assert save(maybe) == present
    load(maybe, absent)
    assert maybe == Maybe()
