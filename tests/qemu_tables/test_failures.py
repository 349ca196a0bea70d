# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks and checks that fail, at each place where C has one.

A failing hook of a nested description aborts QEMU 10.2 and crashes 10.0, and one of MUST_EXIST
aborts every version during a save (migration/vmstate.c).  Here the caller gets an exception, and
the object that is loaded does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    Device,
    Equal,
    InvalidError,
    Migratable,
    Mutex,
    QTailQ,
    Subsection,
    ToMigrationState,
    VArray,
    VMStateError,
    VMStruct,
    describe,
    field,
    i32,
    i32_positive_le,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    validate,
    zeroed,
)

from ..release import release


class Boom(Exception):
    """The exception of a test's hook."""


class Regs(VMStruct):
    a: u8 = 0
    b: u16 = 0


class Hooked(Device, name="hooked", version_id=3, minimum_version_id=1):
    """A device that records the hooks that run, and fails in the selected one."""

    regs: Migratable[Mutex[Regs]]
    count: u32 = 0
    ran: list[Any] = field(omit=True, default_factory=list)
    failing: str = field(omit=True, default="")

    def _hook(self, name: str, *more: int) -> None:
        self.ran.append((name, *more))
        if self.failing == name:
            raise Boom(name)

    def pre_save(self) -> None:
        self._hook("pre_save")

    def post_save(self) -> None:
        self._hook("post_save")

    def pre_load(self) -> None:
        self._hook("pre_load")

    def post_load(self, version_id: int) -> None:
        self._hook("post_load", version_id)


WIRE = bytes([1, 0, 2, 0, 0, 0, 3])


def test_hooks_run_once_each_in_the_order_of_c() -> None:
    dev = Hooked()
    save(dev)
    assert dev.ran == [("pre_save",), ("post_save",)]
    dev.ran.clear()
    load(dev, WIRE, 2)
    assert dev.ran == [("pre_load",), ("post_load", 2)]
    with dev.regs.lock() as regs:
        assert (regs.a, regs.b, dev.count) == (1, 2, 3)


@pytest.mark.parametrize("call", [save, describe])
@pytest.mark.parametrize("failing", ["pre_save", "post_save"])
def test_failing_save_hook(call: Callable[[Any], object], failing: str) -> None:
    dev = Hooked(failing=failing)
    with pytest.raises(Boom, match=failing):
        call(dev)
    dev.failing = ""
    assert save(dev) == bytes(7)


@pytest.mark.parametrize("failing", ["pre_load", "post_load"])
def test_failing_load_hook(failing: str, unchanged: Any) -> None:
    dev = Hooked(failing=failing)
    with unchanged(dev), pytest.raises(Boom, match=failing):
        load(dev, WIRE)
    dev.failing = ""
    load(dev, WIRE)
    assert save(dev) == WIRE


def test_post_load_does_not_run_for_a_stream_that_is_refused() -> None:
    dev = Hooked()
    for wire in (WIRE[:-1], WIRE + b"\1"):
        dev.ran.clear()
        with pytest.raises(VMStateError):
            load(dev, wire)
        assert ("post_load", 3) not in dev.ran


# ------------------------------------------------------------- snapshot and restore fail
class Fragile(ToMigrationState[Regs]):
    def __init__(self) -> None:
        self.failing = ""
        self.a = 0

    def snapshot_migration_state(self, target: Regs) -> None:
        if self.failing == "snapshot":
            raise InvalidError("no snapshot now")
        target.a = self.a

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        if self.failing == "restore":
            raise InvalidError("not that")
        self.a = source.a


class Holder(Device, name="holder"):
    first: Migratable[Mutex[Regs]]
    second: Migratable[Mutex[Fragile]]
    third: Migratable[Mutex[Regs]]


def test_failing_snapshot_of_one_part() -> None:
    dev = Holder()
    with dev.second.lock() as part:
        part.failing = "snapshot"
    for call in (save, describe):
        with pytest.raises(InvalidError, match="no snapshot now"):
            call(dev)


def test_failing_restore_of_one_part_leaves_all_as_they_were(unchanged: Any) -> None:
    dev = Holder()
    with dev.second.lock() as part:
        part.failing = "restore"
    with unchanged(dev), pytest.raises(InvalidError, match="not that"):
        load(dev, bytes([1, 0, 2, 3, 0, 4, 5, 0, 6]))


# ------------------------------------------------------------------------------ validate
class Window(VMStruct, name="window"):
    start: u8 = 0
    end: u8 = 0

    @validate("start is not after end")
    def in_order(self) -> bool:
        return self.start <= self.end


class Outer(VMStruct, name="outer"):
    one: Window = zeroed()
    many: Array[Window, Literal[2]] = zeroed()
    n: u8 = 0
    counted: VArray[Window, Literal[2]] = field(num="n")
    queued: QTailQ[Window, Literal[2]] = zeroed()


class WindowSub(VMStruct, name="with-sub/window"):
    start: u8 = 0

    @validate("start is below 9")
    def below(self) -> bool:
        return self.start < 9


class WithSub(VMStruct, name="with-sub"):
    a: u8 = 0
    sub: Subsection[WindowSub] = zeroed()


class Fallible(VMStruct):
    a: u8 = 0

    @validate("the check itself works")
    def check(self) -> bool:
        if self.a == 7:
            raise Boom("in the check")
        return self.a < 9


GOOD = bytes([1, 2]) + bytes([3, 4, 5, 6]) + bytes([1, 7, 8]) + bytes([1, 9, 10]) + b"\0"


def test_what_is_valid_is_loaded() -> None:
    obj = Outer()
    load(obj, GOOD)
    assert save(obj) == GOOD


@pytest.mark.parametrize("at", [0, 2, 4, 7, 10])
def test_what_is_not_valid_fails_the_load(at: int, unchanged: Any) -> None:
    obj = Outer()
    load(obj, GOOD)
    bad = bytearray(GOOD)
    bad[at] = 200
    with unchanged(obj), pytest.raises(VMStateError, match="start is not after end"):
        load(obj, bytes(bad))


@pytest.mark.parametrize("call", [save, describe])
def test_what_is_not_valid_fails_the_save_where_c_would_end_qemu(
    call: Callable[[Any], Any],
) -> None:
    obj = Outer()
    obj.many[1].start = 9
    with pytest.raises(VMStateError, match="start is not after end"):
        call(obj)
    obj.many[1].end = 9
    call(obj)


def test_what_is_not_valid_in_a_subsection(unchanged: Any) -> None:
    obj = WithSub(a=1)
    wire = b"\1\5\x0fwith-sub/window\0\0\0\1"
    load(obj, wire + b"\x08")
    with unchanged(obj), pytest.raises(VMStateError, match="start is below 9"):
        load(obj, wire + b"\x09")
    obj.sub.start = 9
    with pytest.raises(VMStateError, match="start is below 9"):
        save(obj)


def test_what_a_check_raises_comes_out(unchanged: Any) -> None:
    obj = Fallible()
    with unchanged(obj), pytest.raises(Boom, match="in the check"):
        load(obj, b"\7")
    with unchanged(obj), pytest.raises(VMStateError, match="the check itself works"):
        load(obj, b"\x09")
    obj.a = 7
    with pytest.raises(Boom, match="in the check"):
        save(obj)


# -------------------------------------------------------------------- checked on load
EQUALS = {"u8": (u8, 1), "u16": (u16, 2), "u32": (u32, 4), "u64": (u64, 8), "i32": (i32, 4)}


@pytest.mark.parametrize("name", EQUALS)
def test_equal_accepts_only_the_current_value(name: str, unchanged: Any) -> None:
    type_, width = EQUALS[name]

    class S(VMStruct, name="s"):
        a: Equal[type_] = field(err_hint="set both to 5")  # type: ignore[valid-type]
        b: u8 = 0

    obj: Any = S(a=5)
    load(obj, (5).to_bytes(width, "big") + b"\x09")
    assert (obj.a, obj.b) == (5, 9)
    # In 11.1 QEMU has no hints any more.
    expected = "set both to 5" if release() < (11, 1) else r"s: 5 != "
    for other in (0, 4, 6, 5 << 8 * width - 8 if width > 1 else 7):
        with unchanged(obj), pytest.raises(VMStateError, match=expected):
            load(obj, other.to_bytes(width, "big") + b"\1")
    obj.a = 6
    assert save(obj) == (6).to_bytes(width, "big") + b"\x09"


class AtMost(VMStruct, name="s"):
    a: i32_positive_le = 0
    b: u8 = 0


@pytest.mark.parametrize("value", [0, 1, 5])
def test_i32_positive_le_accepts_values_up_to_the_current_one(value: int) -> None:
    obj = AtMost(a=5)
    load(obj, value.to_bytes(4, "big") + b"\x09")
    assert (obj.a, obj.b) == (value, 9)


@pytest.mark.parametrize("value", [6, 2**31 - 1, 2**31, 2**32 - 1])
def test_i32_positive_le_refuses_more_and_less_than_nothing(value: int, unchanged: Any) -> None:
    obj = AtMost(a=5)
    with unchanged(obj), pytest.raises(VMStateError):
        load(obj, value.to_bytes(4, "big") + b"\x09")


class Bounded(VMStruct, name="s"):
    a: u8 = field(minimum=2, maximum=9, default=2)
    b: i32 = field(minimum=-3, maximum=3)
    many: Array[Regs, Literal[2]] = zeroed()


@pytest.mark.parametrize(("a", "b"), [(2, -3), (9, 3), (5, 0)])
def test_numbers_within_their_limits(a: int, b: int) -> None:
    obj = Bounded()
    load(obj, bytes([a]) + b.to_bytes(4, "big", signed=True) + bytes(6))
    assert (obj.a, obj.b) == (a, b)


@pytest.mark.parametrize(("a", "b"), [(1, 0), (10, 0), (255, 0), (5, -4), (5, 4), (5, -(2**31))])
def test_numbers_beyond_their_limits(a: int, b: int, unchanged: Any) -> None:
    obj = Bounded()
    bad = str(b if a == 5 else a)
    with unchanged(obj), pytest.raises(VMStateError, match=f"{bad} is out of range"):
        load(obj, bytes([a]) + b.to_bytes(4, "big", signed=True) + bytes(6))
