# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutations of the streams of an object."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any

from ..device.device import Device, staging_of
from ..layout.traversal import nested
from ..layout.vmstruct import VMStruct
from ..state.bql import bql_lock_guard
from ..wire.types import StructType

__all__ = ["LARGEST", "Mutator", "Payload", "is_ambiguous", "mark"]

LARGEST = 1 << 16
"""The size in bytes of the largest stream."""

_EDGES = (0, 1, 2, 3, 0x30, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000)
_ENDS = (0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)

_CHARACTERS = [bytes((each,)) for each in b"0159_ +-.,/\\:~[]()%eEnNsTZ\0\x80\xc3\xed\xff"]
"""Those that other spellings of numbers, moments and paths have, and parts of others."""


@dataclass(frozen=True)
class Payload:
    """A saved stream.

    ``edges`` are the offsets of its fields and its end, ``numbers`` the offset and width of each
    count and array element, ``heads`` the begin and end of each subsection's head.
    """

    data: bytes
    edges: list[int]
    numbers: list[tuple[int, int]]
    heads: list[tuple[int, int]]


def mark(obj: Any, data: bytes) -> Payload:
    """Return ``data``, from the last save of ``obj``, with the offsets of its fields."""
    if isinstance(obj, Device):
        staging = staging_of(obj)
        staged, version = staging.migration_state, staging.description.version_id
    else:
        with bql_lock_guard():
            staged = obj.to_migration_state()
        version = staged.__layout__.version_id
    cls = type(staged)
    edges, numbers = [0], []
    counted = _counters(cls)
    offset = 0
    for path, width in type(staged).__layout__.walk(staged, "", version):
        if (path.rpartition(".")[2] in counted and width <= 4) or path.endswith("]"):
            numbers.append((offset, width))
        offset += width
        edges.append(min(offset, len(data)))
    numbers = [(at, width) for at, width in numbers if at + width <= len(data) and width <= 8]
    heads = []
    for name in heads_of(cls):
        at = data.find(name)
        while at >= 0:
            heads.append((at, at + len(name)))
            edges += [at, min(at + len(name), len(data))]
            at = data.find(name, at + 1)
    return Payload(data, sorted({*edges, len(data)}), numbers, heads)


def _counters(cls: type[VMStruct]) -> list[str]:
    return [info.num.name for inner in nested(cls) for info in inner.__layout__.fields if info.num]


def heads_of(cls: type[VMStruct]) -> list[bytes]:
    """Return every subsection's head as QEMU writes it: 0x05, length, name and version."""
    found: dict[bytes, None] = {}
    for inner in nested(cls):
        for info in inner.__layout__.subsections:
            assert isinstance(info.type, StructType)
            name = info.name.encode()
            version = info.type.cls.__layout__.version_id
            found[b"\5" + bytes([len(name)]) + name + struct.pack(">I", version)] = None
    return list(found)


def is_ambiguous(cls: type[VMStruct], data: bytes) -> bool:
    """Return whether values in a stream of ``cls`` look like an unknown subsection.

    If 0x05, a length and a name that begins with the struct's name follow a struct, QEMU reads a
    subsection, and refuses an unknown one.  So no stream with such values can be loaded, even if
    a save wrote it.
    """
    known = {head[2:-4] for head in heads_of(cls)}
    names = {inner.__layout__.name.encode() for inner in nested(cls)}
    at = data.find(5)
    while 0 <= at < len(data) - 1:
        name = data[at + 2 : at + 2 + data[at + 1]]
        if name not in known and any(name.startswith(n) and name != n for n in names):
            return True
        at = data.find(5, at + 1)
    return False


class Mutator:
    """Makes malformed streams from valid ones of an object; reproducible by ``rng``."""

    def __init__(self, obj: Any, rng: random.Random) -> None:
        layout = obj.Migrated.__layout__
        self._rng = rng
        self._heads = heads_of(obj.Migrated)
        self._names = [layout.name.encode(), *(h[2:-4] for h in self._heads)]
        self._versions = list(range(layout.minimum_version_id, layout.version_id + 1))[-4:]
        self._kinds = [
            *(self._field, self._field, self._field, self._count, self._count, self._count),
            *(self._truncate, self._extend, self._duplicate, self._remove, self._flip),
            *(self._flip, self._marker, self._marker, self._head, self._move_head, self._text),
        ]

    def version(self) -> int | None:
        """Return a random version to load a stream as; ``None`` is the newest."""
        rng = self._rng
        if rng.random() < 0.85:
            return None
        if rng.random() < 0.7:
            return rng.choice(self._versions)
        return rng.choice((0, 1, -1, 2**31 - 1, self._versions[-1] + 1))

    def stream(self, corpus: list[Payload]) -> bytes:
        """Return a mutation of streams in ``corpus``, or random bytes."""
        rng = self._rng
        payload = rng.choice(corpus)
        draw = rng.random()
        if draw < 0.03:
            length = rng.choice((0, 1, len(payload.data), rng.randrange(200)))
            return rng.randbytes(min(length, LARGEST))
        if draw < 0.10:
            other = rng.choice(corpus)
            data = bytearray(payload.data[: rng.choice(payload.edges)])
            data += other.data[rng.choice(other.edges) :]
        else:
            data = bytearray(payload.data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(self._kinds)(data, payload)
        return bytes(data[:LARGEST])

    def _put(self, data: bytearray, at: int, width: int) -> None:
        rng = self._rng
        draw = rng.random()
        mask = (1 << (8 * width)) - 1
        if draw < 0.4:
            value = rng.choice(_EDGES)
        elif draw < 0.5:
            value = rng.choice(_ENDS)
        elif draw < 0.8:
            value = int.from_bytes(data[at : at + width], "big") + rng.choice((-1, 1, 2, -2))
        else:
            value = rng.getrandbits(8 * width)
        data[at : at + width] = (value & mask).to_bytes(width, "big")

    def _field(self, data: bytearray, payload: Payload) -> None:
        edges = payload.edges
        if len(edges) < 2:
            return
        index = self._rng.randrange(len(edges) - 1)
        width = min(edges[index + 1] - edges[index], 8)
        self._put(data, edges[index], width)

    def _count(self, data: bytearray, payload: Payload) -> None:
        if not payload.numbers:
            self._field(data, payload)
            return
        rng = self._rng
        at, width = rng.choice(payload.numbers)
        if rng.random() < 0.5:
            self._put(data, at, width)
            return
        # Change the count together with the number of elements.
        number = int.from_bytes(data[at : at + width], "big")
        step = rng.choice((1, -1, 2))
        data[at : at + width] = ((number + step) % (1 << (8 * width))).to_bytes(width, "big")
        (self._duplicate if step > 0 else self._remove)(data, payload)

    def _text(self, data: bytearray, payload: Payload) -> None:
        """Insert, replace or remove a character of what may be a text, with its size."""
        rng = self._rng
        sizes = [
            (at, width, size)
            for at, width in payload.numbers
            if 0 < (size := int.from_bytes(payload.data[at : at + width], "big")) < 256
        ]
        if not sizes:
            self._flip(data, payload)
            return
        at, width, size = rng.choice(sizes)
        first = at + width + rng.randrange(size + 1)
        removed, character = rng.choice((0, 1)), rng.choice(_CHARACTERS)[: rng.choice((0, 1, 1))]
        data[first : first + removed] = character
        size = max(0, size + len(character) - removed)
        data[at : at + width] = (size % (1 << (8 * width))).to_bytes(width, "big")

    def _range(self, payload: Payload) -> tuple[int, int]:
        rng = self._rng
        edges = payload.edges
        first = rng.randrange(len(edges))
        last = min(first + rng.choice((1, 1, 2, 3, 8)), len(edges) - 1)
        return edges[first], edges[last]

    def _truncate(self, data: bytearray, payload: Payload) -> None:
        rng = self._rng
        at = rng.choice(payload.edges) if rng.random() < 0.5 else rng.randrange(len(data) + 1)
        del data[at:]

    def _extend(self, data: bytearray, payload: Payload) -> None:
        first, last = self._range(payload)
        data += self._rng.choice((b"\0", b"\5", b"\1", payload.data[first:last]))

    def _duplicate(self, data: bytearray, payload: Payload) -> None:
        first, last = self._range(payload)
        data[first:first] = payload.data[first:last]

    def _remove(self, data: bytearray, payload: Payload) -> None:
        first, last = self._range(payload)
        del data[first:last]

    def _flip(self, data: bytearray, payload: Payload) -> None:
        if data:
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _marker(self, data: bytearray, payload: Payload) -> None:
        at = self._rng.choice(payload.edges)
        if at < len(data):
            data[at] = self._rng.choice((0, 1, 2, 5, 0x30, 0xFF))

    def _made_head(self) -> bytes:
        rng = self._rng
        if self._heads and rng.random() < 0.6:
            head: bytes = rng.choice(self._heads)
            return head
        name = bytes(rng.choice(self._names) + rng.choice((b"", b"/", b"/x", b"x", b"\0")))
        length = rng.choice((len(name), len(name), len(name) - 1, len(name) + 1, 255, 0))
        version = rng.choice((b"", bytes(4), b"\0\0\1\1"))
        return bytes((5, length & 0xFF, *name, *version))

    def _head(self, data: bytearray, payload: Payload) -> None:
        at = self._rng.choice(payload.edges)
        first, last = self._range(payload)
        data[at:at] = self._made_head() + payload.data[first:last]

    def _move_head(self, data: bytearray, payload: Payload) -> None:
        if not payload.heads:
            self._head(data, payload)
            return
        rng = self._rng
        begin, end = rng.choice(payload.heads)
        draw = rng.random()
        if draw < 0.3:  # change its version
            self._put(data, end - 4, 4)
        elif draw < 0.6:  # repeat it and all that follows
            data[begin:begin] = payload.data[begin:]
        elif draw < 0.8:
            del data[begin:end]
        else:
            at = rng.choice(payload.edges)
            data[at:at] = payload.data[begin:]
