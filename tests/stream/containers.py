# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of what is around a stream: libvirt's header, from its struct."""

from __future__ import annotations

import struct

FORMATS = {"raw": 0, "gzip": 1, "bzip2": 2, "xz": 3, "lzop": 4, "zstd": 5, "sparse": 6}
XML = b"<domain type='kvm'>\n  <name>a &amp; b</name>\n</domain>\n"


def save_image(
    format_: str | int,
    *,
    order: str = "<",
    version: int = 2,
    complete: bool = True,
    xml: bytes = XML,
    length: int | None = None,
) -> bytes:
    """Return what libvirt writes before a stream: virQEMUSaveHeader, the XML and room to grow."""
    magic = b"LibvirtQemudSave" if complete else b"LibvirtQemudPart"
    number = format_ if isinstance(format_, int) else FORMATS[format_]
    data = xml + b"\0" + bytes(65536)
    said = len(data) if length is None else length
    head = struct.pack(f"{order}16s5I14I", magic, version, said, 1, number, 0, *14 * [0])
    return head + data
