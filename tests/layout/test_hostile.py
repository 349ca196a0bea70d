# SPDX-License-Identifier: GPL-2.0-or-later
"""Malformed streams are refused with an error, and the object does not change."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    BqlCell,
    BqlRefCell,
    Buffer,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    StreamError,
    ToMigrationState,
    VMStruct,
    i16,
    load,
    save,
    u8,
    u32,
    zeroed,
)

from ..conftest import memory_growth
from ..release import release

buffer_of: Any = Buffer
make_class: Any = type(VMStruct)
Unchanged = Callable[[Any], AbstractContextManager[None]]
# In 11.1 QEMU's load has no error number any more, which tells of a stream.
REFUSED = StreamError if release() < (11, 1) else InvalidError


class Regs(VMStruct, name="regs"):
    flag: bool = False
    word: u32 = 0


class Ticks(ToMigrationState[Regs]):
    def __init__(self) -> None:
        self.flag = False
        self.word = 0

    def snapshot_migration_state(self, target: Regs) -> None:
        target.flag = self.flag
        target.word = self.word

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        if source.word & 0xFF == 0x77:
            raise InvalidError("77")
        self.flag = source.flag
        self.word = source.word


class Target(Device, name="target", version_id=2, minimum_version_id=1):
    regs: Migratable[Mutex[Regs]]
    ticks: Migratable[Mutex[Ticks]]
    flags: Array[bool, Literal[3]] = zeroed()
    numbers: Array[i16, Literal[2]] = zeroed()
    raw: Buffer[Literal[6]] = zeroed()
    borrowed: Migratable[BqlRefCell[Regs]]
    level: BqlCell[u8]


SIZE = 5 + 5 + 3 + 4 + 6 + 5 + 1
BOOLS = [0, 5, 10, 11, 12, 23]


def normal(data: bytes) -> bytes:
    """Return the bytes of a save after a load: a bool is 0 or 1."""
    out = bytearray(data)
    for offset in BOOLS:
        out[offset] = bool(out[offset])
    return bytes(out)


def subsection(name: bytes, version: int = 1) -> bytes:
    """Return a subsection's header as QEMU writes it: 0x05, length, name, version."""
    return b"\x05" + bytes([len(name)]) + name + struct.pack(">I", version)


@given(
    st.one_of(st.binary(max_size=64), st.binary(min_size=SIZE, max_size=SIZE)),
    st.integers(0, 3),
)
@example(b"\0" * 9 + b"\x77" + b"\0" * (SIZE - 10), 2)
@example(b"\xff" * SIZE, 1)
@example(b"\5" * SIZE, 2)
@example(b"\0" * 5 + subsection(b"regs/x") + b"\0" * 40, 2)
def test_random_bytes_are_loaded_completely_or_refused(data: bytes, version: int) -> None:
    dev = Target()
    load(dev, bytes(range(SIZE)).replace(b"\x77", b"\0"))
    before = save(dev)
    try:
        load(dev, data, version)
    except InvalidError:
        assert save(dev) == before
    else:
        assert len(data) == SIZE
        assert version in (1, 2)
        assert save(dev) == normal(data)


@given(st.binary(min_size=SIZE, max_size=SIZE), st.integers(0, SIZE - 1), st.integers(0, 255))
def test_one_flipped_byte_changes_one_field_only(data: bytes, at: int, value: int) -> None:
    dev = Target()
    flipped = bytearray(data)
    flipped[at] = value
    for stream in (data, bytes(flipped)):
        with contextlib.suppress(InvalidError):
            load(dev, stream)
            assert save(dev) == normal(stream)


@pytest.mark.parametrize("name", [b"target/x", b"target/", b"target2", b"target/" + b"x" * 200])
def test_subsection_that_the_device_does_not_have_is_refused(
    name: bytes, unchanged: Unchanged
) -> None:
    dev = Target()
    with unchanged(dev), pytest.raises(REFUSED, match=r"^target: "):
        load(dev, bytes(SIZE) + subsection(name))


@pytest.mark.parametrize(
    "tail",
    [b"\x05", b"\x05\xff", b"\x05\0", b"\x05\x06target", b"\x05\xfftarget/", b"\x05\x07other/x"],
)
def test_what_only_looks_like_a_subsection_is_refused(tail: bytes, unchanged: Unchanged) -> None:
    dev = Target()
    with unchanged(dev), pytest.raises(REFUSED, match=r"^target: "):
        load(dev, bytes(SIZE) + tail)


def test_subsection_inside_a_nested_struct_is_refused(unchanged: Unchanged) -> None:
    """QEMU reads bytes after a struct as its subsection if they begin with its name."""
    dev = Target()
    data = bytes(5) + subsection(b"regs/x")
    with unchanged(dev), pytest.raises(InvalidError):
        load(dev, data.ljust(SIZE, b"\0"))


@pytest.mark.parametrize("tail", [b"\5\5", b"\5\x06", b"\5\xff"])
def test_own_bytes_that_look_like_a_subsection_are_loaded(tail: bytes) -> None:
    """After a nested struct, 0x05 makes QEMU peek for a name, also past the end."""
    hints = {"regs": Regs, "tail": buffer_of[len(tail)]}
    cls = make_class("Tail", (VMStruct,), {"__module__": __name__, "__annotations__": hints})
    state = cls(tail=tail)
    assert save(state) == bytes(5) + tail
    loaded = cls()
    load(Migratable(Mutex(loaded)), bytes(5) + tail)
    assert loaded == state


@pytest.mark.parametrize(
    "data",
    [b"", bytes(SIZE - 1), bytes(SIZE + 1), b"\0" * 9 + b"\x77" + b"\0" * (SIZE - 10)],
    ids=["empty", "short", "long", "refused"],
)
def test_failing_loads_leak_no_memory(data: bytes) -> None:
    """5,000 loads; 256 KiB would be 52 bytes each, less than any leaked object takes."""
    dev = Target()

    def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(InvalidError):
                load(dev, data)

    assert memory_growth(fail, 1000, 5000) < 256 * 1024


def test_saves_loads_and_new_devices_leak_no_memory() -> None:
    def work(times: int) -> None:
        for _ in range(times):
            dev = Target()
            load(dev, save(dev))

    assert memory_growth(work, 500, 3000) < 512 * 1024
