# SPDX-License-Identifier: GPL-2.0-or-later
"""The local names around a class inside a function, which its annotations may use."""

from __future__ import annotations

from types import FrameType
from typing import Any

__all__ = ["caller_locals"]


def caller_locals(frame: FrameType | None) -> dict[str, Any]:
    """Return the local names of the caller of the function that ``frame`` runs.

    ``frame`` is what ``inspect.currentframe()`` returned in that function.
    """
    caller = frame.f_back if frame else None
    return caller.f_locals if caller else {}
