# SPDX-License-Identifier: GPL-2.0-or-later
"""The same cases for every path on which a state is copied; the paths differ only in speed.

``native``: C copies the memory.  ``fast``: the fast path calls the overridden conversions.
``slow``: PythonStaging calls them, because the device has a hook.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    Buffer,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    PoisonError,
    StreamError,
    VMStruct,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    zeroed,
)
from qemu_vmstate.device.device import staging_of

from ..conftest import repeated


class Plain(VMStruct):
    a: u32 = 1
    b: u8 = field(default=2, maximum=9)
    c: Array[u16, Literal[3]] = field(default=3)


class Overridden(Plain):
    def snapshot_migration_state(self, target: Any) -> None:
        super().snapshot_migration_state(target)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        super().restore_migrated_state_mut(source, version_id)


def native() -> Any:
    class Native(Device, name="made"):
        first: Migratable[Mutex[Plain]]
        second: Migratable[Mutex[Plain]]

    return Native()


def fast() -> Any:
    class Fast(Device, name="made"):
        first: Migratable[Mutex[Overridden]]
        second: Migratable[Mutex[Overridden]]

    return Fast()


def slow() -> Any:
    class Slow(Device, name="made"):
        first: Migratable[Mutex[Overridden]]
        second: Migratable[Mutex[Overridden]]

        def pre_save(self) -> None:
            pass

    return Slow()


def mixed() -> Any:
    class Mixed(Device, name="made"):
        first: Migratable[Mutex[Overridden]]
        second: Migratable[Mutex[Plain]]

    return Mixed()


Make = Callable[[], Any]
PATHS = pytest.mark.parametrize("make", [native, fast, slow, mixed])


def changed(device: Any, a: int = 0x01020304) -> Any:
    for part, b in ((device.first, 4), (device.second, 5)):
        with part.lock() as state:
            state.a, state.b = a, b
            state.c[:] = [1, 2, 0xFFFF]
    return device


WIRE = b"".join(bytes([1, 2, 3, 4, b, 0, 1, 0, 2, 0xFF, 0xFF]) for b in (4, 5))


def test_each_takes_its_path() -> None:
    stagings = {make: staging_of(make()) for make in (native, fast, slow, mixed)}
    assert not stagings[native].needs_python
    assert stagings[fast].needs_python
    assert {make: len(getattr(of, "python_parts", ())) for make, of in stagings.items()} == {
        native: 0,
        fast: 2,
        slow: 2,
        mixed: 1,
    }
    has_fast_path = {make: bool(getattr(of, "fast_path", None)) for make, of in stagings.items()}
    assert has_fast_path == {native: False, fast: True, slow: False, mixed: True}


@PATHS
def test_bytes(make: Make) -> None:
    assert save(changed(make())) == WIRE


@PATHS
def test_load_and_save_again(make: Make) -> None:
    device = make()
    load(device, WIRE)
    assert save(device) == WIRE
    with device.second.lock() as state:
        assert (state.a, state.b, list(state.c)) == (0x01020304, 5, [1, 2, 0xFFFF])


@PATHS
@pytest.mark.parametrize("length", [0, 3, 11, 12, 21, 23])
def test_stream_of_another_length_changes_nothing(make: Make, length: int) -> None:
    device = changed(make(), a=7)
    before = save(device)
    with pytest.raises(StreamError, match="made"):
        load(device, (WIRE + b"\0")[:length])
    assert save(device) == before


@PATHS
def test_number_beyond_its_limit_changes_nothing(make: Make) -> None:
    device = changed(make(), a=7)
    before = save(device)
    with pytest.raises(InvalidError, match=r"b: 10 is out of range"):
        load(device, WIRE[:15] + bytes([10]) + WIRE[16:])
    assert save(device) == before


@PATHS
@pytest.mark.parametrize("part", ["first", "second"])
def test_poison_stops_both_ways_until_it_is_cleared(make: Make, part: str) -> None:
    device = changed(make())
    with pytest.raises(ZeroDivisionError), getattr(device, part).lock():
        raise ZeroDivisionError
    with pytest.raises(PoisonError, match="poisoned"):
        save(device)
    with pytest.raises(PoisonError, match="poisoned"):
        load(device, bytes(22))
    getattr(device, part).clear_poison()
    assert save(device) == WIRE


@PATHS
@pytest.mark.parametrize("part", ["first", "second"])
def test_a_save_waits_for_a_part_that_another_thread_has(make: Make, part: str, run: Any) -> None:
    device = changed(make())
    save(device)
    guard = getattr(device, part).lock()
    saving = run(lambda: save(device))
    saving.wait_blocked()
    guard.value.a = 0x0A0B0C0D
    guard.release()
    at = 0 if part == "first" else 11
    assert saving.result() == WIRE[:at] + bytes([10, 11, 12, 13]) + WIRE[at + 4 :]


@PATHS
@pytest.mark.parametrize("part", ["first", "second"])
def test_a_load_waits_for_a_part_that_another_thread_has(make: Make, part: str, run: Any) -> None:
    device = make()
    guard = getattr(device, part).lock()
    loading = run(lambda: load(device, WIRE))
    loading.wait_blocked()
    assert guard.value.a == 1
    guard.release()
    loading.result()
    assert save(device) == WIRE


@PATHS
def test_saves_beside_a_busy_thread_are_never_torn(make: Make) -> None:
    device = make()
    numbers = itertools.cycle(range(2**16))

    def work() -> None:
        with device.first.lock() as state:
            state.a = next(numbers)
            state.c[:] = [state.a] * 3

    with repeated(work):
        for _ in range(200):
            wire = save(device)
            a = int.from_bytes(wire[:4], "big")
            if a != 1:
                assert wire[5:11] == 3 * a.to_bytes(2, "big")


# States with their own conversions


class Keeper(VMStruct):
    a: u32 = 0
    data: Buffer[Literal[8192]] = zeroed()
    inner: Plain = zeroed()


kept: list[Any] = []


class Keeping(Keeper):
    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        kept[:] = [source, source.inner, source.data, memoryview(source)]
        super().restore_migrated_state_mut(source, version_id)


def keeping() -> Any:
    class Device1(Device, name="keeping"):
        part: Migratable[Mutex[Keeping]]

    return Device1()


def filled(device: Any, number: int) -> Any:
    with device.part.lock() as state:
        state.a, state.inner.a, state.data[:] = number, number, bytes([number]) * 8192
    return device


def test_a_restore_may_keep_its_source() -> None:
    device = keeping()
    load(device, save(filled(keeping(), 1)))
    first = list(kept)
    load(device, save(filled(keeping(), 2)))
    save(filled(device, 3))
    assert (first[0].a, first[1].a, first[2][8191]) == (1, 1, 1)
    assert first[3][:4] == (1).to_bytes(4, "little")
    assert first[3][-1] == kept[3][-1]


def test_a_kept_source_is_a_copy() -> None:
    class Holding(Keeper):
        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            kept[:] = [source]
            assert source.a == 1  # reading needs no copy

    class Device2(Device, name="keeping"):
        part: Migratable[Mutex[Holding]]

    device = Device2()
    load(device, save(filled(keeping(), 1)))
    assert save(device) != save(filled(keeping(), 1))
    assert kept[0].a == 1
    assert kept[0].data[0] == 1


class Partly(Keeper):
    def snapshot_migration_state(self, target: Any) -> None:
        target.a = self.a


class Nothing(Keeper):
    def snapshot_migration_state(self, target: Any) -> None:
        pass


class PartlyDevice(Device, name="partly"):
    part: Migratable[Mutex[Partly]]


class NothingDevice(Device, name="partly"):
    part: Migratable[Mutex[Nothing]]


@pytest.mark.parametrize(("cls", "a"), [(PartlyDevice, 5), (NothingDevice, 0)])
def test_snapshot_begins_with_the_defaults(cls: type[Any], a: int) -> None:
    device = cls()
    # Earlier values in the staging struct must not affect the load.
    load(device, save(filled(keeping(), 9)))
    filled(device, 5)
    initial = save(cls())
    assert save(device) == a.to_bytes(4, "big") + initial[4:]


def test_restore_that_fails_half_way_is_undone() -> None:
    class Failing(Keeper):
        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            super().restore_migrated_state_mut(source, version_id)
            if source.a == 1:
                raise InvalidError("not 1")

    class Device3(Device, name="failing"):
        part: Migratable[Mutex[Failing]]

    device = filled(Device3(), 4)
    before = save(device)
    with pytest.raises(InvalidError, match=r"failing.part: not 1"):
        load(device, save(filled(keeping(), 1)))
    assert save(device) == before
    assert not device.part.is_poisoned()
    with device.part.lock() as state:
        assert state.data[0] == 4


class Sparse(VMStruct):
    a: u8 = 0
    b: u8 = field(default=7, field_exists=lambda state, _version_id: state.a != 9, keep=True)

    refuses = False

    def snapshot_migration_state(self, target: Any) -> None:
        if type(self).refuses:
            raise InvalidError("not now")
        super().snapshot_migration_state(target)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        super().restore_migrated_state_mut(source, version_id)


class FastSparse(Device, name="sparse"):
    state: Migratable[Mutex[Sparse]]


class SlowSparse(FastSparse, name="sparse"):
    def post_load(self, version_id: int) -> None:
        pass


SPARSE = pytest.mark.parametrize(("cls", "is_fast"), [(FastSparse, True), (SlowSparse, False)])


@SPARSE
def test_a_field_that_the_stream_lacks_is_preserved(cls: type[Any], is_fast: bool) -> None:
    device = cls()
    assert bool(getattr(staging_of(device), "fast_path", None)) == is_fast
    with device.state.lock() as state:
        state.b = 55
    load(device, bytes([9]))
    with device.state.lock() as state:
        assert (state.a, state.b) == (9, 55)


@SPARSE
def test_a_snapshot_that_fails_before_a_load_is_the_pre_load_hooks(
    cls: type[Any], is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = cls()
    monkeypatch.setattr(Sparse, "refuses", True)
    with pytest.raises(InvalidError, match="not now") as caught:
        load(device, bytes([9]))
    assert caught.value.__notes__ == ["in the pre_load hook of sparse, at sparse.state"]
    with pytest.raises(InvalidError, match="not now") as caught:
        save(device)
    assert caught.value.__notes__ == ["in the pre_save hook of sparse, at sparse.state"]
