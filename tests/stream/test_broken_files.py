# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors for broken migration files name what is broken, and at which byte."""

from __future__ import annotations

import io

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.show import show

from .streams import (
    CONFIGURATION,
    EOF,
    GOOD,
    HEADER,
    PAYLOAD,
    Parse,
    be16,
    be32,
    be64,
    counted,
    described,
    described_by,
    device,
    entry,
    footer,
    full,
    later,
    start,
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file of 0 bytes ends inside the header"),
        (b"QEVM\0\0", "ends inside the header's version, whose 4 byte\\(s\\) begin at byte 4"),
        (b"GARBAGE!", "at byte 0 it begins with 47415242 instead of 5145564d"),
        (HEADER[:7] + b"\x02", "of version 2 at byte 4, not 3"),
        (HEADER, "the file of 8 bytes is cut short: at its end another section"),
        (HEADER + b"\x09", "at byte 8 begins nothing that is known: 0x09 is no section's type"),
        (HEADER + CONFIGURATION + footer(2), "0x7e is a footer's mark .after the configuration"),
        (HEADER + b"\x03" + be32(7), "a further part of the section 7, which has not begun"),
        (HEADER + b"\x08" + be16(99) + be16(0), "command at byte 8 has the unknown number 99"),
        (HEADER + b"\x08" + be16(2) + be16(4) + b"1", "ends inside the command PING, whose 4"),
        (HEADER + full("dev", b"")[:-5] + bytes(7), "has no footer of its own"),
        (HEADER + EOF + described_by(b"{]"), "not valid JSON: .* at its character 1"),
        (HEADER + EOF + described_by(b"{}"), "has no list of devices"),
        (HEADER + EOF + described_by(b'{"devices": [1]}'), "has no list of devices"),
        (HEADER + EOF + described_by(b'{"a":' + 99999 * b"["), "cannot be read as JSON"),
        (HEADER + EOF + described_by(b'{"a":' + 9999 * b"9" + b"}"), "cannot be read as JSON"),
        (HEADER + EOF + described()[:-3], "ends inside the description, whose"),
        (HEADER + EOF + described(page_size=4095), "4095 bytes are those of no target"),
    ],
)  # fmt: skip
def test_messages_for_broken_files(parse: Parse, data: bytes, message: str) -> None:
    with pytest.raises(StreamError, match=message) as caught:
        parse(data)
    assert caught.value.path.endswith("vm.mig")


def test_messages_name_the_field_that_does_not_fit(parse: Parse) -> None:
    assert parse(GOOD).section("dev").field("b").value == (0, 0)
    end = PAYLOAD + 6
    for data, message in [
        (GOOD[:end] + b"\x7f" + GOOD[end + 1 :], f"ends at byte {end}, where 0x7f is instead of"),
        (GOOD[: end + 4] + b"\x06" + GOOD[end + 5 :], "with the footer of the section 6"),
        (
            GOOD[: PAYLOAD + 5] + GOOD[end:],
            rf"its next footer is at byte {end - 1}, and by the description the field 'b' has the "
            rf"bytes {end - 2} to {end}, past it",
        ),
        (GOOD.replace(b', "size": 4', b"").replace(b'"uint32"', b'"custom"'), "'size' is not a"),
        (GOOD[: PAYLOAD - 4] + GOOD[PAYLOAD:], "where 0x05 is instead of a footer .* next"),
    ]:
        fixed = data
        if len(fixed) != len(GOOD):
            at = fixed.rindex(b"\0\x06") + 2
            fixed = fixed[:at] + be32(len(fixed) - at - 4) + fixed[at + 4 :]
        with pytest.raises(StreamError, match=message):
            parse(fixed)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (be64(0x08) + counted("x"), "of the block 'x', which the list of blocks does not have"),
        (be64(0x28), "is of the block '', which"),
        (be64(0x1008) + counted("r"), "for the address 0x1000, and the block 'r' ends at 0x1000"),
        (be64(0x80), "the flags 0x80: RDMA's"),
        (be64(0x14), "the flags 0x14: no known combination"),
        (be64(0x1004) + counted("r") + be64(0x2000), "has 8192 bytes, where .* has 4096 left"),
        (be64(0x08) + counted("r") + bytes(9), "ends inside a page of 'r', whose 4096"),
    ],
)
def test_messages_for_broken_ram(parse: Parse, records: bytes, message: str) -> None:
    ram = be64(0x1004) + counted("r") + be64(0x1000) + be64(0x10)
    with pytest.raises(StreamError, match=message):
        parse(HEADER + start("ram", ram) + later(2, records))


def test_every_truncation_is_found(parse: Parse) -> None:
    whole = GOOD.rindex(b"\0\x06") + 1
    for length in range(len(GOOD)):
        if length == whole:  # a stream without a description is one
            assert parse(GOOD[:length]).section("dev").opaque
            continue
        with pytest.raises(StreamError, match=r"cut short|ends inside"):
            parse(GOOD[:length])


def test_a_hostile_name_does_not_reach_a_terminal(parse: Parse) -> None:
    name = "\x1b[2J" + 200 * "n"
    with pytest.raises(StreamError) as caught:
        parse(HEADER + full(name, b"\0")[:-5])
    assert "\x1b" not in str(caught.value)
    data = full(name, b"\0") + EOF + described(device(name, entry("x", "uint8", 1)))
    out = io.StringIO()
    show(parse(HEADER + data), out)
    assert "\\x1b[2Jnnn" in out.getvalue()
    assert "\x1b" not in out.getvalue()
