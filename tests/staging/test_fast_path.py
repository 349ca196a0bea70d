# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast path compared with the slow path: both must restore, refuse and roll back the same.

A device takes the slow path if it has a validation.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from qemu_vmstate import (
    Arc,
    Device,
    InvalidError,
    LockError,
    Migratable,
    Mutex,
    PoisonError,
    load,
    save,
    validate,
)
from qemu_vmstate.staging.python_staging import PythonStaging

from ..conftest import memory_growth, repeated, until
from .states import (
    BAD,
    KINDS,
    RAISING,
    WORSE,
    Echo,
    Own,
    Point,
    Word,
    always,
    device,
    elsewhere,
    make_class,
    messages,
    raising_signal,
    refuse,
    refused,
    seen,
    shape,
    wire_of,
)

Run = Callable[[Callable[[], Any]], Any]

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
def test_a_refusal_is_reported_and_rolled_back_as_on_the_slow_path(
    kinds: list[str], number: int
) -> None:
    fast, slow = device(kinds), device(kinds, slow=True)
    good = wire_of([0x01020304 + part for part in range(5)])
    for dev in (fast, slow):
        load(dev, good)
    tried = 0
    for part, kind in enumerate(kinds):
        if kind not in RAISING:
            continue
        tried += 1
        numbers = list(range(100, 105))
        numbers[part] = number
        errors = refused(fast, wire_of(numbers), 5)
        assert errors == refused(slow, wire_of(numbers), 5)
        assert f"several.part{part}" in "\n".join(errors)
        assert f"in the post_load hook of several, at several.part{part}" in errors
    assert tried > 1
    for dev in (fast, slow):
        load(dev, wire_of([7] * 5))
    assert seen(fast, shape, 5) == seen(slow, shape, 5)
    assert save(fast) == save(slow) == wire_of([7] * 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_objects_of_any_kind_take_the_fast_path(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_arguments: object) -> None:
        raise AssertionError("the slow path")

    dev = device([kind] * count)
    monkeypatch.setattr(PythonStaging, "restore", never)
    monkeypatch.setattr(PythonStaging, "snapshot", never)
    load(dev, wire_of([5] * count))
    assert save(dev) == wire_of([5] * count)
    if kind in RAISING:
        refused(dev, wire_of([9] * (count - 1) + [BAD]), count)
    with dev.part0.lock(), pytest.raises(AssertionError, match="the slow path"):
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
    """A state that two parts share has its value from before the first restore."""
    log: list[tuple[int, int]] = []

    class Logged(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            log.append((source.value, version_id))
            super().restore_migrated_state_mut(source, version_id)

    class Both(Device, name="both", version_id=3, minimum_version_id=1):
        one: Migratable[Arc[Mutex[Logged]]]
        two: Migratable[Arc[Mutex[Logged]]]
        last: Migratable[Mutex[Point]]

    for slow in (False, True):
        space = {"always": validate("always")(always)} if slow else {}
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
    for slow in (False, True):
        dev = device(["derived", "once", "layout", "own"], slow=slow)
        once = dev.part1.into_inner()
        once.value = elsewhere[id(once)] = 1
        errors = refused(dev, wire_of([9, 2, 9, BAD]), 4)
        assert "and rolling several.part1 back raised RuntimeError" in errors
        assert not any("part0" in one or "part2" in one for one in errors)


def test_a_poisoned_part_in_the_middle_is_refused_with_its_path() -> None:
    kinds = ["derived", "layout", "bytes", "nest", "own"]
    for slow in (False, True):
        dev = device(kinds, slow=slow)
        with pytest.raises(ZeroDivisionError), dev.part2.lock():
            raise ZeroDivisionError
        before = seen(dev, shape, 5)
        for call in (lambda dev=dev: save(dev), lambda dev=dev: load(dev, wire_of([1] * 5))):
            with pytest.raises(PoisonError) as caught:
                call()
            assert "several.part2" in "\n".join(messages(caught.value))
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


def test_no_thread_sees_a_load_that_is_undone() -> None:
    dev = device(["derived", "layout", "nests", "own"])
    times = [0]

    def look() -> None:
        with dev.part0.lock() as first, dev.part3.lock() as last:
            assert (first.value, last.digits) == (0, [0])
            times[0] += 1

    with repeated(look) as (watcher,):
        for part in until(
            lambda: times[0] > 10 or watcher.ended(), "the watcher has looked ten times", least=200
        ):
            numbers = [5] * 4
            numbers[part % 4] = BAD
            with pytest.raises(InvalidError, match="666"):
                load(dev, wire_of(numbers))


def test_a_signal_in_the_last_part_undoes_the_others() -> None:
    class Slow(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            self.digits[:] = [source.value]
            signal.raise_signal(signal.SIGUSR1)

    KINDS["slow"] = Slow
    dev = device(["numbers", "layout", "slow"])
    before = seen(dev, shape, 3)
    with raising_signal(), pytest.raises(KeyboardInterrupt):
        load(dev, wire_of([1, 2, 3]))
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


def test_a_source_that_one_load_keeps_is_not_that_of_the_next() -> None:
    kept: list[Any] = []

    class Sometimes(Own):
        def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
            if source.value % 3 == 1:
                kept.append(source)
            elif source.value % 3 == 2:
                kept.append(memoryview(source))
            refuse(source.value)

    KINDS["sometimes"] = Sometimes
    dev = device(["sometimes", "sometimes"])
    for number in range(9):
        load(dev, wire_of([number, number + 1]))
    refused(dev, wire_of([1, BAD]), 2)
    numbers = [int.from_bytes(bytes(source), sys.byteorder) for source in kept]
    assert numbers == [1, 1, 2, 2, 4, 4, 5, 5, 7, 7, 8, 8, 1]
    assert len({id(source) for source in kept}) == len(kept)


class Attributes(Echo):
    """A layout class whose objects have attributes beside their memory."""

    __slots__ = ("__dict__",)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        assert vars(source) == {}
        source.mark = self.mark = source.value
        super().restore_migrated_state_mut(source, version_id)


def test_attributes_of_a_layout_object_are_undone_and_not_lent() -> None:
    KINDS["attributes"] = Attributes
    for slow in (False, True):
        dev = device(["attributes", "own"], slow=slow)
        load(dev, wire_of([3, 3]))
        load(dev, wire_of([4, 4]))
        for numbers in ([5, BAD], [BAD, 5]):
            refused(dev, wire_of(numbers), 2)
            assert vars(dev.part0.into_inner()) == {"mark": 4}
            assert dev.part0.into_inner().value == 4


def test_loads_that_are_refused_or_not_leak_no_memory() -> None:
    """4,000 of them; 128 KiB would be 32 bytes each."""
    dev = device(["derived", "layout", "bytes", "nests", "own"])
    good, bad = wire_of([1] * 5), wire_of([1] * 4 + [BAD])

    def turn(times: int) -> None:
        for _ in range(times):
            load(dev, good)
            with pytest.raises(InvalidError):
                load(dev, bad)

    assert memory_growth(turn, 500, 2000) < 128 * 1024
