# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole calls: nested, from threads, interrupted, with wrong arguments; what they keep alive."""

from __future__ import annotations

import gc
import inspect
import pickle
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Arc,
    Array,
    Buffer,
    Device,
    Migratable,
    Mutex,
    StreamError,
    ToMigrationState,
    ToMigrationStateShared,
    VMStateError,
    VMStruct,
    load,
    save,
    u8,
    u32,
    zeroed,
)
from qemu_vmstate.device.device import staging_of

Run = Callable[[Callable[[], Any]], Any]


class Regs(VMStruct):
    count: u32 = 1


class Native(Device, name="native"):
    regs: Migratable[Mutex[Regs]]


class Calls(ToMigrationState[Regs]):
    """A state whose snapshot and restore call a function."""

    def __init__(self) -> None:
        self.in_snapshot: Callable[[], object] = bool
        self.in_restore: Callable[[], object] = bool

    def snapshot_migration_state(self, target: Regs) -> None:
        self.in_snapshot()
        target.count = 7

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.in_restore()


class Calling(Device, name="calling"):
    state: Migratable[Mutex[Calls]]


def calling() -> tuple[Calling, Calls]:
    state = Calls()
    return Calling(state=state), state


# -------------------------------------------------------------------- nesting


@pytest.mark.parametrize("inner", ["save", "load"])
@pytest.mark.parametrize("outer", ["save", "load"])
def test_a_call_inside_one_of_the_same_device_is_refused(outer: str, inner: str) -> None:
    dev, state = calling()
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: save(dev),
        "load": lambda: load(dev, bytes(4)),
    }
    state.in_snapshot = state.in_restore = calls[inner]
    with pytest.raises(VMStateError, match=r"^calling: save\(\) or load\(\) was called from its"):
        calls[outer]()
    state.in_snapshot = state.in_restore = bool
    assert save(dev) == bytes([0, 0, 0, 7])


class Large(VMStruct):
    raw: Buffer[Literal[4194304]] = zeroed()  # from this size on, pages are released after a call


class LargeCalling(Device, name="large"):
    large: Migratable[Mutex[Large]]
    state: Migratable[Mutex[Calls]]


def test_a_refused_call_leaves_the_memory_of_the_outer_one() -> None:
    dev, state = LargeCalling(), Calls()
    dev.state = Migratable(Mutex(state))

    def refused() -> None:
        with pytest.raises(VMStateError, match="was called from its own"):
            load(dev, stream)

    stream = b"\x5a" * 4194304 + bytes(4)
    state.in_restore = refused
    load(dev, stream)
    assert bytes(dev.large.into_inner().raw) == stream[:-4]


class Shared(ToMigrationStateShared[Regs]):
    """The same for a state that each call makes a new staging struct of."""

    def snapshot_migration_state(self, target: Regs) -> None:
        save(Migratable(self))

    def restore_migrated_state(self, source: Regs, version_id: int) -> None:
        load(Migratable(self), bytes(4))


@pytest.mark.parametrize("call", [save, lambda shared: load(shared, bytes(4))])
def test_a_call_inside_one_of_the_same_state_is_refused(call: Callable[[Any], object]) -> None:
    with pytest.raises(VMStateError, match="was called from its own snapshot or restore"):
        call(Migratable(Shared()))


def test_calls_of_other_devices_nest_and_each_has_its_own_error() -> None:
    outer, state = calling()
    inner, inner_state = calling()
    raised = []

    def fail() -> None:
        raise ValueError("of the inner one")

    def nested() -> None:
        assert save(Native()) == bytes([0, 0, 0, 1])
        load(Native(), bytes(4))
        inner_state.in_snapshot = fail
        with pytest.raises(ValueError, match="of the inner one") as caught:
            save(inner)
        raised.append(caught.value)
        with pytest.raises(StreamError):
            load(Native(), bytes(5))

    state.in_snapshot = state.in_restore = nested
    assert save(outer) == bytes([0, 0, 0, 7])
    load(outer, bytes(4))
    assert len(raised) >= 2  # the undo of a restore takes a snapshot too
    for error in raised:
        assert error.__notes__ == ["in the pre_save hook of calling, at calling.state"]


def test_another_threads_call_waits_for_the_end_of_one_of_the_same_device(run: Run) -> None:
    dev, state = calling()
    others: list[Any] = []

    def start() -> None:
        if not others:
            others.append(run(lambda: save(dev)))
            others[0].wait_blocked()

    state.in_snapshot = start
    assert save(dev) == bytes([0, 0, 0, 7])
    assert others[0].result() == bytes([0, 0, 0, 7])


# --------------------------------------------------------------- interruption


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt: shells let programs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_in_a_snapshot_ends_the_save_and_the_next_one_succeeds() -> None:
    dev, state = calling()
    state.in_snapshot = state.in_restore = lambda: signal.raise_signal(signal.SIGINT)
    for call in (lambda: save(dev), lambda: load(dev, bytes(4))):
        with pytest.raises(KeyboardInterrupt):
            call()
        dev.state.clear_poison()
    state.in_snapshot = bool
    assert save(dev) == bytes([0, 0, 0, 7])


# ------------------------------------------------------------ kept QEMUFiles


class Big(VMStruct):
    raw: Array[u8, Literal[200_000]] = zeroed()
    tail: u8 = 5


def test_a_call_leaves_nothing_for_the_next_one() -> None:
    """Streams of all lengths, those that fail among them: each call may get the last one's file."""
    big, small = Migratable(Mutex(Big())), Native()
    whole = bytes(range(250)) * 800 + b"\x09"
    streams: list[tuple[Any, bytes]] = [(big, whole), (small, b"\0\0\0\x2a")]
    for obj, stream in [*streams, *reversed(streams), *streams]:
        load(obj, stream)
        assert save(obj) == stream
        for wrong in (
            b"",
            stream[:-1],
            stream + b"\0",
            stream + bytes(300),
            b"\x05" + stream[1:-1],
        ):
            with pytest.raises(StreamError):
                load(obj, wrong)
            assert save(obj) == stream
        load(obj, stream)


# ------------------------------------------------------------------ arguments


def test_the_functions_look_like_functions() -> None:
    assert str(inspect.signature(save)) == "(obj: 'Any') -> 'bytes'"
    assert list(inspect.signature(load).parameters) == ["obj", "data", "version_id"]
    assert pickle.loads(pickle.dumps((save, load))) == (save, load)
    assert str(inspect.getdoc(save)).startswith("Return the bytes")
    assert str(inspect.getdoc(load)).startswith("Load the bytes")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: save(), r"save\(\) missing 1 required positional argument: 'obj'"),  # type: ignore[call-arg]
        (lambda: save(Native(), 1), r"save\(\) takes 1 positional argument"),  # type: ignore[call-arg]
        (lambda: load(Native()), r"load\(\) missing 1 required positional argument: 'data'"),  # type: ignore[call-arg]
        (lambda: load(Native(), bytes(4), "1"), "'str'"),  # type: ignore[arg-type]
        (lambda: load(Native(), bytes(4), 1.0), "'float' object cannot be interpreted"),  # type: ignore[arg-type]
        (lambda: load(Native(), "text"), "'str'"),  # type: ignore[arg-type]
        (lambda: load(Native(), memoryview(bytes(8))[::2]), "contiguous"),
        (lambda: save(object()), "object"),
    ],
)
def test_wrong_arguments_are_type_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_the_traceback_of_a_hooks_exception_begins_at_the_callers_line() -> None:
    dev, state = calling()

    def fail() -> None:
        raise ValueError("a reason")

    state.in_snapshot = fail
    with pytest.raises(ValueError, match="a reason") as caught:
        save(dev)
    names = [entry.name for entry in caught.traceback]
    assert names[:2] == [
        "test_the_traceback_of_a_hooks_exception_begins_at_the_callers_line",
        "save",
    ]
    assert names[-2:] == ["snapshot_migration_state", "fail"]
    assert caught.value.__context__ is None


# ------------------------------------------------------------------ references


def test_a_call_keeps_no_reference_to_its_arguments() -> None:
    dev, _state = calling()
    data, wrong = bytes(bytearray(4)), bytes(bytearray(5))
    before = sys.getrefcount(data), sys.getrefcount(wrong), sys.getrefcount(dev)
    for _ in range(10):
        load(dev, data)
        save(dev)
        with pytest.raises(StreamError):
            load(dev, wrong)
    gc.collect()
    assert (sys.getrefcount(data), sys.getrefcount(wrong), sys.getrefcount(dev)) == before


@pytest.mark.parametrize("make", [Native, Calling, lambda: Migratable(Mutex(Regs()))])
def test_an_object_is_freed_after_its_calls(make: Callable[[], Any]) -> None:
    obj = make()
    load(obj, save(obj))
    with pytest.raises(StreamError):
        load(obj, b"")
    gone = weakref.ref(obj)
    del obj
    gc.collect()
    assert gone() is None


# ----------------------------------------------- devices of a class differ still


def test_a_device_whose_parts_are_of_other_types_is_none_of_its_classs_kind() -> None:
    first = Native()
    assert save(first) == bytes([0, 0, 0, 1])
    arc = Arc(Mutex(Regs(count=3)))
    assert save(Native(regs=Migratable(arc))) == bytes([0, 0, 0, 3])
    assert save(Native(regs=Mutex(Calls()))) == bytes([0, 0, 0, 7])
    assert save(Native(regs=Mutex(Regs(count=4)))) == bytes([0, 0, 0, 4])
    assert type(staging_of(first)) is type(staging_of(Native()))


def test_a_hook_that_a_class_gets_later_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Device, name="late"):
        regs: Migratable[Mutex[Regs]]

    save(Late())
    called = []
    monkeypatch.setattr(Late, "pre_save", lambda _self: called.append("pre_save"))
    save(Late())
    assert called == ["pre_save"]


def test_a_subclass_has_a_kind_of_its_own() -> None:
    class Base(Device, name="base"):
        regs: Migratable[Mutex[Regs]]

    class Longer(Base, name="longer"):
        more: Migratable[Mutex[Regs]]

    for cls, parts in ((Base, 1), (Longer, 2), (Base, 1), (Longer, 2)):
        assert save(cls()) == bytes([0, 0, 0, 1]) * parts
