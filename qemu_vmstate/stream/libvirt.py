# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt's save images: what ``virsh save`` and ``virsh managedsave`` write before the stream.

A header of 92 bytes is followed by ``data_len`` bytes, which are the domain's XML, a cookie and
zeros, and then by the stream.  The numbers of the header have the byte order of the host.
"""

from __future__ import annotations

import html
import re
import struct
from dataclasses import dataclass

from .source import Source, shown

__all__ = ["MAGICS", "SaveImage", "read_save_image"]

_COMPLETE, _PARTIAL = b"LibvirtQemudSave", b"LibvirtQemudPart"
MAGICS = (_COMPLETE, _PARTIAL)
"""What a save image begins with: libvirt replaces the second by the first when all is written."""

FORMATS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
# version, data_len, was_running, format, cookieOffset and 14 unused numbers.
_HEADER = "5I56x"
_SIZE = len(_COMPLETE) + struct.calcsize("<" + _HEADER)
_LONGEST_NAME = 4096


@dataclass(frozen=True, slots=True)
class SaveImage:
    """What the header of a save image says."""

    complete: bool
    format: str
    """How the stream is stored: one of ``FORMATS``."""
    domain: str
    """The domain's name, or empty if the XML at the beginning has none."""
    stream_offset: int

    def __str__(self) -> str:
        state = "" if self.complete else "unfinished "
        of = f" of the domain {self.domain!r}" if self.domain else ""
        return f"{state}libvirt save image{of}"


def read_save_image(source: Source, at: int) -> SaveImage:
    """Read the header of the save image that begins at *at*."""
    head = source.at(at, _SIZE, "libvirt's header")
    for order in "<>":
        version, length, _, number, _ = struct.unpack_from(order + _HEADER, head, len(_COMPLETE))
        if version in (1, 2):
            break
    else:
        raise source.error(
            f"libvirt's header at byte {at} is of the version {version}, and 1 and 2 are known"
        )
    # The field's value means nothing in version 1.
    if version == 1:
        number = 0
    if number >= len(FORMATS):
        raise source.error(
            f"libvirt's header at byte {at} has the format {number}, and the last one known is "
            f"{len(FORMATS) - 1} ({FORMATS[-1]})"
        )
    begin = at + _SIZE
    xml = source.at(begin, min(length, _LONGEST_NAME), "the domain's XML")
    end = begin + length
    if end > source.size:
        raise source.cut(begin, length, "the domain's XML")
    found = re.search(rb"<name>([^<]*)</name>", xml)
    domain = html.unescape(shown(found[1])) if found else ""
    return SaveImage(head.startswith(_COMPLETE), FORMATS[number], domain, end)
