# SPDX-License-Identifier: GPL-2.0-or-later
"""Derived dataclasses with lists of states that hold numbers only, which are packed in one call."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any

import pytest

from qemu_vmstate import (
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    field,
    i16,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
)


@derive_to_migration_state
@dataclass
class Entry(DerivedState):
    """A number of every size, with padding in memory and none on the wire."""

    tag: u8 = 1
    size: u64 = 2
    here: bool = True
    delta: i16 = -4
    level: u8 = field(default=5, minimum=1, maximum=9)


ENTRY = struct.Struct(">BQ?hB")


@derive_to_migration_state
@dataclass
class One(DerivedState):
    value: u16 = 0


def entries() -> list[Entry]:
    return [Entry(tag=number) for number in range(3)]


@derive_to_migration_state
@dataclass
class Table(DerivedState):
    count: u32 = 7
    entries: list[Entry] = field(default_factory=entries, length=3)
    last: u8 = 8
    ones: list[One] = field(default_factory=lambda: [One(1), One(2)], length=2)


def wire_of(*rows: tuple[Any, ...], count: int = 7, last: int = 8) -> bytes:
    packed = b"".join(ENTRY.pack(*row) for row in rows)
    return struct.pack(">I", count) + packed + struct.pack(">B2H", last, 1, 2)


ROWS = [(number, 2, True, -4, 5) for number in range(3)]
OTHERS = [(9, 2**64 - 1, False, -(2**15), 1), (8, 0, True, 2**15 - 1, 9), (7, 1, False, 0, 4)]


def test_a_list_of_numbers_goes_on_the_wire_in_order_and_comes_back_in_place() -> None:
    table = Table()
    assert save(Mutex(table)) == wire_of(*ROWS)
    listed, parts = table.entries, list(table.entries)
    load(Mutex(table), wire_of(*OTHERS, count=1, last=2))
    assert table.entries is listed
    assert all(one is other for one, other in zip(listed, parts, strict=True))
    assert listed == [Entry(*row) for row in OTHERS]
    assert (table.count, table.last, table.ones) == (1, 2, [One(1), One(2)])
    assert save(Mutex(table)) == wire_of(*OTHERS, count=1, last=2)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("tag", 256, "256 is out of range for u8 (0 to 255)"),
        ("size", -1, "-1 is out of range for u64 (0 to 18446744073709551615)"),
        ("level", 10, "10 is out of range for u8 (1 to 9)"),
        ("here", 2, "2 is out of range for bool (0 to 1)"),
        ("delta", "x", "'x' is a str, not i16"),
    ],
)
def test_a_number_that_does_not_fit_is_named_by_its_element(
    attribute: str, value: Any, message: str
) -> None:
    table = Table()
    setattr(table.entries[1], attribute, value)
    with pytest.raises(OutOfRangeError) as caught:
        save(Mutex(table))
    path = f"TableMigration.entries[1].{attribute}"
    assert str(caught.value).startswith(f"{path}: {message}")
    # A load repairs a state that cannot be saved.
    load(Mutex(table), wire_of(*ROWS))
    assert save(Mutex(table)) == wire_of(*ROWS)


@pytest.mark.parametrize("length", [2, 4])
def test_another_number_of_elements_is_refused(length: int) -> None:
    table = Table(entries=[Entry() for _ in range(length)])
    message = rf"entries: {length} elements for 3; an array's length is fixed"
    with pytest.raises(InvalidError, match=message):
        save(Mutex(table))
    with pytest.raises(InvalidError, match=message):
        load(Mutex(table), wire_of(*OTHERS))
    assert table.entries == [Entry() for _ in range(length)]
    assert table.count == 7


def test_elements_may_be_in_a_tuple_and_the_same_object_twice() -> None:
    entry: Any = Entry()
    shared: Any = (entry, Entry(), entry)
    table = Table(entries=shared)
    load(Mutex(table), wire_of(*OTHERS))
    assert tuple(table.entries) == (Entry(*OTHERS[2]), Entry(*OTHERS[1]), Entry(*OTHERS[2]))
    listed = Table(entries=list(table.entries))
    load(Mutex(listed), wire_of(*ROWS))
    assert listed.entries[0] is listed.entries[2] is entry
    assert entry == Entry(*ROWS[2])


class Counting(Entry):
    """A subclass that overrides both conversions."""

    def snapshot_migration_state(self, target: Any) -> None:
        super().snapshot_migration_state(target)
        target.tag += 100

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        source.tag -= 100
        super().restore_migrated_state_mut(source, version_id)
        kept.append(source)


kept: list[Any] = []


class Shelf(Device, name="shelf"):
    table: Migratable[Mutex[Table]]


def test_an_element_of_a_subclass_is_asked_itself_and_may_keep_its_source() -> None:
    kept.clear()
    table = Table(entries=[Entry(tag=0), Counting(tag=1), Entry(tag=2)])
    rows = [ROWS[0], (101, *ROWS[1][1:]), ROWS[2]]
    assert save(Mutex(table)) == wire_of(*rows)
    shelf = Shelf(table=table)
    load(shelf, wire_of(*rows))
    load(shelf, wire_of(OTHERS[0], (150, *OTHERS[1][1:]), OTHERS[2]))
    assert table.entries[1].tag == 50
    assert [source.tag for source in kept] == [1, 50]
    assert table.entries[2] == Entry(*OTHERS[2])


def test_a_subclass_as_the_declared_element_is_no_list_of_its_base() -> None:
    @derive_to_migration_state
    @dataclass
    class Of:
        items: list[Counting] = field(default_factory=lambda: [Counting()], length=1)

    assert save(Mutex(Of())) == ENTRY.pack(101, *ROWS[0][1:])


class Word(VMStruct):
    value: u32 = 0


class SourceKeeper(ToMigrationState[Word]):
    def __init__(self) -> None:
        self.sources: list[Any] = []

    def snapshot_migration_state(self, target: Word) -> None:
        target.value = len(self.sources)

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.sources.append(source)
        if source.value == 666:
            raise InvalidError("666")


@derive_to_migration_state
@dataclass
class Around(DerivedState):
    entries: list[One] = field(default_factory=lambda: [One(1)], length=1)
    keeper: SourceKeeper = plain_field(default_factory=SourceKeeper)
    data: bytearray = field(default_factory=lambda: bytearray(2), length=2)
    after: list[u16] = field(default_factory=lambda: [1], length=1)


class Holder(Device, name="holder"):
    around: Migratable[Mutex[Around]]


def test_a_hand_written_state_inside_may_keep_its_source() -> None:
    holder = Holder()
    for number in (1, 2, 3):
        load(holder, struct.pack(">HI2BH", *[number] * 5))
    sources = holder.around.into_inner().keeper.sources
    assert [source.value for source in sources] == [1, 2, 3]


def test_loaded_objects_are_no_part_of_the_migration_state() -> None:
    mutex = Mutex(Around())
    state = mutex.into_inner()
    load(mutex, struct.pack(">HI2BH", *[1] * 5))
    items, data, after = state.entries, state.data, state.after
    save(Mutex(Around()))
    mutex.into_inner().entries = [One(5)]
    save(mutex)
    assert (items, data, after) == ([One(1)], bytearray([1, 1]), [1])
    data[0] = 9
    after[0] = 9
    assert save(mutex) == struct.pack(">HIBBH", 5, 1, 9, 1, 9)


def test_a_state_that_refuses_after_the_list_changes_none_of_it() -> None:
    mutex = Mutex(Around())
    state = mutex.into_inner()
    with pytest.raises(InvalidError, match="666"):
        load(mutex, struct.pack(">HI2BH", 9, 666, 9, 9, 9))
    assert (state.entries, state.data, state.after) == ([One(1)], bytearray(2), [1])


def test_a_limited_number_inside_of_a_state_with_other_numbers() -> None:
    @derive_to_migration_state
    @dataclass
    class Limited:
        level: u8 = field(default=3, minimum=1, maximum=5)

    @derive_to_migration_state
    @dataclass
    class Outer:
        number: u16 = 1
        limited: Limited = plain_field(default_factory=Limited)

    assert save(Migratable(Mutex(Outer()))) == bytes([0, 1, 3])


def test_limited_numbers_in_a_large_list() -> None:
    # A layout object larger than a page.
    @derive_to_migration_state
    @dataclass
    class Many:
        entries: list[Entry] = field(
            default_factory=lambda: [Entry(*OTHERS[0]) for _ in range(500)], length=500
        )

    assert save(Mutex(Many())) == 500 * ENTRY.pack(*OTHERS[0])
    many = Many()
    load(Mutex(many), 500 * ENTRY.pack(*ROWS[1]))
    assert many.entries == 500 * [Entry(*ROWS[1])]
