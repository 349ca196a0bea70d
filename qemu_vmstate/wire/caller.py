# SPDX-License-Identifier: GPL-2.0-or-later
"""The names that annotations of a class inside a function may use: the function's local ones."""

from __future__ import annotations

from types import FrameType
from typing import Any

__all__ = ["caller_locals"]


def caller_locals(frame: FrameType | None) -> dict[str, Any]:
    """Return the local names where the function that ``frame`` runs was called.

    ``frame`` is what ``inspect.currentframe()`` returned in that function.
    """
    caller = frame.f_back if frame else None
    return caller.f_locals if caller else {}
