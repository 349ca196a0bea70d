# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing a copy of a migration file in which some bytes are others, and holes remain holes.

What lies behind an edit of another length moves.  mapped-ram has the pages of RAM at offsets in the
file that the headers of the blocks contain, aligned for direct I/O: they stay where they are if
there is room in front of them, else they move to the next aligned offset, and the headers follow.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import StreamError
from .iterable import MappedBlock
from .source import Source

__all__ = ["Edit", "write"]

Edit = tuple[int, int, bytes]
"""The begin and the end of bytes in the file, and those that take their place."""

_CHUNK = 1 << 20
_ALIGNMENT = 1 << 20
"""QEMU's MAPPED_RAM_FILE_OFFSET_ALIGNMENT."""
_OFFSETS = 12
"""Where the header of a mapped block has its two offsets."""


@dataclass
class _Plan:
    """Where the bytes of the new file come from."""

    copies: list[tuple[int, int, int]] = field(default_factory=list)
    """The begin and the end in the old file, and the offset in the new one."""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    shift: int = 0
    _done: int = 0

    def copy(self, end: int) -> None:
        """Copy what lies in front of *end*."""
        self.copies.append((self._done, end, self._done + self.shift))
        self._done = end

    def write(self, data: bytes, end: int) -> None:
        """Write *data* in place of what lies in front of *end*."""
        self.writes.append((self._done + self.shift, data))
        self.shift += len(data) - (end - self._done)
        self._done = end

    def copy_block(self, block: MappedBlock) -> None:
        """Copy a block of mapped-ram; what lies in front of its pages may have moved."""
        bitmap = block.bitmap_offset + self.shift
        behind = bitmap + block.bitmap_size
        pages = block.pages_offset
        if behind > pages:
            pages = -(-behind // _ALIGNMENT) * _ALIGNMENT
        self.copy(block.head_offset + _OFFSETS)
        offsets = bitmap.to_bytes(8) + pages.to_bytes(8)
        self.write(offsets, self._done + len(offsets))
        self.copy(block.bitmap_offset + block.bitmap_size)
        self.shift, self._done = pages - block.pages_offset, block.pages_offset
        self.copy(block.pages_offset + block.size)


def write(
    source: Source,
    out: str | os.PathLike[str],
    edits: Sequence[Edit],
    mapped_blocks: Sequence[MappedBlock] = (),
) -> None:
    """Write the file with its edits, and replace *out* after all of it is written."""
    folder, name = os.path.split(os.path.abspath(out))
    target = os.path.join(folder, name)
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        raise StreamError(
            "this is a device or a pipe, and only a file can be replaced: write to a file, and "
            "copy that",
            target,
        )
    plan = _plan(source.size, edits, mapped_blocks)
    part, path = tempfile.mkstemp(prefix=f".{name[:100]}-", dir=folder)
    try:
        with open(part, "wb") as file:
            os.fchmod(part, source.permissions)
            file.truncate(source.size + plan.shift)
            for begin, end, to in plan.copies:
                for at, chunk in _data(source, begin, end):
                    file.seek(at - begin + to)
                    file.write(chunk)
            for to, data in plan.writes:
                file.seek(to)
                file.write(data)
        os.replace(path, target)
    except BaseException:
        os.unlink(path)
        raise


def _plan(size: int, edits: Sequence[Edit], mapped_blocks: Sequence[MappedBlock]) -> _Plan:
    plan, blocks = _Plan(), list(mapped_blocks)
    for begin, end, data in [*edits, (size, size, b"")]:
        while blocks and blocks[0].head_offset < begin:
            block = blocks.pop(0)
            if plan.shift:
                plan.copy_block(block)
        plan.copy(begin)
        plan.write(data, end)
    return plan


def _data(source: Source, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the data between *begin* and *end*, in pieces with their offsets, without the holes."""
    zeros = bytes(_CHUNK)
    for first, last in _extents(source, begin, end):
        for at in range(first, last, _CHUNK):
            chunk = source.at(at, min(_CHUNK, last - at), "what stays as it is")
            if chunk != zeros:
                yield at, chunk


def _extents(source: Source, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the file has data; all of it if that cannot be known, as of a disk."""
    descriptor = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size != source.size:  # a disk's is 0
            yield begin, end
            return
        while begin < end:
            try:
                first = os.lseek(descriptor, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return  # a hole up to the end
            last = os.lseek(descriptor, first, os.SEEK_HOLE)
            if first < end:
                yield first, min(last, end)
            begin = last
    finally:
        os.close(descriptor)
