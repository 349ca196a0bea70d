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
sections, and at the end a JSON description of the devices' sections, which is read first.
:mod:`~qemu_vmstate.stream.decoder` reads the payload of a device's section, and
:mod:`~qemu_vmstate.stream.iterable` finds the end of a section of RAM.  Pages of RAM are skipped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import StreamError
from .configuration import Configuration, read_configuration
from .decoder import Budget, Decoder, Field
from .iterable import MEASURES, Pages, Ram
from .origin import Origin
from .sections import Kind, Section, Stream
from .source import Source, shown
from .vmdesc import by_device, find_description, parse

__all__ = ["read"]

MAGIC = b"QEVM"
VERSION = 3
MOST_FIELDS = 1 << 20
HINTED = 1 << 20
"""How far the header is looked for, for a hint in an error."""

_EOF, _START, _PART, _END, _FULL = 0x00, 0x01, 0x02, 0x03, 0x04
_SUBSECTION, _DESCRIPTION, _CONFIGURATION, _COMMAND, _FOOTER = 0x05, 0x06, 0x07, 0x08, 0x7E
_KINDS: dict[int, Kind] = {_START: "start", _PART: "part", _END: "end", _FULL: "full"}
COMMANDS = (
    "INVALID",
    "OPEN_RETURN_PATH",
    "PING",
    "POSTCOPY_ADVISE",
    "POSTCOPY_LISTEN",
    "POSTCOPY_RUN",
    "POSTCOPY_RAM_DISCARD",
    "PACKAGED",
    "ENABLE_COLO",
    "POSTCOPY_RESUME",
    "RECV_BITMAP",
    "SWITCHOVER_START",
)


def read(
    path: str | os.PathLike[str] | BinaryIO, *, offset: int = 0, snapshot: str | None = None
) -> Stream:
    """Read the migration file *path*, which may also be a pipe, or a binary file object.

    *offset* is where the stream begins in the file, as in ``migrate file:PATH,offset=N``; a file
    object is read from its position, unless there is an *offset*.  libvirt's save images and
    compressed files are recognised by what they begin with (there, or at *offset*).  *snapshot*
    is the name, or the id, of a snapshot in a qcow2 image.

    All offsets are those of the file.  What is compressed is unpacked to an unnamed temporary
    file, which exists as long as the stream that is returned, and then they are those of what was
    unpacked; for a snapshot they are those of its VM state.

    Raises :class:`StreamError`, whose message has the problem and its byte offset, and OSError
    if the file cannot be opened.
    """
    origin = Origin(path, offset, snapshot)
    with origin.open() as source:
        return _Reader(source, origin).read()


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of a SECTION_START or SECTION_FULL."""

    section_id: int
    name: str
    instance_id: int
    version_id: int

    def __str__(self) -> str:
        return f"the section {self.section_id} of {self.name!r}"


class _Reader:
    """The state of reading one file."""

    def __init__(self, source: Source, origin: Origin) -> None:
        self._source = source
        self._origin = origin
        self._sections: list[Section] = []
        self._heads: dict[int, _Head] = {}
        self._footers: bool | None = None
        self._configuration: Configuration | None = None
        # An entry of the description has some 40 bytes, and most fields have bytes in the stream.
        self._budget = Budget(min(MOST_FIELDS, 4 * source.size))

    def read(self) -> Stream:
        at = self._header()
        self._described_at, self._description = find_description(self._source, at)
        self._devices = by_device(self._description)
        if at < self._source.size and self._source.byte(at, "a section") == _CONFIGURATION:
            end, self._configuration, fields = read_configuration(
                self._source, at + 1, self._described_at, self._budget
            )
            self._add("configuration", at, end, at + 1, fields=fields)
            at = end
        self._page_size = self._find_page_size()
        capabilities = self._configuration.capabilities if self._configuration else ()
        self._ram = Ram(
            self._page_size, "x-ignore-shared" in capabilities, "mapped-ram" in capabilities
        )
        while at < self._described_at:
            kind = self._source.byte(at, "a section")
            if kind == _EOF:
                break
            at = self._section(at, kind)
        self._finish(at)
        return Stream(
            self._source.path,
            self._source.size,
            tuple(self._sections),
            self._configuration,
            self._description,
            self._page_size,
            {name: length for name, (_, length) in self._ram.blocks.items()},
            self._footers is not False,
            self._origin,
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
        header = MAGIC + VERSION.to_bytes(4)
        end = min(source.size, start + HINTED)
        found = next(source.find(header, start, end), None)
        if found is None:
            return "; if a stream begins further on, say at which byte (--offset N)"
        return f"; such a header is at byte {found}, which --offset {found} would read"

    def _find_page_size(self) -> int:
        size = (self._description or {}).get("page_size")
        if size is None and self._configuration and self._configuration.target_page_bits:
            size = 1 << min(self._configuration.target_page_bits, 63)
        if size is None:
            return 4096
        # RAM's flags are in the low bits of an address: eight with AVR's pages, the smallest.
        if type(size) is not int or not 8 <= size.bit_length() - 1 <= 30 or size & (size - 1):
            raise self._source.error(f"pages of {size!r} bytes are those of no target")
        return size

    # ------------------------------------------------------- the sections

    def _section(self, begin: int, kind: int) -> int:
        if kind in (_START, _FULL):
            head, at = self._head(begin)
            self._heads[head.section_id] = head
        elif kind in (_PART, _END):
            section_id = self._source.be32(begin + 1, "a section's id")
            if section_id not in self._heads:
                raise self._source.error(
                    f"at byte {begin} is a further part of the section {section_id}, which has "
                    "not begun"
                )
            head, at = self._heads[section_id], begin + 5
        elif kind == _COMMAND:
            return self._command(begin)
        else:
            raise self._source.error(
                f"at byte {begin} begins nothing that is known: {kind:#04x} "
                + self._guess(kind)
                + self._after()
            )
        fields = pages = vmsd_name = None
        if kind == _FULL:
            end, fields, vmsd_name = self._device(head, at)
        else:
            end, pages = self._iterable(head, at, kind)
        after = self._footer(head, end, at, fields)
        self._add(
            _KINDS[kind],
            begin,
            after,
            at,
            end,
            name=head.name,
            section_id=head.section_id,
            instance_id=head.instance_id,
            version_id=head.version_id,
            fields=fields,
            pages=pages,
            vmsd_name=vmsd_name,
        )
        return after

    def _head(self, begin: int) -> tuple[_Head, int]:
        source, what = self._source, "a section's head"
        section_id, length = source.be32(begin + 1, what), source.byte(begin + 5, what)
        name = shown(source.at(begin + 6, length, what))
        at = begin + 6 + length
        return _Head(section_id, name, source.be32(at, what), source.be32(at + 4, what)), at + 8

    def _command(self, begin: int) -> int:
        number = self._source.be16(begin + 1, "a command")
        length = self._source.be16(begin + 3, "a command's length")
        if not 0 < number < len(COMMANDS):
            raise self._source.error(f"the command at byte {begin} has the unknown number {number}")
        # The sections that PACKAGED contains are read like all others, after it.
        self._source.at(begin + 5, length, f"the command {COMMANDS[number]}")
        end = begin + 5 + length
        self._add("command", begin, end, begin + 5, name=COMMANDS[number])
        return end

    def _device(self, head: _Head, at: int) -> tuple[int, tuple[Field, ...] | None, str | None]:
        known = self._devices.get((head.name, head.instance_id))
        if not known or "fields" not in known[0]:
            return self._end_by_footer(head, at), None, None
        decoder = Decoder(
            *(self._source, at, self._described_at, self._budget),
            find_end=lambda: -1 if self._footers is False else self._next_footer(head, at),
        )
        description = known.pop(0) if len(known) > 1 else known[0]
        try:
            fields = decoder.described(description, head.name)
        except StreamError as error:
            hint = self._hint(head, at, decoder.at, None)
            raise self._source.error(f"{head} at byte {at}: {error.reason}{hint}") from None
        name = description.get("vmsd_name")
        return decoder.at, fields, name if isinstance(name, str) else None

    def _iterable(self, head: _Head, at: int, kind: int) -> tuple[int, Pages | None]:
        if head.name == "ram":
            return self._ram.measure(self._source, at)
        if head.name in MEASURES:
            first = kind == _START
            return MEASURES[head.name](self._source, at, self._page_size, first), None
        return self._end_by_footer(head, at), None

    def _end_by_footer(self, head: _Head, at: int) -> int:
        if self._footers is False:
            raise self._source.error(
                f"{head} at byte {at} has neither a description nor a footer: its end cannot "
                "be known"
            )
        end = self._next_footer(head, at)
        if end < 0:
            raise self._source.error(
                f"{head} has no description, and from its payload at byte {at} on the file has "
                f"no footer of its own: it is cut short or broken{self._after()}"
            )
        return end

    def _next_footer(self, head: _Head, at: int) -> int:
        """Return the offset of the first footer of *head* with plausible bytes behind it, or -1."""
        mark = bytes([_FOOTER]) + head.section_id.to_bytes(4)
        found = self._source.find(mark, at, self._described_at)
        return next((end for end in found if self._begins_something(end + 5)), -1)

    def _begins_something(self, at: int) -> bool:
        if at >= self._described_at:
            return at == self._described_at
        try:
            kind = self._source.byte(at, "a section")
            if kind in (_START, _FULL):
                head, _ = self._head(at)
                return head.name != "" and head.name.isascii() and head.name.isprintable()
            if kind in (_PART, _END):
                return self._source.be32(at + 1, "a section") in self._heads
            if kind == _COMMAND:
                return 0 < self._source.be16(at + 1, "a command") < len(COMMANDS)
            if kind == _EOF and at + 1 < self._source.size:
                return self._source.byte(at + 1, "the description") == _DESCRIPTION
            return kind == _EOF
        except StreamError:
            return False

    def _footer(self, head: _Head, end: int, payload: int, fields: tuple[Field, ...] | None) -> int:
        """Check the footer of a section whose payload ends at *end*, and return its end."""
        source = self._source
        if end > source.size:
            raise source.error(
                f"the file of {source.size} bytes ends inside {head}, which at byte {payload} "
                f"has {end - payload} bytes"
            )
        if self._footers is not False:
            mark = source.byte(end, f"the footer of {head}")
            if mark != _FOOTER and self._footers is None and self._begins_something(end):
                self._footers = False
            elif mark != _FOOTER:
                raise source.error(
                    f"{head} ends at byte {end}, where {mark:#04x} is instead of a footer "
                    f"({_FOOTER:#04x}){self._hint(head, payload, end, fields)}"
                )
            else:
                self._footers = True
                found = source.be32(end + 1, f"the footer of {head}")
                if found != head.section_id:
                    raise source.error(
                        f"{head} ends at byte {end} with the footer of the section {found}"
                    )
                return end + 5
        return end

    # ----------------------------------------------------- after, and errors

    def _finish(self, at: int) -> None:
        source = self._source
        if at >= source.size:
            raise source.error(
                f"the file of {source.size} bytes is cut short: at its end another section or "
                f"the mark of the stream's end should be{self._after()}"
            )
        if at > self._described_at:
            raise source.error(
                f"the sections run to byte {at}, past the stream's end at {self._described_at}"
                f"{self._after()}"
            )
        self._add("eof", at, at + 1, at + 1)
        at += 1
        if at < source.size and source.byte(at, "the description") == _DESCRIPTION:
            length = source.be32(at + 1, "the description's length")
            end = at + 5 + length
            if end > source.size:
                raise source.cut(at + 5, length, "the description")
            if self._described_at != at - 1:
                self._description = parse(source, at + 5, length)
            self._add("description", at, end, at + 5)
            at = end
        if at == source.size:
            return
        if any(source.at(at, min(1 << 16, source.size - at), "padding")):
            raise source.error(
                f"{source.size - at} byte(s) follow the end of the stream at byte {at}"
            )
        self._add("padding", at, source.size, at)

    def _hint(self, head: _Head, payload: int, end: int, fields: tuple[Field, ...] | None) -> str:
        """Return a hint for an error: the offset of the footer, and the field that does not fit."""
        if self._footers is False or (found := self._next_footer(head, payload)) < 0:
            return ""
        out = f"; its next footer is at byte {found}"
        if found >= end or fields is None:
            return out
        leaves = [f for top in fields for f in top.walk() if not f.children and f.size]
        over = next((f for f in leaves if f.offset + f.size > found), None)
        if over is None:
            return out
        return (
            f"{out}, and by the description the field {over.name!r} has the bytes "
            f"{over.offset} to {over.offset + over.size}, past it"
        )

    def _guess(self, kind: int) -> str:
        if kind == _FOOTER:
            return "is a footer's mark"
        if kind == _SUBSECTION:
            return "is a subsection's mark"
        if kind in (_DESCRIPTION, _CONFIGURATION):
            return "is a mark that has no place here"
        return "is no section's type"

    def _after(self) -> str:
        last = self._sections[-1]
        named = f" of {last.name!r}" if last.name else ""
        return f" (after the {last.kind}{named}, which ends at byte {last.offset + last.size})"

    def _add(
        self, kind: Kind, begin: int, after: int, at: int, end: int | None = None, **known: Any
    ) -> None:
        end = after if end is None else end
        self._sections.append(Section(kind, begin, after - begin, at, end - at, **known))
