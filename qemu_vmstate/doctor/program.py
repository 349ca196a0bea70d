# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading an executable: the machine that it is for, and the functions that it names.

The format is that of elf(5), for 64-bit little-endian machines.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Program", "read_program"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_SYMTAB, _DYNSYM = 2, 11
_MACHINES = {62: "x86_64", 183: "aarch64"}
_LARGEST_TABLE = 1 << 30


@dataclass(frozen=True)
class Program:
    """An ELF executable."""

    machine: str
    """As ``uname -m`` has it; ``"another machine"`` for one that this package does not know."""
    exported: bytes
    """The names of the dynamic symbols, each between zero bytes."""
    internal: bytes
    """The names in ``.symtab``; empty if it was stripped."""

    def exports(self, name: str) -> bool:
        """Return whether a dynamic symbol has this name."""
        return _named(name, self.exported)

    def has(self, name: str) -> bool:
        """Return whether any symbol has this name."""
        return self.exports(name) or _named(name, self.internal)


def _named(name: str, names: bytes) -> bool:
    return b"\0%s\0" % name.encode() in names


def read_program(path: str | os.PathLike[str]) -> Program | None:
    """Read an executable; None if it is a script or anything else that is not ELF.

    Raises OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        begin = file.read(_HEADER.size)
        if not begin.startswith(b"\x7fELF"):
            return None
        if not begin.startswith(_ELF64_LITTLE_ENDIAN) or len(begin) < _HEADER.size:
            return Program("another machine", b"", b"")
        header = _HEADER.unpack(begin)
        machine, table, count = header[2], header[6], header[12]
        names = dict(_names_of_symbols(file, table, count))
    known = _MACHINES.get(machine, "another machine")
    return Program(known, names.get(_DYNSYM, b""), names.get(_SYMTAB, b""))


def _names_of_symbols(file: BinaryIO, table: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the names of each symbol table."""
    file.seek(table)
    text = file.read(count * _SECTION.size)
    sections = list(_SECTION.iter_unpack(text[: len(text) // _SECTION.size * _SECTION.size]))
    for section in sections:
        kind, link = section[1], section[6]
        if kind in (_SYMTAB, _DYNSYM) and link < len(sections):
            offset, size = sections[link][4:6]
            file.seek(offset)
            yield kind, file.read(min(size, _LARGEST_TABLE))
