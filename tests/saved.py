# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration files with the section of a device in process."""

from __future__ import annotations

from pathlib import Path

from qemu_vmstate import Device, save
from qemu_vmstate.inprocess import description_text

from .stream.streams import EOF, HEADER, described_by, full

__all__ = ["file_of"]


def file_of(device: Device, path: Path) -> Path:
    """Write a migration file with the section ``dev`` of a device, and QEMU's description of it."""
    head = '{"page_size": 4096, "devices": [{"name": "dev", "instance_id": 0, '
    text = head + description_text(device)[1:] + "]}"
    path.write_bytes(HEADER + full("dev", save(device)) + EOF + described_by(text.encode()))
    return path
