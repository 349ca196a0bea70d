# SPDX-License-Identifier: GPL-2.0-or-later
"""Combinations of fields: compared numbers inside arrays, arrays assigned to themselves, trees."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    BqlCell,
    DeclarationError,
    Device,
    Equal,
    GTree,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    PointerArray,
    QTailQ,
    Subsection,
    Tmp,
    VArray,
    VMStruct,
    bql_lock_guard,
    cpudouble,
    field,
    i32_positive_le,
    load,
    save,
    u8,
    u16,
    u64,
    zeroed,
)

from ..release import loads_null


class Item(VMStruct):
    a: u8 = 0
    b: u16 = 0


# Numbers inside other fields that QEMU compares with the current ones


class EqualItem(VMStruct):
    a: Equal[u8] = 0


class Arrays(VMStruct):
    fixed: Array[Equal[u8], Literal[2]] = zeroed()
    grid: Array[Array[Equal[u8], Literal[2]], Literal[2]] = zeroed()
    n: u8 = 0
    counted: VArray[Equal[u8], Literal[2]] = field(num="n")
    pointers: PointerArray[Equal[u8], Literal[2]] = zeroed()
    most: Array[i32_positive_le, Literal[1]] = zeroed()
    structs: Array[EqualItem, Literal[2]] = zeroed()
    listed: QTailQ[EqualItem, Literal[2]] = zeroed()


def arrays() -> Arrays:
    made = Arrays(fixed=[1, 2], counted=[7], pointers=[8, None], most=[9])
    made.grid[0][:] = [3, 4]
    made.grid[1][:] = [5, 6]
    made.structs = [EqualItem(a=10), EqualItem(a=11)]
    made.listed = [EqualItem(a=12)]
    return made


@loads_null
def test_numbers_in_arrays_are_compared_with_the_live_ones() -> None:
    state = arrays()
    wire = bytes([1, 2, 3, 4, 5, 6, 1, 7, 8, 0x30, 0, 0, 0, 9, 10, 11, 1, 12, 0])
    assert save(state) == wire
    load(state, wire)
    assert save(state) == wire
    # fixed, grid, counted, pointers, the last byte of most, structs, listed
    for at in (0, 1, 2, 3, 4, 5, 7, 8, 13, 14, 15, 17):
        with pytest.raises(InvalidError):
            load(state, wire[:at] + bytes([wire[at] + 1]) + wire[at + 1 :])
        assert save(state) == wire


# Structs with a version


def test_struct_of_a_version_that_could_not_be_loaded_is_refused() -> None:
    class Grown(VMStruct, version_id=3, minimum_version_id=2):
        a: u8 = 0

    for version in (1, 4):
        with pytest.raises(DeclarationError, match=f"Grown as of version {version} .* 2 to 3"):

            class Bad(VMStruct):
                it: Grown = field(struct_version_id=version)

    for version in (1, 4):
        with pytest.raises(DeclarationError, match=f"Grown as of version {version} .* 2 to 3"):

            class BadList(VMStruct):
                it: QTailQ[Grown, Literal[2]] = field(version_id=version)

        with pytest.raises(DeclarationError, match=f"Grown as of version {version} .* 2 to 3"):

            class BadKey(VMStruct):
                it: GTree[Grown, Grown, Literal[2]] = field(version_id=version)

        with pytest.raises(DeclarationError, match=f"Grown as of version {version} .* 2 to 3"):

            class BadTmp(VMStruct):
                it: Tmp[Grown] = field(version_id=version)

    class Good(VMStruct):
        it: Grown = field(struct_version_id=2)
        more: QTailQ[Grown, Literal[2]] = field(version_id=3)
        rest: QTailQ[Grown, Literal[2]] = zeroed()

    assert save(Good()) == b"\0\0"  # more is there since version 3 of Good, which has one


# Trees


class Key(VMStruct):
    low: u16 = 0
    high: u16 = 0


class Trees(VMStruct):
    direct: GTree[u64, Item, Literal[2]] = zeroed()
    keyed: GTree[Key, Item, Literal[2]] = zeroed()


def test_tree_does_not_lose_what_is_put_into_a_copy() -> None:
    state: Any = Trees(direct={1: Item(a=5)})
    with pytest.raises(TypeError):
        state.direct[2] = Item()
    state.direct[1].a = 6
    state.direct = {**state.direct, 2: Item()}
    assert {key: one.a for key, one in state.direct.items()} == {1: 6, 2: 0}
    assert repr(state.direct[1]) in repr(state)
    assert "direct={1: Item" in repr(state)


@pytest.mark.parametrize(
    ("name", "key", "says"),
    [
        ("direct", "a", "the key 'a' is not an int"),
        ("direct", (1,), r"the key \(1,\) is not an int"),
        ("direct", -1, "-1 is out of range"),
        ("direct", 2**64, "18446744073709551616 is out of range"),
        ("keyed", 5, "the key 5 is not a tuple of the 2 values of Key"),
        ("keyed", (1,), r"the key \(1,\) is not a tuple of the 2 values of Key"),
        ("keyed", (1, 2, 3), "is not a tuple of the 2 values"),
        ("keyed", (1, "b"), "'b' is a str, not u16"),
        ("keyed", (1, 65536), "65536 is out of range"),
    ],
)
def test_keys_that_a_tree_cannot_have(name: str, key: Any, says: str) -> None:
    state = Trees(direct={1: Item(a=5)}, keyed={(1, 2): Item()})
    before = bytes(state)
    with pytest.raises(OutOfRangeError, match=says):
        setattr(state, name, {key: Item()})
    assert bytes(state) == before


def test_keys_that_cannot_be_ordered() -> None:
    state = Trees()
    with pytest.raises(OutOfRangeError, match=r"Trees\.keyed: a key is not of numbers"):
        state.keyed = {(1, 2): Item(), ("a", 2): Item()}


def test_key_that_is_no_tuple_of_numbers_is_refused() -> None:
    class WithArray(VMStruct):
        a: Array[u8, Literal[2]] = zeroed()

    with pytest.raises(DeclarationError, match=r"WithArray\.a is no number"):

        class Bad(VMStruct):
            it: GTree[WithArray, Item, Literal[2]]


def test_tree_in_a_cell() -> None:
    class Cell(Device, name="cell"):
        it: BqlCell[GTree[u64, Item, Literal[2]]]

    with bql_lock_guard():
        dev = Cell(it={1: Item(a=5)})
        wire = save(dev)
        load(dev, wire)
        assert dict(dev.it.get()) == {1: Item(a=5)}  # type: ignore[call-overload]
        assert save(dev) == wire


# Arrays of pointers


class Slots(VMStruct):
    numbers: PointerArray[u8, Literal[3]] = zeroed()
    items: PointerArray[Item, Literal[3]] = zeroed()
    n: u8 = 0
    counted: PointerArray[u8, Literal[3]] = field(num="n")


def test_pointers_take_their_own_elements_in_another_order() -> None:
    state = Slots(numbers=[1, None, 3], items=[Item(a=1), None, Item(a=3)])
    state.numbers = list(reversed(list(state.numbers)))
    state.items = list(reversed(list(state.items)))
    assert state.numbers == [3, None, 1]
    assert [one and one.a for one in state.items] == [3, None, 1]


@pytest.mark.parametrize("values", [[1, None, 300], [None, None, "a"]])
def test_pointers_are_assigned_all_or_none(values: list[Any]) -> None:
    state = Slots(numbers=[7, None, 9], counted=[5])
    before = bytes(state)
    for name in ("numbers", "counted"):
        with pytest.raises(OutOfRangeError):
            setattr(state, name, values)
    assert bytes(state) == before


# Doubles


def test_integer_that_is_no_double() -> None:
    class State(VMStruct):
        it: cpudouble = 0.0

    state = State(it=5)
    with pytest.raises(OutOfRangeError, match=r"State\.it: 1000.* is out of range for f64"):
        state.it = 10**400
    assert state.it == 5.0


# Subsections without needed=


class Extra(VMStruct, name="p/extra"):
    n: u8 = 0
    counted: VArray[u8, Literal[2]] = field(num="n")
    listed: QTailQ[Item, Literal[2]] = zeroed()
    slots: PointerArray[u8, Literal[2]] = zeroed()
    number: cpudouble = 0.0


class Parent(VMStruct, name="p"):
    a: u8 = 0
    extra: Subsection[Extra] = zeroed()


def test_an_initial_subsection_is_not_needed_whatever_is_behind_its_counts() -> None:
    state = Parent()
    assert save(state) == b"\0"
    state.extra.counted = [5]
    state.extra.listed = [Item(a=1)]
    assert len(save(state)) > 1
    state.extra.n = 0
    state.extra.listed = []
    assert save(state) == b"\0"
    state.extra.slots[1] = None
    assert len(save(state)) > 1
    state.extra.slots[1] = 0
    assert save(state) == b"\0"
    state.extra.number = -0.0
    assert len(save(state)) > 1


class Deep(VMStruct, name="q/extra/deep"):
    value: u8 = 0


class Switched(VMStruct, name="q/extra"):
    on: u8 = 0
    deep: Subsection[Deep] = field(needed=lambda state: state.on == 1)


class Around(VMStruct, name="q"):
    a: u8 = 0
    extra: Subsection[Switched] = zeroed()


def test_a_subsection_that_is_not_needed_is_no_difference_of_the_one_around_it() -> None:
    extra = b"\5\7q/extra\0\0\0\1"
    deep = b"\5\x0cq/extra/deep\0\0\0\1"
    state = Around()
    load(state, b"\0" + extra + b"\0" + deep + b"\7")
    assert state.extra.deep.value == 7
    assert save(state) == b"\0"
    state.extra.on = 1
    assert save(state) == b"\0" + extra + b"\1" + deep + b"\7"


# Fields that a stream may lack


class PartExtra(VMStruct, name="Part/extra"):
    value: u16 = 3


class Part(VMStruct):
    first: u8 = 0
    extra: Subsection[PartExtra]


class Parted(Device, name="parted"):
    part: Migratable[Mutex[Part]]


def test_a_subsection_that_a_stream_lacks_has_its_default_in_a_part_that_c_copies() -> None:
    dev = Parted()
    lacking = save(dev)
    with dev.part.lock() as part:
        part.first, part.extra.value = 1, 7
    # The staging struct has the 7 now, which must not affect the load.
    assert save(dev) == b"\1" + b"\5\x0aPart/extra\0\0\0\1" + b"\0\7"
    load(dev, lacking)
    with dev.part.lock() as part:
        assert (part.first, part.extra.value) == (0, 3)


class Tail(VMStruct, name="t"):
    a: u8 = 0
    own: Subsection[PartExtra] = field(name="t/own")


class Newer(VMStruct, version_id=2):
    a: u8 = 0


class HeadExtra(VMStruct, name="t2/extra"):
    a: u8 = 0


class Head(VMStruct, name="t2"):
    extra: Subsection[HeadExtra]


def test_a_list_that_an_old_stream_lacks_does_not_keep_structs_apart() -> None:
    """QEMU would read the subsection of the second struct as one of the first."""

    def declare(version_id: int) -> None:
        class Around(VMStruct, version_id=2):
            tail: Tail
            items: QTailQ[Newer, Literal[2]] = field(version_id=version_id)
            head: Head

    declare(0)
    with pytest.raises(DeclarationError, match="begin with the subsection 't2/extra'"):
        declare(2)
