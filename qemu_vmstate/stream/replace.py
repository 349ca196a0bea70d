# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing the payloads of sections in a migration file: :func:`.stream.replace`.

Only the JSON at the end of a stream describes the length and the fields of a section.  QEMU does
not read it, but every other reader depends on it.  So a payload that does not match the
description is refused, unless it comes with a description of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeAlias

from ..errors import StreamError
from .decoder import Budget, Decoder
from .reader import read
from .rewrite import Edit, write
from .sections import Section, Stream
from .source import Memory, printable
from .vmdesc import Description, by_device, json_text

__all__ = ["Key", "replace"]

Key: TypeAlias = tuple[str, int]
"""A section's name and instance id."""


def replace(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    payloads: Mapping[Key, bytes],
    descriptions: Mapping[Key, Description] | None = None,
    *,
    offset: int = 0,
) -> None:
    """Write the migration file *path* to *out* with other payloads for devices' sections.

    *payloads* maps name and instance id to bytes, ``{("hpet", 0): save(hpet)}``; everything else
    in the file is unchanged.  *out* may be *path*; it is replaced after all is written, and gets
    the permissions of *path*.  RAM is copied in pieces, and holes remain holes.

    If a payload's length changes, all that lies behind it moves, also what follows the stream, so
    nothing is overwritten.  Only the pages of mapped-ram stay at their offsets, if there is room in
    front of them; else they move to the next aligned offset, and the headers are corrected.

    QEMU accepts a payload of any length that its device reads, and ignores the JSON description
    at the end of the file, but other readers need a correct one.  So a payload that does not
    match the section's description, for example with one more subsection, needs a new one in
    *descriptions*, as ``describe(hpet)`` returns it, which also replaces the one in the file.  The
    payload of a section without a description must have the size of the old one, because only a
    description says where it ends.

    The stream may begin at *offset*, or behind the header of a libvirt save image that is not
    compressed: what is before it stays as it is.  In any other container it is refused.

    Raises :class:`StreamError` if *path* is malformed, and for a section that is missing, is
    there twice, comes in parts as RAM does, or does not match the payload; OSError for *path*
    and *out*.  Nothing is written then.
    """
    stream = read(path, offset=offset)
    stream.origin.check_in_place()
    descriptions = descriptions or {}
    for key in descriptions:
        if key not in payloads:
            raise _refusal(stream, key, "has a new description without a new payload")
    edits: list[Edit] = []
    for key, payload in payloads.items():
        section = _section(stream, key)
        _check(stream, section, key, payload, descriptions.get(key))
        begin = section.payload_offset
        edits.append((begin, begin + section.payload_size, payload))
    if descriptions:
        edits.append(_described(stream, descriptions))
    with stream.origin.open() as source:
        write(source, out, sorted(edits), stream.mapped_blocks)


def _refusal(stream: Stream, key: Key, reason: str) -> StreamError:
    name, instance = key
    return StreamError(
        f"the section {printable(name)!r} (instance {instance}) {reason}", stream.path
    )


def _section(stream: Stream, key: Key) -> Section:
    same = [s for s in stream if (s.name, s.instance_id) == key and s.kind != "command"]
    if not same:
        raise _refusal(stream, key, "is not in the file")
    if same[0].kind != "full":
        raise _refusal(stream, key, "comes in parts: only a device's one whole section can change")
    if len(same) > 1:
        raise _refusal(
            stream, key, f"is there {len(same)} times, and which of them is meant cannot be told"
        )
    return same[0]


def _check(
    stream: Stream, section: Section, key: Key, payload: bytes, new: Description | None
) -> None:
    old = by_device(stream.description).get(key)
    if new is None and section.fields is None:
        if len(payload) != section.payload_size:
            raise _refusal(
                stream,
                key,
                f"cannot have these {len(payload)} bytes: nothing in the file describes it, so "
                f"only other {section.payload_size} bytes can take the place of those it has",
            )
        return
    if new is not None and not old:
        raise _refusal(stream, key, "is not described in the file, so there is nothing to update")
    # The entry of an old-style handler has no version.
    if new is not None and new.get("version", section.version_id) != section.version_id:
        raise _refusal(
            stream,
            key,
            f"has version_id {section.version_id}, and its new description is of "
            f"{new.get('version')}; save it with the version the file has",
        )
    assert old is not None
    memory = Memory(payload, "payload")
    decoder = Decoder(memory, 0, len(payload), Budget(4 * len(payload) + 64))
    remedy = (
        "its own description is wrong" if new is not None else "give the new bytes' description too"
    )
    try:
        decoder.described(old[0] if new is None else new, section.name)
    except StreamError as error:
        raise _refusal(
            stream, key, f"cannot have these {len(payload)} bytes: {error.reason}; {remedy}"
        ) from None
    if decoder.at < len(payload):
        raise _refusal(
            stream,
            key,
            f"cannot have these {len(payload)} bytes: the description ends after {decoder.at} "
            f"of them; {remedy}",
        )


def _described(stream: Stream, new: Mapping[Key, Description]) -> Edit:
    """Return the edit that gives the JSON at the end new descriptions, written as QEMU does."""
    section = next(s for s in stream if s.kind == "description")
    begin, size = section.payload_offset, section.payload_size
    description = dict(stream.description or {})
    devices = []
    for device in description["devices"]:
        key = (device.get("name"), device.get("instance_id"))
        if key in new:
            device = {"name": key[0], "instance_id": key[1]} | dict(new[key])
        devices.append(device)
    description["devices"] = devices
    changed = json_text(description).encode()
    return begin - 4, begin + size, len(changed).to_bytes(4) + changed
