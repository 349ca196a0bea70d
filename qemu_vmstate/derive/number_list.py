# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of a derived class that has nothing else, for lists of its objects."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ..bindings.loader import _state
from ..layout.vmstruct import VMStruct
from ..wire.types import Scalar

__all__ = ["NumberList", "number_run"]


class NumberList(NamedTuple):
    """The numbers of one derived class, all of which are attributes without a conversion.

    ``runs`` has the attributes that one call each stores, ``rows`` unpacks adjacent objects.
    """

    migrated: type[VMStruct]
    runs: list[list[str]]
    rows: struct.Struct

    @classmethod
    def of_class(cls, migrated: type[VMStruct], runs: list[list[str]]) -> NumberList:
        """Return the list of a layout class that has no other fields than those of ``runs``."""
        return cls(migrated, runs, _row(migrated))

    @property
    def size(self) -> int:
        """The bytes of one object in memory."""
        return self.rows.size

    @staticmethod
    def of_states(cls: object) -> NumberList | None:
        """Return the list that the decorator of ``cls`` made, or ``None``.

        A subclass does not inherit it, because it may have more to restore.
        """
        own = vars(cls) if isinstance(cls, type) else {}
        return own.get("__migration_numbers__")


def number_run(migrated: type[VMStruct], attributes: Iterable[str]) -> _state.NumberRun:
    """Return the run of the layout class's numbers with these names."""
    return _state.NumberRun(tuple(getattr(migrated, name) for name in attributes))


def _row(migrated: type[VMStruct]) -> struct.Struct:
    """Return the format of the layout class's memory."""
    letters, at = "=", 0
    for info in migrated.__layout__.fields:
        assert isinstance(info.type, Scalar)
        letters += f"{info.offset - at}x{info.type.kind}"
        at = info.offset + info.type.size
    return struct.Struct(f"{letters}{migrated.__layout__.size - at}x")
