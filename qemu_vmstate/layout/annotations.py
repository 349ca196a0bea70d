# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a class's annotations, and checking names and versions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar, get_origin

from ..errors import DeclarationError
from ..wire.types import LONGEST_NAME

__all__ = ["check_name", "check_versions", "evaluated", "own_annotations"]


def check_name(name: object, what: str) -> str:
    """Return ``name``; raise ``DeclarationError`` if QEMU or its tools cannot use it."""
    if not isinstance(name, str) or not name:
        raise DeclarationError(
            f"{what} has no name, which QEMU dereferences while it saves; give one: name='...'"
        )
    if "\0" in name or len(name.encode()) > LONGEST_NAME:
        raise DeclarationError(
            f"{what}: the name {name[:40]!r}... has {len(name.encode())} bytes; a section's name "
            f"has at most {LONGEST_NAME}, and no NUL"
        )
    return name


def check_versions(version_id: int, minimum_version_id: int, what: str) -> None:
    """Raise ``DeclarationError`` for versions that no stream can have."""
    if not 0 <= minimum_version_id <= version_id < 2**31:
        raise DeclarationError(
            f"{what}: minimum_version_id {minimum_version_id} and version_id {version_id}; "
            "they must be 0 or more, and the minimum not above the version"
        )


if sys.version_info >= (3, 14):
    from annotationlib import get_annotations as _get_annotations
else:

    def _get_annotations(cls: type) -> dict[str, Any]:
        """Do what ``inspect.get_annotations()`` does for a class; inspect takes 6 ms to import."""
        own: dict[str, Any] = cls.__dict__.get("__annotations__", {})  # noqa: RUF063
        return own


def own_annotations(cls: type, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a class's own annotations, evaluated with the names in ``namespace``."""
    hints = {}
    for name, hint in _get_annotations(cls).items():
        if isinstance(hint, str):
            scope = vars(sys.modules[cls.__module__])
            hint = evaluated(hint, f"{cls.__name__}.{name}", scope, namespace)
        origin: Any = get_origin(hint)
        if origin is not ClassVar:
            hints[name] = hint
    return hints


def evaluated(hint: str, where: str, scope: Mapping[str, Any], namespace: Mapping[str, Any]) -> Any:
    """Return an annotation, evaluated with the globals ``scope`` and the locals ``namespace``.

    Raises ``DeclarationError``, which names the field ``where``, if that fails.
    """
    try:
        return eval(hint, dict(scope), dict(namespace))
    except DeclarationError:
        raise
    except Exception as exc:
        raise DeclarationError(
            f"{where}: the annotation {hint!r} cannot be evaluated: {exc}"
        ) from exc
