# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the staging struct of an object, with the fast path if there is one for its parts."""

from __future__ import annotations

from ..vmsd.description import VMStateDescription
from .bridge_object import make_bridge_object
from .fast_path import attach_fast_path
from .object_class import NativePart, class_data_of
from .parts import Hooks, Part, StatePart, copied_by_c
from .python_staging import PythonStaging
from .staging import Staging

__all__ = ["make_staging"]


def make_staging(
    description: VMStateDescription, parts: list[Part], hooks: Hooks | None = None
) -> Staging:
    """Return the staging struct that ``parts`` fill."""
    cls = description.cls
    # pre_save precedes all copies and a failed post_load undoes them: Python makes them all.
    all_python = hooks is not None and (hooks.pre_save or hooks.post_load)
    native_parts: list[NativePart] = []
    python_parts: list[Part] = []
    for part in parts:
        found = None
        # C does not know how many elements of a counted array a stream has.
        if isinstance(part, StatePart) and not (all_python or part.count_of(cls)):
            found = copied_by_c(part.value)
        if found and isinstance(part, StatePart):
            native_parts.append((part, *found))
        else:
            python_parts.append(part)
    validated = cls.__validated__ or class_data_of(cls).has_predicates
    if not (python_parts or hooks or validated) and not description.numbered:
        return Staging(description, *make_bridge_object(description, native_parts))
    made = PythonStaging(description, parts, native_parts, tuple(python_parts), hooks or Hooks())
    attach_fast_path(made)
    return made
