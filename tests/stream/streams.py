# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of migration files, written from the documentation of the format."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from qemu_vmstate.stream.sections import Section, Stream

Description = dict[str, Any]
HEADER = bytes.fromhex("5145564d 00000003")
CONFIGURATION = bytes.fromhex("07 00000004") + b"none"
EOF = b"\0"


def be16(number: int) -> bytes:
    return struct.pack(">H", number)


def be32(number: int) -> bytes:
    return struct.pack(">I", number)


def be64(number: int) -> bytes:
    return struct.pack(">Q", number)


def counted(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def footer(section_id: int) -> bytes:
    return b"\x7e" + be32(section_id)


def full(name: str, payload: bytes, section_id: int = 5, instance: int = 0) -> bytes:
    head = b"\x04" + be32(section_id) + counted(name) + be32(instance) + be32(1)
    return head + payload + footer(section_id)


def start(name: str, payload: bytes, section_id: int = 2) -> bytes:
    head = b"\x01" + be32(section_id) + counted(name) + be32(0) + be32(4)
    return head + payload + footer(section_id)


def later(kind: int, payload: bytes, section_id: int = 2) -> bytes:
    return bytes([kind]) + be32(section_id) + payload + footer(section_id)


def entry(name: str, type_: str, size: int, **more: Any) -> Description:
    return {"name": name, "type": type_, "size": size, **more}


def vmsd(name: str, *fields: Any, subsections: list[Any] | None = None) -> Description:
    out: Description = {"vmsd_name": name, "version": 1, "fields": list(fields)}
    return out if subsections is None else out | {"subsections": subsections}


def device(name: str, *fields: Any, instance: int = 0, **more: Any) -> Description:
    return {"name": name, "instance_id": instance} | vmsd(name, *fields, **more)


def described(*devices: Description, page_size: int = 4096) -> bytes:
    text = json.dumps({"page_size": page_size, "devices": devices}).encode()
    return described_by(text)


def described_by(text: bytes) -> bytes:
    return b"\x06" + be32(len(text)) + text


Parse = Callable[[bytes], Stream]


def stream_of(payload: bytes, *fields: Any, **more: Any) -> bytes:
    """Return a stream that has one section, of the device ``dev`` with those fields."""
    return HEADER + full("dev", payload) + EOF + described(device("dev", *fields, **more))


def one(parse: Parse, payload: bytes, *fields: Any, **more: Any) -> Section:
    """Return the section of a device with those fields, read from a stream with no other."""
    section = parse(stream_of(payload, *fields, **more)).section("dev")
    assert section.payload_offset == 8 + 1 + 4 + 4 + 8
    assert section.payload_size == len(payload)
    return section


def list_entry(name: str, type_: str, elements: list[Description]) -> str:
    """Return a list's entry as QEMU writes it: all elements' keys in one object."""
    keys = [f'"name": "{name}", "type": "{type_}"']
    keys += [json.dumps(element)[1:-1] for element in elements]
    return "{" + ", ".join([*keys, '"size": 1']) + "}"


GOOD = (
    HEADER
    + CONFIGURATION
    + start("ram", be64(0x1000 | 4) + counted("r") + be64(0x1000) + be64(0x10))
    + later(3, be64(0x22 ^ 0x20) + counted("r") + b"\0" + be64(0x10))
    + full("dev", bytes(6))
    + EOF
    + described(
        device("dev", entry("a", "uint32", 4), entry("b", "uint8", 1, array_len=2)),
    )
)
PAYLOAD = GOOD.index(b"\x03dev") + 12
