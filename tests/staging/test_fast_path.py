# SPDX-License-Identifier: GPL-2.0-or-later
"""The short way beside the long one: each object is there twice, the second with a validation.

What the short way restores, refuses and undoes must be what the long way would.
"""

from __future__ import annotations

import array
import gc
import signal
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Arc,
    Array,
    Device,
    InvalidError,
    LockError,
    Migratable,
    Mutex,
    PoisonError,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    validate,
)
from qemu_vmstate.device.device import staging_of
from qemu_vmstate.staging.python_staging import PythonStaging

from ..conftest import own_memory, until

make_class: Any = type(Device)
Run = Callable[[Callable[[], Any]], Any]

BAD, WORSE = 666, 667


class Word(VMStruct):
    """Four bytes on the wire, as all of these."""

    value: u32 = 0


class Echo(Word):
    """A layout class with conversions of its own; it keeps something elsewhere."""

    def snapshot_migration_state(self, target: Any) -> None:
        super().snapshot_migration_state(target)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        super().restore_migrated_state_mut(source, version_id)
        elsewhere[id(self)] = self.value
        refuse(self.value)


elsewhere: dict[int, int] = {}


class Wide(Echo):
    """The same with attributes beside its memory."""

    __slots__ = ("seen",)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        self.seen = source.value
        super().restore_migrated_state_mut(source, version_id)


class Own(ToMigrationState[Word]):
    """A shape of its own, changed in place before it is looked at."""

    def __init__(self) -> None:
        self.digits = [0]

    def snapshot_migration_state(self, target: Word) -> None:
        target.value = self.digits[0]

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.digits[:] = [source.value]
        self.more = version_id
        refuse(source.value)


def refuse(number: int) -> None:
    if number == BAD:
        raise InvalidError("666")
    if number == WORSE:
        raise KeyError(number)


class Picky(int):
    def __new__(cls, number: int) -> Picky:
        refuse(number)
        return super().__new__(cls, number)


@derive_to_migration_state
@dataclass
class Point:
    value: Picky = field(default=0, into=u32)


@derive_to_migration_state
@dataclass
class Numbers:
    high: u16 = 0
    low: u16 = plain_field(default_factory=int)


@derive_to_migration_state
@dataclass
class Bytes:
    """A list and a bytearray that are changed in place, and bytes that are not."""

    items: list[u8] = field(default_factory=lambda: [0], length=1)
    data: bytearray = field(default_factory=lambda: bytearray(1), length=1)
    fixed: bytes = field(default_factory=lambda: bytes(2), length=2)


@derive_to_migration_state
@dataclass
class Nest:
    """States in a state; the list has one."""

    inner: Numbers = plain_field(default_factory=Numbers)


@derive_to_migration_state
@dataclass
class Nests:
    inner: list[Point] = field(default_factory=lambda: [Point()], length=1)


@derive_to_migration_state
@dataclass
class Around:
    """Foreign states in a state."""

    inner: Own = plain_field(default_factory=Own)


class Sub(Point):
    """A subclass with more, of which only its own conversions know."""

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        self.more = source.value
        super().restore_migrated_state_mut(source, version_id)  # type: ignore[misc]


KINDS: dict[str, Any] = {
    "layout": Echo,
    "slots": Wide,
    "own": Own,
    "derived": Point,
    "numbers": Numbers,
    "bytes": Bytes,
    "nest": Nest,
    "nests": Nests,
    "around": Around,
    "sub": Sub,
}
RAISING = {"layout", "slots", "own", "derived", "nests", "around", "sub"}
"""Whose restore fails for some numbers."""


def long_way(self: Any, source: Any) -> bool:
    return True


def device(kinds: list[str], long: bool = False, name: str = "several", **space: Any) -> Any:
    """One part of each kind; ``word``: one that C copies."""
    hints = {
        f"part{i}": Migratable[Mutex[KINDS.get(kind, Word)]]  # type: ignore[misc]
        for i, kind in enumerate(kinds)
    }
    if long:
        space["no_short_way"] = validate("always")(long_way)
    namespace = {"__module__": __name__, "__annotations__": hints, **space}
    made = make_class("Several", (Device,), namespace, name=name)()
    assert bool(getattr(staging_of(made), "fast_path", None)) != long
    for part in range(len(kinds)):
        elsewhere[id(inner(made, part))] = 0
    return made


def inner(dev: Any, part: int) -> Any:
    return getattr(dev, f"part{part}").into_inner()


def shape(value: Any) -> Any:
    """Return a state with all that is in it, and the identities of those objects."""
    if isinstance(value, VMStruct):
        return type(value), bytes(value), getattr(value, "seen", None), elsewhere.get(id(value))
    if isinstance(value, list):
        return [shape(item) for item in value]
    if hasattr(value, "__dict__") and not isinstance(value, int):
        return {name: shape(item) for name, item in vars(value).items()}
    return type(value), bytes(value) if isinstance(value, bytearray) else value


def objects(value: Any) -> Any:
    if isinstance(value, list):
        return id(value), [objects(item) for item in value]
    if hasattr(value, "__dict__") and not isinstance(value, int):
        return id(value), {name: objects(item) for name, item in vars(value).items()}
    return None if isinstance(value, int | bytes) else id(value)


def seen(dev: Any, look: Callable[[Any], Any], count: int) -> list[Any]:
    return [look(inner(dev, part)) for part in range(count)]


def wire_of(numbers: list[int]) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def told(exc: BaseException) -> list[str]:
    return [f"{type(exc).__name__}: {exc}", *getattr(exc, "__notes__", [])]


def refused(dev: Any, data: bytes, count: int) -> list[str]:
    """Return what a load was refused with; nothing has changed, and the same objects are there."""
    before, same = seen(dev, shape, count), seen(dev, objects, count)
    with pytest.raises((InvalidError, KeyError)) as caught:
        load(dev, data)
    assert seen(dev, shape, count) == before
    assert seen(dev, objects, count) == same
    return told(caught.value)


MIXES = [
    *([kind] * 5 for kind in RAISING),
    ["numbers", "layout", "bytes", "nest", "derived"],
    ["derived", "numbers", "own", "word", "layout"],
    ["around", "word", "nests", "bytes", "sub"],
    ["slots", "nest", "layout", "numbers", "own"],
]
MIXES.sort()
MIXED = pytest.mark.parametrize("kinds", MIXES, ids=lambda kinds: "-".join(dict.fromkeys(kinds)))


@MIXED
@pytest.mark.parametrize("number", [BAD, WORSE])
def test_a_part_that_refuses_is_told_and_undone_as_the_long_way_does(
    kinds: list[str], number: int
) -> None:
    short, long = device(kinds), device(kinds, long=True)
    good = wire_of([0x01020304 + part for part in range(5)])
    for dev in (short, long):
        load(dev, good)
    tried = 0
    for part, kind in enumerate(kinds):
        if kind not in RAISING:
            continue
        tried += 1
        numbers = list(range(100, 105))
        numbers[part] = number
        sentences = refused(short, wire_of(numbers), 5)
        assert sentences == refused(long, wire_of(numbers), 5)
        assert f"several.part{part}" in "\n".join(sentences)
        assert f"in the post_load hook of several, at several.part{part}" in sentences
    assert tried > 1
    for dev in (short, long):
        load(dev, wire_of([7] * 5))
    assert seen(short, shape, 5) == seen(long, shape, 5)
    assert save(short) == save(long) == wire_of([7] * 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_objects_of_any_kind_go_the_short_way(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_arguments: object) -> None:
        raise AssertionError("the long way")

    dev = device([kind] * count)
    monkeypatch.setattr(PythonStaging, "restore", never)
    monkeypatch.setattr(PythonStaging, "snapshot", never)
    load(dev, wire_of([5] * count))
    assert save(dev) == wire_of([5] * count)
    if kind in RAISING:
        refused(dev, wire_of([9] * (count - 1) + [BAD]), count)
    with dev.part0.lock(), pytest.raises(AssertionError, match="the long way"):
        load(dev, wire_of([6] * count))


def test_the_exception_is_the_users_own_object() -> None:
    raised = OSError(28, "no room")

    class Full(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            self.digits[0] = source.value
            if source.value:
                raise raised

    class Two(Device, name="two"):
        echo: Migratable[Mutex[Echo]]
        full: Migratable[Mutex[Full]]

    dev = Two()
    with pytest.raises(OSError, match="no room") as caught:
        load(dev, wire_of([1, 2]))
    assert caught.value is raised
    assert raised.__notes__ == ["in the post_load hook of two, at two.full"]
    assert dev.full.into_inner().digits == [0]
    assert dev.echo.into_inner().value == 0


def test_parts_are_undone_newest_first_with_the_devices_version() -> None:
    """A state that two parts share is what it was before the first of them."""
    log: list[tuple[int, int]] = []

    class Logged(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            log.append((source.value, version_id))
            super().restore_migrated_state_mut(source, version_id)

    class Both(Device, name="both", version_id=3, minimum_version_id=1):
        one: Migratable[Arc[Mutex[Logged]]]
        two: Migratable[Arc[Mutex[Logged]]]
        last: Migratable[Mutex[Point]]

    for long in (False, True):
        space = {"no_short_way": validate("always")(long_way)} if long else {}
        cls = make_class(
            "Both",
            (Both,),
            {"__module__": __name__, **space},
            name="both",
            version_id=3,
            minimum_version_id=1,
        )
        shared = Arc(Mutex(Logged()))
        dev = cls(one=shared, two=shared.clone())
        load(dev, wire_of([5, 5, 0]))
        log.clear()
        with pytest.raises(InvalidError, match="666"):
            load(dev, wire_of([6, 7, BAD]), version_id=2)
        assert log == [(6, 2), (7, 2), (6, 3), (5, 3)]
        assert shared.target.into_inner().digits == [5]


def test_an_undo_that_raises_is_noted_and_the_others_go_on() -> None:
    class Once(Echo):
        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            super().restore_migrated_state_mut(source, version_id)
            if source.value == 1:
                raise RuntimeError("never again")

    KINDS["once"] = Once
    for long in (False, True):
        dev = device(["derived", "once", "layout", "own"], long=long)
        once = dev.part1.into_inner()
        once.value = elsewhere[id(once)] = 1
        sentences = refused(dev, wire_of([9, 2, 9, BAD]), 4)
        assert "and rolling several.part1 back raised RuntimeError" in sentences
        assert not any("part0" in one or "part2" in one for one in sentences)


def test_a_poisoned_part_in_the_middle_is_refused_with_its_path() -> None:
    kinds = ["derived", "layout", "bytes", "nest", "own"]
    for long in (False, True):
        dev = device(kinds, long=long)
        with pytest.raises(ZeroDivisionError), dev.part2.lock():
            raise ZeroDivisionError
        before = seen(dev, shape, 5)
        for call in (lambda dev=dev: save(dev), lambda dev=dev: load(dev, wire_of([1] * 5))):
            with pytest.raises(PoisonError) as caught:
                call()
            assert "several.part2" in "\n".join(told(caught.value))
        assert seen(dev, shape, 5) == before
        dev.part2.clear_poison()
        load(dev, wire_of([1] * 5))
        assert save(dev) == wire_of([1] * 5)


def test_a_part_that_this_thread_holds_is_refused_with_its_path() -> None:
    dev = device(["derived", "layout", "own"])
    with dev.part1.lock(), pytest.raises(LockError, match=r"several\.part1 is locked by this very"):
        load(dev, wire_of([1] * 3))
    assert save(dev) == bytes(12)


@pytest.mark.parametrize("held", [0, 2, 4])
@pytest.mark.parametrize("number", [8, BAD])
def test_a_lock_that_another_thread_has_is_waited_for_before_anything_changes(
    held: int, number: int, run: Run
) -> None:
    dev = device(["derived", "layout", "bytes", "nest", "own"])
    data = wire_of([8, 8, 8, 8, number])
    before = seen(dev, shape, 5)
    with getattr(dev, f"part{held}").lock():
        loading = run(lambda: load(dev, data))
        loading.wait_blocked()
        assert seen(dev, shape, 5) == before
    if number == BAD:
        with pytest.raises(InvalidError, match=r"several\.part4: 666"):
            loading.result()
        assert seen(dev, shape, 5) == before
    else:
        loading.result()
        assert save(dev) == data


def test_no_thread_sees_a_load_that_is_undone(run: Run) -> None:
    dev = device(["derived", "layout", "nests", "own"])
    stop = threading.Event()
    times = [0]

    def watch() -> None:
        while not stop.is_set():
            with dev.part0.lock() as first, dev.part3.lock() as last:
                assert (first.value, last.digits) == (0, [0])
                times[0] += 1

    watcher = run(watch)

    def watched() -> bool:
        return times[0] > 10 or watcher.ended()

    try:
        for part in until(watched, "the watcher has looked ten times", least=200):
            numbers = [5] * 4
            numbers[part % 4] = BAD
            with pytest.raises(InvalidError, match="666"):
                load(dev, wire_of(numbers))
    finally:
        stop.set()
    watcher.result()


def test_a_signal_in_the_last_part_undoes_the_others() -> None:
    class Slow(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            self.digits[:] = [source.value]
            signal.raise_signal(signal.SIGUSR1)

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    KINDS["slow"] = Slow
    dev = device(["numbers", "layout", "slow"])
    before = seen(dev, shape, 3)
    former = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            load(dev, wire_of([1, 2, 3]))
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert seen(dev, shape, 3) == before


def test_sources_may_be_kept() -> None:
    kept: list[Any] = []

    class Keeps(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            kept.append(source)
            source.value += 1

    KINDS["keeps"] = Keeps
    dev = device(["keeps", "keeps", "layout"])
    load(dev, wire_of([1, 2, 3]))
    load(dev, wire_of([4, 5, 6]))
    assert [source.value for source in kept] == [2, 3, 5, 6]
    assert dev.part2.into_inner().value == 6


# -------------------------------------------------- what derived classes undo by themselves


class Trap:
    """Looks like a list, and breaks while it is filled."""

    def __init__(self) -> None:
        self.items = [1, 2]
        self.stores = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return self.items[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.stores += 1
        if self.stores == 2:
            raise RuntimeError("sprung")
        self.items[index] = value


@derive_to_migration_state
@dataclass
class Filled:
    """What a restore changes inside; ``rows`` are two objects in a third."""

    number: u8 = 0
    items: list[u8] = field(default_factory=lambda: [1, 2], length=2)
    rows: Array[Array[u8, Literal[2]], Literal[2]] = field(default_factory=lambda: [[1, 2], [3, 4]])
    data: bytearray = field(default_factory=lambda: bytearray(b"\1\2"), length=2)
    words: list[u16] = field(default_factory=lambda: [1, 2], length=2)
    states: list[Numbers] = field(default_factory=lambda: [Numbers(), Numbers(1, 2)], length=2)
    plain: Word = plain_field(default_factory=Word)
    left_out: list[int] = field(default_factory=list, omit=True)


def filled_wire(number: int) -> bytes:
    return struct.pack(">B2B4B2B2H4HI", *[number] * 16)


class Never(ToMigrationState[Word]):
    def snapshot_migration_state(self, target: Word) -> None:
        target.value = 0

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        raise InvalidError("never")


class Late(Device, name="late"):
    filled: Migratable[Mutex[Filled]]
    never: Migratable[Mutex[Never]]


def prepare_as_is(_state: Filled) -> None:
    pass


def prepare_trap(state: Any) -> None:
    state.words = Trap()


def prepare_array(state: Any) -> None:
    state.words = array.array("H", [1, 2])


def prepare_unfit(state: Any) -> None:
    """Check that a stream may repair what cannot be saved, and a refused one undoes that."""
    state.items[1] = 300
    state.number = -1


@pytest.mark.parametrize("prepare", [prepare_as_is, prepare_array, prepare_unfit, prepare_trap])
def test_what_a_derived_class_changes_inside_is_undone(prepare: Callable[[Any], None]) -> None:
    dev = Late()
    state: Any = dev.filled.into_inner()
    prepare(state)
    if prepare is prepare_trap:
        state.words.stores = -100
    parts = [state.items, *state.rows, state.rows, state.data, *state.states, state.plain]
    before = shape(state)
    words = list(state.words)
    with pytest.raises(InvalidError, match=r"(?m)^late\.never: never$"):
        load(dev, filled_wire(9) + bytes(4))
    after = shape(state)
    if prepare is prepare_trap:
        del before["words"], after["words"]
        assert list(state.words) == words
    assert after == before
    now = [state.items, *state.rows, state.rows, state.data, *state.states, state.plain]
    assert all(one is other for one, other in zip(parts, now, strict=True))


def test_an_attribute_that_was_missing_is_missing_again() -> None:
    dev = device(["numbers", "own"])
    state = dev.part0.into_inner()
    del state.low
    refused(dev, wire_of([9, BAD]), 2)
    assert vars(state) == {"high": 0}


def test_a_commit_that_breaks_half_way_is_undone() -> None:
    state: Any = Filled()
    prepare_trap(state)
    state.words.stores = 0
    words = state.words
    before = shape(state)
    del before["words"]
    with pytest.raises(RuntimeError, match="sprung"):
        load(Migratable(Mutex(state)), filled_wire(9))
    after = shape(state)
    del after["words"]
    assert after == before
    assert state.words is words
    assert words.items == [1, 2]


def test_a_derived_class_that_computes_an_attribute_is_undone_by_its_own_restore() -> None:
    @derive_to_migration_state
    @dataclass
    class Computed:
        value: u32 = 0

        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)
            object.__setattr__(self, "times", getattr(self, "times", 0) + 1)
            refuse(value)

    KINDS["computed"] = Computed
    for kinds in (["computed", "own"], ["computed", "computed"]):
        dev = device(kinds)
        load(dev, wire_of([4, 4]))
        refused(dev, wire_of([5, BAD]), 2)
        refused(dev, wire_of([BAD, 5]), 2)
        assert dev.part0.into_inner().times == 2


# ------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("kinds", [["derived", "layout", "bytes", "nests", "own"]])
def test_loads_that_are_refused_or_not_leave_no_memory(kinds: list[str]) -> None:
    """4,000 of them; 128 KiB would be 32 bytes each."""
    dev = device(kinds)
    good, bad = wire_of([1] * 5), wire_of([1] * 4 + [BAD])

    def turn(times: int) -> None:
        for _ in range(times):
            load(dev, good)
            with pytest.raises(InvalidError):
                load(dev, bad)

    turn(500)
    gc.collect()
    before = own_memory()
    turn(2000)
    gc.collect()
    assert own_memory() - before < 128 * 1024
