# SPDX-License-Identifier: GPL-2.0-or-later
"""How ``struct`` packs a derived class's numbers to where its layout class has them."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from ..wire.types import Scalar

_Run = list[tuple[str, Scalar, str, str]]
"""Of numbers in a row: attribute, type, and its value as struct takes it and as it is."""


def _packer(items: list[tuple[int, str, int]]) -> struct.Struct:
    """For offsets, letters and sizes, from the first one's offset on."""
    start = at = items[0][0]
    letters = "="
    for offset, letter, size in items:
        letters += (f"{offset - at}x" if offset > at else "") + letter
        at = offset + size
    packer = struct.Struct(letters)
    assert packer.size == at - start
    return packer


@dataclass(frozen=True)
class _Numbers:
    """A derived class that is numbers as they are, for who has a list of them.

    ``packed``: what ``packer`` takes of an element ``e``.
    """

    packer: struct.Struct
    attributes: list[str]
    packed: list[str]

    @classmethod
    def of(cls, run: _Run, offsets: dict[str, int], size: int) -> _Numbers:
        """Of a class that is one run, in ``size`` bytes."""
        items = [(offsets[item[0]], item[1].kind, item[1].size) for item in run]
        return cls(
            _packer([(0, "", 0), *items, (size, "", 0)]),
            [item[0] for item in run],
            [re.sub(r"\bself\.", "e.", item[2]) for item in run],
        )

    @staticmethod
    def of_class(cls: object) -> _Numbers | None:
        """What a decorator has found, of the class itself and not of one that it derives from."""
        own = vars(cls) if isinstance(cls, type) else {}
        return own.get("_migration_numbers")
