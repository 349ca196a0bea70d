# SPDX-License-Identifier: GPL-2.0-or-later
"""Every hook that fails: what the caller of save() and load() gets, and that nothing changed."""

from __future__ import annotations

import gc
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import pytest

from qemu_vmstate import (
    Array,
    BqlRefCell,
    Device,
    InvalidError,
    LockError,
    Migratable,
    Mutex,
    OutOfRangeError,
    PoisonError,
    QTailQ,
    Subsection,
    ToMigrationState,
    ToMigrationStateShared,
    VArray,
    VMStruct,
    describe,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    validate,
    zeroed,
)
from qemu_vmstate.device.device import staging_of

from ..conftest import own_memory, until
from ..in_vm.scripts import faulty

make_class: Any = type(Device)
Run = Callable[[Callable[[], Any]], Any]

# ----------------------------------------------------- hooks of a whole device

RAISED: dict[str, type[Exception]] = {
    "pre_save": KeyError,
    "post_load": OSError,
    "needed": ZeroDivisionError,
    "restore": ValueError,
    "poisoned": PoisonError,
}


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    faulty.mend(faulty.First())


def told(exc: BaseException) -> str:
    """Return the sentence, and the notes that name hook and place."""
    return "\n".join([f"{type(exc).__name__}: {exc}", *getattr(exc, "__notes__", [])])


@pytest.mark.parametrize("hook", faulty.SAVING)
def test_a_hook_that_fails_fails_the_save_and_the_next_one_succeeds(hook: str) -> None:
    dev = faulty.make(faulty.First)
    faulty.change(dev, 5)
    good, before = save(dev), faulty.as_seen(dev)
    faulty.break_it(dev, hook)
    for call in (save, describe):
        with pytest.raises(RAISED.get(hook, InvalidError)) as caught:
            call(dev)
        assert f"no {hook} now" in str(caught.value) or hook in ("validate", "poisoned")
        assert place(hook) in told(caught.value)
        assert in_hook(hook, "pre_save") in told(caught.value)
    assert faulty.as_seen(dev) == before
    faulty.mend(dev)
    assert save(dev) == good


@pytest.mark.parametrize("hook", faulty.LOADING)
def test_a_hook_that_fails_fails_the_load_and_the_next_one_succeeds(hook: str) -> None:
    wire = source_bytes()
    dev = faulty.make(faulty.First)
    faulty.change(dev, 5)
    load(dev, save(dev))
    before, copies = faulty.as_seen(dev), faulty.copies()
    faulty.break_it(dev, hook)
    with pytest.raises(RAISED.get(hook, InvalidError)) as caught:
        load(dev, wire)
    assert place(hook) in told(caught.value)
    assert in_hook(hook, "post_load") in told(caught.value)
    assert faulty.as_seen(dev) == before
    del caught
    assert faulty.copies() == copies
    faulty.mend(dev)
    load(dev, wire)
    assert save(dev) == wire


def source_bytes() -> bytes:
    source = faulty.make(faulty.First)
    faulty.change(source, 77)
    return save(source)


def place(hook: str) -> str:
    """Return the part of a sentence that says where, of pyfirst."""
    return faulty.expected_message("pyfirst", hook).partition(": ")[0]


def in_hook(hook: str, conversions_in: str) -> str:
    own = {"snapshot", "restore", "validate", "poisoned", "needed"}  # asked in pre_save
    return f"in the {conversions_in if hook in own else hook} hook of pyfirst"


def test_the_sentence_of_an_error_with_a_path_is_that_path() -> None:
    dev = faulty.make(faulty.First)
    dev.cups.into_inner().total = 2**32
    with pytest.raises(OutOfRangeError) as caught:
        save(dev)
    assert str(caught.value) == (
        "pyfirst.cups.total: 4294967296 is out of range for u32 (0 to 4294967295)"
    )


def test_of_two_failures_the_first_is_raised_and_the_second_noted() -> None:
    dev = faulty.make(faulty.First)
    faulty.break_it(dev, "field_exists")
    faulty.break_it(dev, "post_save")
    with pytest.raises(InvalidError, match="no field_exists now") as caught:
        save(dev)
    assert "and then, in the post_save hook of pyfirst" in told(caught.value)
    faulty.mend(dev)
    save(dev)


# ----------------------------------------------- the first, a middle, the last part


class Word(VMStruct):
    value: u32 = 0


class Pot(ToMigrationState[Word]):
    """Restored in place, and only then looked at."""

    def __init__(self) -> None:
        self.value: Any = 0
        self.seen: list[int] = []

    def snapshot_migration_state(self, target: Word) -> None:
        if self.value == "lid":
            raise InvalidError("under a lid")
        target.value = self.value

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.seen.append(source.value)
        self.value = source.value
        if source.value == BAD:
            raise InvalidError("666")


BAD = 666
PARTS = 8
FIRST_MIDDLE_LAST = pytest.mark.parametrize("part", [0, 4, 7])


def eight(kinds: str, name: str = "eight", **namespace: Any) -> Any:
    """Return a device of eight Mutexes: p of what Python converts, c of what C copies."""
    hints = {
        f"part{i}": Migratable[Mutex[Pot if kind == "p" else Word]]  # type: ignore[misc]
        for i, kind in enumerate(kinds)
    }
    space = {"__module__": __name__, "__annotations__": hints, **namespace}
    return make_class("Eight", (Device,), space, name=name)()


def inner(dev: Any, part: int) -> Any:
    return getattr(dev, f"part{part}").into_inner()


def values(dev: Any) -> list[Any]:
    return [inner(dev, part).value for part in range(PARTS)]


def wire_of(numbers: list[int]) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


KINDS = pytest.mark.parametrize("kinds", ["pppppppp", "pccpcpcp", "cccccccc", "pcccpccp"])


@FIRST_MIDDLE_LAST
@pytest.mark.parametrize("kinds", ["pppppppp", "pccppccp"])
def test_a_restore_that_fails_undoes_all_of_the_parts(kinds: str, part: int) -> None:
    dev = eight(kinds)
    for i in range(PARTS):
        inner(dev, i).value = i
    before = [inner(dev, i) for i in range(PARTS)]
    numbers = list(range(100, 100 + PARTS))
    numbers[part] = BAD
    with pytest.raises(InvalidError, match=rf"(?m)^eight\.part{part}: 666$"):
        load(dev, wire_of(numbers))
    assert values(dev) == list(range(PARTS))
    assert all(inner(dev, i) is before[i] for i in range(PARTS))
    load(dev, wire_of([1] * PARTS))
    assert values(dev) == [1] * PARTS


@FIRST_MIDDLE_LAST
@KINDS
def test_a_poisoned_part_fails_both_and_nothing_changes(kinds: str, part: int) -> None:
    dev = eight(kinds)
    with pytest.raises(KeyError), getattr(dev, f"part{part}").lock():
        raise KeyError
    for call in (lambda: save(dev), lambda: load(dev, wire_of([9] * PARTS))):
        with pytest.raises(PoisonError) as caught:
            call()
        assert f"eight.part{part}" in told(caught.value)
    assert values(dev) == [0] * PARTS
    getattr(dev, f"part{part}").clear_poison()
    load(dev, wire_of([9] * PARTS))
    assert save(dev) == wire_of([9] * PARTS)


@FIRST_MIDDLE_LAST
@KINDS
def test_a_part_that_this_thread_holds_fails_both(kinds: str, part: int) -> None:
    dev = eight(kinds)
    with getattr(dev, f"part{part}").lock():
        for call in (lambda: save(dev), lambda: load(dev, wire_of([9] * PARTS))):
            with pytest.raises(LockError):
                call()
    assert values(dev) == [0] * PARTS
    load(dev, wire_of([9] * PARTS))


@FIRST_MIDDLE_LAST
def test_a_snapshot_that_fails_fails_the_save(part: int) -> None:
    dev = eight("pppppppp")
    inner(dev, part).value = "lid"
    with pytest.raises(InvalidError, match=rf"(?m)^eight\.part{part}: under a lid$"):
        save(dev)
    # What cannot be saved can be repaired by a stream, and one that is refused undoes it.
    numbers = [5] * PARTS
    numbers[7 - part] = BAD
    if part != 7 - part:
        with pytest.raises(InvalidError, match="666"):
            load(dev, wire_of(numbers))
        assert values(dev) == ["lid" if i == part else 0 for i in range(PARTS)]
    load(dev, wire_of([5] * PARTS))
    assert values(dev) == [5] * PARTS


def test_post_load_that_fails_undoes_the_parts_and_the_plain_fields() -> None:
    def post_load(self: Any, version_id: int) -> None:
        assert values(self) == [3] * PARTS
        with self.part0.lock() as word:  # no lock is held
            assert word.value == 3
        raise InvalidError("not these")

    dev = eight("pcpcpcpc", post_load=post_load)
    seen = [inner(dev, i) for i in range(PARTS)]
    with pytest.raises(InvalidError, match=r"(?m)^eight\.post_load\(\): not these$"):
        load(dev, wire_of([3] * PARTS))
    assert values(dev) == [0] * PARTS
    assert all(inner(dev, i) is seen[i] for i in range(PARTS))


# ------------------------------------------------------------- what undoes a restore


class Slots(ToMigrationState[Word]):
    __slots__ = ("copy", "value")

    def __init__(self) -> None:
        self.value = 1
        self.copy = 1

    def snapshot_migration_state(self, target: Word) -> None:
        target.value = self.value

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.value = source.value
        raise InvalidError("always")


class OwnLock(ToMigrationStateShared[Word]):
    """Restorable by itself, with a lock that we know nothing of."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.value = 1

    def snapshot_migration_state(self, target: Word) -> None:
        with self.mutex:
            target.value = self.value

    def restore_migrated_state(self, source: Word, version_id: int) -> None:
        with self.mutex:
            self.value = source.value
            if source.value == BAD:
                raise InvalidError("666")


class Counted(VMStruct):
    """A layout class whose own restore fails half-way."""

    a: u32 = 1
    b: u32 = 1

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        self.a = source.a
        raise InvalidError("half")


@pytest.mark.parametrize(
    ("state", "data"),
    [
        (Migratable(Mutex(Slots())), (9).to_bytes(4, "big")),
        (Migratable(BqlRefCell(Slots())), (9).to_bytes(4, "big")),
        (Migratable(OwnLock()), BAD.to_bytes(4, "big")),
        (Migratable(Mutex(Counted())), bytes(7) + b"\2"),
    ],
    ids=["slots in a Mutex", "slots in a BqlRefCell", "a lock of its own", "a layout class"],
)
def test_a_restore_that_raises_half_way_is_undone(state: Any, data: bytes) -> None:
    before = save(state)
    with pytest.raises(InvalidError):
        load(state, data)
    assert save(state) == before


def test_an_undo_that_fails_is_noted_and_the_others_go_on() -> None:
    class Once(Pot):
        fails = False

        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            if self.fails:
                raise RuntimeError("never again")
            self.fails = True
            super().restore_migrated_state_mut(source, version_id)

    class Three(Device, name="three"):
        before: Migratable[Mutex[Pot]]
        once: Migratable[Mutex[Once]]
        after: Migratable[Mutex[Pot]]

    dev = Three()
    with pytest.raises(InvalidError, match=r"(?m)^three\.after: 666$") as caught:
        load(dev, b"".join(n.to_bytes(4, "big") for n in (1, 2, BAD)))
    assert "taking the former state of three.once back raised RuntimeError" in told(caught.value)
    assert [p.into_inner().value for p in (dev.before, dev.once, dev.after)] == [0, 0, 0]


# --------------------------------------------------------- predicates, deep inside


def _is_here(_state: Any, _version_id: int) -> bool:
    if Leaf.answers == 0:
        raise InvalidError("cannot tell")
    Leaf.answers -= 1
    return True


class Leaf(VMStruct):
    answers: ClassVar[int] = -1
    """How often its predicate answers before it fails; below 0: for ever."""
    here: u16 = field(field_exists=_is_here)
    rest: u8 = 0


class Bush(VMStruct, name="bush"):
    leaves: Array[Leaf, Literal[3]] = zeroed()
    queue: QTailQ[Leaf, Literal[4]] = zeroed()


class Garden(Device, name="garden"):
    bush: Migratable[Mutex[Bush]]
    more: Subsection[Leaf] = field(name="garden/more", needed=True)


@pytest.mark.parametrize(
    ("answers", "where"),
    [(0, "bush.leaves[0]"), (2, "bush.leaves[2]"), (3, "bush.queue[0]"), (4, "more")],
)
@pytest.mark.parametrize("saves", [True, False], ids=["save", "load"])
def test_a_predicate_that_fails_names_its_field_in_the_device(
    answers: int, where: str, saves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = Garden()
    dev.bush.into_inner().queue = [Leaf(here=1, rest=2)]
    wire = save(dev)
    copy = Garden()
    before = save(copy)
    with monkeypatch.context() as patch:
        patch.setattr(Leaf, "answers", answers)
        with pytest.raises(InvalidError) as caught:
            save(dev) if saves else load(copy, wire)
    assert str(caught.value) == f"garden.{where}.here.field_exists(): cannot tell"
    assert "in the field_exists hook of garden" in told(caught.value)
    assert save(copy) == before


def test_objects_are_collected_while_the_one_whose_predicate_failed_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dev = Garden()
    others = [staging_of(Garden()) for _ in range(50)]
    monkeypatch.setattr(Leaf, "answers", 0)
    thresholds = gc.get_threshold()
    for allocations in range(10, 200, 10):
        # CPython keeps 2,000 released pairs, and only what is allocated anew begins a collection.
        pairs = [(number, number) for number in range(5000)]
        gc.collect()
        ring: list[Any] = [staging_of(Garden())]
        ring.append(ring)
        del ring
        gc.set_threshold(allocations)
        try:
            with pytest.raises(InvalidError, match="cannot tell"):
                save(dev)
        finally:
            gc.set_threshold(*thresholds)
        del pairs
    assert len(others) == 50


def test_a_default_needed_that_cannot_compare_fails_the_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Long(VMStruct):
        count: u8 = 0
        items: VArray[u8, Literal[4]] = field(num="count")

    class Lazy(Device, name="lazy"):
        more: Subsection[Long] = field(name="lazy/more")

    dev = Lazy()
    save(dev)

    def no_memory(_struct: Any) -> bytes:
        raise MemoryError

    from qemu_vmstate.vmsd import predicates

    monkeypatch.setattr(predicates, "bytes", no_memory, raising=False)
    with pytest.raises(MemoryError) as caught:
        save(dev)
    monkeypatch.undo()
    assert "lazy.more.needed()" in told(caught.value)


def test_an_exception_outside_of_a_predicates_try_fails_the_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one of a signal handler, between the call from C and the first line."""
    from qemu_vmstate.vmsd import predicates

    dev = faulty.make(faulty.First)

    def interrupted(*_arguments: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(predicates, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(dev)
    monkeypatch.undo()
    save(dev)


def test_a_hook_of_a_device_that_is_gone_is_no_success() -> None:
    from qemu_vmstate.bindings.native import ffi, lib
    from qemu_vmstate.device.device import staging_of

    staging = staging_of(faulty.make(faulty.First))
    gc.collect()
    out, why = ffi.new("QvBytes *"), ffi.new("char **")
    assert lib().qv_save(staging.cdata, out, ffi.NULL, why) < 0
    assert b"the device is gone" in ffi.string(why[0])
    lib().qv_free(why[0])


def test_a_callback_whose_staging_struct_is_gone_is_no_success(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from qemu_vmstate.bindings.native import ffi, lib

    class Gone:
        pass

    handle = ffi.new_handle(weakref.ref(Gone()))
    why = ffi.new("char **")
    assert lib().qv_py_snapshot(handle, 0, why) < 0
    assert lib().qv_py_restore(handle, 1, why) < 0
    assert lib().qv_py_hook(handle, lib().QV_HOOK_PRE_LOAD, why) < 0
    assert "Traceback" in capfd.readouterr().err


def test_a_signal_that_raises_inside_a_hook_fails_the_save() -> None:
    class Slow(Pot):
        def snapshot_migration_state(self, target: Word) -> None:
            signal.raise_signal(signal.SIGUSR1)
            target.value = 1

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            save(Migratable(Mutex(Slow())))
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert "in the pre_save hook of" in told(caught.value)


# ----------------------------------------------------------------- two that agree


class Bank(Device, name="bank"):
    """Says how many accounts there are; ``Ledger`` must have as many, and is loaded later."""

    accounts: u32 = 2


class Ledger(Device, name="ledger"):
    count: u32 = 2
    bank: Any = field(omit=True)

    @validate("as many as the bank's accounts")
    def agrees(self, source: Any) -> bool:
        agree: bool = source.count == self.bank.accounts
        return agree


def test_two_devices_that_must_agree_say_so() -> None:
    bank = Bank()
    ledger = Ledger(bank=bank)
    load(bank, (3).to_bytes(4, "big"))
    with pytest.raises(InvalidError, match=r"(?m)^ledger: as many as the bank's accounts$"):
        load(ledger, (2).to_bytes(4, "big"))
    assert ledger.count == 2
    load(ledger, (3).to_bytes(4, "big"))
    assert ledger.count == 3


# ----------------------------------------------------- what other threads may see


@KINDS
def test_no_thread_sees_one_part_new_and_another_old(kinds: str, run: Run) -> None:
    """Loads, refused or not, and saves, beside a thread that holds first and last together."""
    dev = eight(kinds)
    stop = threading.Event()
    seen = [0]

    def watch() -> None:
        while not stop.is_set():
            with dev.part0.lock() as first, dev.part7.lock() as last:
                assert (first.value, last.value) in {(0, 0), (1, 1), (2, 2)}
                first.value = last.value = 2
                seen[0] += 1

    watcher = run(watch)

    def watched() -> bool:
        return seen[0] > 10 or watcher.ended()

    try:
        for turn in until(watched, "the watcher has looked ten times", least=300):
            number = turn % 2
            load(dev, wire_of([number] * PARTS))
            numbers = [8] * (PARTS - 1) + [BAD]
            if kinds[7] == "p":
                with pytest.raises(InvalidError, match="666"):
                    load(dev, wire_of(numbers))
            data = save(dev)
            assert data[:4] == data[-4:]
    finally:
        stop.set()
    watcher.result()


@KINDS
def test_locks_in_any_order_do_not_hang(kinds: str, run: Run) -> None:
    """Threads that take the parts' locks against the order of ours, and hold them a while."""
    dev = eight(kinds)
    stop = threading.Event()
    times = {(7, 0): 0, (4, 3): 0}

    def take(parts: tuple[int, int]) -> None:
        while not stop.is_set():
            with getattr(dev, f"part{parts[0]}").lock():
                time.sleep(0.001)  # the GIL is free: a load gets in between
                with getattr(dev, f"part{parts[1]}").lock():
                    times[parts] += 1

    others = [run(lambda parts=parts: take(parts)) for parts in times]  # type: ignore[misc]

    def taken() -> bool:
        return all(times.values()) or any(other.ended() for other in others)

    try:
        for turn in until(taken, "both threads had their turn", least=20):
            number = turn % 20
            load(dev, wire_of([number] * PARTS))
            assert save(dev) == wire_of([number] * PARTS)
    finally:
        stop.set()
    for other in others:
        other.result()


def test_a_conversion_may_lock_what_the_load_holds_already() -> None:
    class Nosy(Pot):
        def snapshot_migration_state(self, target: Word) -> None:
            with dev.plain.lock() as word:
                target.value = word.value

        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            with dev.plain.lock() as word:
                self.value = word.value
            guard = dev.plain.try_lock()
            assert guard is not None
            kept.append(guard)

    class Two(Device, name="two"):
        plain: Migratable[Mutex[Word]]
        nosy: Migratable[Mutex[Nosy]]

    kept: list[Any] = []
    dev = Two()
    load(dev, wire_of([7, 7]))
    assert save(dev) == wire_of([7, 7])
    # A guard that was kept guards nothing any more, and holds nothing up.
    with pytest.raises(LockError, match="this guard was released"):
        _ = kept[0].value
    kept[0].release()
    assert dev.plain.try_lock() is not None


# ------------------------------------------------------------------------- memory


@pytest.mark.parametrize("hook", sorted({*faulty.SAVING, *faulty.LOADING}))
def test_failures_leave_no_memory(hook: str) -> None:
    """2,000 of them; 128 KiB would be 65 bytes each."""
    wire = source_bytes()
    dev = faulty.make(faulty.First)
    faulty.break_it(dev, hook)

    def fail(times: int) -> None:
        for _ in range(times):
            if hook in faulty.SAVING:
                with pytest.raises(Exception, match=re.compile("")):
                    save(dev)
            if hook in faulty.LOADING:
                with pytest.raises(Exception, match=re.compile("")):
                    load(dev, wire)

    try:
        fail(500)
        gc.collect()
        before = own_memory()
        fail(2000)
        gc.collect()
        assert own_memory() - before < 128 * 1024
    finally:
        faulty.mend(dev)
