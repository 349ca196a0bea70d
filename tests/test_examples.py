# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of examples, and the models in examples/qemu_devices: what they save, load and refuse.

tests/in_vm/test_c_devices.py exchanges sections with the C devices.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import InvalidError, VersionError, load, save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from qemu_devices.hpet import ENABLE, HPET
from qemu_devices.mc146818rtc import RTC
from qemu_devices.pl011 import PL011, Flag, Interrupt, LineControl
from qemu_devices.serial_isa import SerialISA

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

Unchanged = Callable[[Any], AbstractContextManager[None]]

INITIAL_CMP = 2**64 - 1
UNARMED = b"\xff" * 8


def hpet_timer(number: int, cmp: int = INITIAL_CMP) -> bytes:
    return struct.pack(">BQQQQB", number, 0x4_0000_0030, cmp, 0, 0, 0) + UNARMED


def hpet(count: int | None, *timers: bytes) -> bytes:
    head = struct.pack(">QQQ", 0, 0, 0x55)
    return head + (b"" if count is None else bytes([count])) + b"".join(timers)


def pl011(**changes: int) -> bytes:
    """Return a section: the registers in their order, then the clock's subsection."""
    words = {"unused": 0, "flags": 0x90, "lcr": 0, "rsr": 0, "cr": 0x300, "dmacr": 0}
    words |= {"int_enabled": 0, "int_level": 0} | {f"fifo_{i}": 0 for i in range(16)}
    words |= {"ilpr": 0, "ibrd": 0, "fbrd": 0, "ifl": 0x12}
    words |= {"read_pos": 0, "read_count": 0, "read_trigger": 1}
    assert set(changes) <= set(words)
    numbers = [word & 0xFFFF_FFFF for word in (words | changes).values()]
    clock = b"\x05\x0bpl011/clock" + struct.pack(">IQ", 1, 0)
    return struct.pack(f">{len(numbers)}I", *numbers) + clock


def test_the_models_with_their_defaults() -> None:
    assert save(SerialISA()) == bytes.fromhex("000c 00 00 01 00 08 60 b0 00 00")
    rtc = bytes(128 + 1 + 28) + UNARMED + bytes(8 + 24 + 4 + 4 + 8 + 8 + 8) + UNARMED + bytes(8)
    assert save(RTC()) == rtc
    timers = [hpet_timer(number) for number in range(3)]
    assert save(HPET(hpet_counter=0x55)) == hpet(3, *timers)
    assert save(PL011()) == pl011()


def test_the_list_of_examples_is_complete() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")} | {"qemu_devices/"}
    text = (EXAMPLES / "README.md").read_text()
    listed = re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(scripts)


# --------------------------------------------------------------------- PL011


def test_pl011_characters_go_round_the_fifo() -> None:
    dev = PL011()
    with dev.regs.lock() as regs:
        regs.lcr = LineControl.FEN
    dev.receive(b"0123456789abcdef")
    with dev.regs.lock() as regs:
        assert regs.flags == Flag.TXFE | Flag.RXFF
        assert regs.int_level == Interrupt.RX
        assert [regs.take() for _ in range(10)] == list(b"0123456789")
    with pytest.raises(OverflowError, match="there is room for"):
        dev.receive(b"ABCDEFGHIJK")
    dev.receive(b"ABCDEFGHIJ")
    copy = PL011()
    load(copy, save(dev))
    assert copy.read() == b"abcdefABCDEFGHIJ"
    with copy.regs.lock() as regs:
        assert regs.flags == Flag.TXFE | Flag.RXFE
        assert regs.int_level == 0
        assert regs.take() is None


def test_pl011_without_a_fifo_holds_one_character() -> None:
    dev = PL011()
    dev.receive(b"x")
    with pytest.raises(OverflowError, match="there is room for"):
        dev.receive(b"y")
    assert dev.read() == b"x"
    # QEMU 7.2 may send the only character in another place than the first.
    load(dev, pl011(read_pos=5, read_count=1, fifo_5=ord("z"), ibrd=0x123456, fbrd=0xFF))
    with dev.regs.lock() as regs:
        assert (regs.read_pos, regs.read_fifo[0]) == (0, ord("z"))
        assert (regs.ibrd, regs.fbrd) == (0x3456, 0x3F)
    assert dev.read() == b"z"


@pytest.mark.parametrize(
    "wrong", [{"read_pos": 16}, {"read_pos": -1}, {"read_count": 17}, {"read_count": -1}]
)
def test_pl011_refuses_positions_outside_the_fifo(
    unchanged: Unchanged, wrong: dict[str, int]
) -> None:
    dev = PL011()
    dev.receive(b"x")
    message = "pl011: the FIFO's position and level must lie inside it"
    with unchanged(dev), pytest.raises(InvalidError, match=message):
        load(dev, pl011(**wrong))
    load(dev, pl011(read_pos=15, read_count=16))


# ---------------------------------------------------------------------- HPET


def test_hpet_reads_the_version_that_has_no_count() -> None:
    dev = HPET(num_timers=4)
    load(dev, hpet(None, *(hpet_timer(number, number) for number in range(3))), version_id=1)
    assert dev.num_timers == 3
    with dev.timer[2].lock() as one:
        assert one.cmp == 2
    with pytest.raises(VersionError):
        load(dev, b"", version_id=0)


@pytest.mark.parametrize("count", [3, 4, 32])
def test_hpet_has_as_many_timers_as_the_stream_says(count: int) -> None:
    wire = hpet(count, *(hpet_timer(number, number) for number in range(count)))
    dev = HPET()
    load(dev, wire)
    assert dev.num_timers == count
    assert save(dev) == wire
    with dev.timer[count - 1].lock() as one:
        assert one.cmp == count - 1
    # The model gives an added timer its number.
    if count < 32:
        dev.num_timers += 1
        assert save(dev) == hpet(count + 1) + wire[25:] + hpet_timer(count)


@pytest.mark.parametrize("count", [0, 2, 33, 255])
def test_hpet_refuses_other_counts(unchanged: Unchanged, count: int) -> None:
    dev = HPET()
    wire = hpet(count, *(hpet_timer(number) for number in range(count)))
    with unchanged(dev), pytest.raises(InvalidError, match=rf"hpet\.num_timers.*{count}.*3 to 32"):
        load(dev, wire)


def test_hpet_refuses_timers_out_of_order(unchanged: Unchanged) -> None:
    dev = HPET()
    wire = hpet(3, hpet_timer(0), hpet_timer(2), hpet_timer(1))
    with unchanged(dev), pytest.raises(InvalidError, match="the timers must be numbered"):
        load(dev, wire)


def test_hpets_counter_runs_until_it_is_saved() -> None:
    time = 1_000
    dev = HPET(config=ENABLE, now=lambda: time)
    dev.hpet_offset.hpet_offset = 234
    subsection = b"\x05\x0bhpet/offset" + struct.pack(">IQ", 1, 234)
    assert save(dev)[16:24] == struct.pack(">Q", (1_000 + 234) // 10)
    time = 2_000
    wire = save(dev)
    assert wire[16:24] == struct.pack(">Q", (2_000 + 234) // 10)
    assert wire.endswith(subsection)
    copy = HPET()
    load(copy, wire)
    assert copy.hpet_offset.hpet_offset == 234
    copy.config = 0
    assert subsection not in save(copy)
    copy.rtc_irq_level.rtc_irq_level = 1
    assert save(copy).endswith(b"\x05\x12hpet/rtc_irq_level" + struct.pack(">IB", 1, 1))


# ------------------------------------------------------- serial port and RTC


def test_serial_fifos_are_sent_if_something_is_in_them(unchanged: Unchanged) -> None:
    dev = SerialISA()
    initial = save(dev)
    with dev.state.lock() as regs:
        fifo = regs.recv_fifo.recv_fifo
        fifo.data, fifo.head, fifo.num = b"0123456789abcdef", 15, 2
    wire = save(dev)
    content = b"0123456789abcdef" + struct.pack(">II", 15, 2)
    assert wire == initial + b"\x05\x10serial/recv_fifo" + struct.pack(">I", 1) + content
    copy = SerialISA()
    load(copy, wire)
    assert save(copy) == wire
    for wrong in (struct.pack(">II", 15, 17), struct.pack(">II", 16, 2)):
        with (
            unchanged(copy),
            pytest.raises(InvalidError, match=r"Fifo8\.(num|head): 1[67] is out of range"),
        ):
            load(copy, wire[:-8] + wrong)
    with copy.state.lock() as regs:
        regs.recv_fifo.recv_fifo.num = 0
    assert save(copy) == initial


def test_rtc_reads_every_version() -> None:
    dev = RTC(cmos_data=bytes(range(128)), irq_coalesced=3, base_rtc=7)
    wire = save(dev)
    first = 128 + 1 + 28 + 8 + 8 + 24
    for version, length, coalesced, base in ((1, 0, 0, 0), (2, 8, 3, 0), (3, 56, 3, 7)):
        copy = RTC(irq_coalesced=9, base_rtc=9)
        load(copy, wire[: first + length], version_id=version)
        assert bytes(copy.cmos_data) == bytes(range(128))
        assert (copy.irq_coalesced, copy.base_rtc) == (coalesced, base)
