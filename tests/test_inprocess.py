# SPDX-License-Identifier: GPL-2.0-or-later
"""save() and load(): QEMU's own wire format, all or nothing, from any thread."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from qemu_vmstate import (
    Array,
    BqlRefCell,
    Buffer,
    Device,
    Migratable,
    Mutex,
    StreamError,
    ToMigrationState,
    VersionError,
    VMStruct,
    i8,
    i16,
    i32,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)

Unchanged = Callable[[Any], AbstractContextManager[None]]
Run = Callable[[Callable[[], Any]], Any]
make_class: Any = type(VMStruct)
ROOT = Path(__file__).absolute().parents[1]


# ------------------------------------- tables of QEMU's tests/unit/test-vmstate.c


class Primitive(Device, name="simple/primitive"):
    b_1: bool = False
    b_2: bool = False
    u8_1: u8 = 0
    u16_1: u16 = 0
    u32_1: u32 = 0
    u64_1: u64 = 0
    i8_1: i8 = 0
    i8_2: i8 = 0
    i16_1: i16 = 0
    i16_2: i16 = 0
    i32_1: i32 = 0
    i32_2: i32 = 0
    i64_1: i64 = 0
    i64_2: i64 = 0


class SimpleArray(Device, name="simple/array"):
    u16_1: Array[u16, Literal[3]] = zeroed()


PRIMITIVE: dict[str, Any] = {
    "b_1": True,
    "b_2": False,
    "u8_1": 130,
    "u16_1": 512,
    "u32_1": 70000,
    "u64_1": 12121212,
    "i8_1": 65,
    "i8_2": -65,
    "i16_1": 512,
    "i16_2": -512,
    "i32_1": 70000,
    "i32_2": -70000,
    "i64_1": 12121212,
    "i64_2": -12121212,
}
PRIMITIVE_WIRE = bytes.fromhex(
    "01 00 82 0200 00011170 0000000000b8f47c 41 bf 0200 fe00"
    "00011170 fffeee90 0000000000b8f47c ffffffffff470b84"
)
ARRAY_WIRE = bytes.fromhex("0042 0043 0044")
TABLES: list[tuple[type[Device], dict[str, Any], bytes]] = [
    (Primitive, PRIMITIVE, PRIMITIVE_WIRE),
    (SimpleArray, {"u16_1": [0x42, 0x43, 0x44]}, ARRAY_WIRE),
]
EACH_TABLE = pytest.mark.parametrize(("cls", "values", "wire"), TABLES, ids=["primitive", "array"])


@EACH_TABLE
def test_table_is_saved_as_qemus_unit_test_expects(
    cls: type[Device], values: dict[str, Any], wire: bytes
) -> None:
    assert save(cls(**values)) == wire


@EACH_TABLE
def test_table_is_loaded_as_qemus_unit_test_expects(
    cls: type[Device], values: dict[str, Any], wire: bytes
) -> None:
    dev = cls()
    load(dev, wire)
    for name, value in values.items():
        found = getattr(dev, name)
        assert (list(found) if isinstance(value, list) else found) == value
    assert save(dev) == wire


@EACH_TABLE
def test_every_shorter_length_of_a_table_fails_and_changes_nothing(
    cls: type[Device], values: dict[str, Any], wire: bytes, unchanged: Unchanged
) -> None:
    dev = cls()
    for length in range(len(wire)):
        with unchanged(dev), pytest.raises(StreamError, match=f"the stream of {length} bytes ends"):
            load(dev, wire[:length])


@EACH_TABLE
@pytest.mark.parametrize("more", [b"\0", b"\5", b"\x7e", b"\5\x20simple", bytes(40000)])
def test_every_longer_stream_of_a_table_fails_and_changes_nothing(
    cls: type[Device], values: dict[str, Any], wire: bytes, more: bytes, unchanged: Unchanged
) -> None:
    dev = cls()
    with unchanged(dev), pytest.raises(StreamError, match="goes on after the last field"):
        load(dev, wire + more)


# -------------------------------------------------------- one device, every part


class Regs(VMStruct):
    config: u16 = 1
    fifo: Array[u8, Literal[3]] = zeroed()


class Ticks(ToMigrationState[Regs]):
    def __init__(self) -> None:
        self.config = 2

    def snapshot_migration_state(self, target: Regs) -> None:
        target.config = self.config

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.config = source.config


class Timer(Device, name="timer", version_id=3, minimum_version_id=2):
    regs: Migratable[Mutex[Regs]]
    ticks: Migratable[Mutex[Ticks]]
    raw: Buffer[Literal[4]] = zeroed()
    last: Migratable[BqlRefCell[Regs]]


# Every field of Timer and its width, in order.
FIELDS = [
    *(("timer.regs.config", 2), ("timer.regs.fifo[0]", 1)),
    *(("timer.regs.fifo[1]", 1), ("timer.regs.fifo[2]", 1)),
    *(("timer.ticks.config", 2), ("timer.ticks.fifo[0]", 1)),
    *(("timer.ticks.fifo[1]", 1), ("timer.ticks.fifo[2]", 1)),
    ("timer.raw", 4),
    *(("timer.last.config", 2), ("timer.last.fifo[0]", 1)),
    *(("timer.last.fifo[1]", 1), ("timer.last.fifo[2]", 1)),
]
OF_EACH_BYTE = [path for path, width in FIELDS for _ in range(width)]
WIRE = bytes(range(1, 20))


@pytest.mark.parametrize("length", range(19))
def test_stream_cut_short_names_the_field_it_ends_in(length: int, unchanged: Unchanged) -> None:
    dev = Timer()
    with unchanged(dev), pytest.raises(StreamError) as caught:
        load(dev, WIRE[:length])
    begins = OF_EACH_BYTE.index(OF_EACH_BYTE[length])
    assert str(caught.value) == (
        f"timer: the stream of {length} bytes ends inside {OF_EACH_BYTE[length]}, whose "
        f"{OF_EACH_BYTE.count(OF_EACH_BYTE[length])} byte(s) begin at {begins}; a whole one has 19"
    )
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize("more", [1, 2, 100])
def test_stream_that_goes_on_is_refused(more: int, unchanged: Unchanged) -> None:
    dev = Timer()
    with unchanged(dev), pytest.raises(StreamError) as caught:
        load(dev, WIRE + bytes(more))
    assert str(caught.value) == (
        f"timer: the stream of {19 + more} bytes goes on after the last field; a whole one has 19"
    )


@pytest.mark.parametrize("version", [-1, 0, 1, 4, 5, 2**31, 2**40])
def test_version_that_is_not_read_is_refused(version: int, unchanged: Unchanged) -> None:
    dev = Timer()
    with (
        unchanged(dev),
        pytest.raises(
            VersionError,
            match=rf"^timer: the stream has version_id {version}, and this device reads 2 to 3",
        ),
    ):
        load(dev, WIRE, version)


@pytest.mark.parametrize("version", [None, 2, 3])
def test_version_that_is_read_is_loaded(version: int | None) -> None:
    dev = Timer()
    load(dev, WIRE, version)
    assert dev.regs.into_inner().config == 0x0102
    assert dev.ticks.into_inner().config == 0x0607
    assert bytes(dev.raw) == WIRE[10:14]
    expected = bytearray(WIRE)
    expected[7:10] = bytes(3)  # Ticks ignores the fifo
    assert save(dev) == bytes(expected)


@pytest.mark.parametrize(
    "wrap",
    [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, dtype=np.uint8)],
    ids=["bytes", "bytearray", "memoryview", "numpy"],
)
def test_stream_may_be_any_bytes_like_object(wrap: Callable[[bytes], Any]) -> None:
    dev = Timer()
    load(dev, wrap(WIRE))
    assert dev.regs.into_inner().config == 0x0102


def test_wider_items_of_a_buffer_are_taken_as_bytes() -> None:
    state = Regs()
    load(Migratable(Mutex(state)), memoryview(struct.pack(">HBBB", 5, 6, 7, 8)))
    assert (state.config, list(state.fifo)) == (5, [6, 7, 8])
    words = SimpleArray()
    stream: Any = np.array([1, 2, 3], dtype=">u2")
    load(words, stream)
    assert list(words.u16_1) == [1, 2, 3]


@pytest.mark.parametrize(
    "data", ["text", None, 3, [1, 2], np.zeros((4, 4), dtype=np.uint8)[:, ::2]]
)
def test_data_that_is_no_buffer_of_bytes_is_a_type_error(data: Any, unchanged: Unchanged) -> None:
    dev = Timer()
    with unchanged(dev), pytest.raises(TypeError):
        load(dev, data)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 32767, 32768, 32769, 65535, 65536, 1 << 20])
def test_buffers_that_cross_the_ends_of_qemus_own_buffers_are_complete(size: int) -> None:
    array_of: Any = Buffer
    hints = {"head": u8, "raw": array_of[size], "tail": u16}
    cls = make_class("Big", (VMStruct,), {"__module__": __name__, "__annotations__": hints})
    filling = bytes(range(256)) * (size // 256 + 1)
    state = cls(head=1, raw=filling[:size], tail=0xFFFE)
    wire = b"\1" + filling[:size] + b"\xff\xfe"
    assert save(state) == wire
    copy = cls()
    load(Migratable(Mutex(copy)), wire)
    assert copy == state
    for bad in (wire[:-1], wire + b"\0", wire[: size // 2]):
        with pytest.raises(StreamError):
            load(Migratable(Mutex(copy)), bad)
    assert copy == state


def test_failing_load_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    dev = Timer()
    for data in (b"", WIRE[:-1], WIRE + b"\0"):
        with pytest.raises(StreamError):
            load(dev, data)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# -------------------------------------------------------------------- threads


def test_many_threads_save_and_load_many_devices_and_one(run: Run) -> None:
    class Wide(VMStruct):
        words: Array[u32, Literal[16]] = zeroed()

    class Own(Device, name="own"):
        native: Migratable[Mutex[Wide]]
        python: Migratable[Mutex[Ticks]]

    shared = Own()

    def wire(n: int) -> bytes:
        return struct.pack(">17I", *[n] * 16, n << 16)[:66] + bytes(3)

    def work(n: int) -> set[bytes]:
        mine = Own()
        seen = set()
        for _ in range(200):
            load(mine, wire(n))
            assert save(mine) == wire(n)
            load(shared, wire(n))
            seen.add(save(shared))
        return seen

    workers = [run(lambda n=n: work(n)) for n in range(1, 9)]  # type: ignore[misc]
    seen: set[bytes] = set().union(*(worker.result() for worker in workers))
    assert seen <= {wire(n) for n in range(1, 9)}
    assert len(seen) > 1


# -------------------------------------------------------------------- imports


def test_use_without_native_parts_says_how_to_build_them(tmp_path: Path) -> None:
    script = """
import qemu_vmstate
try:
    qemu_vmstate.save
except ImportError as exc:
    print([c.__name__ for c in type(exc).__mro__])
    print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            "QEMU_VMSTATE_NATIVE": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'NativeError', 'VMStateError', 'ImportError'" in done.stdout
    assert f"qemu_vmstate has no native parts in {tmp_path}: install a wheel" in done.stdout
