# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing the payloads of sections in a migration file: :func:`.stream.replace`.

Only the JSON at the end of a stream describes the length and the fields of a section.  QEMU does
not read it, but every other reader depends on it.  So a payload that does not match the
description is refused, unless it comes with a description of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import TypeAlias

from ..errors import StreamError
from .decoder import Budget, Decoder
from .reader import read
from .sections import Section, Stream
from .source import Memory, Source, printable
from .vmdesc import Description, by_device, json_text

__all__ = ["Key", "replace"]

Key: TypeAlias = tuple[str, int]
"""A section's name and instance id."""

_CHUNK = 1 << 20


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
    the permissions of *path*.  RAM is copied in pieces.

    QEMU accepts a payload of any length that its device reads, and ignores the JSON description
    at the end of the file, but other readers need a correct one.  So a payload that does not
    match the section's description, for example with one more subsection, needs a new one in
    *descriptions*, as ``describe(hpet)`` returns it, which also replaces the one in the file.  A
    section without a description can have any payload.

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
    edits: list[tuple[int, int, bytes]] = []
    for key, payload in payloads.items():
        section = _section(stream, key)
        _check(stream, section, key, payload, descriptions.get(key))
        begin = section.payload_offset
        edits.append((begin, begin + section.payload_size, payload))
    if descriptions:
        edits.append(_described(stream, descriptions))
    with stream.origin.open() as source:
        _write(source, out, sorted(edits))


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


def _described(stream: Stream, new: Mapping[Key, Description]) -> tuple[int, int, bytes]:
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


def _write(
    source: Source, out: str | os.PathLike[str], edits: list[tuple[int, int, bytes]]
) -> None:
    """Write the file with its edits, and replace *out* after all of it is written."""
    folder, name = os.path.split(os.path.abspath(out))
    part, path = tempfile.mkstemp(prefix=f".{name[:100]}-", dir=folder)
    try:
        with open(part, "wb") as file:
            os.fchmod(part, source.permissions)
            done = 0
            for begin, end, data in [*edits, (source.size, source.size, b"")]:
                while done < begin:
                    chunk = source.at(done, min(_CHUNK, begin - done), "what stays as it is")
                    file.write(chunk)
                    done += len(chunk)
                file.write(data)
                done = end
        os.replace(path, os.path.join(folder, name))
    except BaseException:
        os.unlink(path)
        raise
