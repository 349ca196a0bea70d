# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a migration file without QEMU: its sections, and every field of its devices.

Nothing compiled is needed, except for ``load`` and ``save``.

    stream = read("vm.mig")
    for section in stream:
        print(section.offset, section.kind, section.name)
    assert stream.section("mc146818rtc").field("cmos_data").size == 128
    load(hpet, stream.payload("hpet"))
    ...
    replace("vm.mig", "changed.mig", {("hpet", 0): save(hpet)})

A file is the output of ``migrate file:`` or ``exec:cat``, for any target, also in a container:
:mod:`~qemu_vmstate.stream.origin` finds the stream in it.  QEMU documents the
format in docs/devel/migration/main.rst ("Stream structure"): a header, the configuration,
sections, and behind them a JSON description of the devices' sections.  Anything may follow: a
stream may lie at the start of a volume, which QEMU does not read further either.

So the end is found from the front.  :mod:`~qemu_vmstate.stream.walk` goes from section to section;
:mod:`~qemu_vmstate.stream.iterable` measures those of RAM, whose pages, in which a guest may keep
anything, are skipped.  From the first device on, the description is searched; it is the one by
which :mod:`~qemu_vmstate.stream.decoder` reads the devices up to just in front of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, TypeGuard

from ..errors import StreamError
from .configuration import Configuration, read_configuration
from .decoder import Budget, Field
from .origin import Origin
from .sections import Kind, Section, Stream
from .source import Source
from .vmdesc import Description, description_at, descriptions
from .walk import HEADER, MAGIC, MOST_FIELDS, SEARCHED, VERSION, Layouts, Walk

__all__ = ["read"]

HINTED = 1 << 20
"""How far the header is looked for, for a hint in an error."""

_CONFIGURATION = 0x07
_PAGE_SIZES = tuple(1 << bits for bits in (12, 13, 14, 10, 8, 16, 11))
"""Those of QEMU's targets, the most frequent first."""
_LONGEST_PADDING = 1 << 16


def read(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    offset: int = 0,
    snapshot: str | None = None,
    like: str | os.PathLike[str] | Stream | None = None,
) -> Stream:
    """Read the migration file *path*, which may also be a pipe, or a binary file object.

    *offset* is where the stream begins in the file, as in ``migrate file:PATH,offset=N``; a file
    object is read from its position, unless there is an *offset*.  libvirt's save images and
    compressed files are recognised by what they begin with (there, or at *offset*).  *snapshot*
    is the name, or the id, of a snapshot in a qcow2 image.

    All offsets are those of the file.  What is compressed is unpacked to an unnamed temporary
    file, which exists as long as the stream that is returned, and then they are those of what was
    unpacked; for a snapshot they are those of its VM state.

    If it has no description, the devices are decoded by that of *like*, a stream of the same
    machine or its path.  Subsections of *like* may be absent; a device of which anything else
    differs is an error.

    Raises :class:`StreamError`, whose message has the problem and its byte offset, and whose
    ``partial`` is the stream up to there; OSError if a file cannot be opened.
    """
    origin = Origin(path, offset, snapshot)
    if like is not None and not isinstance(like, Stream):
        like = read(like)
    with origin.open() as source:
        return _Reader(source, origin, like).read()


def _is_page_size(size: object) -> TypeGuard[int]:
    # RAM's flags are in the low bits of an address: eight with AVR's pages, the smallest.
    return type(size) is int and 8 <= size.bit_length() - 1 <= 30 and not size & (size - 1)


class _Reader:
    """The state of reading one file."""

    def __init__(self, source: Source, origin: Origin, like: Stream | None = None) -> None:
        self._source = source
        self._origin = origin
        self._like = like
        self._sections: list[Section] = []
        self._configuration: Configuration | None = None
        self._walk: Walk | None = None
        self._description: Description | None = None

    def read(self) -> Stream:
        try:
            at = self._configured(self._header())
            self._walk = self._best(self._undescribed(at))
            self._finish(self._walk)
        except StreamError as error:
            error.partial = self._stream() if self._sections else None
            raise
        return self._stream()

    def _stream(self) -> Stream:
        walk = self._walk
        other = walk.layouts.other if walk and walk.layouts else ""
        return Stream(
            self._source.path,
            self._source.size,
            tuple(walk.sections if walk else self._sections),
            self._configuration,
            self._description,
            walk.page_size if walk else _PAGE_SIZES[0],
            {name: length for name, (_, length) in walk.ram.blocks.items()} if walk else {},
            not (walk and walk.footers is False),
            self._origin,
            tuple(walk.ram.mapped_blocks) if walk else (),
            other or None,
        )

    # ------------------------------------------------- before the sections

    def _header(self) -> int:
        source, start = self._source, self._source.start
        magic = source.at(start, min(4, source.size - start), "the header")
        if len(magic) == 4 and magic != MAGIC:
            raise source.error(
                f"this is no migration stream: at byte {start} it begins with {magic.hex()} "
                f"instead of {MAGIC.hex()} (QEVM){self._further_on()}"
            )
        version = source.be32(start + 4, "the header's version")
        if version != VERSION:
            raise source.error(
                f"the stream is of version {version} at byte {start + 4}, not {VERSION}"
            )
        self._add("header", start, start + 8, start)
        return start + 8

    def _further_on(self) -> str:
        """Return a hint for a file that begins with something unknown."""
        source, start = self._source, self._source.start
        end = min(source.size, start + HINTED)
        found = next(source.find(HEADER, start, end), None)
        if found is None:
            return "; if a stream begins further on, say at which byte (--offset N)"
        return f"; such a header is at byte {found}, which --offset {found} would read"

    def _configured(self, at: int) -> int:
        source = self._source
        if at >= source.size or source.byte(at, "a section") != _CONFIGURATION:
            return at
        budget = Budget(min(MOST_FIELDS, 4 * source.size))
        end, self._configuration, fields = read_configuration(source, at + 1, source.size, budget)
        self._add("configuration", at, end, at + 1, fields)
        return end

    def _add(
        self, kind: Kind, begin: int, after: int, at: int, fields: tuple[Field, ...] | None = None
    ) -> None:
        self._sections.append(Section(kind, begin, after - begin, at, after - at, fields=fields))

    # ------------------------------------------------------------ the walks

    def _undescribed(self, at: int) -> Walk:
        """Return a walk without descriptions, with the page size that gets furthest.

        Only some targets send their page size in front of RAM.
        """
        best: Walk | None = None
        for size in self._page_sizes():
            size = self._page_size(size)
            walk = Walk(
                *(self._source, at, self._source.size),
                *(self._sections, size, self._configuration),
            )
            self._walk = walk
            walk.run()
            if best is None or (walk.at, walk.ram.reached) > (best.at, best.ram.reached):
                best = walk
            if not (walk.error and walk.in_ram):
                return walk
        assert best is not None
        return best

    def _page_sizes(self) -> tuple[int, ...]:
        if self._configuration and self._configuration.target_page_bits:
            return (1 << min(self._configuration.target_page_bits, 63),)
        return (self._like.page_size,) if self._like else _PAGE_SIZES

    def _page_size(self, size: object) -> int:
        if not _is_page_size(size):
            raise self._source.error(f"pages of {size!r} bytes are those of no target")
        return size

    def _best(self, plain: Walk) -> Walk:
        """Return the walk by the description, else by the other file's, else *plain*."""
        failed: list[Walk] = []
        for attempt, mark, description in self._attempts(plain):
            attempt.run()
            if attempt.error:
                failed.append(attempt)
            elif attempt.at == mark:
                if "page_size" in description:
                    self._page_size(description["page_size"])
                self._description = description
                return attempt
            elif plain.error is None and plain.at == mark:
                # It lies behind the end that footers show, so it is this stream's.
                attempt.error = self._source.error(
                    f"by the description at byte {mark + 1} the sections end at byte {attempt.at}"
                    f"{attempt.after()}"
                )
                failed.append(attempt)
        own = plain.error is None and self._is_described(plain.at + 1)
        if self._like and not own:
            return self._by_other(plain, self._like)
        if plain.error is None and not own:
            failed = [walk for walk in failed if self._is_stopped_by(plain, walk)]
        return max([*failed, plain], key=lambda walk: (walk.error is not None, walk.at))

    def _is_stopped_by(self, plain: Walk, failed: Walk) -> bool:
        """Return whether *plain* ended in the device that does not fit the description behind it.

        It took bytes of the device for a footer then.  A description behind another header is
        another stream's.
        """
        if failed.at < plain.sections[-1].offset or failed.limit < plain.at:
            return False
        return not any(self._source.find(HEADER, plain.at, failed.limit))

    def _is_described(self, at: int) -> bool:
        """Return whether a description follows the end of the stream at *at*."""
        try:
            return description_at(self._source, at) is not None
        except StreamError:  # which is raised when its section is added
            return False

    def _attempts(self, plain: Walk) -> Iterator[tuple[Walk, int, Description]]:
        """Yield walks that have still to be run, each with a description and its mark's offset."""
        opaque = any(section.opaque for section in plain.sections)
        if plain.error and plain.in_ram and not opaque:
            return  # no description changes that
        for count in plain.marks():
            begin = plain.begin_of(count)
            for mark, description in descriptions(
                self._source, begin, max(begin, plain.at) + SEARCHED
            ):
                layouts = Layouts(description)
                size = description.get("page_size", plain.page_size)
                known = self._configuration and self._configuration.target_page_bits
                if size != plain.page_size and _is_page_size(size) and not known:
                    yield plain.again(size, layouts, mark), mark, description
                else:
                    yield plain.resumed(count, layouts, mark), mark, description

    def _by_other(self, plain: Walk, like: Stream) -> Walk:
        if like.description is None:
            raise self._source.error(
                f"its devices cannot be decoded like those of {like.path}, because that file has "
                "no description either"
            )
        count = plain.marks()[-1]
        walk = plain.resumed(count, Layouts(like.description, like.path), self._source.size)
        walk.run()
        return walk

    # -------------------------------------------------------------- the end

    def _finish(self, walk: Walk) -> None:
        """Add the sections behind the last device, or raise the error of the walk."""
        if walk.error:
            raise walk.error
        source, at = self._source, walk.at + 1
        walk.add("eof", walk.at, at, at)
        described = description_at(source, at)
        if described:
            end, self._description = described
            walk.add("description", at, end, at + 5)
            at = end
        if at < source.size:
            walk.add(self._rest(at), at, source.size, at)

    def _rest(self, at: int) -> Kind:
        """Return the kind of what follows: zeros that fill up a block, or anything else."""
        size = self._source.size - at
        if size > _LONGEST_PADDING or any(self._source.at(at, size, "padding")):
            return "trailing"
        return "padding"
