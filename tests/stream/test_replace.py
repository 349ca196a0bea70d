# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing payloads in migration files written by hand."""

from __future__ import annotations

import json
import os
import stat
import tracemalloc
from pathlib import Path
from typing import Any, Literal

import pytest

from qemu_vmstate import Device, QTailQ, VMStruct, describe, save, u8
from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.replace import replace
from qemu_vmstate.stream.sections import Stream
from qemu_vmstate.stream.source import WINDOW

from .streams import (
    CONFIGURATION,
    EOF,
    HEADER,
    Description,
    be32,
    be64,
    counted,
    described_by,
    device,
    entry,
    footer,
    full,
    later,
    start,
    vmsd,
)

UART = [entry("lcr", "uint8", 1), entry("fifo", "uint16", 2, array_len=2)]
CLOCK = [entry("on", "bool", 1), entry("rate", "uint32", 4)]
CLOCK_OF_7 = b"\x01" + be32(7)
EXTRA = b"\x05" + counted("uart/extra") + be32(1) + b"\x2a"


def with_extra() -> Description:
    return vmsd("uart", *UART, subsections=[vmsd("uart/extra", entry("extra", "uint8", 1))])


def text_of(*devices: str, colon: str = ": ", comma: str = ", ") -> bytes:
    """Return a description, with the spaces that QEMU writes unless others are given."""
    head, more = f'"page_size"{colon}4096{comma}"devices"{colon}', f'{comma}"more"{colon}"\\u00e9"'
    return ("{" + head + "[" + comma.join(devices) + "]" + more + "}").encode()


def made(tmp_path: Path, text: bytes | None = None, padding: int = 0) -> Path:
    """Return a machine with two UARTs, a clock, an opaque device, and a byte in parts."""
    if text is None:
        text = text_of(
            json.dumps(device("uart", *UART)),
            # The same key twice, which a JSON library would not write again.
            '{"name": "tree", "instance_id": 0, "vmsd_name": "tree", "version": 1, "fields": '
            '[{"name": "l", "type": "qlist", "vmsd_name": "a", "fields": [], "vmsd_name": "a", '
            '"fields": [], "size": 3}]}',
            json.dumps(device("uart", *UART, instance=1)),
            json.dumps(device("clock", *CLOCK)),
        )
    data = HEADER + CONFIGURATION + start("parts", b"\x00")
    data += full("uart", b"\x03" + be32(0x00010002), 5, 0) + full("tree", b"\x01\x01\x00", 6)
    data += full("uart", b"\x04" + be32(0x00030004), 7, 1) + full("clock", CLOCK_OF_7, 8)
    data += full("old", b"what it likes", 9) + later(3, b"\x00")
    path = tmp_path / "vm.mig"
    path.write_bytes(data + EOF + described_by(text) + bytes(padding))
    return path


def payloads(stream: Stream) -> dict[tuple[str, int | None], bytes]:
    return {
        (s.name, s.instance_id): stream.payload(s.name, s.instance_id or 0)
        for s in stream
        if s.kind == "full"
    }


def refused(path: Path, *arguments: Any) -> str:
    """Return the message of a refusal that writes nothing."""
    before = sorted(os.listdir(path.parent))
    with pytest.raises(StreamError) as caught:
        replace(path, path.parent / "out.mig", *arguments)
    assert sorted(os.listdir(path.parent)) == before
    assert caught.value.path == str(path)
    return caught.value.reason


def test_bytes_of_the_same_size_change_nothing_else(tmp_path: Path) -> None:
    path, out = made(tmp_path, padding=512), tmp_path / "out.mig"
    before = path.read_bytes()
    # In another order than the file's.
    replace(path, out, {("clock", 0): b"\x00" + be32(9), ("uart", 1): b"\x1b" + be32(0x00050006)})
    expected = before.replace(b"\x04" + be32(0x00030004), b"\x1b" + be32(0x00050006))
    assert out.read_bytes() == expected.replace(CLOCK_OF_7, b"\x00" + be32(9))
    assert path.read_bytes() == before
    stream = read(out)
    assert stream.section("uart", 1).field("fifo").value == (5, 6)
    assert stream.section("uart").field("lcr").value == 3
    assert stream.section("clock").field("rate").value == 9
    # Both paths may be the same.
    replace(out, out, {("uart", 1): b"\x04" + be32(0x00030004), ("clock", 0): CLOCK_OF_7})
    assert out.read_bytes() == before


def test_nothing_to_replace_is_a_copy(tmp_path: Path) -> None:
    path, out = made(tmp_path), tmp_path / "out.mig"
    replace(path, out, {})
    assert out.read_bytes() == path.read_bytes()


def test_a_section_without_a_description_accepts_bytes_of_its_size(tmp_path: Path) -> None:
    path, out = made(tmp_path), tmp_path / "out.mig"
    before = payloads(read(path))
    replace(path, out, {("old", 0): b"what you like"})
    assert payloads(read(out)) == before | {("old", 0): b"what you like"}
    for wrong in (b"longer than what it was", b""):
        assert refused(path, {("old", 0): wrong}) == (
            f"the section 'old' (instance 0) cannot have these {len(wrong)} bytes: nothing in the "
            "file describes it, so only other 13 bytes can take the place of those it has"
        )


def test_a_payload_with_its_own_description(tmp_path: Path) -> None:
    path, out = made(tmp_path, padding=3), tmp_path / "out.mig"
    before = payloads(read(path))
    new = b"\x1b" + be32(0x00050006) + EXTRA
    replace(path, out, {("uart", 1): new}, {("uart", 1): with_extra()})
    stream = read(out)
    assert payloads(stream) == before | {("uart", 1): new}
    section = stream.section("uart", 1)
    assert section.field("uart/extra.extra").value == 0x2A
    # The other device and its description are unchanged.
    assert stream.section("uart").fields == read(path).section("uart").fields
    old, changed = (p.read_bytes().rpartition(EOF + b"\x06")[2][4:] for p in (path, out))
    entry_of_1 = json.dumps(device("uart", *UART, instance=1)).encode()
    now = json.dumps({"name": "uart", "instance_id": 1} | with_extra()).encode()
    assert changed == old.replace(entry_of_1, now) != old
    # Replace it back.
    replace(out, out, {("uart", 1): before["uart", 1]}, {("uart", 1): vmsd("uart", *UART)})
    assert out.read_bytes() == path.read_bytes()


def test_a_description_that_qemu_did_not_write_says_the_same_afterwards(tmp_path: Path) -> None:
    devices = [json.dumps(device("uart", *UART)), json.dumps(device("clock", *CLOCK))]
    path = made(tmp_path, text_of(*devices, colon=" :", comma="\n,\t"))
    payload = read(path).payload("clock")
    replace(path, path, {("clock", 0): payload}, {("clock", 0): vmsd("clock", *CLOCK)})
    text = path.read_bytes().rpartition(EOF + b"\x06")[2][4:]
    assert text == text_of(*devices)


def test_a_description_of_a_list_which_has_keys_more_than_once(tmp_path: Path) -> None:
    class Leaf(VMStruct, name="leaf"):
        size: u8 = 0

    class Tree(Device, name="tree"):
        leaves: QTailQ[Leaf, Literal[9]]

    path, out = made(tmp_path), tmp_path / "out.mig"
    dev = Tree(leaves=[Leaf(size=3), Leaf(size=5), Leaf(size=8)])
    replace(path, out, {("tree", 0): save(dev)}, {("tree", 0): describe(dev)})
    section = read(out).section("tree")
    assert [section.field(f"leaves[{i}].size").value for i in range(3)] == [3, 5, 8]


def test_a_payload_that_its_description_does_not_describe(tmp_path: Path) -> None:
    path = made(tmp_path)
    long = b"\x03" + be32(0x00010002) + EXTRA
    assert refused(path, {("uart", 0): long}) == (
        "the section 'uart' (instance 0) cannot have these 22 bytes: the description ends after "
        "5 of them; give the new bytes' description too"
    )
    assert refused(path, {("clock", 0): CLOCK_OF_7, ("uart", 1): b"\x03\x00"}) == (
        "the section 'uart' (instance 1) cannot have these 2 bytes: the payload of 2 bytes ends "
        "inside uart.fifo, whose 4 byte(s) begin at byte 1; give the new bytes' description too"
    )
    # It has the right size but other fields.
    message = refused(path, {("tree", 0): b"\x01\x01\x07"})
    assert "by the description its end is at byte 2, and 0x07 is there" in message
    message = refused(path, {("uart", 0): long}, {("uart", 0): vmsd("uart", *UART)})
    assert message.endswith("ends after 5 of them; its own description is wrong")
    message = refused(path, {("uart", 0): long[:-1]}, {("uart", 0): with_extra()})
    assert "ends inside uart.uart/extra.extra, whose 1 byte(s) begin at byte 21" in message


def test_sections_that_cannot_be_replaced(tmp_path: Path) -> None:
    path = made(tmp_path)
    assert refused(path, {("uart", 2): b""}) == "the section 'uart' (instance 2) is not in the file"
    assert refused(path, {("parts", 0): b"\x00"}).startswith(
        "the section 'parts' (instance 0) comes in parts"
    )
    data = path.read_bytes()
    at = data.rindex(EOF + b"\x06")
    twice = tmp_path / "twice.mig"
    twice.write_bytes(data[:at] + full("clock", CLOCK_OF_7, 10) + data[at:])
    assert refused(twice, {("clock", 0): CLOCK_OF_7}).startswith(
        "the section 'clock' (instance 0) is there 2 times"
    )


def test_descriptions_that_cannot_be_the_new_ones(tmp_path: Path) -> None:
    path = made(tmp_path)
    payload = read(path).payload("uart")
    assert refused(path, {}, {("uart", 0): vmsd("uart", *UART)}) == (
        "the section 'uart' (instance 0) has a new description without a new payload"
    )
    second = vmsd("uart", *UART) | {"version": 2}
    assert refused(path, {("uart", 0): payload}, {("uart", 0): second}) == (
        "the section 'uart' (instance 0) has version_id 1, and its new description is of 2; save "
        "it with the version the file has"
    )
    assert refused(path, {("old", 0): b""}, {("old", 0): vmsd("old")}) == (
        "the section 'old' (instance 0) is not described in the file, so there is nothing to update"
    )


def test_a_broken_file_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    path = made(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    assert "it is cut short" in refused(path, {("uart", 0): b""})
    path.write_bytes(whole)
    with pytest.raises(FileNotFoundError):
        replace(path, tmp_path / "none" / "out.mig", {})
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "none.mig", tmp_path / "out.mig", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace(path, tmp_path / "folder", {})
    assert sorted(os.listdir(tmp_path)) == ["folder", "vm.mig"]


def test_the_permissions_are_those_of_the_file(tmp_path: Path) -> None:
    path, out = made(tmp_path), tmp_path / "out.mig"
    for mode in (0o600, 0o644, 0o440):
        path.chmod(mode)
        replace(path, out, {})
        assert stat.S_IMODE(out.stat().st_mode) == mode


def test_a_large_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path, out = tmp_path / "large.mig", tmp_path / "out.mig"
    pages = 16 << 10
    with path.open("wb") as file:
        ram = be64(pages << 12 | 4) + counted("r") + be64(pages << 12) + be64(0x10)
        file.write(HEADER + start("ram", ram) + b"\x03" + be32(2))
        for number in range(pages):
            named = be64(0x08) + counted("r") if number == 0 else be64(number << 12 | 0x28)
            file.write(named + bytes([number & 0xFF]) * 4096)
        file.write(be64(0x10) + footer(2) + full("clock", CLOCK_OF_7) + EOF)
        file.write(described_by(text_of(json.dumps(device("clock", *CLOCK)))))
    assert path.stat().st_size > 200 * WINDOW
    tracemalloc.start()
    replace(path, out, {("clock", 0): b"\x01" + be32(8)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * WINDOW
    assert out.stat().st_size == path.stat().st_size
    stream = read(out)
    assert stream.section("clock").field("rate").value == 8
    assert stream.ram_blocks == {"r": pages << 12}
    with path.open("rb") as one, out.open("rb") as other:
        for _ in range(pages >> 6):
            assert one.read(4096 << 6) == other.read(4096 << 6)
