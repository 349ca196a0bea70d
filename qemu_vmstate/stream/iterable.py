# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the ends of iterable sections, which the stream does not describe: RAM and others.

QEMU documents them in docs/devel/migration/main.rst ("Iterative device migration"), and
dirty-bitmap in the comment at the head of migration/block-dirty-bitmap.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import StreamError
from .source import WINDOW, Source, shown

__all__ = ["MEASURES", "MappedBlock", "Pages", "Ram"]


@dataclass(frozen=True, slots=True)
class Pages:
    """The number of guest pages in a section of RAM, by their encoding."""

    normal: int = 0
    """Pages with all of their bytes."""
    zero: int = 0
    """Pages of zeros, of which there is only a mark."""
    xbzrle: int = 0
    """Pages of which there is only the difference to an earlier copy."""
    compressed: int = 0
    """Pages that the capability ``compress`` has compressed."""


@dataclass(frozen=True, slots=True)
class MappedBlock:
    """A block of RAM in a file with mapped-ram; all offsets are those in the file."""

    name: str
    """The name of the block, for example ``pc.ram``."""
    head_offset: int
    """The offset of its header, which has the other two offsets."""
    bitmap_offset: int
    """The offset of the bitmap of its pages: a page without its bit is zero."""
    bitmap_size: int
    """The number of bytes of the bitmap."""
    pages_offset: int
    """The offset of its first page."""
    size: int
    """The number of bytes of its pages."""


_ZERO, _MEM_SIZE, _PAGE, _EOS, _CONTINUE, _XBZRLE, _HOOK = 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
_COMPRESSED, _MULTIFD_FLUSH = 0x100, 0x200
_HEADER = struct.Struct(">Q")
_MAPPED = struct.Struct(">IQQQ")


@dataclass(slots=True)
class Ram:
    """A reader of RAM's sections in their order; ``blocks`` is the list in the first of them."""

    page_size: int
    with_addresses: bool
    """Each block's guest address follows its length: the capability x-ignore-shared."""
    mapped: bool = False
    """Each block has its pages at a fixed offset behind its entry: the capability mapped-ram."""
    blocks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By name: the offset of the block's entry in the file, and its length in bytes."""
    mapped_blocks: list[MappedBlock] = field(default_factory=list)
    advised_sizes: int = 0
    """All host page sizes of blocks, or-ed, of the command POSTCOPY_ADVISE; 0 without postcopy."""
    reached: int = 0
    """The offset of the record in which the file ends, else of the last page in front of one that
    is malformed: with a wrong page size, that is the first page."""
    _block: str = ""

    # One long loop, because a call for each page of a guest's memory would double the time.
    def measure(self, source: Source, at: int) -> tuple[int, Pages]:  # noqa: C901, PLR0912
        """Return the end of the section whose first record is at *at*, and its number of pages."""
        normal = zero = xbzrle = compressed = 0
        mask, page_size, size = self.page_size - 1, self.page_size, source.size
        base, window, record, page = at, b"", at, at
        try:
            while True:
                begin = at - base
                # The longest record header: flags, a name and the bytes that follow it.
                if begin + 280 > len(window):
                    base, window, begin = at, source.window(at), 0
                    if len(window) < 8:
                        raise source.cut(at, 8, "a record of the section of RAM")
                (header,) = _HEADER.unpack_from(window, begin)
                flags, address = header & mask, header & ~mask
                record, at = at, at + 8
                if flags & (_ZERO | _PAGE | _XBZRLE | _COMPRESSED):
                    if not flags & _CONTINUE:
                        length = source.byte(at, "the name of a RAM block")
                        self._block = shown(source.at(at + 1, length, "the name of a RAM block"))
                        at += 1 + length
                    if self._block not in self.blocks or address >= self.blocks[self._block][1]:
                        raise self._stray(source, record, page, address)
                kind = flags & ~_CONTINUE
                if kind == _PAGE:
                    page = record
                    at += page_size
                    normal += 1
                    if at > size:
                        raise source.cut(at - page_size, page_size, f"a page of {self._block!r}")
                elif kind == _ZERO:
                    at += 1
                    zero += 1
                    if at > size:
                        raise source.cut(at - 1, 1, f"a zero page of {self._block!r}")
                elif kind == _XBZRLE:
                    at += 3 + source.be16(at + 1, "an XBZRLE page")
                    xbzrle += 1
                elif kind == _COMPRESSED:
                    at += 4 + source.be32(at, "a compressed page")
                    compressed += 1
                elif kind == _MEM_SIZE:
                    at, in_list = self._list(source, at, address)
                    normal, zero = normal + in_list.normal, zero + in_list.zero
                elif kind == _EOS:
                    return at, Pages(normal, zero, xbzrle, compressed)
                elif kind != _MULTIFD_FLUSH:
                    raise self._unknown(source, record, page, flags)
        except StreamError:
            self.reached = self.reached or record
            raise

    def _list(self, source: Source, at: int, total: int) -> tuple[int, Pages]:
        pages = Pages()
        while total:
            begin = at
            count = source.byte(at, "a RAM block's name")
            name = shown(source.at(at + 1, count, "a RAM block's name"))
            at += 1 + count
            length = source.be64(at, f"the length of the RAM block {name!r}")
            at += 8
            if self._has_page_size(source, at):
                at += 8
            if self.with_addresses:
                at += 8
            if length > total:
                raise source.error(
                    f"the RAM block {name!r} at byte {begin} has {length} bytes, where the "
                    f"list of blocks has {total} left"
                )
            total -= length
            self.blocks[name] = (begin, length)
            if self.mapped:
                at, more = self._mapped(source, at, name, length)
                pages = Pages(pages.normal + more.normal, pages.zero + more.zero)
        return at, pages

    def _has_page_size(self, source: Source, at: int) -> bool:
        """Return whether the page size of a block follows its length, at *at*.

        With the capability postcopy-ram, it does for each block of which it is not the source
        host's own.  The next block's name, or the record behind the list, is never such a number.
        """
        if not self.advised_sizes:
            return False
        size = source.be64(at, "what follows the length of a RAM block")
        return size & (size - 1) == 0 and size & self.advised_sizes != 0

    def _mapped(self, source: Source, at: int, name: str, length: int) -> tuple[int, Pages]:
        """Return the end and the number of a block's pages; its mapped-ram header is at *at*.

        docs/devel/migration/mapped-ram.rst has a picture of the layout.
        """
        what = f"the pages of the RAM block {name!r}"
        head = _MAPPED.unpack(source.at(at, _MAPPED.size, f"the head of {what}"))
        version, page_size, bitmap_at, pages_at = head
        count = length // self.page_size
        bitmap = -(-count // 64) * 8
        end = pages_at + length
        if version > 1 or page_size != self.page_size:
            raise source.error(
                f"{what} at byte {at} are of version {version} with {page_size} bytes each, and "
                f"known is version 1, with the {self.page_size} bytes of the target's pages"
            )
        if not at + _MAPPED.size <= bitmap_at <= bitmap_at + bitmap <= pages_at:
            raise source.error(
                f"{what} at byte {at} have their bitmap of {bitmap} bytes at byte {bitmap_at} and "
                f"begin at byte {pages_at}: these do not follow each other"
            )
        if end > source.size:
            raise source.cut(pages_at, length, what)
        normal = 0
        for begin in range(bitmap_at, bitmap_at + bitmap, WINDOW):
            part = source.at(
                begin, min(WINDOW, bitmap_at + bitmap - begin), f"the bitmap of {what}"
            )
            normal += int.from_bytes(part).bit_count()
        self.mapped_blocks.append(MappedBlock(name, at, bitmap_at, bitmap, pages_at, length))
        # A page that is not in the bitmap is zero or was never written.
        return end, Pages(normal, max(0, count - normal))

    def _unknown(self, source: Source, record: int, page: int, flags: int) -> StreamError:
        self.reached = page
        reason = "RDMA's, which no file has" if flags & _HOOK else "no known combination"
        return source.error(
            f"the record of RAM at byte {record} has the flags {flags:#x}: {reason} "
            f"(with target pages of {self.page_size} bytes)"
        )

    def _stray(self, source: Source, record: int, page: int, address: int) -> StreamError:
        self.reached = page
        if self._block not in self.blocks:
            return source.error(
                f"the record of RAM at byte {record} is of the block {self._block!r}, "
                "which the list of blocks does not have"
            )
        return source.error(
            f"the record of RAM at byte {record} is for the address {address:#x}, and the block "
            f"{self._block!r} ends at {self.blocks[self._block][1]:#x}"
        )


def _dirty_bitmap_flags(source: Source, at: int, what: str) -> tuple[int, int]:
    """Return the flags of a record, and their width: a flag says that more bytes of them follow."""
    flags = source.byte(at, what)
    if not flags & 0x80:
        return flags, 1
    flags = source.be16(at, what)
    if not flags & 0x80:
        return flags, 2
    return source.be32(at, what), 4


def _dirty_bitmap(source: Source, at: int, _: int, __: bool) -> int:
    what = "a record of dirty-bitmap"
    while True:
        flags, size = _dirty_bitmap_flags(source, at, what)
        at += size
        for with_name in (0x08, 0x04):  # the node's, the bitmap's
            if flags & with_name:
                at += 1 + source.byte(at, what)
        if flags & 0x10:  # the bitmap begins
            at += 5
        elif flags & 0x20:  # it is complete
            pass
        elif flags & 0x40:
            at += 12
            if not flags & 0x02:
                at += 8 + source.be64(at, what)
        if flags & 0x01:
            return at


def _block(source: Source, at: int, _: int, __: bool) -> int:
    what = "a record of block migration"
    while True:
        flags = source.be64(at, what) & 0x1FF
        at += 8
        if flags & 0x01:
            at += 1 + source.byte(at, what)
            if not flags & 0x08:
                at += 1 << 20
        if flags & 0x02:
            return at
        if not flags & 0x05:
            raise source.error(f"the record of block migration at byte {at - 8} has no known flags")


def _storage_attributes(source: Source, at: int, page_size: int, _: bool) -> int:
    what = "a record of storage attributes"
    while True:
        flags = source.be64(at, what) & (page_size - 1)
        at += 8
        if flags == 0x02:
            at += 8 + source.be64(at, what)
        elif flags == 0x01:
            return at
        elif flags != 0x08:
            raise source.error(
                f"the record of storage attributes at byte {at - 8} has the flags {flags:#x}"
            )


def _page_table(source: Source, at: int, _: int, first: bool) -> int:
    what = "a record of the hash page table"
    head = source.be32(at, what)
    at += 4
    if first or head == 0xFFFF_FFFF:
        return at
    while True:
        index, valid = source.be32(at, what), source.be16(at + 4, what)
        invalid = source.be16(at + 6, what)
        at += 8 + 16 * valid
        if not (index or valid or invalid):
            return at


MEASURES: dict[str, Callable[[Source, int, int, bool], int]] = {
    "dirty-bitmap": _dirty_bitmap,
    "block": _block,
    "s390-storage_attributes": _storage_attributes,
    "spapr/htab": _page_table,
}
"""By name: ``measure(source, offset, page_size, is_first_section)`` returns a section's end."""
