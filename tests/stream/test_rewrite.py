# SPDX-License-Identifier: GPL-2.0-or-later
"""Holes, the pages of mapped-ram, and other places than files, when a section is replaced."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.replace import replace
from qemu_vmstate.stream.sections import Stream

from .streams import (
    CONFIGURATION,
    EOF,
    GOOD,
    HEADER,
    be32,
    be64,
    counted,
    described,
    device,
    entry,
    footer,
    full,
    later,
    vmsd,
)

MIB = 1 << 20
BLOCKS = {"one": 3, "two": 5}


def mapped(path: Path, payload: bytes, slack: int = 0) -> Path:
    """Write a stream of mapped-ram with a device in front of memory, and holes in the memory.

    So many bytes are between the bitmap of the first block and its pages, or what QEMU leaves.
    """
    capability = b"\x05" + counted("configuration/capabilities") + be32(1) + be32(1)
    head = HEADER + CONFIGURATION + capability + counted("mapped-ram")
    head += full("early", payload, 9) + b"\x01" + be32(2) + counted("ram") + be32(0) + be32(4)
    head += be64(sum(BLOCKS.values()) * 4096 | 4)
    with path.open("wb") as file:
        for name, count in BLOCKS.items():
            head += counted(name) + be64(count * 4096)
            bitmap_at = file.tell() + len(head) + 28
            pages_at = -(-(bitmap_at + 8) // MIB) * MIB
            if slack and name == "one":
                pages_at = bitmap_at + 8 + slack
            head += be32(1) + be64(4096) + be64(bitmap_at) + be64(pages_at)
            file.write(head + struct.pack("<Q", 0b11))
            for page in range(2):
                file.seek(pages_at + page * 4096)
                file.write(bytes([len(name) + page + count]) * 4096)
            file.seek(pages_at + count * 4096)
            head = b""
        file.write(be64(0x10) + footer(2) + later(3, be64(0x10)) + full("dev", b"\1") + EOF)
        devices = (
            device("early", entry("b", "buffer", len(payload))),
            device("dev", entry("x", "uint8", 1)),
        )
        file.write(described(*devices))
    return path


def pages(stream: Stream) -> dict[str, bytes]:
    data = Path(stream.path).read_bytes()
    return {b.name: data[b.pages_offset : b.pages_offset + b.size] for b in stream.mapped_blocks}


@pytest.mark.parametrize("slack", [0, 40], ids=["QEMU's alignment", "no room"])
@pytest.mark.parametrize("size", [0, 9, 10, 11, 50, 51, 1000, 2 * MIB])
def test_mapped_ram_behind_a_payload_of_another_length(
    tmp_path: Path, size: int, slack: int
) -> None:
    path, out = mapped(tmp_path / "vm.mig", bytes(10), slack), tmp_path / "out.mig"
    before = read(path)
    payload = b"\x5a" * size
    new = vmsd("early", entry("b", "buffer", size))
    replace(path, out, {("early", 0): payload}, {("early", 0): new})
    stream = read(out)
    assert stream.payload("early") == payload
    assert stream.payload("dev") == b"\1"
    assert pages(stream) == pages(before)
    assert [s.pages for s in stream] == [s.pages for s in before]
    data = out.read_bytes()
    for old, block in zip(before.mapped_blocks, stream.mapped_blocks, strict=True):
        at = block.bitmap_offset
        assert data[at : at + block.bitmap_size] == struct.pack("<Q", 0b11)
        # What need not move stays.
        moved = block.pages_offset - old.pages_offset
        assert moved == 0 or (moved > 0 and block.pages_offset % MIB == 0)
        assert moved == 0 or size > 10
    if not slack and size < MIB // 2:
        assert [b.pages_offset for b in stream.mapped_blocks] == [MIB, 2 * MIB]
    # Back again, what has moved stays there, and the payloads are the old ones.
    old_description = vmsd("early", entry("b", "buffer", 10))
    replace(out, out, {("early", 0): bytes(10)}, {("early", 0): old_description})
    if stream.mapped_blocks[0].pages_offset == before.mapped_blocks[0].pages_offset:
        assert out.read_bytes() == path.read_bytes()
    assert pages(read(out)) == pages(before)


def test_holes_remain_holes(tmp_path: Path) -> None:
    path, out = tmp_path / "vm.mig", tmp_path / "out.mig"
    mapped(path, bytes(10))
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 200 * MIB)
    assert path.stat().st_blocks * 512 < MIB
    replace(path, out, {("dev", 0): b"\7"})
    assert out.stat().st_size == path.stat().st_size
    assert out.stat().st_blocks * 512 < MIB
    assert read(out).payload("dev") == b"\7"
    new = vmsd("early", entry("b", "buffer", 999))
    replace(path, out, {("early", 0): bytes(999)}, {("early", 0): new})
    assert out.stat().st_blocks * 512 < MIB
    assert pages(read(out)) == pages(read(path))


def test_only_files_are_replaced(tmp_path: Path) -> None:
    path, pipe = tmp_path / "vm.mig", tmp_path / "pipe"
    path.write_bytes(GOOD)
    os.mkfifo(pipe)
    for out in (pipe, Path("/dev/null")):
        with pytest.raises(StreamError, match="a device or a pipe, and only a file") as caught:
            replace(path, out, {("dev", 0): bytes(6)})
        assert caught.value.path == str(out)
        assert not out.is_file()
    assert sorted(os.listdir(tmp_path)) == ["pipe", "vm.mig"]
