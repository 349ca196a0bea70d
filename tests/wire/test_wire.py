# SPDX-License-Identifier: GPL-2.0-or-later
"""Every type of field: its bytes on the wire, its limits, and the values that it accepts."""

from __future__ import annotations

import array
import enum
import struct
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    Buffer,
    DeclarationError,
    InvalidError,
    OutOfRangeError,
    VMStateError,
    VMStruct,
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
    zeroed,
)


class Every(VMStruct):
    b: bool = False
    u8: u8 = 0
    u16: u16 = 0
    u32: u32 = 0
    u64: u64 = 0
    i8: i8 = 0
    i16: i16 = 0
    i32: i32 = 0
    i64: i64 = 0


every: Any = Every

# Name in Every, letter of struct, minimum, maximum; written here, independent of the product.
NUMBERS = [
    ("u8", "B", 0, 0xFF),
    ("u16", "H", 0, 0xFFFF),
    ("u32", "I", 0, 0xFFFF_FFFF),
    ("u64", "Q", 0, 0xFFFF_FFFF_FFFF_FFFF),
    ("i8", "b", -0x80, 0x7F),
    ("i16", "h", -0x8000, 0x7FFF),
    ("i32", "i", -0x8000_0000, 0x7FFF_FFFF),
    ("i64", "q", -0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
]
BY_NAME = pytest.mark.parametrize(("name", "letter", "low", "high"), NUMBERS)
every_number = st.sampled_from(NUMBERS).flatmap(
    lambda row: st.tuples(st.just(row), st.integers(row[2], row[3]))
)


def wire_of(name: str, value: int) -> bytes:
    """Return the bytes of an Every in which one field is not 0."""
    values: dict[str, Any] = {"b": False} | {row[0]: 0 for row in NUMBERS} | {name: value}
    return struct.pack(">?BHIQbhiq", *values.values())


@BY_NAME
def test_number_is_big_endian_at_its_limits_and_zero(
    name: str, letter: str, low: int, high: int
) -> None:
    for value in {low, high, 0, 1, high // 3}:
        state = every(**{name: value})
        assert save(state) == wire_of(name, value)
        loaded = Every()
        load(loaded, wire_of(name, value))
        assert getattr(loaded, name) == value
        assert loaded == state


@given(every_number)
def test_any_number_in_range_round_trips(
    picked: tuple[tuple[str, str, int, int], int],
) -> None:
    (name, _, _, _), value = picked
    state = every(**{name: value})
    assert getattr(state, name) == value
    assert save(state) == wire_of(name, value)
    loaded = Every()
    load(loaded, save(state))
    assert getattr(loaded, name) == value


@BY_NAME
def test_one_beyond_the_limits_is_refused_where_it_is_assigned(
    name: str, letter: str, low: int, high: int
) -> None:
    for value in (low - 1, high + 1, low - 2**80, high + 2**80):
        state = every(**{name: high})
        with pytest.raises(OutOfRangeError) as caught:
            setattr(state, name, value)
        assert str(caught.value) == (
            f"Every.{name}: {value} is out of range for {name} ({low} to {high})"
        )
        assert isinstance(caught.value, ValueError)
        assert getattr(state, name) == high


def test_number_of_thousands_of_digits_is_out_of_range_too() -> None:
    with pytest.raises(OutOfRangeError, match=r"^Every\.u8: "):
        Every().u8 = 1 << 20000


@BY_NAME
@pytest.mark.parametrize("value", [None, "1", 1.0, b"1", [1], object(), np.float64(1)])
def test_what_is_no_integer_is_refused(
    name: str, letter: str, low: int, high: int, value: object
) -> None:
    state = every(**{name: 1})
    with pytest.raises(OutOfRangeError, match=rf"^Every\.{name}: .*not {name}") as caught:
        setattr(state, name, value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert getattr(state, name) == 1


def test_bool_is_one_byte_and_reads_as_bool() -> None:
    state = Every(b=True)
    assert state.b is True
    assert save(state) == b"\1" + bytes(30)
    state.b = False
    assert state.b is False
    assert save(state) == bytes(31)


def test_bool_accepts_only_0_and_1() -> None:
    state = Every()
    state.b = 1  # type: ignore[assignment]
    assert state.b is True
    values: tuple[Any, ...] = (2, -1, "yes", None, 1.0)
    for value in values:
        with pytest.raises(OutOfRangeError, match=r"^Every\.b: "):
            state.b = value
    assert state.b is True


def test_any_byte_but_0_loads_as_true_and_is_saved_as_1() -> None:
    for byte in range(256):
        state = Every()
        load(state, bytes([byte]) + bytes(30))
        assert state.b is (byte != 0)
        assert save(state) == bytes([byte != 0]) + bytes(30)


def test_bool_field_accepts_a_numpy_comparison() -> None:
    state = Every()
    answer: Any = np.uint8(3) > np.uint8(2)
    state.b = answer
    assert state.b is True


@BY_NAME
def test_numpy_integers_are_taken_and_checked(name: str, letter: str, low: int, high: int) -> None:
    state = Every()
    setattr(state, name, np.dtype(letter).type(high))
    assert getattr(state, name) == high
    if name not in ("u64", "i64"):
        with pytest.raises(OutOfRangeError):
            setattr(state, name, np.int64(high + 1))
    if name.startswith("u"):
        with pytest.raises(OutOfRangeError):
            setattr(state, name, np.int8(-1))


def test_int_enums_are_integers() -> None:
    class Mode(enum.IntEnum):
        OFF = 0
        ON = 3

    state = Every(u16=Mode.ON)
    assert state.u16 == Mode.ON
    assert type(state.u16) is int
    with pytest.raises(OutOfRangeError):
        state.u8 = enum.IntEnum("Large", {"TOP": 256}).TOP  # type: ignore[attr-defined]


def test_an_index_that_raises_is_heard() -> None:
    class Odd:
        def __index__(self) -> int:
            raise RuntimeError("odd")

    state = Every(u8=4)
    with pytest.raises(RuntimeError, match="odd"):
        state.u8 = Odd()  # type: ignore[assignment]
    assert state.u8 == 4


# -------------------------------------------------------------------- arrays


class Pair(VMStruct):
    x: u8 = 1
    y: u16 = 2


def rows(*values: list[int]) -> Any:
    """Assign lists to an array of arrays; its static type does not accept lists."""
    return list(values)


class Arrays(VMStruct):
    words: Array[u16, Literal[4]] = zeroed()
    octets: Array[u8, Literal[4]] = zeroed()
    signed: Array[i8, Literal[4]] = zeroed()
    flags: Array[bool, Literal[3]] = zeroed()
    pairs: Array[Pair, Literal[2]] = zeroed()
    grid: Array[Array[u16, Literal[3]], Literal[2]] = zeroed()
    raw: Buffer[Literal[5]] = zeroed()


def test_arrays_lie_on_the_wire_element_by_element() -> None:
    state = Arrays(
        words=[1, 2, 3, 0xFFFF],
        octets=[4, 5, 6, 7],
        signed=[-1, -128, 127, 0],
        flags=[True, False, True],
        pairs=[Pair(x=8, y=9), Pair(x=10, y=11)],
        grid=rows([12, 13, 14], [15, 16, 17]),
        raw=b"hello",
    )
    expected = struct.pack(
        ">4H4B4b3?BHBH6H5s",
        *(1, 2, 3, 0xFFFF),
        *(4, 5, 6, 7),
        *(-1, -128, 127, 0),
        *(True, False, True),
        *(8, 9, 10, 11),
        *(12, 13, 14, 15, 16, 17),
        b"hello",
    )
    assert save(state) == expected
    loaded = Arrays()
    load(loaded, expected)
    assert loaded == state
    assert list(loaded.grid[1]) == [15, 16, 17]
    assert (loaded.pairs[1].x, loaded.pairs[1].y) == (10, 11)


def test_array_indexing_is_that_of_a_sequence() -> None:
    words: Any = Arrays(words=[10, 11, 12, 13]).words
    assert len(words) == 4
    assert [words[i] for i in (0, 3, -1, -4)] == [10, 13, 13, 10]
    assert list(words) == [10, 11, 12, 13]
    assert words[1:3] == [11, 12]
    assert words[::-2] == [13, 11]
    assert words[10:] == []
    assert 12 in words
    assert 14 not in words
    assert words == [10, 11, 12, 13]
    assert words != [10, 11, 12]
    assert words != [10, 11, 12, 14]
    assert words == Arrays(words=[10, 11, 12, 13]).words
    assert repr(words) == "[10, 11, 12, 13]"
    with pytest.raises(IndexError):
        words[2**70]
    for index in (4, -5):
        with pytest.raises(IndexError, match=r"Arrays\.words"):
            words[index]
        with pytest.raises(IndexError, match=r"Arrays\.words"):
            words[index] = 0


def test_array_elements_and_slices_are_assigned_in_place() -> None:
    state = Arrays(words=[1, 2, 3, 4])
    view = state.words
    view[0] = 9
    view[-1] = 8
    view[1:3] = [6, 7]
    view[2:2] = []
    assert list(state.words) == [9, 6, 7, 8]


def test_array_element_out_of_range_names_its_index() -> None:
    state = Arrays(words=[1, 2, 3, 4])
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.words\[3\]: 65536 is out of range for"):
        state.words[3] = 65536
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.words\[3\]: -1 is out of range for"):
        state.words[-1] = -1
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.words\[2\]: "):
        state.words[1:3] = [0, 65536]
    assert list(state.words) == [1, 2, 3, 4]


@pytest.mark.parametrize("bad", [[1, 2, 3, 65536], [1, 2, 3], [1, 2, 3, 4, 5], [1, None, 3, 4], 7])
def test_array_assignment_is_all_or_nothing(bad: Any) -> None:
    state = Arrays(words=[5, 6, 7, 8])
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.words"):
        state.words = bad
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.words"):
        state.words[:] = bad
    assert list(state.words) == [5, 6, 7, 8]


def test_array_is_assigned_from_any_iterable() -> None:
    state = Arrays()
    state.words = (n for n in (1, 2, 3, 4))
    assert list(state.words) == [1, 2, 3, 4]
    state.words = {5: "", 6: "", 7: "", 8: ""}
    assert list(state.words) == [5, 6, 7, 8]
    state.words = Arrays(words=[1, 1, 1, 1]).words
    assert list(state.words) == [1, 1, 1, 1]
    state.words = state.words
    assert list(state.words) == [1, 1, 1, 1]
    state.words = np.array([9, 8, 7, 6], dtype=">u4")
    assert list(state.words) == [9, 8, 7, 6]


def test_iterator_that_raises_leaves_the_array_as_it_was() -> None:
    def numbers() -> Any:
        yield 1
        raise RuntimeError("no more")

    state = Arrays(words=[5, 6, 7, 8])
    with pytest.raises(RuntimeError, match="no more"):
        state.words = numbers()
    assert list(state.words) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    "negative",
    [
        [-1, 0, 0, 0],
        np.array([-1, 0, 0, 0], dtype=np.int8),
        array.array("b", [-1, 0, 0, 0]),
        Arrays(signed=[-1, 0, 0, 0]).signed,
    ],
    ids=["list", "numpy", "array", "view"],
)
def test_negative_number_never_becomes_a_large_one_in_an_array_of_u8(negative: Any) -> None:
    state = Arrays(octets=[1, 2, 3, 4])
    with pytest.raises(OutOfRangeError, match="-1 is out of range for u8"):
        state.octets = negative
    assert list(state.octets) == [1, 2, 3, 4]


def test_array_of_structs_gives_views() -> None:
    state = Arrays()
    assert [(p.x, p.y) for p in state.pairs] == [(1, 2), (1, 2)]
    state.pairs[1].y = 77
    assert [(p.x, p.y) for p in state.pairs] == [(1, 2), (1, 77)]
    state.pairs[0] = Pair(x=3, y=4)
    assert (state.pairs[0].x, state.pairs[0].y) == (3, 4)
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.pairs\[0\]: .*not Pair"):
        state.pairs[0] = Arrays()  # type: ignore[call-overload]
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.pairs\[1\]: "):
        state.pairs = [Pair(), None]  # type: ignore[list-item]
    assert state.pairs[0] == Pair(x=3, y=4)


def test_two_dimensions_are_rows_of_rows() -> None:
    state = Arrays(grid=rows([1, 2, 3], [4, 5, 6]))
    state.grid[1][2] = 9
    row = state.grid[0]
    row[:] = [7, 7, 7]
    assert [list(r) for r in state.grid] == [[7, 7, 7], [4, 5, 9]]
    with pytest.raises(OutOfRangeError, match="70000"):
        state.grid = rows([0, 0, 0], [0, 0, 70000])
    with pytest.raises(OutOfRangeError, match="2 elements for 3"):
        state.grid = rows([0, 0, 0], [0, 0])
    assert [list(r) for r in state.grid] == [[7, 7, 7], [4, 5, 9]]


def test_refused_element_of_a_row_names_row_and_column() -> None:
    with pytest.raises(OutOfRangeError, match=r"^Arrays\.grid\[1\]\[2\]: 70000 is out of range"):
        Arrays().grid = rows([0, 0, 0], [0, 0, 70000])


def test_one_number_fills_an_array_of_rows() -> None:
    class Filled(VMStruct):
        grid: Array[Array[u8, Literal[3]], Literal[2]] = field(default=7)

    assert save(Filled()) == bytes([7] * 6)


@pytest.mark.parametrize(
    ("letter", "values"),
    [
        ("B", [0, 255]),
        ("H", [0, 0xFFFF]),
        ("I", [0, 2**32 - 1]),
        ("Q", [0, 2**64 - 1]),
        ("b", [-128, 127]),
        ("h", [-(2**15), 2**15 - 1]),
        ("i", [-(2**31), 2**31 - 1]),
        ("q", [-(2**63), 2**63 - 1]),
        ("?", [True, False]),
    ],
)
def test_numpy_shares_an_arrays_memory_in_its_own_type(letter: str, values: list[int]) -> None:
    class One(VMStruct):
        before: u8 = 0
        B: Array[u8, Literal[2]] = zeroed()
        H: Array[u16, Literal[2]] = zeroed()
        I: Array[u32, Literal[2]] = zeroed()  # noqa: E741
        Q: Array[u64, Literal[2]] = zeroed()
        b: Array[i8, Literal[2]] = zeroed()
        h: Array[i16, Literal[2]] = zeroed()
        i: Array[i32, Literal[2]] = zeroed()
        q: Array[i64, Literal[2]] = zeroed()
        flag: Array[bool, Literal[2]] = zeroed()

    state = One()
    name = {"?": "flag"}.get(letter, letter)
    setattr(state, name, values)
    seen = np.asarray(getattr(state, name))
    assert seen.dtype == np.dtype(letter)
    assert seen.tolist() == values
    seen[0] = 1
    assert list(getattr(state, name)) == [1, values[1]]
    assert memoryview(getattr(state, name)).format == letter


def test_numpy_sees_rows_and_columns() -> None:
    state = Arrays(grid=rows([1, 2, 3], [4, 5, 6]))
    seen = np.asarray(state.grid)
    assert seen.shape == (2, 3)
    assert seen.dtype == np.uint16
    assert seen.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_numpy_shares_the_memory_of_a_row() -> None:
    state = Arrays(grid=rows([1, 2, 3], [4, 5, 6]))
    np.asarray(state.grid[1])[:] += 1
    assert [list(r) for r in state.grid] == [[1, 2, 3], [5, 6, 7]]


def test_buffer_accepts_only_bytes_of_its_length() -> None:
    state = Arrays(raw=b"abcde")
    assert bytes(state.raw) == b"abcde"
    state.raw = bytearray(b"12345")
    state.raw = memoryview(b"fghij")
    state.raw[0] = 0
    assert bytes(state.raw) == b"\0ghij"
    for bad in (b"", b"abcd", b"abcdef"):
        with pytest.raises(OutOfRangeError, match=rf"^Arrays\.raw: {len(bad)} elements for 5"):
            state.raw = bad
    with pytest.raises(OutOfRangeError):
        state.raw = "abcde"  # type: ignore[assignment]
    assert bytes(state.raw) == b"\0ghij"


# -------------------------------------------------------------- declarations


@pytest.mark.parametrize("length", [0, -1, 2**31, True, 1.5, "4", None])
def test_length_must_be_a_number_of_elements(length: Any) -> None:
    spelled: Any = Array
    with pytest.raises(DeclarationError, match="is no length"):
        spelled[u8, length]
    raw: Any = Buffer
    with pytest.raises(DeclarationError, match="is no length"):
        raw[length]


def test_length_may_be_literal_or_plain() -> None:
    spelled: Any = Array

    class Both(VMStruct):
        a: spelled[u8, 3] = zeroed()
        b: spelled[u8, Literal[3]] = zeroed()

    assert save(Both()) == bytes(6)


@pytest.mark.parametrize("annotation", [int, float, str, bytes, list[int], object, None, "u9"])
def test_element_without_a_width_is_refused(annotation: Any) -> None:
    spelled: Any = Array
    with pytest.raises(DeclarationError, match=r"^Bad\.a: .* has no width on the wire"):

        class Bad(VMStruct):
            a: spelled[annotation, 4] = zeroed()


def test_array_needs_an_element_and_a_length() -> None:
    spelled: Any = Array
    for params in (u8, (u8,), (u8, 1, 2)):
        with pytest.raises(DeclarationError, match="an element and a length"):
            spelled[params]


def test_field_accepts_one_kind_of_default() -> None:
    with pytest.raises(DeclarationError, match="not both"):
        field(default=1, default_factory=int)


def test_range_errors_are_invalid_errors_of_this_package() -> None:
    assert issubclass(OutOfRangeError, InvalidError)
    assert issubclass(InvalidError, VMStateError)
