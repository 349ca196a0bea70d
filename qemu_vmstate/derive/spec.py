# SPDX-License-Identifier: GPL-2.0-or-later
"""The conversion of one field of a derived class, decided before code is generated."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from ..wire.field_options import FieldOptions
from ..wire.types import WireType
from .access import Access
from .forms import Form

__all__ = ["Codec", "FieldConversion", "Shape"]


class Codec(NamedTuple):
    """Two functions: ``to`` converts an attribute's value to the wire's, ``back`` the reverse.

    ``None`` stands for a function that would return its argument.
    """

    to: Callable[[Any], Any] | None = None
    back: Callable[[Any], Any] | None = None


class Shape(enum.Enum):
    """The kinds of field, each with its own kind of generated code."""

    NUMBER = "number"
    """A number on the wire."""
    ARRAY = "array"
    """An array of numbers, or of arrays of numbers, that keeps its values as they are."""
    VALUE = "value"
    """A value of any other kind, converted by a codec."""
    STATES = "states"
    """A ``ToMigrationState``, or a list of them, that is restored in place."""
    FORM = "form"
    """A value of a :class:`~.forms.Form`."""


class FieldConversion(NamedTuple):
    """The conversion of one field.

    ``attribute`` is its name in the layout class, and ``access`` finds its value in the state.
    ``where`` names the field in errors about the declaration (``Ticks.count``), ``path`` in
    errors about its value (``TicksMigration.count``).  ``type`` is that of its value, or of a
    form's first field.  ``element`` is the annotation without ``None``, or that of a list's
    elements.
    """

    attribute: str
    access: Access
    where: str
    path: str
    options: FieldOptions
    shape: Shape
    type: WireType
    codec: Codec = Codec()
    element: Any = None
    form: Form | None = None
    """The form by which the field is converted in an object inside a collection, if it has one."""

    @property
    def has_presence(self) -> bool:
        """Whether a bool before the value says that it is not ``None``."""
        return self.options.none is bool
