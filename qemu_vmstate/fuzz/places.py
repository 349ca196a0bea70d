# SPDX-License-Identifier: GPL-2.0-or-later
"""The places of values in derived dataclasses, and in classes that ``migrates()`` was given."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..derive.access import AttributePlace, FunctionPlace, access_of
from ..derive.conversions import declaration_of
from ..wire.field_options import FieldOptions

__all__ = ["Place", "is_migrated", "places"]


class Place(NamedTuple):
    """A value of a state that no option converts.

    ``is_ordinary``: it is in an attribute of the state that keeps what is assigned to it.
    """

    name: str
    hint: Any
    options: FieldOptions
    where: AttributePlace | FunctionPlace
    is_ordinary: bool

    @property
    def is_filled(self) -> bool:
        """Whether a restore fills the collection that is there, instead of storing another one."""
        return self.is_ordinary and not self.options.clone

    def get(self, state: Any) -> Any:
        """Return the value in ``state``."""
        return self.where.get(self.where.holder_of(state))

    def set(self, state: Any, value: Any) -> None:
        """Set the value in ``state``, which may be frozen; raise what a setter raises."""
        if self.is_ordinary:
            object.__setattr__(state, self.name, value)
        else:
            self.where.set(self.where.holder_of(state), value)


def is_migrated(cls: type) -> bool:
    """Return whether a class is a derived dataclass, or was given to ``migrates()``."""
    return declaration_of(cls) is not None


def places(cls: type) -> tuple[Place, ...]:
    """Return the places of the values of a class."""
    found = _places.get(cls)
    return _find(cls) if found is None else found


_places: dict[type, tuple[Place, ...]] = {}


def _find(cls: type) -> tuple[Place, ...]:
    found = []
    declaration = declaration_of(cls)
    # The __setattr__ of a frozen class refuses everything, and is left out.
    is_frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    for name, hint, options in declaration.fields if declaration else ():
        if options.into is None and options.try_into is None:
            access = access_of(cls, name, options.attribute, name, name)
            found.append(
                Place(name, hint, options, access.place, is_frozen or bool(access.attribute))
            )
    _places[cls] = tuple(found)
    return _places[cls]
