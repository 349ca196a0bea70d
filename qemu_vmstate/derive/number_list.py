# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of a derived class that has nothing else, for lists of its objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..bindings.loader import _state
from ..layout.vmstruct import VMStruct

__all__ = ["NumberList", "number_run"]


class NumberList(NamedTuple):
    """The numbers of one derived class, all of which are ``attributes`` without a conversion.

    ``size`` is that of one object in memory.
    """

    attributes: list[str]
    run: _state.NumberRun
    size: int

    @classmethod
    def of_class(cls, migrated: type[VMStruct], attributes: Mapping[str, str]) -> NumberList:
        """Return the list of a layout class that has no other fields than these.

        ``attributes`` has those of the objects, each with the name of its field.
        """
        run = _state.NumberRun({name: getattr(migrated, attributes[name]) for name in attributes})
        return cls(list(attributes), run, migrated.__layout__.size)

    @staticmethod
    def of_states(cls: object) -> NumberList | None:
        """Return the list that the decorator of ``cls`` made, or ``None``.

        A subclass does not inherit it, because it may have more to restore.
        """
        own = vars(cls) if isinstance(cls, type) else {}
        return own.get("__migration_numbers__")


def number_run(migrated: type[VMStruct], attributes: Iterable[str]) -> _state.NumberRun:
    """Return the run of the layout class's numbers with these names."""
    return _state.NumberRun({name: getattr(migrated, name) for name in attributes})
