# SPDX-License-Identifier: GPL-2.0-or-later
"""Conversions that call Python, which changes or drops what is being converted."""

from __future__ import annotations

import contextlib
import copy
import gc
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest

from qemu_vmstate import (
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStateError,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    register_converter,
    save,
    u8,
    u16,
    u32,
)
from qemu_vmstate.bindings.loader import _state


class Ball:
    """A value whose conversions call what a test wants."""

    on_save: ClassVar[Callable[[], object]] = staticmethod(int)
    on_load: ClassVar[Callable[[], object]] = staticmethod(int)
    on_compare: ClassVar[Callable[[], object]] = staticmethod(int)

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        Ball.on_compare()
        return isinstance(other, Ball) and self.number == other.number

    def __hash__(self) -> int:
        Ball.on_compare()
        return self.number % 2

    def __repr__(self) -> str:
        return f"Ball({self.number})"


def ball_to_number(ball: Ball) -> int:
    Ball.on_save()
    return ball.number


def ball_of_number(number: int) -> Ball:
    Ball.on_load()
    return Ball(number)


register_converter(Ball, u8, ball_to_number, ball_of_number)


class Index:
    """A number that calls what a test wants when it is asked for its value."""

    def __init__(self, number: int, on_index: Callable[[], object]) -> None:
        self.number = number
        self.on_index = on_index

    def __index__(self) -> int:
        self.on_index()
        return self.number


class Regs(VMStruct):
    config: u16 = 7


class Ticks(ToMigrationState[Regs]):
    """A state with conversions of its own, which keep what they get."""

    kept: ClassVar[list[Any]] = []

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def snapshot_migration_state(self, target: Regs) -> None:
        target.config = self.count
        self.kept.append(target)

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.count = source.config
        self.kept.append(source)


@derive_to_migration_state
@dataclass
class Item:
    number: u8 = 0
    computed: ClassVar[Callable[[], object]] = staticmethod(int)

    def __post_init__(self) -> None:
        Item.computed()


@derive_to_migration_state(max_length=8)
@dataclass
class Box:
    balls: list[Ball] = field(default_factory=list)
    row: tuple[Ball, ...] = ()
    numbers: list[u8] = field(default_factory=list)
    by_number: dict[u8, Ball] = field(default_factory=dict)
    keyed: dict[Ball, u8] = field(default_factory=dict)
    plain: dict[u8, u8] = field(default_factory=dict)
    seen: set[Ball] = field(default_factory=set)
    items: list[Item] = field(default_factory=list)
    ticks: list[Ticks] = field(default_factory=list)
    maybe: Ball | None = None


def full() -> Box:
    return Box(
        balls=[Ball(1), Ball(2), Ball(3)],
        row=(Ball(4), Ball(5)),
        numbers=[6, 7],
        by_number={1: Ball(8), 2: Ball(9), 3: Ball(10)},
        keyed={Ball(11): 1, Ball(13): 2},
        plain={1: 2, 3: 4},
        seen={Ball(14), Ball(16), Ball(17)},
        items=[Item(18), Item(19)],
        ticks=[Ticks(20), Ticks(21)],
        maybe=Ball(22),
    )


@pytest.fixture(autouse=True)
def _nothing_is_called() -> Any:
    yield
    Ball.on_save = Ball.on_load = Ball.on_compare = Item.computed = staticmethod(int)
    Ticks.kept.clear()


def empty(box: Box) -> None:
    """Drop all that a box has, and what nothing refers to any more."""
    for value in vars(box).values():
        if isinstance(value, list | dict | set):
            value.clear()
    box.row = ()
    box.maybe = None
    gc.collect()


def in_both_ways(make: Callable[[], Any]) -> list[tuple[Any, Any]]:
    """Return a state and what is saved: itself by its Python part, and by the fast path."""
    plain, locked = make(), make()
    return [(plain, plain), (locked, Migratable(Mutex(locked)))]


def test_converter_that_drops_all_that_is_saved_changes_nothing_of_the_stream() -> None:
    """Each attribute goes on the wire as it was when its own conversion began."""
    fields = {
        "balls": b"\3\1\2\3",
        "by_number": b"\3\1\x08\2\x09\3\x0a",
        "keyed": b"\2\x0b\1\x0d\2",
        "seen": b"\3\x0e\x10\x11",
        "row": b"\2\4\5",
    }
    for name, wire in fields.items():
        for state, target in in_both_ways(lambda name=name: Box(**{name: getattr(full(), name)})):  # type: ignore[misc]
            Ball.on_save = staticmethod(lambda state=state: empty(state))
            expected = b"".join(wire if each == name else b"\0" for each in vars(state))
            assert save(target) == expected + b"\0", name
            assert state == Box()


def test_index_that_drops_the_list() -> None:
    state = Box()
    state.numbers += [Index(3, lambda: empty(state)), Index(4, gc.collect), 5]  # type: ignore[list-item]
    assert save(state) == bytes(2) + b"\3\3\4\5" + bytes(8)
    assert state.numbers == []


@pytest.mark.parametrize("change", ["add", "drop", "swap"])
def test_index_that_changes_the_dict(change: str) -> None:
    """Only such a number can do that, because a dict of numbers is not copied for a save."""
    state = Box()

    def on_index() -> None:
        if change != "add":
            state.plain.pop(2, None)
        if change != "drop":
            state.plain[99] = 1

    state.plain |= {1: Index(5, on_index), 2: 6, 3: 7}  # type: ignore[dict-item]
    if change == "swap":
        assert save(state) == bytes(5) + b"\3\1\5\3\7\x63\1" + bytes(5)
        return
    with pytest.raises(RuntimeError, match="a dict changed its size while it was saved"):
        save(state)
    state.plain = {1: 2}
    assert save(state) == bytes(5) + b"\1\1\2" + bytes(5)


def test_attribute_that_drops_the_object_and_its_list() -> None:
    class Computed:
        def __get__(self, obj: Any, cls: type) -> Any:
            if obj is None:
                return 0
            boxes.clear()
            gc.collect()
            return 5

        def __set__(self, obj: Any, value: Any) -> None: ...

    @derive_to_migration_state
    @dataclass
    class Counted:
        count: u8 = 0

    Counted.count = Computed()  # type: ignore[assignment]

    @derive_to_migration_state
    @dataclass
    class Holder:
        counted: list[Counted] = field(default_factory=list, max_length=4)

    holder = Holder()
    boxes = holder.counted
    boxes += [Counted(), Counted()]
    assert save(holder) == b"\2\5\5"
    assert boxes == []


def test_converter_that_drops_what_is_restored() -> None:
    """A restore fills the collections that it found, whatever they have by then."""
    wire = save(full())
    for state, target in in_both_ways(full):
        kept = {name: value for name, value in vars(state).items() if isinstance(value, list)}
        Ball.on_load = Item.computed = staticmethod(lambda state=state: empty(state))
        load(target, wire)
        Ball.on_load = Item.computed = staticmethod(int)
        assert save(target) == wire
        assert all(getattr(state, name) is value for name, value in kept.items())


def test_hash_and_comparison_that_drop_what_is_restored() -> None:
    wire = save(full())
    for state, target in in_both_ways(full):
        Ball.on_compare = staticmethod(lambda state=state: empty(state))
        load(target, wire)
        Ball.on_compare = staticmethod(int)
        # Filling a set or dict with what was loaded compares none of its keys.
        assert save(target) == wire


def test_save_and_load_inside_a_conversion_are_refused() -> None:
    refused: list[object] = []

    def call(target: Any) -> None:
        for function in (lambda: save(target), lambda: load(target, wire)):
            with pytest.raises(VMStateError, match="from its own snapshot or restore"):
                function()
            refused.append(function)

    wire = save(full())
    for state, target in in_both_ways(full):
        Ball.on_save = Ball.on_load = staticmethod(lambda target=target: call(target))
        assert save(target) == wire
        load(target, wire)
        assert refused
        refused.clear()
        Ball.on_save = Ball.on_load = staticmethod(int)
        assert state == full() or save(target) == wire


def test_another_object_of_the_class_is_saved_and_loaded_inside_a_conversion() -> None:
    wire = save(full())
    depth = 0

    def call() -> None:
        nonlocal depth
        if depth < 3:
            depth += 1
            other = Box()
            load(other, wire)
            assert save(other) == wire
            depth -= 1

    Ball.on_save = Ball.on_load = staticmethod(call)
    small = Box(balls=[Ball(1)], seen={Ball(2)})
    again = Box()
    load(again, save(small))
    assert again == small


def test_structs_that_conversions_keep_stay_readable() -> None:
    wire = save(full())
    for _ in range(3):
        state: Any = full()
        target = Migratable(Mutex(state))
        assert save(target) == wire
        load(target, wire)
        del state, target
    gc.collect()
    assert {struct.config for struct in Ticks.kept} == {20, 21}
    for struct in Ticks.kept:
        struct.config = 1
    # What is kept of a load is a copy, so it is not in the next one.
    state = Box()
    load(state, wire)
    assert [ticks.count for ticks in state.ticks] == [20, 21]


def test_source_that_a_restore_fills_and_keeps() -> None:
    """Its memory is QEMU's until somebody refers to it, also while a number is converted."""

    @derive_to_migration_state(max_length=8)
    @dataclass
    class Numbers:
        numbers: list[u8] = field(default_factory=list)

    migrated: Any = Numbers.Migrated  # type: ignore[attr-defined]
    views: list[memoryview] = []
    filled: list[list[int]] = []

    class Filling(ToMigrationState[migrated]):
        def snapshot_migration_state(self, target: Any) -> None:
            target.numbers = [1, 2]

        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            index: Any = Index(3, lambda: views.append(memoryview(source)))
            Numbers([index, 4, 5]).snapshot_migration_state(source)  # type: ignore[attr-defined]
            filled.append(list(source.numbers))

    for target in (Filling(), Migratable(Mutex(Filling()))):
        for _ in range(3):
            load(target, b"\2\1\2")
            assert save(target) == b"\2\1\2"
    gc.collect()
    assert filled == [[3, 4, 5]] * 6
    assert {bytes(view)[:4] for view in views} == {b"\3\3\4\5"}


def test_target_that_nothing_else_refers_to() -> None:
    migrated: Any = Box.Migrated  # type: ignore[attr-defined]
    state: Any = full()
    Ball.on_save = staticmethod(gc.collect)
    state.snapshot_migration_state(migrated())
    target = migrated()
    state.snapshot_migration_state(target)
    del state
    gc.collect()
    again: Any = Box()
    Ball.on_load = staticmethod(gc.collect)
    again.restore_migrated_state_mut(target, 1)
    assert save(again) == save(full())


def test_bytes_that_are_a_view_of_the_target() -> None:
    @derive_to_migration_state
    @dataclass
    class Raw:
        raw: bytes = field(default=b"abcdef", max_length=8)

    migrated: Any = Raw.Migrated  # type: ignore[attr-defined]
    state: Any = Raw()
    target = migrated()
    state.snapshot_migration_state(target)
    state.raw = memoryview(target)[5:11]
    first = bytes(state.raw)
    state.snapshot_migration_state(target)
    assert bytes(target.raw) == first


WORDS = Annotated[str, field(max_length=4)]


@derive_to_migration_state(max_length=4)
@dataclass
class Words:
    words: set[WORDS] = field(default_factory=set)
    pairs: set[tuple[WORDS, Ball]] = field(default_factory=set)
    frozen: set[frozenset[Ball]] = field(default_factory=set)


@pytest.mark.parametrize("call", range(6))
def test_counts_that_nothing_has_checked(call: int) -> None:
    """Such memory is read neither beyond its end nor beyond the room for it.

    It changes before the load, or with one of the 5 conversions of a ``Ball``: after the last of
    a set, its elements are compared.
    """
    migrated: Any = Words.Migrated  # type: ignore[attr-defined]
    state: Any = Words(
        {"a", "b"},
        {("abc", Ball(1)), ("abcd", Ball(2))},
        {frozenset({Ball(1)}), frozenset({Ball(1), Ball(2)})},
    )
    source = migrated()
    state.snapshot_migration_state(source)
    bad = bytes(value or 0xFF for value in bytes(source))
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            _state.fill(source, bad)

    Ball.on_load = staticmethod(count)
    if call == 0:
        _state.fill(source, bad)
    fresh: Any = Words()
    # What was converted before the change may be all that a load needs.
    with contextlib.suppress(InvalidError):
        fresh.restore_migrated_state_mut(source, 1)
        assert calls == 5
        assert fresh == state
    assert calls >= call


@pytest.mark.parametrize("most", [255, 256, 65535, 65536])
def test_counts_at_the_limits_of_their_types(most: int) -> None:
    @derive_to_migration_state(max_length=most)
    @dataclass
    class Long:
        numbers: list[u8] = field(default_factory=list)
        raw: bytes = b""
        text: str = ""
        keys: dict[u32, bool] = field(default_factory=dict)
        seen: set[u16] = field(default_factory=set)

    state = Long([7] * most, bytes(most), "x" * most, dict.fromkeys(range(most), True))
    state.seen = set(range(most))
    other = Long()
    load(other, save(state))
    assert other == state
    for name, value in vars(state).items():
        longer = copy.copy(state)
        more = [*list(value), most] if isinstance(value, list | set | dict) else value * 2
        made = dict.fromkeys(more, True) if name == "keys" else type(value)(more)
        setattr(longer, name, made)
        with pytest.raises(InvalidError, match=rf"{name}: .* and the maximum is {most}"):
            save(longer)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError])
def test_exception_in_a_conversion_comes_through(kind: type[BaseException]) -> None:
    def refuse() -> None:
        raise kind

    wire = save(full())
    for state, target in in_both_ways(full):
        before = copy.deepcopy(vars(state))
        Ball.on_save = staticmethod(refuse)
        with pytest.raises(kind if kind is not MemoryError else (MemoryError, InvalidError)):
            save(target)
        Ball.on_save, Ball.on_load = staticmethod(int), staticmethod(refuse)
        with pytest.raises(kind if kind is not MemoryError else (MemoryError, InvalidError)):
            load(target, wire)
        Ball.on_load = staticmethod(int)
        del before["ticks"]
        assert {name: vars(state)[name] for name in before} == before
        assert save(target) == wire


def test_derived_class_is_released_with_all_its_conversions() -> None:
    def declare() -> weakref.ref[type]:
        class Colour:
            pass

        @derive_to_migration_state(max_length=4)
        @dataclass
        class Palette:
            colours: list[Colour] = field(default_factory=list)
            inner: dict[u8, Item] = field(default_factory=dict)
            own: set[Ball] = field(default_factory=set)

        load(Palette(), b"\0\0\0")
        return weakref.ref(Palette)

    register_converter(type("Unused", (), {}), u8, int, int)
    with pytest.raises(Exception, match="Colour"):
        declare()

    def declare_good() -> weakref.ref[type]:
        @derive_to_migration_state(max_length=4)
        @dataclass
        class Palette:
            balls: list[Ball] = field(default_factory=list)
            inner: dict[u8, Item] = field(default_factory=dict)
            own: set[Ball] = field(default_factory=set)

        load(Palette(), b"\0\0\0")
        return weakref.ref(Palette)

    found = declare_good()
    gc.collect()
    assert found() is None


def test_conversions_keep_no_reference_too_many_or_too_few() -> None:
    wire = save(full())
    state, other = full(), full()
    watched = [Ball, Item, Ticks, ball_to_number, ball_of_number, *vars(state).values()]
    bad = [wire[:at] + bytes([wire[at] ^ 0x80]) + wire[at + 1 :] for at in range(len(wire))]

    def work() -> None:
        for _ in range(50):
            save(state)
            load(other, wire)
        for each in bad:
            try:
                load(other, each)
            except VMStateError:
                continue
        load(other, wire)
        Ticks.kept.clear()
        gc.collect()

    work()
    before = [sys.getrefcount(each) for each in watched]
    work()
    assert [sys.getrefcount(each) for each in watched] == before
