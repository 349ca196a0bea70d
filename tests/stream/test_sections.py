# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections of migration files written by hand: what they are and where they end."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.configuration import Configuration
from qemu_vmstate.stream.iterable import Pages
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.source import WINDOW

from .streams import (
    CONFIGURATION,
    EOF,
    HEADER,
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


def test_the_parts_of_a_complete_stream(parse: Parse) -> None:
    ram = be64(0x3000 | 0x04) + counted("ram0") + be64(0x3000) + be64(0x10)
    page = be64(0x1000 | 0x08) + counted("ram0") + bytes(4096) + be64(0x2000 | 0x22) + b"\0"
    stream = parse(
        HEADER
        + CONFIGURATION
        + start("ram", ram)
        + b"\x08"
        + be16(11)
        + be16(0)
        + later(2, page + be64(0x10))
        + later(3, be64(0x10))
        + full("dev", b"\x01\x02", instance=3)
        + EOF
        + described(device("dev", entry("word", "uint16", 2), instance=3))
    )
    assert [section.kind for section in stream] == [
        "header",
        "configuration",
        "start",
        "command",
        "part",
        "end",
        "full",
        "eof",
        "description",
    ]
    assert stream.configuration == Configuration("none")
    assert stream.footers
    assert [section.name for section in stream][3] == "SWITCHOVER_START"
    assert [s.pages for s in stream if s.pages] == [Pages(), Pages(normal=1, zero=1), Pages()]
    assert stream.ram_blocks == {"ram0": 0x3000}
    section = stream.section("dev", 3)
    assert (section.section_id, section.instance_id, section.version_id) == (5, 3, 1)
    field = section.field("word")
    assert (field.value, field.size) == (0x0102, 2)
    assert field.offset == section.payload_offset
    with pytest.raises(KeyError):
        stream.section("dev")
    with pytest.raises(KeyError):
        section.field("wor")


def test_a_configuration_with_all_its_subsections(parse: Parse) -> None:
    def sub(name: str, payload: bytes) -> bytes:
        return b"\x05" + counted(f"configuration/{name}") + be32(1) + payload

    stream = parse(
        HEADER
        + CONFIGURATION
        + sub("target-page-bits", be32(13))
        + sub("capabilities", be32(1) + counted("x-ignore-shared"))
        + sub("uuid", bytes(range(16)))
        + start("ram", be64(0x4000 | 4) + counted("a") + be64(0x4000) + be64(0) + be64(0x10))
        + later(3, be64(0x2000 | 8) + counted("a") + bytes(8192) + be64(0x10))
        + EOF
    )
    assert stream.configuration == Configuration(
        "none", 13, ("x-ignore-shared",), bytes(range(16)).hex()
    )
    assert stream.page_size == 8192
    assert stream.description is None


def mapped(pages: int, bitmap: int = 0b101, **other: int) -> bytes:
    """Return a stream of mapped-ram, whose only block has so many pages."""
    capability = be32(1) + counted("mapped-ram")
    name = b"\x05" + counted("configuration/capabilities")
    head = HEADER + CONFIGURATION + name + be32(1) + capability
    head += b"\x01" + be32(2) + counted("ram") + be32(0) + be32(4)
    head += be64(pages * 4096 | 4) + counted("ram0") + be64(pages * 4096)
    at = {"version": 1, "page_size": 4096, "bitmap_at": len(head) + 28, "pages_at": 0x2000} | other
    head += (
        be32(at["version"]) + be64(at["page_size"]) + be64(at["bitmap_at"]) + be64(at["pages_at"])
    )
    head += struct.pack("<Q", bitmap)
    head += bytes(0x2000 - len(head)) + bytes(pages * 4096)
    return head + be64(0x10) + footer(2) + later(3, be64(0x10)) + full("dev", b"\1") + EOF


def test_mapped_ram_lies_behind_its_blocks(parse: Parse) -> None:
    stream = parse(mapped(3) + described(device("dev", entry("x", "uint8", 1))))
    assert stream.configuration == Configuration("none", None, ("mapped-ram",))
    assert [s.pages for s in stream if s.pages] == [Pages(normal=2, zero=1), Pages()]
    assert stream.section("ram").size > 3 * 4096
    assert stream.section("dev").field("x").value == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"version": 2}, "are of version 2 with 4096 bytes each"),
        ({"page_size": 8192}, "with 8192 bytes each, and known is version 1, with the 4096"),
        ({"bitmap_at": 9}, "have their bitmap of 8 bytes at byte 9 and begin at byte 8192"),
        ({"bitmap_at": 0x1FFF}, "these do not follow each other"),
        ({"bitmap_at": 2**64 - 1}, "these do not follow each other"),
        ({"pages_at": 2**63}, "ends inside the pages of the RAM block 'ram0'"),
        ({"pages_at": 0}, "these do not follow each other"),
    ],
)
def test_messages_for_broken_mapped_ram(parse: Parse, other: dict[str, int], message: str) -> None:
    with pytest.raises(StreamError, match=message):
        parse(mapped(3, **other))


def test_all_forms_of_pages(parse: Parse) -> None:
    records = (
        be64(0 | 0x08) + counted("r" * 255) + bytes(4096),
        be64(0x1000 | 0x40 | 0x20) + b"\x01" + be16(3) + b"abc",
        be64(0x2000 | 0x100 | 0x20) + be32(5) + b"abcde",
        be64(0x200),
        *(be64(0x1000 | 0x22) + b"\0" for _ in range(WINDOW // 9 + 7)),
        be64(0x10),
    )
    ram = be64(0x3000 | 4) + counted("r" * 255) + be64(0x3000) + be64(0x10)
    stream = parse(HEADER + start("ram", ram) + later(3, b"".join(records)) + EOF)
    assert stream.sections[2].pages == Pages(1, WINDOW // 9 + 7, 1, 1)


def test_iterable_sections_that_end_themselves(parse: Parse) -> None:
    bitmap = (
        b"\x1c" + counted("node") + counted("bits") + be32(65536) + b"\x01"
        b"\x40" + be64(0) + be32(8) + be64(3) + b"\x01\x02\x7e"
        b"\x42" + be64(8) + be32(8)
        + b"\x20\x01"
    )  # fmt: skip
    block = (
        be64(1) + counted("hd0") + bytes(1 << 20) + be64(9) + counted("hd0") + be64(100 << 9 | 4)
    )
    attributes = be64(0x1002) + be64(4) + b"\x7e\0\0\0" + be64(8) + be64(1)
    table = be32(0) + be32(7) + be16(2) + be16(1) + bytes(32) + be64(0)
    stream = parse(
        HEADER
        + start("dirty-bitmap", bitmap)
        + start("block", block + be64(2), 3)
        + start("s390-storage_attributes", attributes, 4)
        + start("spapr/htab", be32(24), 6)
        + later(3, table, 6)
        + later(3, be32(0xFFFFFFFF), 6)
        + EOF
    )
    assert [s.payload_size for s in stream if s.opaque] == [
        len(bitmap),
        len(block) + 8,
        len(attributes),
        4,
        len(table),
        4,
    ]


def test_what_is_not_described_ends_at_its_footer(parse: Parse) -> None:
    # The payload may contain another footer, or its own without a section behind it.
    payload = footer(4) + footer(9) + b"\x33" + footer(9) + b"\x02" + be32(77)
    stream = parse(
        HEADER
        + start("vfio", payload, 9)
        + full("lost", payload, 9, instance=1)
        + full("dev", b"\x07")
        + EOF
        + described(device("dev", entry("x", "uint8", 1)))
    )
    assert [s.payload_size for s in stream if s.opaque] == [len(payload)] * 2
    assert stream.section("lost", 1).fields is None
    assert stream.section("dev").field("x").value == 7


def test_sections_without_footers(parse: Parse) -> None:
    data = HEADER + full("a", b"\x01", 1)[:-5] + full("b", b"\x02", 2)[:-5] + EOF
    devices = [device(name, entry("x", "uint8", 1)) for name in "ab"]
    stream = parse(data + described(*devices))
    assert not stream.footers
    assert [stream.section(name).field("x").value for name in "ab"] == [1, 2]


def test_names_may_have_255_bytes(parse: Parse) -> None:
    name = 255 * "n"
    data = HEADER + full(name, b"\x09") + EOF + described(device(name, entry("x", "uint8", 1)))
    assert parse(data).section(name).field("x").value == 9


def test_two_devices_of_one_name_and_instance_have_each_its_own(parse: Parse) -> None:
    data = HEADER + full("dev", b"\x01", 1) + full("dev", b"\x00\x02", 2) + EOF
    devices = [
        device("dev", entry("x", kind, size)) for kind, size in (("uint8", 1), ("uint16", 2))
    ]
    stream = parse(data + described(*devices))
    assert [s.field("x").value for s in stream if s.kind == "full"] == [1, 2]


def test_zeros_after_the_end_are_padding(parse: Parse) -> None:
    data = HEADER + full("dev", b"\x01") + EOF + described(device("dev", entry("x", "uint8", 1)))
    stream = parse(data + bytes(512))
    assert stream.sections[-1].kind == "padding"
    assert stream.section("dev").field("x").value == 1


def test_a_descriptions_length_may_look_like_its_mark(parse: Parse) -> None:
    name = "dev"
    plain = json.dumps({"devices": [device(name, entry("x", "uint8", 1))]}).encode()
    text = plain + (0x60006 - len(plain)) * b" "  # 00 06 00 06
    stream = parse(HEADER + full(name, b"\x01") + EOF + described_by(text))
    assert stream.section(name).field("x").value == 1


def test_what_a_postcopy_packages_are_sections_like_others(parse: Parse) -> None:
    package = full("dev", b"\x01") + b"\x08" + be16(5) + be16(0)
    stream = parse(HEADER + b"\x08" + be16(7) + be16(4) + be32(len(package)) + package + EOF)
    assert [s.name for s in stream] == ["", "PACKAGED", "dev", "POSTCOPY_RUN", ""]


def test_a_description_is_not_read_when_it_is_huge(tmp_path: Path) -> None:
    file = tmp_path / "vm.mig"
    with file.open("wb") as out:
        out.write(HEADER + EOF + b"\x06" + be32(1 << 26) + b"{")
        out.truncate(8 + 1 + 5 + (1 << 26))
    with pytest.raises(StreamError, match="has 67108864 bytes, and more than 33554432 are not"):
        read(file)


def test_pages_of_256_bytes(parse: Parse) -> None:
    ram = be64(0x200 | 4) + counted("flash") + be64(0x200) + be64(0x10)
    page = be64(0x100 | 8) + counted("flash") + bytes(256) + be64(0x22) + b"\0" + be64(0x10)
    stream = parse(HEADER + start("ram", ram) + later(3, page) + EOF + described(page_size=256))
    assert [s.pages for s in stream if s.kind == "end"] == [Pages(normal=1, zero=1)]
