# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON at the end of a migration file, which describes the sections of devices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from .decoder import Duplicates
from .source import Source

__all__ = [
    "LARGEST",
    "Description",
    "by_device",
    "find_description",
    "json_object",
    "json_text",
    "parse",
]

Description: TypeAlias = Mapping[str, Any]

LARGEST = 1 << 25
"""The longest description that is read; that of a thousand vCPUs has some 20 MB."""


def find_description(source: Source, at: int) -> tuple[int, Description | None]:
    """Return the offset of the EOF mark before the description, and the description.

    If there is none, return the end of the file and ``None``.  JSON has no NUL bytes, so the last
    bytes that look like the mark are the mark, or else part of the description's length, which
    can look like one or two marks.
    """
    first, mark = max(at, source.size - LARGEST), source.size
    for _ in range(3):
        if (mark := source.rfind(b"\0\x06", first, mark + 1)) < 0:
            break
        if mark + 7 > source.size:
            continue
        length = source.be32(mark + 2, "the description's length")
        end = mark + 6 + length
        if end > source.size or source.byte(mark + 6, "the description") != ord("{"):
            continue
        if end == source.size or source.byte(end, "padding") == 0:
            return mark, parse(source, mark + 6, length)
    return source.size, None


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
