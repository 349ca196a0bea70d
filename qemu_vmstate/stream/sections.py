# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections of a migration file and their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .configuration import Configuration
from .decoder import Field, find
from .iterable import MappedBlock, Pages
from .origin import Origin
from .vmdesc import Description

__all__ = ["Kind", "Section", "Stream"]

Kind: TypeAlias = Literal[
    "header",
    "configuration",
    "start",
    "part",
    "end",
    "full",
    "command",
    "eof",
    "description",
    "padding",
    "trailing",
]
"""What a :class:`Section` is.

``full`` is the section of a device; ``start``, ``part`` and ``end`` are those of one that comes in
parts, such as RAM; ``eof`` is the byte behind the sections and ``description`` the JSON after it.
``padding`` is up to 64 KiB of zeros behind the stream, ``trailing`` any other bytes there.

In C: the types ``QEMU_VM_*`` (migration/savevm.h).
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file; all parts cover the file without gaps."""

    kind: Kind
    offset: int
    """The offset in the file of its first byte, which is the type of the section."""
    size: int
    """The number of its bytes, with the footer."""
    payload_offset: int
    """The offset of the first byte that the device itself has written."""
    payload_size: int
    """The number of the bytes that the device itself has written."""
    name: str = ""
    """A device's idstr, or a command's name."""
    section_id: int | None = None
    """The number by which later parts of the section name it; ``None`` if it has none."""
    instance_id: int | None = None
    """The number that distinguishes devices of the same name."""
    version_id: int | None = None
    """The version of the device that wrote it."""
    fields: tuple[Field, ...] | None = None
    """The fields of the payload, subsections last; ``None`` if nothing describes it."""
    pages: Pages | None = None
    """The number of pages in a section of RAM."""
    vmsd_name: str | None = None
    """The name of a device's ``VMStateDescription``, which *name* ends with."""

    @property
    def opaque(self) -> bool:
        """Whether only the offset and the size of the payload are known."""
        sections = ("start", "part", "end", "full")
        return self.kind in sections and self.fields is None and self.pages is None

    def field(self, path: str) -> Field:
        """Return the field with that path (``"regs.fifo"``, ``"history[2].step"``), else KeyError.

        Names in the description may contain dots: ``"env.regs[4]"``.
        """
        found = find(self.fields or (), path)
        if found is None:
            raise KeyError(path)
        return found

    def walk(self) -> Iterator[Field]:
        """Yield every field, each before its children."""
        for field in self.fields or ():
            yield from field.walk()


@dataclass(frozen=True, slots=True)
class Stream:
    """The content of a migration file, or, as an error's ``partial``, of its readable beginning."""

    path: str
    """The path of the file, or the name of the file object."""
    size: int
    """The number of bytes of the file, or of what was unpacked."""
    sections: tuple[Section, ...]
    """All parts of the file, in their order; iterating over the stream gives them too."""
    configuration: Configuration | None
    """``None`` for a machine type before 2.4, which sends none."""
    description: Description | None
    """The JSON at the end; ``None`` if the machine type or a postcopy suppressed it."""
    page_size: int
    """The target's page size, from the description or the configuration, or else 4096."""
    ram_blocks: Mapping[str, int]
    """The lengths of the blocks of RAM, in bytes."""
    footers: bool
    """Whether sections have footers; those of machine types before 2.4 have none."""
    origin: Origin = dataclasses.field(repr=False, compare=False)
    """Where the stream was read from; its ``container`` says what is around the stream."""
    mapped_blocks: tuple[MappedBlock, ...] = ()
    """Where mapped-ram has the blocks of RAM; empty without this capability."""
    like: str | None = None
    """The path of the file by whose description the devices were decoded, if not their own."""

    def __iter__(self) -> Iterator[Section]:
        return iter(self.sections)

    @property
    def end(self) -> int:
        """The offset up to which the file was read: its size, unless an error ended it."""
        last = self.sections[-1]
        return last.offset + last.size

    def section(self, name: str, instance_id: int = 0) -> Section:
        """Return the device's first section with fields, else its first one; raise KeyError."""
        same = [s for s in self.sections if (s.name, s.instance_id) == (name, instance_id)]
        if not same:
            raise KeyError(f"{name}/{instance_id}")
        return next((s for s in same if s.fields is not None), same[0])

    def payload(self, name: str, instance_id: int = 0) -> bytes:
        """Return the bytes of that section for ``load``, read from the file at this time.

        Raises KeyError as :meth:`section`, OSError, and StreamError if the file has become shorter.
        """
        section = self.section(name, instance_id)
        with self.origin.open() as source:
            return source.at(section.payload_offset, section.payload_size, f"the section {name!r}")
