# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices with arrays of Migratables, subsections, hooks, validation, timers and lists."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    BqlRefCell,
    DeclarationError,
    Device,
    InvalidError,
    LockError,
    Migratable,
    Mutex,
    OutOfRangeError,
    QEMUTimer,
    QTailQ,
    Subsection,
    ToMigrationState,
    Unused,
    VArray,
    VMStruct,
    bql_lock_guard,
    capabilities,
    clock_get_ns,
    describe,
    field,
    load,
    save,
    u8,
    u16,
    validate,
)
from qemu_vmstate.device.device import staging_of
from qemu_vmstate.staging.python_staging import PythonStaging


class Channel(VMStruct):
    level: u16 = 3


class Names(ToMigrationState[Channel]):
    """A state that migrates as ``Channel``, with conversions in Python."""

    def __init__(self) -> None:
        self.names = 3 * ["x"]

    def snapshot_migration_state(self, target: Channel) -> None:
        target.level = len(self.names)

    def restore_migrated_state_mut(self, source: Channel, version_id: int) -> None:
        if source.level > 99:
            raise InvalidError(f"{source.level} names, and 99 is the most")
        self.names = source.level * ["x"]


class Board(Device, name="board", version_id=2):
    count: u8 = 1
    channels: VArray[Migratable[Mutex[Channel]], Literal[3]] = field(num="count")
    names: Array[Migratable[BqlRefCell[Names]], Literal[2]]
    _was: Unused[Literal[1]]


def levels(board: Board) -> list[int]:
    found = []
    for channel in board.channels:
        with channel.lock() as state:
            found.append(state.level)
    return found


def numbers_of_names(board: Board) -> list[int]:
    found = []
    with bql_lock_guard():
        for names in board.names:
            with names.borrow() as state:
                found.append(len(state.names))
    return found


def test_arrays_of_migratables_fixed_and_counted() -> None:
    board = Board()
    for number, channel in enumerate(board.channels):
        with channel.lock() as state:
            state.level = 10 + number
    assert save(board) == bytes([1, 0, 10, 0, 3, 0, 3, 0])
    board.count = 3
    assert save(board) == bytes([3, 0, 10, 0, 11, 0, 12, 0, 3, 0, 3, 0])
    copy = Board()
    load(copy, bytes([2, 0, 7, 0, 8, 0, 4, 0, 5, 0]))
    assert copy.count == 2
    # The elements that the stream lacks of a counted array keep their initial state.
    assert levels(copy) == [7, 8, 3]
    assert numbers_of_names(copy) == [4, 5]
    entries = describe(board)["fields"]
    assert [(one["name"], one.get("array_len")) for one in entries[:3]] == [
        ("count", None),
        ("channels", 3),
        ("names", 2),
    ]


def test_count_of_migratables_is_bounded_where_it_is_assigned_and_loaded() -> None:
    board = Board()
    with pytest.raises(OutOfRangeError, match=r"Board.count: 4 is out of range for u8 \(0 to 3\)"):
        board.count = 4
    with pytest.raises(InvalidError, match=r"board.count: 4 is out of range \(0 to 3\)"):
        load(board, bytes([4]) + bytes(13))
    assert board.count == 1


def test_array_of_migratables_takes_as_many_states() -> None:
    shared = [Mutex(Channel(level=9)), Channel(level=8), Migratable(Mutex(Channel(level=7)))]
    board = Board(channels=shared)
    assert levels(board) == [9, 8, 7]
    with pytest.raises(DeclarationError, match=r"Board.channels: 2 elements for 3"):
        Board(channels=shared[:2])


def test_failure_in_one_element_names_it_and_changes_no_other() -> None:
    board = Board()
    with pytest.raises(InvalidError, match=r"board.names\[1\]: 100 names, and 99 is the most"):
        load(board, bytes([1, 0, 7, 0, 4, 0, 100, 0]))
    assert levels(board) == [3, 3, 3]
    assert numbers_of_names(board) == [3, 3]
    held = board.channels[0].lock()
    with pytest.raises(LockError, match=r"board.channels\[0\] is locked by this very thread"):
        save(board)
    held.release()


# Subsections


class More(VMStruct, name="pump/more"):
    speed: u8 = 0


class Pump(Device, name="pump"):
    on: u8 = 0
    state: Subsection[Migratable[Mutex[Channel]]] = field(name="pump/state")
    more: Subsection[More] = field(needed=lambda source: source.on == 1)


def head(name: str) -> bytes:
    return bytes([5, len(name)]) + name.encode() + bytes([0, 0, 0, 1])


def test_subsections_of_a_device() -> None:
    pump = Pump()
    assert save(pump) == bytes([0])
    with pump.state.lock() as state:
        state.level = 4
    pump.more.speed = 7
    assert save(pump) == bytes([0]) + head("pump/state") + bytes([0, 4])
    pump.on = 1
    wire = save(pump)
    assert wire == bytes([1]) + head("pump/state") + bytes([0, 4]) + head("pump/more") + bytes([7])
    copy = Pump()
    load(copy, wire)
    assert copy.more.speed == 7
    load(copy, bytes([1]))
    assert copy.more.speed == 0
    with copy.state.lock() as state:
        assert state.level == 3


def test_subsection_not_named_after_its_device_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"'pump/more' must be called 'valve/...'"):

        class Valve(Device, name="valve"):
            more: Subsection[More]


# Hooks


class Hooked(Device, name="hooked", version_id=3, minimum_version_id=1):
    value: u8 = 1
    channel: Migratable[Mutex[Channel]]
    calls: list[str] = field(omit=True, default_factory=list)
    fail: str = field(omit=True, default="")

    def _called(self, hook: str) -> None:
        self.calls.append(hook)
        if self.fail and self.fail in hook:
            raise ZeroDivisionError(f"boom in {hook}")

    def pre_save(self) -> None:
        self._called("pre_save")
        self.value = 5

    def post_save(self) -> None:
        self._called("post_save")

    def pre_load(self) -> None:
        self._called(f"pre_load {self.value}")

    def post_load(self, version_id: int) -> None:
        self._called(f"post_load {version_id} {self.value}")


def test_hooks_come_before_and_after() -> None:
    device = Hooked()
    assert save(device) == bytes([5, 0, 3])
    assert device.calls == ["pre_save", "post_save"]
    device.calls.clear()
    load(device, bytes([9, 0, 8]), version_id=2)
    assert device.calls == ["pre_load 5", "post_load 2 9"]


@pytest.mark.parametrize("hook", ["pre_save", "post_save"])
def test_failing_hook_of_a_save(hook: str) -> None:
    device = Hooked(fail=hook)
    with pytest.raises(ZeroDivisionError, match=f"boom in {hook}") as caught:
        save(device)
    assert f"in the {hook} hook of hooked" in caught.value.__notes__[0]
    device.fail = ""
    assert save(device) == bytes([5, 0, 3])


@pytest.mark.parametrize("hook", ["pre_load", "post_load"])
def test_failing_hook_of_a_load_changes_nothing(hook: str) -> None:
    device = Hooked(fail=hook)
    with pytest.raises(ZeroDivisionError, match=f"boom in {hook}"):
        load(device, bytes([9, 0, 8]))
    assert device.value == 1
    with device.channel.lock() as channel:
        assert channel.level == 3


def test_hooks_do_not_keep_a_device_alive() -> None:
    import gc
    import weakref

    device = Hooked()
    save(device)
    gone = weakref.ref(device)
    del device
    gc.collect()
    assert gone() is None


# Validation


class Fifo(VMStruct):
    level: u8 = 0
    room: u8 = 4

    @validate("the level is above what there is room for")
    def level_fits(self) -> bool:
        return self.level <= self.room


class Port(Device, name="port"):
    fifos: Array[Migratable[Mutex[Fifo]], Literal[2]]
    speed: u8 = 1

    @validate("the speed is not one of 1 and 2")
    def speed_is_known(self, source: Any) -> bool:
        if source.speed == 99:
            raise ZeroDivisionError("boom")
        return source.speed in (1, 2)


def test_validation_fails_a_load_before_anything_changes() -> None:
    port = Port()
    load(port, bytes([1, 4, 2, 4, 2]))
    before = bytes([1, 4, 2, 4, 2])
    for wire, message in [
        (bytes([1, 4, 5, 4, 2]), r"port.fifos\[1\]: the level is above what there is room for"),
        (bytes([1, 4, 2, 4, 3]), "port: the speed is not one of 1 and 2"),
    ]:
        with pytest.raises(InvalidError, match=message):
            load(port, wire)
        assert save(port) == before
    with pytest.raises(ZeroDivisionError):
        load(port, bytes([1, 4, 2, 4, 99]))
    assert save(port) == before


def test_validation_fails_a_save() -> None:
    port = Port()
    with port.fifos[0].lock() as fifo:
        fifo.level = 5
    with pytest.raises(InvalidError, match=r"port.fifos\[0\]: the level is above"):
        save(port)


def test_validated_state_is_still_copied_by_c() -> None:
    staging = staging_of(Port())
    assert isinstance(staging, PythonStaging)
    assert not staging.python_parts[1:], "only the plain fields are Python's"


# Other members of a description


def test_description_members_of_a_class() -> None:
    if capabilities().early_setup:

        class Early(Device, name="early", early_setup=True, unmigratable=True):
            x: u8 = 1

        assert save(Early()) == bytes([1])
    else:

        class Late(Device, name="late", early_setup=True):
            x: u8 = 1

        with pytest.raises(DeclarationError, match="late: early_setup: this QEMU does not have it"):
            save(Late())


class Alarm(Device, name="alarm"):
    timer: QEMUTimer
    other: QEMUTimer


def test_timer_outside_a_vm_keeps_its_time() -> None:
    alarm = Alarm()
    assert clock_get_ns() == 0
    alarm.timer.mod_ns(258)
    assert save(alarm) == bytes([0, 0, 0, 0, 0, 0, 1, 2]) + b"\xff" * 8
    assert [one["type"] for one in describe(alarm)["fields"]] == ["timer", "timer"]
    copy = Alarm(other=QEMUTimer())
    copy.other.mod_ns(5)
    load(copy, save(alarm))
    assert (copy.timer.get(), copy.other.pending) == (258, False)
    with pytest.raises(OutOfRangeError, match="-1 is no time to expire at"):
        alarm.timer.mod_ns(-1)
    alarm.timer.delete()
    assert repr(alarm.timer) == "QEMUTimer(not armed)"


class Entry(VMStruct):
    x: u8 = 0


class Lists(Device, name="lists", version_id=2, minimum_version_id=1):
    queue: QTailQ[Entry, Literal[3]]
    kept: u8 = field(default=1, version_id=2, keep=True)


def test_plain_lists_of_a_device() -> None:
    lists = Lists(queue=[Entry(x=1), Entry(x=2)])
    assert save(lists) == bytes([1, 1, 1, 2, 0, 1])
    load(lists, bytes([1, 9, 0, 4]))
    assert list(lists.queue) == [Entry(x=9)]
    assert lists.kept == 4
    load(lists, bytes([0]), version_id=1)
    assert (list(lists.queue), lists.kept) == ([], 4)
