# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of layout classes beyond plain numbers and fixed arrays."""

from __future__ import annotations

import copy
import pickle
import struct
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    Bitmap,
    Buffer,
    DeclarationError,
    Equal,
    GTree,
    InvalidError,
    OutOfRangeError,
    PointerArray,
    QList,
    QTailQ,
    StreamError,
    Subsection,
    Tmp,
    Unused,
    VArray,
    VBuffer,
    VMStruct,
    asdict,
    cpudouble,
    describe,
    field,
    i8,
    i32,
    i32_positive_le,
    i64,
    load,
    save,
    timer,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)
from qemu_vmstate.process_memory import resident_memory

from ..release import loads_null, release


class Item(VMStruct):
    a: u8 = 0
    b: u16 = 7


class Counted(VMStruct):
    n: u8 = 0
    items: VArray[Item, Literal[3]] = field(num="n")


# Counted arrays


def test_assigning_a_counted_array_sets_its_count() -> None:
    state = Counted(items=[Item(a=1), Item(a=2)])
    assert state.n == len(state.items) == 2
    assert save(state) == bytes([2, 1, 0, 7, 2, 0, 7])
    state.items = []
    assert state.n == 0
    assert save(state) == bytes([0])


def test_setting_the_count_shows_that_many_elements() -> None:
    state = Counted(items=[Item(a=1)])
    state.n = 3
    assert [item.a for item in state.items] == [1, 0, 0]
    with pytest.raises(IndexError, match=r"index 3 of 3 elements"):
        state.items[3]
    with pytest.raises(OutOfRangeError, match=r"Counted.n: 4 is out of range for u8 \(0 to 3\)"):
        state.n = 4


def test_a_shorter_array_leaves_nothing_behind() -> None:
    state = Counted(items=[Item(a=1), Item(a=2), Item(a=3)])
    state.items = [Item(a=1)]
    assert state == Counted(items=[Item(a=1)])


class TwoCounted(VMStruct):
    n: u8 = 0
    items: VArray[Item, Literal[3]] = field(num="n")
    numbers: VArray[u16, Literal[3]] = field(num="n")


class Around(VMStruct):
    number: u8 = 0
    inner: Counted = zeroed()
    queue: QTailQ[Counted, Literal[2]] = zeroed()


def lowered(state: Any) -> Any:
    """Return a state whose three items are hidden by its count."""
    state.items = [Item(a=1), Item(a=2), Item(a=3)]
    state.n = 0
    return state


def through_bytes(state: Any) -> Any:
    return pickle.loads(pickle.dumps(lowered(state)))


def through_a_copy(state: Any) -> Any:
    return copy.copy(lowered(state))


def through_an_outer_struct(state: Any) -> Any:
    return Around(inner=lowered(state)).inner


def through_an_inner_struct(state: Any) -> Any:
    around = Around(inner=state)
    lowered(around.inner)
    return around.inner


def through_a_list(state: Any) -> Any:
    return Around(queue=[Counted(), lowered(state)]).queue[1]


def through_an_element(state: Any) -> Any:
    around = Around(queue=[Counted()])
    around.queue[0] = lowered(state)
    return around.queue[0]


@pytest.mark.parametrize(
    "way",
    [
        *(lowered, through_bytes, through_a_copy, through_an_outer_struct),
        *(through_an_inner_struct, through_a_list, through_an_element),
    ],
)
def test_items_that_a_lower_count_has_hidden_do_not_come_back_behind_others(way: Any) -> None:
    state = way(Counted())
    state.items = [Item(a=9)]
    assert state == Counted(items=[Item(a=9)])
    state.n = 3
    assert list(state.items) == [Item(a=9), Item(), Item()]


def test_a_number_that_counts_two_arrays_hides_items_of_both() -> None:
    state = TwoCounted(items=[Item(a=1)] * 3, numbers=[4, 5, 6])
    state.items = []
    state.numbers = [7]
    assert state == TwoCounted(numbers=[7])
    state.n = 3
    assert list(state.items) == [Item()] * 3
    assert list(state.numbers) == [7, 0, 0]


def test_items_stay_when_the_count_is_lowered_and_raised() -> None:
    state = lowered(Counted())
    state.n = 2
    assert [item.a for item in state.items] == [1, 2]


def test_an_assignment_takes_no_memory_for_the_room_of_the_array() -> None:
    class Zero(VMStruct):
        a: u32 = 0

    class Large(VMStruct):
        size: u32 = 0
        data: VBuffer[Literal[0x4000000]] = field(size="size")
        n: u32 = 0
        items: VArray[Zero, Literal[0x1000000]] = field(num="n")

    state = Large()
    before = resident_memory()
    for length in (3, 4, 2):
        state.data = bytes(length)
        state.items = [Zero()] * length
    assert resident_memory() - before < 4 << 20


@pytest.mark.parametrize("items", [[Item()] * 4, [1], [None], 5])
def test_refused_elements_change_nothing(items: Any) -> None:
    state = Counted(items=[Item(a=1)])
    before = copy.copy(state)
    with pytest.raises(OutOfRangeError, match=r"Counted.items"):
        state.items = items
    assert state == before


@pytest.mark.parametrize(("kind", "size"), [(u8, 1), (u16, 2), (u32, 4), (i32, 4)])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_every_kind_of_count(kind: Any, size: int, count: int) -> None:
    class State(VMStruct):
        n: kind = 0
        values: VArray[u16, Literal[4]] = field(num="n")

    state = State(values=range(count))
    wire = count.to_bytes(size) + b"".join(v.to_bytes(2) for v in range(count))
    assert save(state) == wire
    copied = State()
    load(copied, wire)
    assert list(copied.values) == list(range(count))
    over = (5).to_bytes(size) + bytes(10)
    with pytest.raises(InvalidError, match=r"State.n: 5 is out of range \(0 to 4\)"):
        load(copied, over)
    assert list(copied.values) == list(range(count))


def test_a_negative_count_of_a_stream_is_refused() -> None:
    class State(VMStruct):
        n: i32 = 0
        values: VBuffer[Literal[4]] = field(size="n")

    with pytest.raises(InvalidError, match=r"State.n: -1 is out of range \(0 to 4\)"):
        load(State(), b"\xff\xff\xff\xff" + bytes(100))


def test_multiply_counts_several_elements_at_once() -> None:
    class State(VMStruct):
        n: u32 = 0
        pairs: VArray[u8, Literal[5]] = field(num="n", multiply=2)

    if release() >= (11, 1):
        with pytest.raises(DeclarationError, match=r"State.pairs: multiply: .* up to 11.0"):
            save(State())
        return
    state = State(pairs=[1, 2, 3, 4])
    assert state.n == 2
    assert save(state) == bytes([0, 0, 0, 2, 1, 2, 3, 4])
    with pytest.raises(OutOfRangeError, match="3 elements, which is no multiple of 2"):
        state.pairs = [1, 2, 3]
    with pytest.raises(InvalidError, match=r"3 is out of range \(0 to 2\)"):
        load(state, bytes([0, 0, 0, 3]) + bytes(6))


@pytest.mark.parametrize(("type_", "width"), [(u32, 4), (i32, 4), (u64, 8)])
def test_counted_bytes(type_: Any, width: int) -> None:
    class State(VMStruct):
        size: type_ = 0
        data: VBuffer[Literal[8]] = field(size="size")

    state = State(data=b"abc")
    assert bytes(state.data) == b"abc"
    assert save(state) == (3).to_bytes(width) + b"abc"
    load(state, (1).to_bytes(width) + b"z")
    assert (state.size, bytes(state.data)) == (1, b"z")


def test_memory_with_a_count_is_only_to_be_read() -> None:
    state = Counted(items=[Item(a=1)])
    assert memoryview(state).readonly
    assert not memoryview(Item()).readonly
    numbers = memoryview(state.items)
    assert numbers.nbytes == 4


@pytest.mark.parametrize("count", [4, 255])
def test_a_pickle_with_a_count_out_of_range_is_refused(count: int) -> None:
    state = Counted(items=[Item(a=1)])
    rebuild, (cls, data) = state.__reduce__()
    assert pickle.loads(pickle.dumps(state)) == state
    with pytest.raises(OutOfRangeError, match=r"Counted.n"):
        rebuild(cls, bytes([count]) + data[1:])


# Buffers, bitmaps, padding, parts


def test_bitmap_in_words_of_64_bits() -> None:
    class State(VMStruct):
        fixed: Bitmap[Literal[70]] = zeroed()
        n: u32 = 0
        some: Bitmap[Literal[128]] = field(size="n")

    state = State(fixed=[1, 2], n=65, some=[3, 4])
    assert save(state) == struct.pack(">QQIQQ", 1, 2, 65, 3, 4)
    state.n = 64
    assert save(state) == struct.pack(">QQIQ", 1, 2, 64, 3)
    with pytest.raises(InvalidError, match=r"State.n: 129 is out of range \(0 to 128\)"):
        load(state, struct.pack(">QQI", 1, 2, 129) + bytes(24))


def test_unused_bytes_have_no_attribute() -> None:
    class State(VMStruct):
        a: u8 = 1
        _was: Unused[Literal[3]] = zeroed()
        n: u8 = field(default=2, maximum=2)
        _were: Unused[Literal[2]] = field(num="n")
        b: u8 = 4

    assert save(State()) == bytes([1, 0, 0, 0, 2, 0, 0, 0, 0, 4])
    assert not hasattr(State(), "_was")
    state = State()
    load(state, bytes([5, 9, 9, 9, 1, 9, 9, 6]))
    assert asdict(state) == {"a": 5, "n": 1, "b": 6}


def test_parts_of_arrays_and_buffers() -> None:
    class State(VMStruct):
        values: Array[u16, Literal[4]] = field(start=1, num=2)
        tail: Array[u8, Literal[3]] = field(start=2)
        head: Buffer[Literal[4]] = field(size=1)
        middle: Buffer[Literal[4]] = field(start=1, size=2)

    state = State(values=[1, 2, 3, 4], tail=[5, 6, 7], head=b"abcd", middle=b"efgh")
    assert save(state) == bytes([0, 2, 0, 3, 7]) + b"afg"
    other = State(values=[9, 0, 0, 9], head=b"zzzz")
    load(other, save(state))
    assert list(other.values) == [0, 2, 3, 0]
    assert bytes(other.middle) == b"\0fg\0"


# Pointers and lists


@loads_null
def test_pointer_array_with_gaps() -> None:
    class State(VMStruct):
        items: PointerArray[Item, Literal[3]] = zeroed()
        numbers: PointerArray[u32, Literal[2]] = field(default=[1, None])

    state = State(items=[Item(a=1), None, Item(a=2)])
    wire = bytes([1, 0, 7, 0x30, 2, 0, 7, 0, 0, 0, 1, 0x30])
    assert save(state) == wire
    assert state.items[1] is None
    assert state.items == [Item(a=1), None, Item(a=2)]
    copied = State(items=[Item(), None, Item()])
    load(copied, wire)
    assert copied == state
    state.numbers[1] = 5
    assert state.numbers == [1, 5]


def test_pointer_array_of_another_pattern_is_refused() -> None:
    class State(VMStruct):
        numbers: PointerArray[u32, Literal[2]] = zeroed()

    wire = save(State(numbers=[None, 2]))
    state = State(numbers=[1, None])
    with pytest.raises(InvalidError):
        load(state, wire)
    assert state.numbers == [1, None]


def test_counted_pointer_array() -> None:
    class State(VMStruct):
        n: u32 = 0
        numbers: PointerArray[u16, Literal[3]] = field(num="n")

    state = State(numbers=[1, None])
    assert state.n == 2
    assert save(state) == bytes([0, 0, 0, 2, 0, 1, 0x30])


@pytest.mark.parametrize("kind", [QTailQ, QList])
def test_list_up_to_its_maximum(kind: Any) -> None:
    class State(VMStruct):
        items: kind[Item, Literal[2]] = zeroed()

    state = State(items=[Item(a=1), Item(a=2)])
    wire = bytes([1, 1, 0, 7, 1, 2, 0, 7, 0])
    assert save(state) == wire
    load(state, bytes([1, 9, 0, 7, 0]))
    assert list(state.items) == [Item(a=9)]
    message = "State.items: the stream has more than 2 elements"
    with pytest.raises(InvalidError, match=message):
        load(state, bytes([1, 9, 0, 7] * 3 + [0]))
    assert list(state.items) == [Item(a=9)]
    load(state, bytes([0]))
    assert len(state.items) == 0


class Key(VMStruct):
    low: u16 = 0
    high: u16 = 0


def test_tree_with_keys() -> None:
    class State(VMStruct):
        tree: GTree[Key, Item, Literal[2]] = zeroed()
        direct: GTree[u64, Item, Literal[2]] = zeroed()

    state = State(tree={(3, 4): Item(a=2), (1, 2): Item(a=1)}, direct={9: Item(a=3)})
    wire = bytes([0, 0, 0, 2, 1, 0, 1, 0, 2, 1, 0, 7, 1, 0, 3, 0, 4, 2, 0, 7, 0])
    wire += bytes([0, 0, 0, 1, 1, *bytes(7), 9, 3, 0, 7, 0])
    assert save(state) == wire
    copied = State()
    load(copied, wire)
    assert copied.tree == {(1, 2): Item(a=1), (3, 4): Item(a=2)}
    assert asdict(copied)["direct"] == {9: {"a": 3, "b": 7}}
    with pytest.raises(InvalidError, match=r"tree: the stream says 1 nodes and has 0"):
        load(copied, bytes([0, 0, 0, 1, 0]) + bytes(5))
    copied.tree[1, 2].a = 77
    assert copied.tree[1, 2].a == 77


# Checked numbers, doubles, timers


def test_equal_and_positive_le_compare_with_the_runtime_value() -> None:
    class State(VMStruct):
        ports: Equal[u8] = field(default=4, err_hint="start it with as many ports")
        level: i32_positive_le = 10
        data: u8 = 0

    state = State()
    load(state, bytes([4, 0, 0, 0, 10, 1]))
    assert state.data == 1
    state.level = 3
    for wire in (bytes([5, 0, 0, 0, 1, 2]), bytes([4, 0, 0, 0, 4, 2]), bytes([4, 255, 0, 0, 0, 2])):
        with pytest.raises(InvalidError):
            load(state, wire)
        assert (state.ports, state.level, state.data) == (4, 3, 1)
    state.ports = 5
    load(state, bytes([5, 0, 0, 0, 1, 2]))
    assert (state.ports, state.level, state.data) == (5, 1, 2)
    assert [one["type"] for one in describe(state)["fields"]] == [
        "uint8 equal",
        "int32 le",
        "uint8",
    ]


def test_double_and_timer() -> None:
    class State(VMStruct):
        value: cpudouble = 1.5
        several: Array[cpudouble, Literal[2]] = field(default=0.25)
        expires: timer = zeroed()

    assert save(State()) == struct.pack(">dddq", 1.5, 0.25, 0.25, -1)
    state = State()
    load(state, struct.pack(">dddq", -2.0, float("inf"), 3.0, 123))
    assert (state.value, list(state.several), state.expires) == (-2.0, [float("inf"), 3.0], 123)
    with pytest.raises(OutOfRangeError, match="'x' is a str, not f64"):
        state.value = "x"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(u8, 1, 9), (i8, -3, 3), (u16, 0, 300), (i32, -5, 70000), (u64, 2, 2**63 + 1), (i64, 0, 5)],
)
def test_bounds_hold_for_assignments_and_streams(kind: Any, low: int, high: int) -> None:
    class State(VMStruct):
        value: kind = field(default=low, minimum=low, maximum=high)

    size = len(save(State()))
    for value in (low, high):
        state = State(value=value)
        wire = value.to_bytes(size, signed=low < 0)
        assert save(state) == wire
        load(state, wire)
        assert state.value == value
    for value in (low - 1, high + 1):
        state = State(value=high)
        with pytest.raises(OutOfRangeError, match=rf"\({low} to {high}\)"):
            state.value = value
        if value >= 0 or low < 0:
            with pytest.raises(InvalidError, match=rf"State.value: {value} is out of range"):
                load(state, value.to_bytes(size, signed=low < 0))
        assert state.value == high


# Versions, conditions, structs


class Versioned(VMStruct, name="v", version_id=3, minimum_version_id=1):
    a: u8 = 1
    b: u8 = field(default=2, version_id=2)
    c: u8 = field(default=3, version_id=3, keep=True)


def test_fields_that_an_old_stream_lacks_get_their_default_or_are_preserved() -> None:
    state = Versioned(a=10, b=20, c=30)
    load(state, bytes([7]), version_id=1)
    assert (state.a, state.b, state.c) == (7, 2, 30)
    load(state, bytes([7, 8]), version_id=2)
    assert (state.a, state.b, state.c) == (7, 8, 30)
    load(state, bytes([7, 8, 9]), version_id=3)
    assert (state.a, state.b, state.c) == (7, 8, 9)
    with pytest.raises(StreamError, match=r"ends inside v.b, .*; a whole one has 2"):
        load(state, bytes([7]), version_id=2)


def test_struct_of_a_version_of_its_own() -> None:
    class State(VMStruct):
        old: Versioned = field(struct_version_id=1)
        new: Versioned = field(struct_version_id=3)

    assert save(State()) == bytes([1, 1, 2, 3])
    assert describe(State())["fields"][0]["type"] == "vstruct"


def test_field_exists_sees_the_fields_loaded_before_it() -> None:
    seen: list[tuple[int, int]] = []

    def wide(state: Any, version_id: int) -> bool:
        seen.append((state.mode, version_id))
        return bool(state.mode == 1)

    class State(VMStruct, version_id=4):
        mode: u8 = 0
        more: u16 = field(default=9, field_exists=wide)
        last: u8 = 0

    assert save(State(mode=1, more=2, last=3)) == bytes([1, 0, 2, 3])
    assert save(State(mode=0, more=2, last=3)) == bytes([0, 3])
    seen.clear()
    state = State(more=77)
    load(state, bytes([1, 0, 5, 6]))
    assert (state.mode, state.more, state.last) == (1, 5, 6)
    assert seen == [(1, 4)]
    load(state, bytes([0, 6]))
    assert state.more == 9


def test_exception_of_a_predicate_fails_the_save_and_the_load() -> None:
    def broken(state: Any, version_id: int) -> bool:
        raise ZeroDivisionError("boom")

    class State(VMStruct):
        a: u8 = 1
        b: u8 = field(field_exists=broken)

    state = State()
    with pytest.raises(ZeroDivisionError, match="boom") as caught:
        save(state)
    assert "at State.b" in caught.value.__notes__[0]
    with pytest.raises(ZeroDivisionError, match="boom"):
        load(state, bytes([5]))
    assert state.a == 1


class Extra(VMStruct, name="s/extra", version_id=2):
    x: u16 = 5


class More(VMStruct, name="s/more"):
    y: u8 = 0


def head(name: str, version_id: int) -> bytes:
    return bytes([5, len(name)]) + name.encode() + version_id.to_bytes(4)


class WithSubsections(VMStruct, name="s"):
    a: u8 = 1
    extra: Subsection[Extra] = zeroed()
    more: Subsection[More] = field(needed=lambda state: state.a == 2, keep=True)


def test_subsection_is_written_if_needed() -> None:
    state = WithSubsections()
    assert save(state) == bytes([1])
    state.extra.x = 6
    assert save(state) == bytes([1]) + head("s/extra", 2) + bytes([0, 6])
    state = WithSubsections(a=2)
    assert save(state) == bytes([2]) + head("s/more", 1) + bytes([0])
    assert [sub["vmsd_name"] for sub in describe(state)["subsections"]] == ["s/more"]


def test_subsections_in_any_order_and_missing_ones() -> None:
    state = WithSubsections()
    load(state, bytes([3]) + head("s/more", 1) + bytes([9]) + head("s/extra", 2) + bytes([0, 8]))
    assert (state.a, state.extra.x, state.more.y) == (3, 8, 9)
    load(state, bytes([4]))
    assert (state.a, state.extra.x, state.more.y) == (4, 5, 9)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (head("s/other", 1), "subsection"),
        (head("s/extra", 3) + bytes(2), "s"),
        (head("s/extra", 2) + bytes(1), "ends inside a subsection"),
    ],
)
def test_subsections_that_do_not_fit_are_refused(tail: bytes, message: str) -> None:
    state = WithSubsections(a=7)
    with pytest.raises(InvalidError, match=message):
        load(state, bytes([3]) + tail)
    assert state == WithSubsections(a=7)


def test_subsection_of_a_nested_struct() -> None:
    class Outer(VMStruct, name="outer"):
        inner: Array[WithSubsections, Literal[2]] = zeroed()
        last: u8 = 9

    state = Outer()
    state.inner[1].extra.x = 0x102
    wire = bytes([1, 1]) + head("s/extra", 2) + bytes([1, 2, 9])
    assert save(state) == wire
    copied = Outer()
    load(copied, wire)
    assert copied == state


def test_exception_of_needed_fails_the_save() -> None:
    def broken(state: Any) -> bool:
        raise ZeroDivisionError("boom")

    class State(VMStruct, name="s"):
        a: u8 = 1
        extra: Subsection[Extra] = field(needed=broken)

    with pytest.raises(ZeroDivisionError, match="boom"):
        save(State())


def test_tmp_is_inline() -> None:
    class State(VMStruct):
        a: u8 = 1
        extra: Tmp[Item] = zeroed()

    assert save(State(extra=Item(a=3))) == bytes([1, 3, 0, 7])
    assert describe(State())["fields"][1]["type"] == "tmp"
