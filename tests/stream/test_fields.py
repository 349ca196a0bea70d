# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of the sections of migration files written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.sections import Section

from .streams import (
    EOF,
    HEADER,
    Description,
    Parse,
    be32,
    be64,
    counted,
    described,
    described_by,
    entry,
    full,
    list_entry,
    one,
    vmsd,
)


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
    # QEMU 7.2 numbers each; later versions all but the last.
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
    # QEMU before 9.2 describes an array by its first element, and a NULL without its type.
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
    # Inside a struct the end of the gap is unknown.
    inside = entry("s", "struct", 5, struct=vmsd("s", pointers))
    with pytest.raises(StreamError, match=r"the description of dev.s.p cannot be used: the first"):
        one(parse, b"\x30abc\x30", inside)


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
