# SPDX-License-Identifier: GPL-2.0-or-later
"""Hand-written snapshots and restores: their arguments, and how their errors are reported."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    BqlRefCell,
    DeclarationError,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    StreamError,
    ToMigrationState,
    ToMigrationStateShared,
    VMStateError,
    VMStruct,
    bql_lock_guard,
    load,
    save,
    u8,
    u16,
    u32,
    zeroed,
)

Unchanged = Callable[[Any], AbstractContextManager[None]]


class SeenMigration(VMStruct):
    count: u32 = 0
    last: u16 = 0


class Seen(ToMigrationState[SeenMigration]):
    """A state that is a list in Python and two numbers on the wire."""

    def __init__(self) -> None:
        self.seen: list[int] = [3, 4]
        self.versions: list[int] = []
        self.refuse: Exception | None = None

    def snapshot_migration_state(self, target: SeenMigration) -> None:
        target.count = len(self.seen)
        target.last = self.seen[-1] if self.seen else 0

    def restore_migrated_state_mut(self, source: SeenMigration, version_id: int) -> None:
        self.versions = [*self.versions, version_id]
        self.seen = [source.last] * source.count
        if self.refuse is not None:
            raise self.refuse


class Three(Device, name="three", version_id=4, minimum_version_id=1):
    first: Migratable[Mutex[Seen]]
    second: Migratable[BqlRefCell[Seen]]
    third: Migratable[Mutex[Seen]]


def three(*numbers: int) -> bytes:
    """Return the section of a ``Three`` from ``count`` and ``last`` of each part."""
    return struct.pack(">IHIHIH", *numbers)


def test_conversion_determines_the_values_on_the_wire() -> None:
    state = Seen()
    assert save(state) == struct.pack(">IH", 2, 4)
    load(state, struct.pack(">IH", 3, 9))
    assert state.seen == [9, 9, 9]
    assert state.to_migration_state() == SeenMigration(count=3, last=9)


def test_each_part_has_its_place_on_the_wire() -> None:
    dev = Three()
    dev.first.into_inner().seen = [1]
    dev.third.into_inner().seen = [5] * 7
    assert save(dev) == three(1, 1, 2, 4, 7, 5)
    load(dev, three(2, 6, 0, 0, 1, 8))
    assert dev.first.into_inner().seen == [6, 6]
    assert dev.third.into_inner().seen == [8]
    assert save(dev) == three(2, 6, 0, 0, 1, 8)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_restore_gets_the_version_of_the_stream(version: int) -> None:
    dev = Three()
    load(dev, three(2, 6, 2, 6, 2, 6), version)
    assert dev.first.into_inner().versions == [version]
    assert dev.third.into_inner().versions == [version]


def test_restore_gets_the_version_of_the_device_unless_another_is_given() -> None:
    dev = Three()
    load(dev, three(2, 6, 2, 6, 2, 6))
    assert dev.first.into_inner().versions == [4]


def test_snapshot_gets_a_target_with_the_defaults_of_the_migrated_class() -> None:
    class Defaults(VMStruct):
        a: u8 = 7
        b: u8 = 8

    class OnlyB(ToMigrationState[Defaults]):
        b = 1

        def snapshot_migration_state(self, target: Defaults) -> None:
            assert target.a == 7
            target.b = self.b

        def restore_migrated_state_mut(self, source: Defaults, version_id: int) -> None:
            self.b = source.b

    state = OnlyB()
    section = Migratable(Mutex(state))
    assert save(section) == b"\7\1"
    load(section, b"\x63\2")
    assert state.b == 2
    assert save(section) == b"\7\2"


def test_source_may_be_kept() -> None:
    class Keeper(ToMigrationState[SeenMigration]):
        kept = SeenMigration()

        def snapshot_migration_state(self, target: SeenMigration) -> None:
            target.count = self.kept.count
            target.last = self.kept.last

        def restore_migrated_state_mut(self, source: SeenMigration, version_id: int) -> None:
            self.kept = source

    class Holder(Device, name="holder"):
        keeper: Migratable[Mutex[Keeper]]

    dev = Holder()
    load(dev, struct.pack(">IH", 1, 2))
    kept = dev.keeper.into_inner().kept
    load(dev, struct.pack(">IH", 3, 4))
    assert (kept.count, kept.last) == (1, 2)
    assert save(dev) == struct.pack(">IH", 3, 4)


# ------------------------------------------------------------------- Migrated


def test_migrated_comes_from_the_base_from_a_generic_base_or_from_the_attribute() -> None:
    class FromAttribute(ToMigrationState[Any]):
        Migrated = SeenMigration

        def snapshot_migration_state(self, target: Any) -> None:
            target.count = 6

        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None: ...

    class Inherited(Seen):
        pass

    assert Seen.Migrated is SeenMigration
    assert Inherited.Migrated is SeenMigration
    assert save(FromAttribute()) == struct.pack(">IH", 6, 0)
    assert SeenMigration.Migrated is SeenMigration


def test_state_without_migrated_is_refused_with_the_remedy() -> None:
    class Nothing:
        pass

    class Unnamed(ToMigrationState[Any]):
        def snapshot_migration_state(self, target: Any) -> None: ...

        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None: ...

    values: tuple[Any, ...] = (Nothing(), Unnamed(), 3, None)
    for value in values:
        for use in (Mutex, BqlRefCell, Migratable, save):
            with pytest.raises(DeclarationError, match=r"has no Migrated: derive it from VMStruct"):
                use(value)


def test_migrated_that_is_no_layout_class_is_refused() -> None:
    class Odd(ToMigrationState[Any]):
        Migrated = int

        def snapshot_migration_state(self, target: Any) -> None: ...

        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None: ...

    with pytest.raises(DeclarationError, match=r"Odd\.Migrated is .*must be a layout class"):
        Mutex(Odd())


def test_conversions_cannot_be_left_out() -> None:
    class Half(ToMigrationState[SeenMigration]):
        def snapshot_migration_state(self, target: SeenMigration) -> None: ...

    with pytest.raises(TypeError, match="restore_migrated_state_mut"):
        Half()  # type: ignore[abstract]


# --------------------------------------------------------------------- errors


class Refusing(ToMigrationState[SeenMigration]):
    """A state whose conversions raise a given exception."""

    def __init__(self) -> None:
        self.saving: BaseException | None = None
        self.loading: BaseException | None = None
        self.count = 1

    def snapshot_migration_state(self, target: SeenMigration) -> None:
        if self.saving is not None:
            raise self.saving
        target.count = self.count

    def restore_migrated_state_mut(self, source: SeenMigration, version_id: int) -> None:
        if self.loading is not None:
            raise self.loading
        self.count = source.count


class Guarded(Device, name="guarded"):
    plain: u8 = 5
    part: Migratable[Mutex[Refusing]]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


EXCEPTIONS = [
    RuntimeError("boom"),
    ZeroDivisionError(),
    KeyError("k"),
    OSError(28, "No space left on device"),
    OSError("no number", "at all"),
    OSError(2**40, "too large a number"),
    StreamError("of mine"),
    StopIteration(3),
    KeyboardInterrupt(),
    SystemExit(3),
    AssertionError("\0 \udc80 \N{SNOWMAN}"),
    VMStateError("plain"),
    UnprintableError(),
]


@pytest.mark.parametrize("exc", EXCEPTIONS, ids=lambda e: f"{type(e).__name__}-{e.args!r:.16}")
def test_any_exception_of_a_snapshot_reaches_the_caller(
    exc: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    dev = Guarded()
    dev.part.into_inner().saving = exc
    with pytest.raises(type(exc)) as caught:
        save(dev)
    assert caught.value is exc
    assert exc.__notes__[-1] == "in the pre_save hook of guarded, at guarded.part"
    assert capfd.readouterr().err == ""
    dev.part.into_inner().saving = None
    assert save(dev) == struct.pack(">BIH", 5, 1, 0)


@pytest.mark.parametrize("exc", EXCEPTIONS, ids=lambda e: f"{type(e).__name__}-{e.args!r:.16}")
def test_any_exception_of_a_restore_reaches_the_caller(
    exc: BaseException, unchanged: Unchanged, capfd: pytest.CaptureFixture[str]
) -> None:
    dev = Guarded()
    dev.part.into_inner().loading = exc
    with unchanged(dev), pytest.raises(type(exc)) as caught:
        load(dev, struct.pack(">BIH", 9, 9, 9))
    assert caught.value is exc
    assert "in the post_load hook of guarded, at guarded.part" in exc.__notes__
    assert capfd.readouterr().err == ""
    dev.part.into_inner().loading = None
    load(dev, struct.pack(">BIH", 9, 8, 0))
    assert save(dev) == struct.pack(">BIH", 9, 8, 0)


def test_invalid_error_gets_the_path_of_its_part() -> None:
    dev = Guarded()
    dev.part.into_inner().saving = InvalidError("too many")
    with pytest.raises(InvalidError) as caught:
        save(dev)
    assert str(caught.value) == "guarded.part: too many"
    assert (caught.value.path, caught.value.reason) == ("guarded.part", "too many")
    dev.part.into_inner().saving = None
    dev.part.into_inner().loading = InvalidError("too few")
    with pytest.raises(InvalidError, match=r"^guarded\.part: too few"):
        load(dev, bytes(7))


def test_value_out_of_range_in_a_snapshot_names_the_field_in_the_device() -> None:
    dev = Guarded()
    dev.part.into_inner().count = 2**32
    with pytest.raises(
        OutOfRangeError, match=r"^guarded\.part\.count: 4294967296 is out of range for u32 "
    ):
        save(dev)


class Base(VMStruct):
    low: u8 = 0


class Entry(VMStruct):
    size: u8 = 0


class Derived(Base):
    entries: Array[Entry, Literal[3]] = zeroed()
    high: u8 = 0
    words: Array[u8, Literal[3]] = zeroed()


class Assigns(ToMigrationState[Derived]):
    def __init__(self) -> None:
        self.assign: Callable[[Derived], None] = lambda _: None

    def snapshot_migration_state(self, target: Derived) -> None:
        self.assign(target)

    def restore_migrated_state_mut(self, source: Derived, version_id: int) -> None: ...


class Deep(Device, name="deep"):
    part: Migratable[Mutex[Assigns]]


@pytest.mark.parametrize(
    ("attribute", "path"),
    [("low", "deep.part.low"), ("high", "deep.part.high"), ("words", "deep.part.words[1]")],
)
def test_path_of_a_field_that_refused_its_value(attribute: str, path: str) -> None:
    dev = Deep()
    bad: Any = [0, 300, 0] if attribute == "words" else 300
    dev.part.into_inner().assign = lambda target: setattr(target, attribute, bad)
    with pytest.raises(OutOfRangeError) as caught:
        save(dev)
    assert caught.value.path == path


def test_path_of_a_field_in_an_array_of_structs() -> None:
    dev = Deep()

    def assign(target: Derived) -> None:
        target.entries[2].size = 300

    dev.part.into_inner().assign = assign
    with pytest.raises(OutOfRangeError, match=r"^deep\.part\.entries\[.*\]\.size: 300"):
        save(dev)


# ---------------------------------------------------------- all or nothing


def test_restore_that_raises_leaves_every_attribute_the_same_object() -> None:
    state = Seen()
    before = dict(vars(state))
    state.refuse = before["refuse"] = InvalidError("no")
    with pytest.raises(InvalidError):
        load(state, struct.pack(">IH", 9, 9))
    assert vars(state).keys() == before.keys()
    assert all(vars(state)[name] is value for name, value in before.items())
    assert state.seen == [3, 4]


def test_attribute_that_a_failing_restore_added_or_deleted_is_undone() -> None:
    class Changing(ToMigrationState[SeenMigration]):
        def __init__(self) -> None:
            self.kept = {"a": 1}

        def snapshot_migration_state(self, target: SeenMigration) -> None: ...

        def restore_migrated_state_mut(self, source: SeenMigration, version_id: int) -> None:
            self.added = 1
            del self.kept
            raise InvalidError("half-way")

    state = Changing()
    kept = state.kept
    with pytest.raises(InvalidError):
        load(state, bytes(6))
    assert vars(state) == {"kept": {"a": 1}}
    assert state.kept is kept


def test_changes_in_place_of_a_failing_restore_are_rolled_back_with_the_devices_version() -> None:
    class Pair(VMStruct):
        a: u8 = 0
        b: u8 = 0

    class InPlace(ToMigrationState[Pair]):
        def __init__(self) -> None:
            self.log = [1, 2]

        def snapshot_migration_state(self, target: Pair) -> None:
            target.a, target.b = self.log

        def restore_migrated_state_mut(self, source: Pair, version_id: int) -> None:
            self.log[:] = [source.a, source.b if version_id >= 2 else 99]
            if source.a == 7:
                raise InvalidError("seven")

    class Versioned(Device, name="versioned", version_id=2, minimum_version_id=1):
        part: Migratable[Mutex[InPlace]]

    for version in (1, 2):
        dev = Versioned()
        log = dev.part.into_inner().log
        with pytest.raises(InvalidError, match="seven"):
            load(dev, b"\7\x08", version)
        assert dev.part.into_inner().log is log
        assert log == [1, 2]


@pytest.mark.parametrize("failing", ["first", "second", "third"])
def test_part_that_refuses_leaves_the_others_as_they_were(
    failing: str, unchanged: Unchanged
) -> None:
    dev = Three()
    load(dev, three(1, 10, 2, 20, 3, 30))
    with bql_lock_guard(), dev.second.borrow() as second:
        parts = {"first": dev.first.into_inner(), "second": second}
    parts["third"] = dev.third.into_inner()
    parts[failing].refuse = InvalidError("not I")
    with unchanged(dev), pytest.raises(InvalidError, match=rf"^three\.{failing}: not I"):
        load(dev, three(4, 40, 5, 50, 6, 60))
    assert [part.seen for part in parts.values()] == [[10], [20, 20], [30, 30, 30]]
    parts[failing].refuse = None
    load(dev, three(4, 40, 5, 50, 6, 60))
    assert parts["third"].seen == [60] * 6


def test_part_that_refuses_leaves_parts_that_c_copies_and_plain_fields_as_they_were(
    unchanged: Unchanged,
) -> None:
    class Mixed(Device, name="mixed"):
        before: Migratable[Mutex[SeenMigration]]
        plain: u8 = 1
        part: Migratable[Mutex[Refusing]]
        after: Migratable[BqlRefCell[SeenMigration]]

    dev = Mixed()
    dev.part.into_inner().loading = InvalidError("no")
    wire = struct.pack(">IHBIHIH", 1, 2, 3, 4, 5, 6, 7)
    with unchanged(dev), pytest.raises(InvalidError):
        load(dev, wire)
    dev.part.into_inner().loading = None
    load(dev, wire)
    assert save(dev) == struct.pack(">IHBIHIH", 1, 2, 3, 4, 0, 6, 7)


def test_snapshot_that_raises_leaves_nothing_behind_in_the_next_save() -> None:
    dev = Three()
    good = save(dev)
    dev.third.into_inner().seen = [2**16]
    with pytest.raises(OutOfRangeError, match=r"^three\.third\.last: "):
        save(dev)
    dev.third.into_inner().seen = [3, 4]
    assert save(dev) == good


def test_good_stream_repairs_a_state_that_cannot_be_saved() -> None:
    dev = Guarded()
    dev.part.into_inner().count = -1
    with pytest.raises(OutOfRangeError):
        save(dev)
    load(dev, struct.pack(">BIH", 1, 2, 0))
    assert dev.part.into_inner().count == 2


# -------------------------------------------------------------- shared states


class Shared(ToMigrationStateShared[SeenMigration]):
    """A state that locks itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 1

    def snapshot_migration_state(self, target: SeenMigration) -> None:
        with self._lock:
            target.count = self.count

    def restore_migrated_state(self, source: SeenMigration, version_id: int) -> None:
        with self._lock:
            self.count = source.count


def test_class_with_a_lock_of_its_own_is_migratable_as_it_is() -> None:
    class Owner(Device, name="owner"):
        state: Migratable[Shared]

    dev = Owner(state=Shared())
    assert save(dev) == struct.pack(">IH", 1, 0)
    load(dev, struct.pack(">IH", 8, 0))
    assert dev.state.count == 8
    alone = Shared()
    alone.restore_migrated_state_mut(SeenMigration(count=4), 1)
    assert alone.count == 4


# ---------------------------------------------------------------- re-entrance


class Reenters(ToMigrationState[SeenMigration]):
    """A state whose conversions call a given function."""

    def __init__(self) -> None:
        self.call: Callable[[], object] = lambda: None

    def snapshot_migration_state(self, target: SeenMigration) -> None:
        self.call()

    def restore_migrated_state_mut(self, source: SeenMigration, version_id: int) -> None:
        self.call()


class Selfish(Device, name="selfish"):
    part: Migratable[Mutex[Reenters]]


@pytest.mark.parametrize("outer", ["save", "load"])
@pytest.mark.parametrize("inner", ["save", "load"])
def test_hook_that_saves_or_loads_its_own_device_is_refused(outer: str, inner: str) -> None:
    dev = Selfish()
    calls: dict[str, Callable[[], Any]] = {
        "save": lambda: save(dev),
        "load": lambda: load(dev, bytes(6)),
    }
    dev.part.into_inner().call = calls[inner]
    with pytest.raises(
        VMStateError, match=r"^selfish: save\(\) or load\(\) was called from its own"
    ):
        calls[outer]()
    dev.part.into_inner().call = lambda: None
    assert save(dev) == bytes(6)


def test_snapshot_that_saves_its_own_bare_state_is_refused() -> None:
    state = Reenters()
    state.call = lambda: save(state)
    with pytest.raises(VMStateError, match=r"save\(\) or load\(\) was called from its own"):
        save(state)


def test_snapshot_may_save_another_object(capfd: pytest.CaptureFixture[str]) -> None:
    other = Guarded()
    sections: list[bytes] = []
    dev = Selfish()
    dev.part.into_inner().call = lambda: sections.append(save(other))
    assert save(dev) == bytes(6)
    assert sections == [struct.pack(">BIH", 5, 1, 0)]
    dev.part.into_inner().call = lambda: load(other, b"")
    with pytest.raises(StreamError, match=r"ends inside guarded\.plain"):
        save(dev)
    assert save(other) == sections[0]
    assert capfd.readouterr().err == ""
