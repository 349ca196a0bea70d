# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzzer reads what was saved by its description, and notices that they do not fit."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from qemu_vmstate import Array, PointerArray, VMStruct, capabilities, u8, zeroed
from qemu_vmstate.fuzz.described import is_describable, misread

from ..stream.streams import entry, vmsd


def described(*entries: Any) -> str:
    return json.dumps(vmsd("s", *entries))


def text_of(size: int, **more: int) -> Any:
    inner = vmsd("text", entry("size", "uint8", 1), entry("text", "buffer", size))
    return entry("texts", "struct", 1 + size, struct=inner, **more)


TEXTS = b"\1a\3abc"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([text_of(1, index=0), text_of(3)], ""),
        ([text_of(1, array_len=2)], "it describes 4 bytes of 6"),
        ([text_of(3, array_len=2)], "whose 3 byte(s) begin at byte 5"),
    ],
)
def test_a_description_of_other_sizes_is_noticed(entries: Any, reason: str) -> None:
    found = misread(TEXTS, described(*entries))
    assert reason in found
    assert bool(found) == bool(reason)


class Pointers(VMStruct):
    pointers: PointerArray[u8, Literal[2]] = zeroed()


class Around(VMStruct):
    inner: Array[Pointers, Literal[2]] = zeroed()


def test_qemu_before_10_describes_no_null_pointer() -> None:
    newer = int(capabilities().qemu.split(".")[0]) >= 10
    assert is_describable(Around) == newer
    assert is_describable(VMStruct)
