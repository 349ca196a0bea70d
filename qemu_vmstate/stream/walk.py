# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk over the sections of a stream, from one to the next, up to the mark of its end.

Iterable sections end themselves.  A device's section has the length that its layout gives it; if
none is known, it ends at its footer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import StreamError
from .configuration import Configuration
from .decoder import Budget, Decoder, Field
from .iterable import MEASURES, Pages, Ram
from .sections import Kind, Section
from .source import Source, shown
from .vmdesc import DESCRIPTION, Description, by_device

__all__ = ["HEADER", "MAGIC", "MOST_FIELDS", "SEARCHED", "VERSION", "Layouts", "Walk"]

MAGIC = b"QEVM"
VERSION = 3
HEADER = MAGIC + VERSION.to_bytes(4)
MOST_FIELDS = 1 << 20
SEARCHED = 1 << 29
"""How many bytes are searched for a footer or a description: more than any device has."""
_NEAR = 1 << 24

_EOF, _START, _PART, _END, _FULL = 0x00, 0x01, 0x02, 0x03, 0x04
_SUBSECTION, _CONFIGURATION, _COMMAND, _FOOTER = 0x05, 0x07, 0x08, 0x7E
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


@dataclass(frozen=True, slots=True)
class Layouts:
    """The descriptions of devices, by which their sections are decoded."""

    description: Description
    other: str = ""
    """The path of the file that they come from, if it is not the one that is read."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of a SECTION_START or SECTION_FULL."""

    section_id: int
    name: str
    instance_id: int
    version_id: int

    def __str__(self) -> str:
        return f"the section {self.section_id} of {self.name!r}"


class Walk:
    """A walk from *at* on, before *limit*; *sections* are those in front of it.

    After :meth:`run`, :attr:`at` is the offset of the mark of the end, or of the section in which
    :attr:`error` occurred.
    """

    def __init__(
        self,
        source: Source,
        at: int,
        limit: int,
        sections: list[Section],
        page_size: int,
        configuration: Configuration | None,
        layouts: Layouts | None = None,
    ) -> None:
        self.at = self._begin = at
        self.sections = list(sections)
        self.page_size = page_size
        self.layouts = layouts
        self.footers: bool | None = None
        self.error: StreamError | None = None
        self.in_ram = False
        capabilities = configuration.capabilities if configuration else ()
        self.ram = Ram(page_size, "x-ignore-shared" in capabilities, "mapped-ram" in capabilities)
        self._configuration = configuration
        self._front = len(sections)
        self._source = source
        self.limit = limit
        self._heads: dict[int, _Head] = {}
        self._devices = by_device(layouts.description if layouts else None)
        self._other = layouts.other if layouts else ""
        # An entry of the description has some 40 bytes, and most fields have bytes in the stream.
        self._budget = Budget(min(MOST_FIELDS, 4 * source.size))

    def run(self) -> None:
        """Walk to the mark of the end, to the limit or to an error."""
        try:
            while self.at < self.limit:
                kind = self._source.byte(self.at, "a section")
                if kind == _EOF:
                    break
                self.at = self._section(self.at, kind)
            self._check_end()
        except StreamError as error:
            self.error = error

    # ------------------------------------------------------- beginning again

    def again(self, page_size: int, layouts: Layouts | None, limit: int) -> Walk:
        """Return a walk from the same beginning."""
        front = self.sections[: self._front]
        return Walk(
            *(self._source, self._begin, limit, front, page_size, self._configuration), layouts
        )

    def marks(self) -> list[int]:
        """Return how many sections lie before where the devices may begin, the likeliest first.

        They begin behind the last iterable section.  A device that the walk passed before may be
        one that is sent early, or what it took for the end of one may be a part of it.
        """
        kinds = [section.kind for section in self.sections]
        iterable = [i + 1 for i, kind in enumerate(kinds) if kind in ("start", "part", "end")]
        last = max(iterable, default=self._front)
        first = kinds.index("full") if "full" in kinds else last
        return [last] if first >= last else [last, first]

    def begin_of(self, mark: int) -> int:
        """Return the offset behind the first *mark* sections."""
        last = self.sections[mark - 1]
        return last.offset + last.size

    def resumed(self, mark: int, layouts: Layouts, limit: int) -> Walk:
        """Return a walk behind the first *mark* sections, which are not measured again.

        If a device among them has another size by the layouts, it is a walk from the beginning.
        """
        out = self.again(self.page_size, layouts, limit)
        before = self.sections[self._front : mark]
        out.footers = self.footers if any(s.section_id is not None for s in before) else None
        blocks, mapped = dict(self.ram.blocks), list(self.ram.mapped_blocks)
        out.ram = replace(self.ram, blocks=blocks, mapped_blocks=mapped)
        if all(map(out.take, before)):
            return out
        return self.again(self.page_size, layouts, limit)

    def take(self, section: Section) -> bool:
        """Add the next section as another walk read it; return whether a device is as long here."""
        if section.section_id is not None:
            head = self._heads[section.section_id] = _Head(
                *(section.section_id, section.name),
                *(section.instance_id or 0, section.version_id or 0),
            )
        if section.kind == "full":
            try:
                end, fields, vmsd_name = self._device(head, section.payload_offset)
            except StreamError:
                return False
            if end != section.payload_offset + section.payload_size:
                return False
            section = replace(section, fields=fields, vmsd_name=vmsd_name)
        self.sections.append(section)
        self.at = section.offset + section.size
        return True

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
                + self.after()
            )
        fields = pages = vmsd_name = None
        if kind == _FULL:
            end, fields, vmsd_name = self._device(head, at)
        else:
            end, pages = self._iterable(head, at, kind)
        after = self._footer(head, end, at, fields)
        self.add(
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
        name = COMMANDS[number]
        payload = self._source.at(begin + 5, length, f"the command {name}")
        if name == "POSTCOPY_ADVISE" and length == 16:
            self.ram.advised_sizes = int.from_bytes(payload[:8])
        end = begin + 5 + length
        self.add("command", begin, end, begin + 5, name=name)
        return end

    def _device(self, head: _Head, at: int) -> tuple[int, tuple[Field, ...] | None, str | None]:
        known = self._devices.get((head.name, head.instance_id))
        if not known or "fields" not in known[0]:
            return self._end_by_footer(head, at), None, None
        decoder = Decoder(
            *(self._source, at, self.limit, self._budget),
            find_end=lambda: -1 if self.footers is False else self._next_footer(head, at),
            optional_subsections=bool(self._other),
        )
        description = known.pop(0) if len(known) > 1 else known[0]
        version = description.get("version", head.version_id)
        if self._other and version != head.version_id:
            raise self._misfit(head, at, f"it is of version_id {version}, not {head.version_id}")
        try:
            fields = decoder.described(description, head.name)
        except StreamError as error:
            hint = self._hint(head, at, decoder.at, None)
            if self._other:
                raise self._misfit(head, at, f"{error.reason}{hint}") from None
            raise self._source.error(f"{head} at byte {at}: {error.reason}{hint}") from None
        name = description.get("vmsd_name")
        return decoder.at, fields, name if isinstance(name, str) else None

    def _misfit(self, head: _Head, at: int, reason: str) -> StreamError:
        return self._source.error(
            f"the layout of {head.name!r} (instance {head.instance_id}) in {self._other} does not "
            f"fit {head} at byte {at}: {reason}"
        )

    def _iterable(self, head: _Head, at: int, kind: int) -> tuple[int, Pages | None]:
        if head.name == "ram":
            self.in_ram = True
            end = self.ram.measure(self._source, at)
            self.in_ram = False
            return end
        if head.name in MEASURES:
            first = kind == _START
            return MEASURES[head.name](self._source, at, self.page_size, first), None
        return self._end_by_footer(head, at), None

    # ------------------------------------------------------------- footers

    def _end_by_footer(self, head: _Head, at: int) -> int:
        if self.footers is False:
            where = f"{head} (instance {head.instance_id}) at byte {at}"
            raise self._source.error(
                f"{where} has neither a footer nor a description, in this file or in "
                f"{self._other}: its end cannot be known"
                if self._other
                else f"{where} has neither a description nor a footer: its end cannot be known, "
                "unless another file of the same machine has a description and is given as "
                "`like` (--like)"
            )
        end = self._next_footer(head, at)
        if end < 0:
            raise self._source.error(
                f"{head} has no description, and from its payload at byte {at} on the file has "
                f"no footer of its own: it is cut short or broken{self.after()}"
            )
        return end

    def _next_footer(self, head: _Head, at: int) -> int:
        """Return the offset of the first footer of *head* with plausible bytes behind it, or -1.

        A section or the end of the file is plausible.  The mark of the stream's end, which is
        only a zero, is so in front of other bytes only if no better footer is near.
        """
        mark = bytes([_FOOTER]) + head.section_id.to_bytes(4)
        weak = -1
        for end in self._source.find(mark, at, min(self.limit, at + SEARCHED)):
            if self._begins_something(end + 5):
                return end
            if weak < 0 and self._source.at(end + 5, 1, "a section") == b"\0":
                weak = end
                break
        if weak < 0:
            return -1
        # Another stream behind this one has sections of the same ids.
        limit = min(self.limit, weak + _NEAR)
        limit = next(self._source.find(HEADER, weak, limit), limit)
        found = self._source.find(mark, weak + 1, limit)
        return next((end for end in found if self._begins_something(end + 5)), weak)

    def _begins_something(self, at: int) -> bool:
        """Return whether a section begins at *at*, or ends the file there or inside its head."""
        if at >= self.limit:
            return at == self.limit
        kind = self._source.byte(at, "a section")
        try:
            if kind in (_START, _FULL):
                head, _ = self._head(at)
                return head.name != "" and head.name.isascii() and head.name.isprintable()
            if kind in (_PART, _END):
                return self._source.be32(at + 1, "a section") in self._heads
            if kind == _COMMAND:
                return 0 < self._source.be16(at + 1, "a command") < len(COMMANDS)
        except StreamError:
            return True
        if kind == _EOF and at + 1 < self._source.size:
            return self._source.byte(at + 1, "the description") == DESCRIPTION
        return kind == _EOF

    def _footer(self, head: _Head, end: int, payload: int, fields: tuple[Field, ...] | None) -> int:
        """Check the footer of a section whose payload ends at *end*, and return its end."""
        source = self._source
        if end > source.size:
            raise source.error(
                f"the file of {source.size} bytes ends inside {head}, which at byte {payload} "
                f"has {end - payload} bytes"
            )
        if self.footers is False:
            if self._other and fields is not None and not self._may_follow(end):
                raise self._misfit(
                    head, payload, f"by it the section ends at byte {end}, where none begins"
                )
            return end
        mark = source.byte(end, f"the footer of {head}")
        if mark != _FOOTER and self.footers is None and self._begins_something(end):
            self.footers = False
            return end
        if mark != _FOOTER:
            reason = (
                f"{head} ends at byte {end}, where {mark:#04x} is instead of a footer "
                f"({_FOOTER:#04x}){self._hint(head, payload, end, fields)}"
            )
            if self._other and fields is not None:
                raise self._misfit(head, payload, f"by it {reason}")
            raise source.error(reason)
        self.footers = True
        found = source.be32(end + 1, f"the footer of {head}")
        if found != head.section_id:
            raise source.error(f"{head} ends at byte {end} with the footer of the section {found}")
        return end + 5

    def _may_follow(self, at: int) -> bool:
        """Return whether a section or the mark of the stream's end may be at *at*."""
        return self._begins_something(at) or (
            at < self.limit and self._source.byte(at, "a section") == _EOF
        )

    # ----------------------------------------------------- the end, and errors

    def _check_end(self) -> None:
        source = self._source
        if self.at >= source.size:
            raise source.error(
                f"the file of {source.size} bytes is cut short: at its end another section or "
                f"the mark of the stream's end should be{self.after()}"
            )
        if self.at > self.limit:
            raise source.error(
                f"the sections run to byte {self.at}, past the stream's end at {self.limit}"
                f"{self.after()}"
            )
        if self._other and self.footers is False and not self._begins_something(self.at):
            self._check_all_seen()

    def _check_all_seen(self) -> None:
        """Refuse an end that may be a zero inside a device, if devices are missing before it."""
        assert self.layouts is not None
        seen = {(s.name, s.instance_id) for s in self.sections}
        missing = [name for name, _ in by_device(self.layouts.description).keys() - seen]
        last = self.sections[-1]
        if missing and last.kind == "full":
            head = self._heads[last.section_id or 0]
            reason = (
                f"by it the section ends at byte {self.at}, where the stream would end before "
                f"{len(missing)} of the devices there ({', '.join(sorted(missing)[:3])}, ...)"
            )
            raise self._misfit(head, last.payload_offset, reason)

    def _hint(self, head: _Head, payload: int, end: int, fields: tuple[Field, ...] | None) -> str:
        """Return a hint for an error: the offset of the footer, and the field that does not fit."""
        if self.footers is False or (found := self._next_footer(head, payload)) < 0:
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
        if kind in (DESCRIPTION, _CONFIGURATION):
            return "is a mark that has no place here"
        return "is no section's type"

    def after(self) -> str:
        """Return what lies before, for errors."""
        last = self.sections[-1]
        named = f" of {last.name!r}" if last.name else ""
        return f" (after the {last.kind}{named}, which ends at byte {last.offset + last.size})"

    def add(
        self, kind: Kind, begin: int, after: int, at: int, end: int | None = None, **known: Any
    ) -> None:
        """Add a section from *begin* to *after*, with its payload from *at* to *end*."""
        end = after if end is None else end
        self.sections.append(Section(kind, begin, after - begin, at, end - at, **known))
