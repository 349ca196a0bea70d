# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of numbers: what they store and refuse is what single assignments do, whatever the class."""

from __future__ import annotations

import ctypes
import enum
import functools
import gc
import signal
import struct
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from dataclasses import field as plain_field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    f32,
    f64,
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
from qemu_vmstate.bindings.loader import _state
from qemu_vmstate.derive.number_list import number_run

from ..staging.states import raising_signal


class Level(enum.IntEnum):
    HIGH = 200


class Whole(int):
    """An int with a class of its own."""


class Index:
    """An object that converts itself."""

    def __index__(self) -> int:
        return 7


class Bad:
    """An object that fails to convert itself."""

    def __index__(self) -> int:
        raise RuntimeError("no number")


def any_number(value: Any) -> Any:
    """Return ``value``, which type checkers would refuse."""
    return value


TYPES: dict[str, Any] = {
    "u8": u8, "u16": u16, "u32": u32, "u64": u64, "i8": i8, "i16": i16, "i32": i32, "i64": i64,
    "bool": bool, "f32": f32, "f64": f64,
}  # fmt: skip
HINTS = {f"of_{name}": hint for name, hint in TYPES.items()}


def derived(hints: dict[str, Any], **options: Any) -> Any:
    defaults = [
        (name, hint, plain_field(default=False if hint is bool else 0))
        for name, hint in hints.items()
    ]
    namespace = {"__module__": __name__}
    made = make_dataclass("Numbers", defaults, namespace=namespace, **options)
    return derive_to_migration_state(made)


Numbers = derived(HINTS)
Slotted = derived(HINTS, slots=True)


@derive_to_migration_state
@dataclass
class Small(DerivedState):
    first: u8 = 0
    second: i32 = 0


@derive_to_migration_state
@dataclass
class Limited(DerivedState):
    low: u16 = field(default=5, minimum=3, maximum=300)
    high: i64 = field(default=-5, minimum=-9)


@derive_to_migration_state
@dataclass
class Outer(DerivedState):
    one: Small = plain_field(default_factory=Small)
    many: list[Small] = field(default_factory=lambda: [Small(), Small(), Small()], length=3)


LIMITS = [
    edge + offset
    for bits in (1, 8, 16, 31, 32, 63, 64, 70)
    for edge in (-(2**bits), 2**bits)
    for offset in (-1, 0, 1)
]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([*LIMITS, True, False, Level.HIGH, Whole(9), Whole(2**64), Index(), Bad()]),
    st.sampled_from([None, "x", b"x", [], 1.5, float("inf"), float("nan"), 1e300, 1j]),
    st.integers(),
    st.floats(),
)


def outcome(store: Callable[[], object], target: VMStruct) -> Any:
    """Return the bytes after a store, or the class and text of its exception."""
    try:
        store()
    except Exception as exc:
        return type(exc), str(exc)
    return bytes(target)


@pytest.mark.parametrize("cls", [Numbers, Slotted, Limited])
@given(st.data())
def test_a_snapshot_stores_what_single_assignments_store(cls: Any, data: Any) -> None:
    state = cls()
    names = [info.attribute for info in cls.Migrated.__layout__.fields]
    for name in data.draw(st.lists(st.sampled_from(names), max_size=3)):
        setattr(state, name, data.draw(VALUES))
    together, single = cls.Migrated(), cls.Migrated()

    def assign() -> None:
        for name in names:
            setattr(single, name, getattr(state, name))

    assert outcome(lambda: state.snapshot_migration_state(together), together) == outcome(
        assign, single
    )


@pytest.mark.parametrize("cls", [Numbers, Slotted])
@given(st.data())
def test_a_restore_sets_what_single_attributes_have(cls: Any, data: Any) -> None:
    size = cls.Migrated.__layout__.size
    source = cls.Migrated()
    _state.fill(source, data.draw(st.binary(min_size=size, max_size=size)))
    state = cls()
    state.restore_migrated_state_mut(source, 1)
    for info in cls.Migrated.__layout__.fields:
        loaded, expected = getattr(state, info.attribute), getattr(source, info.attribute)
        assert type(loaded) is type(expected)
        assert repr(loaded) == repr(expected)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=4, max_size=4))
def test_nested_states_store_what_their_own_snapshots_store(pairs: list[tuple[Any, Any]]) -> None:
    outer = Outer(Small(*pairs[0]), [Small(*pair) for pair in pairs[1:]])
    together, single = Outer.Migrated(), Outer.Migrated()
    snapshot = outer.snapshot_migration_state
    places = {"one": (outer.one, single.one)} | {
        f"many[{index}]": pair
        for index, pair in enumerate(zip(outer.many, single.many, strict=True))
    }

    def each() -> None:
        for path, (state, target) in places.items():
            try:
                state.snapshot_migration_state(target)
            except InvalidError as exc:
                exc.path = exc.path.replace("SmallMigration", f"OuterMigration.{path}")
                raise

    assert outcome(lambda: snapshot(together), together) == outcome(each, single)


@pytest.mark.parametrize("count", [1, 23, 24, 25, 48, 49, 70, 300])
def test_states_and_elements_of_any_number_of_numbers(count: int) -> None:
    cls = derived({f"r{index}": u16 for index in range(count)})

    @derive_to_migration_state
    @dataclass
    class Pair:
        both: list[cls] = field(default_factory=lambda: [cls(), cls()], length=2)  # type: ignore[valid-type]

    format_ = struct.Struct(f">{count}H")
    state, pair = cls(*range(count)), Pair([cls(*range(count)), cls(*range(5, count + 5))])
    assert save(Mutex(state)) == format_.pack(*range(count))
    wire = b"".join(format_.pack(*range(first, first + count)) for first in (0, 5))
    assert save(Mutex(pair)) == wire
    load(Mutex(state), wire[-format_.size :])
    load(Mutex(pair), wire[format_.size :] + wire[: format_.size])
    assert state == pair.both[0] == cls(*range(5, count + 5))
    assert pair.both[1] == cls(*range(count))
    setattr(pair.both[1], f"r{count - 1}", -1)
    with pytest.raises(OutOfRangeError, match=rf"^PairMigration\.both\[1\]\.r{count - 1}: -1 is"):
        save(Mutex(pair))


def test_a_number_whose_conversion_raises_is_neither_lost_nor_stored() -> None:
    state = Small(3, any_number(Bad()))
    with pytest.raises(RuntimeError, match="no number"):
        save(Mutex(state))
    load(Mutex(state), bytes(5))
    assert state == Small()


def test_attributes_that_python_computes_are_asked() -> None:
    @derive_to_migration_state
    @dataclass
    class Fallback:
        first: u8
        second: i32

        def __getattr__(self, name: str) -> int:
            return {"first": 9}[name]

    state = Fallback(1, 2)
    del state.first
    assert save(Mutex(state)) == struct.pack(">Bi", 9, 2)
    del state.second  # reading it raises a KeyError now
    undo = getattr(state, "__undo_migrated_state__")(1)  # noqa: B009 - not declared
    load(Mutex(state), struct.pack(">Bi", 7, 8))
    assert vars(state) == {"first": 7, "second": 8}
    undo()
    assert vars(state) == {}

    class Property(Small):
        @property
        def second(self) -> int:
            return int(self.first) + 1

        @second.setter
        def second(self, value: int) -> None:
            self.stored = value

    other = Property(4)
    assert save(Mutex(other)) == struct.pack(">Bi", 4, 5)
    load(Mutex(other), struct.pack(">Bi", 6, 99))
    assert (other.first, other.second, other.stored) == (6, 7, 99)
    outer = Outer(other, [Small(), other, Small()])
    assert save(Mutex(outer)) == struct.pack(">BiBiBiBi", 6, 7, 0, 0, 6, 7, 0, 0)


def test_a_property_that_the_class_gets_later_is_asked() -> None:
    cls = derived({"first": u8, "second": i32})
    state = cls(1, 2)
    assert save(Mutex(state)) == struct.pack(">Bi", 1, 2)
    cls.second = property(lambda _self: 77)
    assert save(Mutex(state)) == struct.pack(">Bi", 1, 77)


def test_a_list_that_an_elements_conversion_changes() -> None:
    outer = Outer()

    class Emptying:
        def __index__(self) -> int:
            outer.many.clear()
            gc.collect()
            return 5

    outer.many[0].first = any_number(Emptying())
    outer.many[2].second = 6
    # The snapshot is of the elements that the list had at its start.
    assert save(Mutex(outer)) == struct.pack(">BiBiBiBi", 0, 0, 5, 0, 0, 0, 0, 6)
    assert outer.many == []
    with pytest.raises(InvalidError, match=r"^OuterMigration\.many: 0 elements for 3"):
        save(Mutex(outer))


def test_a_conversion_that_deletes_the_attributes() -> None:
    class Deleting:
        def __index__(self) -> int:
            vars(state).clear()
            return 5

    state = Small(any_number(Deleting()), 2)
    assert save(Mutex(state)) == struct.pack(">Bi", 5, 2)
    assert vars(state) == {}


class Word(VMStruct):
    value: u32 = 0


class Refusing(ToMigrationState[Word]):
    def snapshot_migration_state(self, target: Word) -> None:
        target.value = 0

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        if source.value:
            raise InvalidError("no")


class Two(Device, name="two"):
    outer: Migratable[Mutex[Outer]]
    refusing: Migratable[Mutex[Refusing]]


@pytest.mark.parametrize("shared", [False, True])
def test_an_undo_puts_the_same_objects_back(shared: bool) -> None:
    dev = Two()
    outer = dev.outer.into_inner()
    values = [(index, 10**6 + index) for index in range(3)]
    outer.many[:] = [Small(*pair) for pair in values]
    if shared:
        outer.many[2] = outer.many[0]
    parts = [outer.one, *outer.many]
    before = [tuple(vars(part).values()) for part in parts]
    with pytest.raises(InvalidError, match=r"two\.refusing: no"):
        load(dev, struct.pack(">BiBiBiBiI", *range(1, 10)))
    after = [tuple(vars(part).values()) for part in parts]
    assert [outer.one, *outer.many] == parts
    assert all(
        one is other
        for old, new in zip(before, after, strict=True)
        for one, other in zip(old, new, strict=True)
    )


class Springing(Small):
    """An element whose restore can fail half-way."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "second" and value == 666:
            raise RuntimeError("sprung")
        object.__setattr__(self, name, value)


def test_an_element_whose_restore_breaks_half_way_undoes_the_whole_state() -> None:
    outer = Outer(Small(1, 1), [Small(2, 2), Springing(3, 3), Small(4, 4)])
    for wire in (
        struct.pack(">BiBiBiBi", 9, 9, 9, 9, 9, 666, 9, 9),
        struct.pack(">BiBiBiBi", 8, 8, 8, 8, 8, 666, 8, 8),
    ):
        with pytest.raises(RuntimeError, match="sprung"):
            load(Migratable(Mutex(outer)), wire)
        assert [vars(part) for part in (outer.one, *outer.many)] == [
            {"first": number, "second": number} for number in (1, 2, 3, 4)
        ]


def test_saves_and_loads_keep_no_reference() -> None:
    outer = Outer(many=[Small(number, int(f"{number}00000")) for number in (2, 3, 4)])
    mutex = Mutex(outer)
    wire, value = save(mutex), outer.many[0].second
    counts = [sys.getrefcount(item) for item in (value, outer, outer.many, *outer.many)]
    for _ in range(100):
        save(mutex)
    outer.many[2].second = 2**40
    for _ in range(100):
        with pytest.raises(OutOfRangeError):
            save(mutex)
    assert [sys.getrefcount(item) for item in (value, outer, outer.many, *outer.many)] == counts
    load(mutex, wire)
    fresh = int("987654")
    assert sys.getrefcount(value) == sys.getrefcount(fresh)
    load(mutex, struct.pack(">BiBiBiBi", *[10**6 if index % 2 else 1 for index in range(8)]))
    for part in (outer.one, *outer.many):
        loaded = part.second
        assert sys.getrefcount(loaded) == sys.getrefcount(fresh) + 1
    gone = [weakref.ref(item) for item in (outer, *outer.many)]
    del mutex, outer, part
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


@pytest.mark.parametrize("container", [list, tuple])
def test_a_signal_in_a_restore_is_handled_when_it_is_complete(container: Any) -> None:
    class Sends:
        """An object whose end sends a signal, which C handles no earlier than Python can."""

        __del__ = functools.partial(getattr(ctypes.PyDLL(None), "raise"), signal.SIGUSR1)

    outer = Outer(many=container([Small(), Small(any_number(Sends())), Small()]))
    with raising_signal(), pytest.raises(KeyboardInterrupt):
        load(Mutex(outer), struct.pack(">BiBiBiBi", *range(1, 9)))
    assert outer == Outer(Small(1, 2), container([Small(3, 4), Small(5, 6), Small(7, 8)]))


def limited_run() -> tuple[_state.NumberRun, Any, int]:
    """Return a run of two numbers, an object of its layout class, and that object's size."""
    target = Limited.Migrated()
    return number_run(Limited.Migrated, ["low", "high"]), target, len(bytes(target))


def test_a_run_stays_inside_its_memory() -> None:
    run, target, size = limited_run()
    states = (Limited(7, 8), Limited(9, 10))

    def pack(at: int, size: int) -> None:
        run.pack_states(states, target, at, size)

    def unpack(at: int, size: int, count: int = 2) -> None:
        run.unpack_states(target, at, size, count)

    for call in (pack, unpack):
        for at in (-1, 0, 1, 2**31, 2**63 - 1):
            with pytest.raises((TypeError, ValueError)):
                call(at, size)
        for each in (-1, 0, size - 1, 2**62, 2**63 - 1):
            with pytest.raises(ValueError, match="smaller than its numbers"):
                call(0, each)
    for count in (-1, 2, 2**62, 2**63 - 1):
        with pytest.raises((TypeError, ValueError)):
            unpack(0, size, count)
    with pytest.raises(TypeError, match="outside this object's memory"):
        run.unpack(Word())


def test_a_run_takes_as_many_values_as_it_has_numbers() -> None:
    run, target, _size = limited_run()
    states = (Limited(7, 8), Limited(9, 10))
    for number in (0, 1, 3, 5):
        with pytest.raises(TypeError, match="a tuple of all their values"):
            run[states] = tuple(range(number))
    with pytest.raises(TypeError, match="a tuple of all their values"):
        del run[states]  # type: ignore[attr-defined]
    for values in ((), (5,), (5, 6, 7)):
        with pytest.raises(TypeError, match="an instance and 2 values"):
            run.pack(target, *values)
    empty = _state.NumberRun({})
    assert empty.unpack(target) == ()
    empty.pack(target)
    with pytest.raises(ValueError, match="smaller than its numbers"):
        empty.pack_states(states, target, 0, 0)
    assert [vars(state) for state in states] == [{"low": 7, "high": 8}, {"low": 9, "high": 10}]
    assert bytes(target) == bytes(Limited.Migrated())
    run[states] = (1, 2, 3, 4)
    assert states == (Limited(1, 2), Limited(3, 4))


def test_a_run_is_of_numbers_in_layout_objects() -> None:
    run, _target, size = limited_run()
    for wrong in (any_number(b"bytes"), any_number(None)):
        with pytest.raises(TypeError, match="in a layout class instance"):
            run.pack(wrong, 5, 6)
        with pytest.raises(TypeError, match="in a layout class instance"):
            run.unpack(wrong)
        with pytest.raises(TypeError, match="in a layout class instance"):
            run.pack_states((Limited(),), wrong, 0, size)
    for key, no_number in (("one", vars(Outer.Migrated)["one"]), ("x", 3), (3, None)):
        with pytest.raises(TypeError, match="dict of Fields of numbers"):
            _state.NumberRun({any_number(key): any_number(no_number)})
