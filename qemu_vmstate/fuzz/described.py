# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading of a saved stream by the description of the same save."""

from __future__ import annotations

import json
from typing import Any

from ..bindings.native import capabilities
from ..errors import StreamError
from ..layout.traversal import nested
from ..layout.vmstruct import VMStruct
from ..stream.decoder import Budget, Decoder
from ..stream.source import Memory
from ..stream.vmdesc import json_object
from ..wire.types import PointersType

__all__ = ["is_describable", "misread"]


def is_describable(cls: type[VMStruct]) -> bool:
    """Return whether QEMU's description of a ``cls`` is complete.

    Before 10.0 it describes an array of pointers, some of which are NULL, by the first one.
    """
    if int(capabilities().qemu.split(".")[0]) >= 10:
        return True
    fields = (info for inner in nested(cls) for info in inner.__layout__.fields)
    return not any(isinstance(info.type, PointersType) for info in fields)


def misread(data: bytes, text: str) -> str:
    """Return what goes wrong if ``data`` is read by its description, the JSON ``text``; or ""."""
    description: Any = json.loads(text, object_pairs_hook=json_object)
    decoder = Decoder(Memory(data, "stream"), 0, len(data), Budget(1 << 30))
    try:
        decoder.described(description, description["vmsd_name"])
    except StreamError as error:
        return str(error)
    if decoder.at != len(data):
        return f"it describes {decoder.at} bytes of {len(data)}"
    return ""
