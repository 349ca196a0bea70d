# SPDX-License-Identifier: GPL-2.0-or-later
"""The places of values in derived dataclasses, and in classes that ``migrates()`` was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..derive.access import AttributePlace, FunctionPlace, access_of
from ..derive.conversions import foreign_fields
from ..wire.field_options import NO_OPTIONS, FieldOptions

__all__ = ["Place", "is_migrated", "places"]


class Place(NamedTuple):
    """A value of a state that no option converts.

    ``is_filled``: a restore fills the collection that is there, instead of storing another one.
    """

    name: str
    hint: Any
    options: FieldOptions
    where: AttributePlace | FunctionPlace
    is_filled: bool

    def get(self, state: Any) -> Any:
        """Return the value in ``state``."""
        return self.where.get(self.where.holder_of(state))

    def set(self, state: Any, value: Any) -> None:
        """Set the value in ``state``, which may be frozen; raise what a setter raises."""
        if self.is_filled:
            object.__setattr__(state, self.name, value)
        else:
            self.where.set(self.where.holder_of(state), value)


def is_migrated(cls: type) -> bool:
    """Return whether a class is a derived dataclass, or was given to ``migrates()``."""
    return "__migration_hints__" in vars(cls) or bool(foreign_fields(cls))


def places(cls: Any) -> Iterator[Place]:
    """Yield the places of a class; one for ``migrates()`` tells its fields as ``FIELDS``."""
    if foreign_fields(cls):
        for name, options in getattr(cls, "FIELDS", {}).items():
            access = access_of(cls, name, options.attribute, name, name)
            # The holder of a path is an ordinary object, too.
            is_filled = access.attribute == name
            yield Place(name, options.annotation, options, access.place, is_filled)
        return
    hints = cls.__dict__.get("__migration_hints__", {})
    for item in dataclasses.fields(cls):
        options = item.metadata.get(FieldOptions, NO_OPTIONS)
        if item.name in hints and options.into is None and options.try_into is None:
            is_filled = not options.clone
            yield Place(item.name, hints[item.name], options, AttributePlace(item.name), is_filled)
