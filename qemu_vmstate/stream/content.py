# SPDX-License-Identifier: GPL-2.0-or-later
"""Values for JSON of the bytes in a stream whose type says what they contain.

The types ``messagepack`` and ``utf8`` are this package's own; see cdefs/bridge/vmstate_infos.c.
MessagePack is read here and not by msgspec, so that a content needs no class and no extra, and is
limited before it is in memory: msgspec makes a gigabyte of lists of 16 MiB of empty ones.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from .source import shown

__all__ = ["CONTENTS", "ContentError", "Limit"]

DEEPEST = 60
_MOST_VALUES = 1 << 18

_TAGS = frozenset(["bytes", "map", "float", "ext", "timestamp"])
"""The keys of the objects that stand for what JSON has not."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ContentError(Exception):
    """Bytes that are not what their type says, or too much of it."""


class Limit:
    """The number of values in contents that are still shown of one file.

    A byte of MessagePack can be a value, whose Python object and JSON are much larger.
    """

    def __init__(self, left: int = _MOST_VALUES) -> None:
        self.left = left

    def take(self) -> None:
        """Count a value; raise ``ContentError`` if there were too many."""
        self.left -= 1
        if self.left < 0:
            raise ContentError(f"the contents have more than {_MOST_VALUES} values")


def _utf8(data: bytes, limit: Limit) -> str:
    limit.take()
    return shown(data)


def _messagepack(data: bytes, limit: Limit) -> object:
    reader = _Reader(data, limit)
    value = reader.value(0)
    if reader.at < len(data):
        raise ContentError(f"{len(data) - reader.at} byte(s) follow the value of {reader.at}")
    return value


CONTENTS: dict[str, Callable[[bytes, Limit], object]] = {
    "messagepack": _messagepack,
    "utf8": _utf8,
}
"""For each type a function that returns the value for JSON, or raises ``ContentError``.

In it ``{"bytes": "00ff"}`` are bytes, ``{"map": [[key, value], ...]}`` is a map whose keys are not
only strings or occur twice, ``{"float": "nan"}`` a number that JSON has not, ``{"timestamp":
"..."}`` a time in UTC, and ``{"ext": [5, "00ff"]}`` the number and bytes of an extension.
"""


class _Reader:
    """Reads MessagePack (its specification is at msgpack.org)."""

    def __init__(self, data: bytes, limit: Limit) -> None:
        self.at = 0
        self._data = data
        self._limit = limit

    def value(self, depth: int) -> object:
        """Return the next value."""
        self._limit.take()
        if depth > DEEPEST:
            raise ContentError(f"it is nested more than {DEEPEST} deep")
        (code,) = self._take(1)
        if code < 0x80:
            return code
        if code < 0x90:
            return self._map(code & 15, depth)
        if code < 0xA0:
            return self._array(code & 15, depth)
        if code < 0xC0:
            return shown(self._take(code & 31))
        if code >= 0xE0:
            return code - 0x100
        return self._other(code, depth)

    def _other(self, code: int, depth: int) -> object:
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            kind = _NUMBERS[code]
            (number,) = struct.unpack(kind, self._take(struct.calcsize(kind)))
            return number if abs(number) < float("inf") else {"float": str(number)}
        if 0xC4 <= code <= 0xC6:
            return {"bytes": self._take(self._length(code - 0xC4)).hex()}
        if 0xC7 <= code <= 0xC9:
            return self._extension(self._length(code - 0xC7))
        if 0xD4 <= code <= 0xD8:
            return self._extension(1 << (code - 0xD4))
        if 0xD9 <= code <= 0xDB:
            return shown(self._take(self._length(code - 0xD9)))
        if code in (0xDC, 0xDD):
            return self._array(self._length(code - 0xDC + 1), depth)
        if code in (0xDE, 0xDF):
            return self._map(self._length(code - 0xDE + 1), depth)
        raise ContentError(f"{code:#04x} at its byte {self.at - 1} begins no value")

    def _length(self, power: int) -> int:
        return int.from_bytes(self._take(1 << power))

    def _take(self, length: int) -> bytes:
        begin, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise ContentError(f"it ends inside the {length} byte(s) that begin at {begin}")
        return self._data[begin : self.at]

    def _array(self, count: int, depth: int) -> list[object]:
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> object:
        pairs = [[self.value(depth + 1), self.value(depth + 1)] for _ in range(count)]
        found = {key: value for key, value in pairs if isinstance(key, str)}
        if len(found) < count or (count == 1 and found.keys() <= _TAGS):
            return {"map": pairs}
        return found

    def _extension(self, length: int) -> object:
        (number,) = struct.unpack("b", self._take(1))
        data = self._take(length)
        time = _timestamp(data) if number == -1 else None
        return {"timestamp": time} if time else {"ext": [number, data.hex()]}


_CONSTANTS: dict[int, Any] = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {0xCA: ">f", 0xCB: ">d"} | {
    first + power: f">{kinds[power]}"
    for first, kinds in ((0xCC, "BHIQ"), (0xD0, "bhiq"))
    for power in range(4)
}


def _timestamp(data: bytes) -> str | None:
    """Return the time in the bytes of an extension -1, or ``None`` if no calendar has it."""
    if len(data) == 4:
        nanoseconds, seconds = 0, int.from_bytes(data)
    elif len(data) == 8:
        both = int.from_bytes(data)
        nanoseconds, seconds = both >> 34, both & (1 << 34) - 1
    elif len(data) == 12:
        nanoseconds, seconds = struct.unpack(">Iq", data)
    else:
        return None
    if nanoseconds >= 10**9:
        return None
    try:
        time = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    fraction = f".{nanoseconds:09}" if nanoseconds else ""
    return f"{time.replace(tzinfo=None).isoformat()}{fraction}Z"
