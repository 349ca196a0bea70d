# SPDX-License-Identifier: GPL-2.0-or-later
"""Packs a derived class's numbers with ``struct``, to their offsets in its layout class."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from ..wire.types import Scalar

__all__ = ["NumberList", "PackedNumber", "packer"]


class PackedNumber(NamedTuple):
    """One of several numbers in a row, which one call of ``struct`` packs.

    ``packed`` is the expression of the argument for ``struct``, ``value`` the expression to
    assign to the layout class's attribute, which reports errors with its path.
    """

    attribute: str
    type: Scalar
    packed: str
    value: str


def packer(items: list[tuple[int, str, int]]) -> struct.Struct:
    """Return the ``Struct`` of items (offset, format, size), from the first item's offset on."""
    start = at = items[0][0]
    letters = "="
    for offset, letter, size in items:
        letters += (f"{offset - at}x" if offset > at else "") + letter
        at = offset + size
    made = struct.Struct(letters)
    assert made.size == at - start
    return made


class NumberList(NamedTuple):
    """The packing of a list of one derived class, whose fields are all unconverted numbers.

    ``packed`` has the expressions that ``packer`` is called with for an element ``e``.
    """

    packer: struct.Struct
    attributes: list[str]
    packed: list[str]

    @classmethod
    def of_run(cls, run: list[PackedNumber], offsets: dict[str, int], size: int) -> NumberList:
        """Return the packing of a class of ``size`` bytes that has no other fields than ``run``."""
        items = [(offsets[item.attribute], item.type.kind, item.type.size) for item in run]
        return cls(
            packer([(0, "", 0), *items, (size, "", 0)]),
            [item.attribute for item in run],
            [re.sub(r"\bself\.", "e.", item.packed) for item in run],
        )

    @staticmethod
    def of_class(cls: object) -> NumberList | None:
        """Return the packing that the decorator of ``cls`` made, or ``None``.

        A subclass does not inherit it, because it may have more to restore.
        """
        own = vars(cls) if isinstance(cls, type) else {}
        return own.get("__migration_numbers__")
