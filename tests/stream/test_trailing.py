# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams at the start of something larger: the end is that of the sections, not of the file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.scaffold.generator import scaffold
from qemu_vmstate.stream.iterable import Pages
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.replace import replace

from .streams import (
    CONFIGURATION,
    EOF,
    GOOD,
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
    vmsd,
)

BARE = GOOD[: GOOD.rindex(EOF + b"\x06") + 1]
OTHER = HEADER + full("dev", bytes(3)) + EOF + described(device("dev", entry("c", "uint8", 1)))
BEHIND = {
    "a few zeros": bytes(512),
    "many zeros": bytes(1 << 20),
    "text": b"more",
    "a mark": EOF + b"\x06" + be32(9) + b"{",
    "a broken description": EOF + described_by(b'{"devices": 1}'),
    "another description": EOF + described(device("dev", entry("c", "uint8", 1))),
    "the same stream": GOOD,
    "another stream": OTHER,
    "a stream without a description": BARE,
    "a stream behind other bytes": b"\x7e" * 99 + GOOD + bytes(9),
}


@pytest.mark.parametrize("rest", BEHIND.values(), ids=BEHIND)
def test_what_lies_behind_a_stream_does_not_matter(parse: Parse, rest: bytes) -> None:
    plain, stream = parse(GOOD), parse(GOOD + rest)
    assert stream.sections[:-1] == plain.sections
    assert stream.description == plain.description
    assert scaffold(stream) == scaffold(plain)
    last = stream.sections[-1]
    assert (last.offset, last.size) == (len(GOOD), len(rest))
    short = not any(rest) and len(rest) <= 1 << 16
    assert last.kind == ("padding" if short else "trailing")


HEADLESS = "another description"


@pytest.mark.parametrize("name", [name for name in BEHIND if name != HEADLESS])
def test_what_lies_behind_a_stream_without_a_description(parse: Parse, name: str) -> None:
    rest = BEHIND[name]
    plain, stream = parse(BARE), parse(BARE + rest)
    assert stream.sections[:-1] == plain.sections
    assert stream.description is None
    assert stream.section("dev").opaque
    assert stream.sections[-1].offset == len(BARE)


@pytest.mark.parametrize("rest", BEHIND.values(), ids=BEHIND)
def test_replace_keeps_what_lies_behind(tmp_path: Path, rest: bytes) -> None:
    path, out = tmp_path / "vm.mig", tmp_path / "out.mig"
    path.write_bytes(GOOD + rest)
    with pytest.raises(StreamError, match=r"cannot have these 5 bytes: .*ends inside dev.b"):
        replace(path, out, {("dev", 0): bytes(5)})
    replace(path, out, {("dev", 0): b"\1\2\3\4\5\6"})
    changed = GOOD.replace(full("dev", bytes(6)), full("dev", b"\1\2\3\4\5\6"))
    assert out.read_bytes() == changed + rest
    longer = vmsd("dev", entry("a", "uint64", 8))
    replace(path, out, {("dev", 0): bytes(8)}, {("dev", 0): longer})
    stream = read(out)
    assert stream.section("dev").payload_size == 8
    assert stream.payload("dev") == bytes(8)
    last = stream.sections[-1]
    assert out.read_bytes()[last.offset :] == rest


def test_a_large_volume_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "volume"
    for data in (GOOD, BARE):
        file.write_bytes(data)
        os.truncate(file, 100 << 30)
        began = time.thread_time()
        assert read(file).sections[-1].kind == "trailing"
        assert time.thread_time() - began < 20


def ram(page_size: int, *pages: bytes) -> bytes:
    """Return the sections of a block of RAM with those pages."""
    size = page_size * len(pages)
    head = start("ram", be64(size | 4) + counted("r") + be64(size) + be64(0x10))
    records = be64(8) + counted("r") + pages[0]
    for number, page in enumerate(pages[1:], 1):
        records += be64(number * page_size | 0x28) + page
    return head + later(3, records + be64(0x10))


def test_whole_streams_inside_memory_are_not_looked_at(parse: Parse) -> None:
    page = (GOOD + bytes(4096))[:4096]
    assert len(GOOD) < len(page)
    dev = full("dev", b"\7\7")
    own = described(device("dev", entry("w", "uint16", 2)))
    stream = parse(HEADER + CONFIGURATION + ram(4096, page, page) + dev + EOF + own + page)
    assert stream.section("dev").field("w").value == 0x0707
    assert [s.pages for s in stream if s.pages] == [Pages(), Pages(normal=2)]
    stream = parse(HEADER + CONFIGURATION + ram(4096, page, page) + dev + EOF)
    assert stream.section("dev").payload_size == 2


def test_whole_streams_inside_a_device_are_not_looked_at(parse: Parse) -> None:
    inner = HEADER + ram(4096, bytes(4096)) + full("dev", bytes(3)) + EOF
    inner += described(device("dev", entry("c", "buffer", 3)))
    last = full("last", b"\1", 6)
    own = described(
        device("dev", entry("big", "buffer", len(inner))), device("last", entry("x", "uint8", 1))
    )
    for front in (b"", ram(4096, bytes(4096))):
        for behind in (b"", bytes(9), inner):
            data = HEADER + front + full("dev", inner) + last + EOF + own + behind
            stream = parse(data)
            assert stream.section("dev").field("big").value == inner
            assert stream.section("last").field("x").value == 1


@pytest.mark.parametrize("size", [256, 1024, 2048, 4096, 8192, 16384, 65536])
def test_the_page_size_is_that_of_the_description_behind_ram(parse: Parse, size: int) -> None:
    pages = [bytes([n]) * size for n in (0, 1, 255)]
    own = described(device("dev", entry("x", "uint8", 1)), page_size=size)
    stream = parse(HEADER + ram(size, *pages) + full("dev", b"\1") + EOF + own + bytes(99))
    assert stream.page_size == size
    assert stream.section("dev").field("x").value == 1
    # Zero pages alone have the same records with smaller pages.
    zeros = be64(2 * size | 4) + counted("r") + be64(2 * size) + be64(0x10)
    records = be64(2) + counted("r") + b"\0" + be64(size | 0x22) + b"\0" + be64(0x10)
    data = HEADER + start("ram", zeros) + later(3, records) + full("dev", b"\1") + EOF
    stream = parse(data + own)
    assert stream.page_size == size
    assert stream.sections[2].pages == Pages(zero=2)


def test_a_device_in_front_of_memory(parse: Parse) -> None:
    early = full("early", b"\1" + footer(7) + EOF + b"\1", 7)
    own = [device("early", entry("b", "buffer", 8)), device("dev", entry("x", "uint8", 1))]
    page = (GOOD + bytes(4096))[:4096]
    data = HEADER + early + ram(4096, page) + full("dev", b"\1") + EOF
    stream = parse(data + described(*own) + GOOD)
    assert [s.name for s in stream if s.fields] == ["early", "dev"]
    assert [s.payload_size for s in parse(data) if s.kind == "full"] == [8, 1]
    start_and_end = ram(4096, bytes(4096)).replace(be64(0x10) + footer(2), be64(0x10))
    without = HEADER + early[:-5] + start_and_end + full("dev", b"\1")[:-5] + EOF
    stream = parse(without + described(*own))
    assert not stream.footers
    assert stream.section("early").field("b").size == 8


def test_a_footer_in_front_of_a_zero_may_be_inside_a_device(parse: Parse) -> None:
    payload = b"\1" + footer(5) + bytes(99) + footer(5) + bytes(1)
    data = HEADER + full("dev", payload) + full("last", b"\1", 6) + EOF
    assert [s.payload_size for s in parse(data) if s.opaque] == [len(payload), 1]
    assert [s.payload_size for s in parse(data + b"xyz") if s.opaque] == [len(payload), 1]


def test_a_footer_that_only_seems_to_be_the_last_one(parse: Parse) -> None:
    # Without its own footer, a device may have one inside another, in front of a zero.
    wrong = GOOD.replace(footer(5), footer(5 | 1 << 30))
    more = full("more", b"\1" + footer(5) + bytes(9), 6)
    at = wrong.rindex(EOF + b"\x06")
    own = [device("dev", entry("a", "buffer", 6)), device("more", entry("b", "buffer", 15))]
    with pytest.raises(StreamError, match=r"'dev' ends at byte .* with the footer of the section"):
        parse(wrong[:at] + more + EOF + described(*own))
    with pytest.raises(StreamError, match=r"of 'dev' ends at byte .* its next footer is at byte"):
        parse(BARE + BEHIND[HEADLESS])


def test_a_description_that_does_not_fit_its_sections_is_an_error(parse: Parse) -> None:
    wrong = described(device("dev", entry("a", "uint32", 4)))
    with pytest.raises(StreamError, match=r"ends at byte .* instead of a footer"):
        parse(BARE + wrong)
    with pytest.raises(StreamError, match=r"ends at byte .* instead of a footer"):
        parse(BARE + wrong + GOOD)
    without = HEADER + full("dev", b"\1\0")[:-5] + EOF
    with pytest.raises(StreamError, match="of 'dev' ends at byte 26, where 0x00 is instead"):
        parse(without + described(device("dev", entry("a", "uint8", 1))))


def test_a_postcopys_block_has_its_page_size_behind_its_length(parse: Parse) -> None:
    advise = b"\x08" + be16(3) + be16(16) + be64(0x201000) + be64(4096)
    blocks = be64(0x403000 | 4) + counted("huge") + be64(0x400000) + be64(0x200000)
    blocks += counted("small") + be64(0x1000) + counted("last") + be64(0x2000)
    page = be64(8) + counted("huge") + bytes(4096) + be64(0x10)
    for end, size in ((b"", 0x2000), (be64(0x200000), 0x2000)):
        data = HEADER + advise + start("ram", blocks + end + be64(0x10)) + later(3, page) + EOF
        stream = parse(data)
        assert stream.ram_blocks == {"huge": 0x400000, "small": 0x1000, "last": size}
        assert stream.sections[-2].pages == Pages(normal=1)
    with pytest.raises(StreamError):
        parse(data.replace(advise, b""))
