# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a class's annotations, and refuses names and versions that QEMU could not take."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, get_origin

from ..errors import DeclarationError
from ..wire.types import LONGEST_NAME

__all__ = ["check_name", "check_versions", "own_annotations"]


def check_name(name: object, what: str) -> str:
    """Refuse a name that would crash QEMU or that its tools cannot read."""
    if not isinstance(name, str) or not name:
        raise DeclarationError(
            f"{what} has no name; QEMU dereferences it while it saves, so give one: name='...'"
        )
    if "\0" in name or len(name.encode()) > LONGEST_NAME:
        raise DeclarationError(
            f"{what}: the name {name[:40]!r}... has {len(name.encode())} bytes; a section's name "
            f"has at most {LONGEST_NAME}, and no NUL"
        )
    return name


def check_versions(version_id: int, minimum_version_id: int, what: str) -> None:
    """Refuse versions that no stream could have."""
    if not 0 <= minimum_version_id <= version_id < 2**31:
        raise DeclarationError(
            f"{what}: minimum_version_id {minimum_version_id} and version_id {version_id}; "
            "they must be 0 or more, and the minimum not above the version"
        )


def own_annotations(cls: type, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a class's own annotations, evaluated; ``namespace`` has the names around it."""
    hints = {}
    for name, hint in inspect.get_annotations(cls).items():
        if isinstance(hint, str):
            scope = vars(sys.modules[cls.__module__])
            try:
                hint = eval(hint, dict(scope), dict(namespace))
            except DeclarationError:
                raise
            except Exception as exc:
                raise DeclarationError(
                    f"{cls.__name__}.{name}: the annotation {hint!r} cannot be evaluated: {exc}"
                ) from exc
        origin: Any = get_origin(hint)
        if origin is not ClassVar:
            hints[name] = hint
    return hints
