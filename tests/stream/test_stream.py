# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration files written by hand, from what the format says, and broken ones."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qemu_vmstate import cli
from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.configuration import Configuration
from qemu_vmstate.stream.iterable import Pages
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.sections import Section, Stream
from qemu_vmstate.stream.show import as_json, show, write_json
from qemu_vmstate.stream.source import WINDOW

Description = dict[str, Any]
HEADER = bytes.fromhex("5145564d 00000003")
CONFIGURATION = bytes.fromhex("07 00000004") + b"none"
EOF = b"\0"


def be16(number: int) -> bytes:
    return struct.pack(">H", number)


def be32(number: int) -> bytes:
    return struct.pack(">I", number)


def be64(number: int) -> bytes:
    return struct.pack(">Q", number)


def counted(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def footer(section_id: int) -> bytes:
    return b"\x7e" + be32(section_id)


def full(name: str, payload: bytes, section_id: int = 5, instance: int = 0) -> bytes:
    head = b"\x04" + be32(section_id) + counted(name) + be32(instance) + be32(1)
    return head + payload + footer(section_id)


def start(name: str, payload: bytes, section_id: int = 2) -> bytes:
    head = b"\x01" + be32(section_id) + counted(name) + be32(0) + be32(4)
    return head + payload + footer(section_id)


def later(kind: int, payload: bytes, section_id: int = 2) -> bytes:
    return bytes([kind]) + be32(section_id) + payload + footer(section_id)


def entry(name: str, type_: str, size: int, **more: Any) -> Description:
    return {"name": name, "type": type_, "size": size, **more}


def vmsd(name: str, *fields: Any, subsections: list[Any] | None = None) -> Description:
    out: Description = {"vmsd_name": name, "version": 1, "fields": list(fields)}
    return out if subsections is None else out | {"subsections": subsections}


def device(name: str, *fields: Any, instance: int = 0, **more: Any) -> Description:
    return {"name": name, "instance_id": instance} | vmsd(name, *fields, **more)


def described(*devices: Description, page_size: int = 4096) -> bytes:
    text = json.dumps({"page_size": page_size, "devices": devices}).encode()
    return described_by(text)


def described_by(text: bytes) -> bytes:
    return b"\x06" + be32(len(text)) + text


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[bytes], Stream]:
    def write_and_read(data: bytes) -> Stream:
        file = tmp_path / "vm.mig"
        file.write_bytes(data)
        stream = read(file)
        at = 0
        for section in stream:
            assert section.offset == at
            at += section.size
        assert at == stream.size == len(data)
        return stream

    return write_and_read


Parse = Callable[[bytes], Stream]


def one(parse: Parse, payload: bytes, *fields: Any, **more: Any) -> Section:
    """Return a device of those fields, read from a stream that has nothing else."""
    data = HEADER + full("dev", payload) + EOF + described(device("dev", *fields, **more))
    section = parse(data).section("dev")
    assert section.payload_offset == 8 + 1 + 4 + 4 + 8
    assert section.payload_size == len(payload)
    return section


# ------------------------------------------------------------------ sections


def test_the_parts_of_a_whole_stream(parse: Parse) -> None:
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
    ("other", "sentence"),
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
def test_sentences_for_broken_mapped_ram(
    parse: Parse, other: dict[str, int], sentence: str
) -> None:
    with pytest.raises(StreamError, match=sentence):
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
    # A footer of another section, and one of its own that nothing follows, are payload.
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


# -------------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("type_", "wire", "value"),
    [
        ("bool", "00", False),
        ("bool", "02", True),
        ("int8", "80", -128),
        ("uint8", "80", 128),
        ("int16", "fffe", -2),
        ("uint16", "fffe", 65534),
        ("int32", "80000000", -(2**31)),
        ("uint32", "80000000", 2**31),
        ("int64", "ffffffffffffffff", -1),
        ("uint64", "fffffffffffffffe", 2**64 - 2),
        ("uint8 equal", "ff", 255),
        ("uint16 equal", "ffff", 65535),
        ("uint32 equal", "ffffffff", 2**32 - 1),
        ("int32 equal", "ffffffff", -1),
        ("int64 equal", "ffffffffffffffff", 2**64 - 1),
        ("int32 le", "ffffffff", -1),
        ("timer", "ffffffffffffffff", -1),
        ("timer", "0000000000000064", 100),
        ("CPU_Double_U", "3ff0000000000001", 0x3FF0000000000001),
        ("buffer", "0102", b"\1\2"),
        ("unused_buffer", "0000", b"\0\0"),
        ("bitmap", "0000000000000001 8000000000000000", (1, 1 << 63)),
        ("pci config", "010203", b"\1\2\3"),
        ("fd", "00", b"\0"),
        ("nullptr", "30", None),
        ("uint32", "30", None),  # as QEMU 7.2 describes a NULL among pointers
    ],
)
def test_types(parse: Parse, type_: str, wire: str, value: Any) -> None:
    raw = bytes.fromhex(wire)
    field = one(parse, raw, entry("f", type_, len(raw))).field("f")
    assert field.value == value
    assert type(field.value) is type(value)
    assert field.size == len(raw)


def test_a_size_that_a_counter_spoilt_does_not_matter(parse: Parse) -> None:
    section = one(parse, bytes(4) + b"\x07", entry("a", "uint32", 32772), entry("b", "uint8", 0))
    assert section.field("b").value == 7


def test_nested_structs_arrays_and_names_with_dots(parse: Parse) -> None:
    point = vmsd("point", entry("x", "uint8", 1), entry("pos.y", "int8", 1))
    section = one(
        parse,
        bytes([1, 255, 2, 254, 3, 253]) + bytes.fromhex("0001 0002") + b"\x09",
        entry("env.points", "struct", 2, array_len=2, struct=point),
        entry("env", "struct", 2, struct=point),
        entry("env.words", "uint16", 2, array_len=2),
        entry("config[0]", "uint8", 1),
    )
    assert section.field("env.points[1].pos.y").value == -2
    assert section.field("env.points[0].x").value == 1
    assert section.field("env.pos.y").value == -3
    assert section.field("env.words").value == (1, 2)
    element = section.field("env.words[1]")
    assert (element.value, element.offset - section.payload_offset, element.size) == (2, 8, 2)
    assert section.field("config[0]").value == 9
    assert section.field("config[0][0]").value == 9
    for absent in ("env.points[2].x", "env.words[2]", "env.", "config", "env.points[0].y"):
        with pytest.raises(KeyError):
            section.field(absent)


def test_an_array_with_an_entry_for_each_element(parse: Parse) -> None:
    def element(number: int, **more: Any) -> Description:
        inner = vmsd("e", entry("v", "uint8", 1), *[entry("w", "uint8", 1)] * (number == 1))
        return entry("a", "struct", 1, struct=inner) | more

    payload = bytes([1, 2, 3, 4, 5])
    rest = entry("b", "uint8", 1)
    # QEMU 7.2 numbers each; later ones all but the last.
    for last in ({"index": 2}, {}):
        fields = [element(0, index=0), element(1, index=1), element(2, **last), rest]
        section = one(parse, payload, *fields)
        values = [[f.value for f in e.children] for e in section.field("a").children]
        assert values == [[1], [2, 3], [4]]
        assert section.field("a[1].w").value == 3
        assert section.field("b").value == 5


def test_runs_of_pointers_that_are_null(parse: Parse) -> None:
    # [p, 0, 0, p]: the first run claims the whole array.
    section = one(
        parse,
        b"\x01\x30\x30\x02",
        entry("p", "uint8", 1, array_len=4),
        entry("p", "nullptr", 1, array_len=2),
        entry("p", "uint8", 1),
    )
    assert [f.value for f in section.field("p").children] == [1, None, None, 2]
    # [0, 0, p, p]
    section = one(
        parse,
        b"\x30\x30\x01\x02",
        entry("p", "nullptr", 1, array_len=2),
        entry("p", "uint8", 1, array_len=2),
    )
    assert [f.type for f in section.field("p").children] == 2 * ["nullptr"] + 2 * ["uint8"]
    # [p, 0, 0, p] of structs with subsections: an entry for each, and array_len misleads.
    inner = vmsd("e", entry("v", "uint8", 1))
    section = one(
        parse,
        b"\x01\x30\x30\x02",
        entry("p", "struct", 1, index=0, struct=inner),
        entry("p", "nullptr", 1, array_len=2),
        entry("p", "nullptr", 1, array_len=2),
        entry("p", "struct", 1, struct=inner),
    )
    assert section.field("p[3].v").value == 2
    # QEMU 7.2: a NULL pointer to a struct is a struct without a description.
    section = one(
        parse,
        b"\x30\x02",
        entry("p", "struct", 1, index=0, struct={}),
        entry("p", "struct", 1, index=1, struct=inner),
    )
    assert section.field("p[0]").type == "nullptr"
    assert section.field("p[1].v").value == 2


def test_pointers_that_nothing_describes_are_kept_as_bytes(parse: Parse) -> None:
    # QEMU before 9.2 describes an array by its first element, and of a NULL it tells nothing.
    pointers = entry("p", "struct", 1, array_len=3, struct={})
    section = one(parse, b"\x30\x30\x30\x07", pointers, entry("last", "uint8", 1))
    assert [f.type for f in section.field("p").children] == 3 * ["nullptr"]
    later = b"\x07\x08\x05" + counted("dev/s") + be32(1) + b"\x09"
    section = one(
        parse,
        b"\x30abc\x30" + later,
        pointers,
        entry("last", "uint8", 1, array_len=2),
        subsections=[vmsd("dev/s", entry("v", "uint8", 1))],
    )
    assert section.field("p").value == b"\x30abc\x30"
    assert section.field("p").type == "struct"
    assert section.field("last").value == (7, 8)
    assert section.field("dev/s.v").value == 9
    with pytest.raises(StreamError, match="what follows it has more bytes than the section"):
        one(parse, b"\x30abc\x30\x07", pointers, entry("last", "uint64", 8))
    # Inside a struct its end is not known.
    inside = entry("s", "struct", 5, struct=vmsd("s", pointers))
    with pytest.raises(StreamError, match=r"the description of dev.s.p cannot be used: the first"):
        one(parse, b"\x30abc\x30", inside)


def test_pages_of_256_bytes(parse: Parse) -> None:
    ram = be64(0x200 | 4) + counted("flash") + be64(0x200) + be64(0x10)
    page = be64(0x100 | 8) + counted("flash") + bytes(256) + be64(0x22) + b"\0" + be64(0x10)
    stream = parse(HEADER + start("ram", ram) + later(3, page) + EOF + described(page_size=256))
    assert [s.pages for s in stream if s.kind == "end"] == [Pages(normal=1, zero=1)]


def test_sections_have_the_names_of_their_descriptions(parse: Parse) -> None:
    inner = vmsd("point", entry("x", "uint8", 1), subsections=[vmsd("point/y")])
    payload = b"\x01\x05" + counted("point/y") + be32(1)
    dev = {"name": "0000:00:03.0/nic", "instance_id": 0}
    dev |= vmsd("nic", entry("p", "struct", 9, struct=inner))
    stream = parse(HEADER + full("0000:00:03.0/nic", payload) + EOF + described(dev))
    section = stream.section("0000:00:03.0/nic")
    assert section.vmsd_name == "nic"
    assert [f.vmsd_name for f in section.walk()] == ["point", None, "point/y"]


def test_subsections_at_every_level(parse: Parse) -> None:
    def wire(name: str, payload: bytes) -> bytes:
        return b"\x05" + counted(name) + be32(2) + payload

    inner = vmsd("in", entry("a", "uint8", 1), subsections=[vmsd("in/s", entry("b", "uint8", 1))])
    section = one(
        parse,
        b"\x01" + wire("in/s", b"\x02") + wire("dev/s", b"\x03" + wire("dev/s/t", b"\x04")),
        entry("in", "struct", 12, struct=inner),
        subsections=[
            vmsd(
                "dev/s",
                entry("c", "uint8", 1),
                subsections=[vmsd("dev/s/t", entry("d", "uint8", 1))],
            )
        ],
    )
    assert section.field("in.in/s.b").value == 2
    assert section.field("dev/s.c").value == 3
    assert section.field("dev/s").version_id == 2
    assert section.field("dev/s.dev/s/t.d").value == 4


def list_entry(name: str, type_: str, elements: list[Description]) -> str:
    """Return a list's entry as QEMU writes it: all elements' keys in one object."""
    keys = [f'"name": "{name}", "type": "{type_}"']
    keys += [json.dumps(element)[1:-1] for element in elements]
    return "{" + ", ".join([*keys, '"size": 1']) + "}"


@pytest.mark.parametrize("type_", ["qtailq", "qlist"])
def test_lists_repeat_their_keys(parse: Parse, type_: str) -> None:
    def read_list(payload: bytes, *elements: Description) -> Section:
        entries = list_entry("q", type_, list(elements)) + ', {"name": "z", "type": "uint8"}'
        text = f'{{"devices": [{{"name": "dev", "instance_id": 0, "fields": [{entries}]}}]}}'
        data = HEADER + full("dev", payload + b"\x63") + EOF + described_by(text.encode())
        section = parse(data).section("dev")
        assert section.field("z").value == 0x63
        return section

    first = vmsd("e", entry("v", "uint16", 2))
    other = vmsd("e", entry("v", "uint16", 2), subsections=[vmsd("e/s", entry("w", "uint8", 1))])
    sub = b"\x05" + counted("e/s") + be32(1) + b"\x07"
    section = read_list(b"\x01\0\x05\x01\0\x06" + sub + b"\0", first, other)
    assert section.field("q[1].v").value == 6
    assert section.field("q[1].e/s.w").value == 7
    assert section.field("q[0]").version_id == 1
    with pytest.raises(KeyError):
        section.field("q[2]")
    section = read_list(b"\x01\0\x05\0", first)
    assert section.field("q[0].v").value == 5
    assert read_list(b"\0").field("q").children == ()
    with pytest.raises(
        StreamError, match=r"dev\.q\[1\]: .* another element is at byte 28, and 0x00"
    ):
        read_list(b"\x01\0\x05\0", first, first)


def test_trees_with_and_without_keys_of_their_own(parse: Parse) -> None:
    def read_tree(payload: bytes, *elements: Description) -> Section:
        entries = list_entry("t", "gtree", list(elements))
        text = f'{{"devices": [{{"name": "dev", "instance_id": 0, "fields": [{entries}]}}]}}'
        return parse(HEADER + full("dev", payload) + EOF + described_by(text.encode())).section(
            "dev"
        )

    key, value = vmsd("k", entry("low", "uint16", 2)), vmsd("v", entry("x", "uint8", 1))
    section = read_tree(be32(2) + b"\1\0\5\6" + b"\1\0\7\x08" + b"\0", key, value, key, value)
    assert section.field("t[1].key.low").value == 7
    assert section.field("t[1].value.x").value == 8
    section = read_tree(be32(1) + b"\1" + be64(2**63) + b"\6" + b"\0", value)
    assert section.field("t[0].key").value == 2**63
    assert section.field("t[0].value.x").value == 6
    assert read_tree(be32(0) + b"\0").field("t").children == ()
    with pytest.raises(StreamError, match="3 nodes, and its description 2 parts"):
        read_tree(be32(3) + bytes(20), key, value)


def test_tmp_and_vstruct_have_their_keys_in_the_field(parse: Parse) -> None:
    inner = vmsd("i", entry("x", "uint8", 1))
    section = one(
        parse, b"\x01\x02", entry("tmp", "tmp", 1) | inner, entry("v", "vstruct", 1) | inner
    )
    assert section.field("tmp.x").value == 1
    assert section.field("v.x").value == 2


def test_an_old_handlers_data_is_one_buffer(parse: Parse) -> None:
    payload = bytes(range(9))
    old = {"name": "dev", "instance_id": 0, "size": 9, "fields": [entry("data", "buffer", 9)]}
    stream = parse(HEADER + full("dev", payload) + EOF + described(old))
    assert stream.section("dev").field("data").value == payload


# -------------------------------------------------------------- broken files

GOOD = (
    HEADER
    + CONFIGURATION
    + start("ram", be64(0x1000 | 4) + counted("r") + be64(0x1000) + be64(0x10))
    + later(3, be64(0x22 ^ 0x20) + counted("r") + b"\0" + be64(0x10))
    + full("dev", bytes(6))
    + EOF
    + described(
        device("dev", entry("a", "uint32", 4), entry("b", "uint8", 1, array_len=2)),
    )
)
PAYLOAD = GOOD.index(b"\x03dev") + 12


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file of 0 bytes ends inside the header"),
        (b"QEVM\0\0", "ends inside the header's version, whose 4 byte\\(s\\) begin at byte 4"),
        (b"GARBAGE!", "begins with 47415242 instead of 5145564d"),
        (b"QFI\xfb....", "this is a qcow2 image"),
        (b"LibvirtQemudSave", "this is a file of libvirt's"),
        (HEADER[:7] + b"\x02", "of version 2 at byte 4, not 3"),
        (HEADER, "the file of 8 bytes is cut short: at its end another section"),
        (HEADER + b"\x09", "at byte 8 begins nothing that is known: 0x09 is no section's type"),
        (HEADER + CONFIGURATION + footer(2), "0x7e is a footer's mark .after the configuration"),
        (HEADER + b"\x03" + be32(7), "a further part of the section 7, which has not begun"),
        (HEADER + b"\x08" + be16(99) + be16(0), "command at byte 8 has the unknown number 99"),
        (HEADER + b"\x08" + be16(2) + be16(4) + b"1", "ends inside the command PING, whose 4"),
        (HEADER + full("dev", b"")[:-5] + bytes(7), "has no footer of its own"),
        (HEADER + EOF + b"more", "4 byte.s. follow the end of the stream at byte 9"),
        (HEADER + EOF + described_by(b"{]"), "not valid JSON: .* at its character 1"),
        (HEADER + EOF + described_by(b"{}"), "has no list of devices"),
        (HEADER + EOF + described_by(b'{"devices": [1]}'), "has no list of devices"),
        (HEADER + EOF + described_by(b'{"a":' + 99999 * b"["), "cannot be read as JSON"),
        (HEADER + EOF + described_by(b'{"a":' + 9999 * b"9" + b"}"), "cannot be read as JSON"),
        (HEADER + EOF + described()[:-3], "ends inside the description, whose"),
        (HEADER + EOF + described(page_size=4095), "4095 bytes are those of no target"),
    ],
)  # fmt: skip
def test_sentences_for_broken_files(parse: Parse, data: bytes, sentence: str) -> None:
    with pytest.raises(StreamError, match=sentence) as caught:
        parse(data)
    assert caught.value.path.endswith("vm.mig")


def test_sentences_say_which_field_does_not_fit(parse: Parse) -> None:
    assert parse(GOOD).section("dev").field("b").value == (0, 0)
    end = PAYLOAD + 6
    for data, sentence in [
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
        with pytest.raises(StreamError, match=sentence):
            parse(fixed)


@pytest.mark.parametrize(
    ("records", "sentence"),
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
def test_sentences_for_broken_ram(parse: Parse, records: bytes, sentence: str) -> None:
    ram = be64(0x1004) + counted("r") + be64(0x1000) + be64(0x10)
    with pytest.raises(StreamError, match=sentence):
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


# -------------------------------------------------- bombs, and random bytes

EMPTY = entry("e", "struct", 0, array_len=10**12, struct=vmsd("e"))


def nested(depth: int) -> Description:
    inner = vmsd("v", entry("x", "uint8", 1))
    for _ in range(depth):
        inner = vmsd("v", entry("s", "struct", 1, struct=inner))
    return device("dev", *inner["fields"])


def doubled(depth: int) -> Description:
    """Two to the power of *depth* empty structs, in a line of description for each level."""
    inner = vmsd("v")
    for _ in range(depth):
        inner = vmsd("v", entry("s", "struct", 0, array_len=2, struct=inner))
    return device("dev", *inner["fields"])


@pytest.mark.parametrize(
    ("bomb", "sentence"),
    [
        (device("dev", EMPTY), "more fields than the sections have bytes"),
        (doubled(40), "more fields than the sections have bytes"),
        (nested(200), "nested more than 60 deep"),
        (device("dev", entry("x", "uint64", 8, array_len=2**62)), "the sections end at byte"),
        (device("dev", entry("x", "custom", 2**63)), "the sections end at byte"),
        (device("dev", entry("x", "custom", -1)), "'size' is not a number of 64 bits"),
        (device("dev", entry("x", "uint8", 1, array_len=0)), "'array_len' is 0"),
        (device("dev", entry("x", "uint8", 1, array_len=True)), "'array_len' is not a number"),
        (device("dev", {"name": 7, "type": "uint8"}), "'name' is not a string"),
        (device("dev", {"name": "x"}), "'type' is not a string"),
        (device("dev", [1]), "'fields' is not a list of objects"),
        (device("dev", entry("x", "struct", 1)), "a struct without a description"),
        (
            device("dev", *[entry("x", "uint8", 1, array_len=2)] * 3),
            "runs of its elements are longer than the array",
        ),
    ],
)
def test_bombs_are_refused_in_little_time_and_memory(
    parse: Parse, bomb: Description, sentence: str
) -> None:
    data = HEADER + full("dev", bytes(64)) + EOF + described(bomb)
    tracemalloc.start()
    began = time.thread_time()
    try:
        with pytest.raises(StreamError, match=sentence):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert time.thread_time() - began < 5


@pytest.mark.parametrize("filling", [b"\0\x06", b"\x7e" + be32(5), b"\x7e" + be32(5) + b"\x04"])
def test_many_false_marks_cost_no_more_than_their_bytes(parse: Parse, filling: bytes) -> None:
    data = HEADER + full("dev", filling * (1 << 18))[:-5]
    began = time.thread_time()
    with pytest.raises(StreamError):
        parse(data)
    assert time.thread_time() - began < 10


def test_pages_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "big.mig"
    pages = 40_000
    with file.open("wb") as out:
        ram = be64(pages << 12 | 4) + counted("r") + be64(pages << 12) + be64(0x10)
        out.write(HEADER + start("ram", ram) + b"\x03" + be32(2))
        out.write(be64(0x08) + counted("r") + bytes(4096))
        for number in range(1, pages):
            out.write(be64(number << 12 | 0x28))
            out.seek(4096, os.SEEK_CUR)  # a hole
        out.write(be64(0x10) + footer(2) + EOF)
    tracemalloc.start()
    try:
        stream = read(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stream.sections[2].pages == Pages(normal=pages)
    assert peak < 4 << 20


def fuzz(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    began = time.thread_time()
    try:
        stream = read(file)
    except StreamError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert sum(section.size for section in stream) == len(data)
        show(stream, io.StringIO())
        write_json(stream, io.StringIO())
    assert (sentence + "x").isprintable()
    assert time.thread_time() - began < 5


@pytest.fixture(scope="module")
def fuzz_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "vm.mig"


@given(st.binary(max_size=300), st.sampled_from([b"", HEADER, HEADER + CONFIGURATION, GOOD[:60]]))
@example(EOF + described_by(b'{"devices":[{"name":"\\ud800"}]}'), HEADER)
def test_random_bytes_give_a_stream_or_an_error(
    fuzz_file: Path, data: bytes, before: bytes
) -> None:
    fuzz(before + data, fuzz_file)


@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 9), st.binary(max_size=9)), max_size=3
    )
)
def test_mutations_give_a_stream_or_an_error(
    fuzz_file: Path, changes: list[tuple[int, int, bytes]]
) -> None:
    data = GOOD
    for at, removed, put in changes:
        data = data[:at] + put + data[at + removed :]
    fuzz(data, fuzz_file)


NAMES = st.sampled_from(["dev", "a", "b", "dev/s", "\x1b[1m", ""])
SIZES = st.one_of(st.integers(0, 9), st.sampled_from([-1, 2**40, 2**64, 0.5, None, "1"]))
TYPES = st.sampled_from(
    [
        *("bool", "uint8", "int64", "timer", "buffer", "bitmap", "nullptr", "capability", "x"),
        *("qtailq", "qlist", "gtree", "tmp", "vstruct", "struct", "struct"),
    ]
)
KEYS: dict[str, st.SearchStrategy[Any]] = {"name": NAMES, "type": TYPES, "size": SIZES}
MORE: dict[str, st.SearchStrategy[Any]] = {"array_len": SIZES, "index": SIZES}
LEAF = st.fixed_dictionaries(KEYS, optional=MORE)


def holder(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return an entry, or a description, that has others inside."""
    held = {
        "fields": st.lists(inner, max_size=4),
        "subsections": st.lists(inner, max_size=2),
        "vmsd_name": NAMES,
        "version": SIZES,
        "struct": inner,
    }
    return st.fixed_dictionaries(KEYS, optional=MORE | held)


@given(
    st.recursive(LEAF, holder, max_leaves=8),
    st.lists(st.sampled_from([b"\0", b"\x01", b"\x05", b"\x30", b"\x03dev", b"\x7e"]), max_size=40),
)
def test_random_descriptions_give_a_stream_or_an_error(
    fuzz_file: Path, field: Any, payload: list[bytes]
) -> None:
    data = full("dev", b"".join(payload))
    fuzz(HEADER + data + EOF + described(device("dev", field, field)), fuzz_file)


# --------------------------------------------------------------- the command


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "good.mig"
    file.write_bytes(GOOD)
    return str(file)


def test_inspect_shows_a_table(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", good]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("bytes, pages of 4096 bytes, 7 sections, devices described")
    assert lines[1].split()[:4] == ["offset", "size", "kind", "id"]
    assert len(lines) == 2 + 7
    assert lines[6].split() == f"{PAYLOAD - 17} 28 full 5 dev 0 1 2 fields".split()
    assert "pages: 0 normal, 1 zero" in lines[5]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("with_rich", [True, False])
def test_a_terminal_gets_richs_table_if_it_can(
    good: str, with_rich: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich: list[Any] = []
    if with_rich:
        console = pytest.importorskip("rich.console").Console
        printed = console.print

        def record(self: Any, table: Any) -> None:
            rich.append(table)
            printed(self, table)

        monkeypatch.setattr(console, "print", record)
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("COLUMNS", "150")
    out = Terminal()
    show(read(good), out)
    assert len(rich) == with_rich
    assert "0 normal, 1 zero" in out.getvalue()
    assert "configuration" in out.getvalue()


def test_inspect_writes_json_with_exact_ints(parse: Parse, tmp_path: Path) -> None:
    section = one(
        parse, be64(2**64 - 1) + b"\xab", entry("q", "uint64", 8), entry("b", "buffer", 1)
    )
    assert section.field("q").value == 2**64 - 1
    stream = read(tmp_path / "vm.mig")
    out = io.StringIO()
    write_json(stream, out)
    loaded = json.loads(out.getvalue())
    assert loaded == as_json(stream)
    assert "18446744073709551615" in out.getvalue()
    values = [field["value"] for field in loaded["sections"][1]["fields"]]
    assert values == [2**64 - 1, "ab"]


def test_inspect_says_what_is_broken(
    good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mig"
    broken.write_bytes(GOOD[:30])
    assert cli.main(["inspect", str(broken)]) == 1
    assert capsys.readouterr().err.startswith(
        f"qemu-vmstate: {broken}: the file of 30 bytes ends inside "
    )
    assert cli.main(["inspect", "--json", str(tmp_path / "absent")]) == 1
    assert "absent cannot be read: No such file or directory" in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path)]) == 1
    assert "neither a file nor a disk" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe")
    assert cli.main(["inspect", str(tmp_path / "pipe")]) == 1
    assert "neither a file nor a disk" in capsys.readouterr().err
    for wrong in (["inspect"], ["inspect", good, good], ["inspect", good, "--", "qemu"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(wrong)
        assert caught.value.code == 2
