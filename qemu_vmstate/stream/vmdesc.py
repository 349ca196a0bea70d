# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON at the end of a migration file, which describes the sections of devices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from ..errors import StreamError
from .decoder import Duplicates
from .source import WINDOW, Source

__all__ = [
    "DESCRIPTION",
    "LARGEST",
    "Description",
    "by_device",
    "description_at",
    "descriptions",
    "json_object",
    "json_text",
    "parse",
]

Description: TypeAlias = Mapping[str, Any]

LARGEST = 1 << 25
"""The longest description that is read; that of a thousand vCPUs has some 20 MB."""

_EOF, DESCRIPTION = 0x00, 0x06
_WHAT = "the description"
_MOST_READ = 8 * LARGEST


def descriptions(source: Source, begin: int, end: int) -> Iterator[tuple[int, Description]]:
    """Yield whatever between *begin* and *end* is a mark of the stream's end and a description.

    Each comes with the offset of its mark.  A device may have the same bytes inside, so a walk
    over the sections has to end at it.  Only so many candidates are read that a file of nothing
    else takes no longer than some seconds.
    """
    left = _MOST_READ
    for mark in source.find(bytes([_EOF, DESCRIPTION]), begin, min(end, source.size)):
        if not _is_object(source, mark + 1):
            continue
        length = source.be32(mark + 2, _WHAT)
        stop = mark + 6 + length
        if not 2 <= length <= LARGEST or stop > source.size:
            continue
        left -= length + WINDOW
        if left < 0:
            return
        if source.byte(stop - 1, _WHAT) not in b"} \t\r\n":
            continue
        try:
            yield mark, parse(source, mark + 6, length)
        except StreamError:
            continue


def description_at(source: Source, at: int) -> tuple[int, Description] | None:
    """Return the end of the description whose mark is at *at*, and the description.

    ``None`` if anything else begins there; StreamError if it is one, but cut short or malformed.
    """
    if at >= source.size or source.byte(at, _WHAT) != DESCRIPTION:
        return None
    length = source.be32(at + 1, f"{_WHAT}'s length")
    end = at + 5 + length
    is_cut = end > source.size
    # At the very end of the file it may be one whose text is missing.
    if (length > LARGEST and is_cut) or not (_is_object(source, at) or at + 5 == source.size):
        return None
    if is_cut:
        raise source.cut(at + 5, length, _WHAT)
    return end, parse(source, at + 5, length)


def _is_object(source: Source, at: int) -> bool:
    """Return whether JSON may follow the mark at *at* and the length behind it."""
    return at + 5 < source.size and source.byte(at + 5, _WHAT) == ord("{")


def parse(source: Source, at: int, length: int) -> Description:
    """Return the description of *length* bytes at *at*."""
    if length > LARGEST:
        raise source.error(
            f"the description at byte {at} has {length} bytes, and more than {LARGEST} are not read"
        )
    text = source.at(at, length, "the description")
    try:
        parsed = json.loads(text.decode("utf-8", "replace"), object_pairs_hook=json_object)
    except json.JSONDecodeError as error:
        raise source.error(
            f"the description at byte {at} is not valid JSON: {error.msg} at its "
            f"character {error.pos}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise source.error(
            f"the description at byte {at} cannot be read as JSON: {error}"
        ) from None
    devices = parsed.get("devices") if isinstance(parsed, dict) else None
    if not isinstance(devices, list) or not all(isinstance(one, dict) for one in devices):
        raise source.error(f"the description at byte {at} has no list of devices")
    found: dict[str, Any] = parsed
    return found


def by_device(description: Description | None) -> dict[tuple[str, int], list[Description]]:
    """Return the devices' descriptions by name and instance, which QEMU 7.2 may use twice."""
    out: dict[tuple[str, int], list[Description]] = {}
    for device in (description or {}).get("devices", []):
        name, instance = device.get("name"), device.get("instance_id")
        if isinstance(name, str) and type(instance) is int:
            out.setdefault((name, instance & 0xFFFF_FFFF), []).append(device)
    return out


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object that keeps repeated keys: an ``object_pairs_hook`` of :mod:`json`."""
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else Duplicates(pairs)


def json_text(value: Any) -> str:
    """Return *value* in the format of QEMU's JSONWriter, with repeated keys."""
    if isinstance(value, Mapping):
        pairs = value.pairs if isinstance(value, Duplicates) else value.items()
        return (
            "{" + ", ".join(f"{json.dumps(key)}: {json_text(inner)}" for key, inner in pairs) + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value)
