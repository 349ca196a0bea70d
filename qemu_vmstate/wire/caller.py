# SPDX-License-Identifier: GPL-2.0-or-later
"""The names around a declaration, which its annotations may use."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["caller_globals", "caller_locals"]


def caller_locals() -> dict[str, Any]:
    """Return the local names of the caller of the function that calls this one."""
    # inspect has a public name for the frame, but takes 6 ms to import.
    caller = sys._getframe(1).f_back  # noqa: SLF001
    return caller.f_locals if caller else {}


def caller_globals() -> dict[str, Any]:
    """Return the global names of the caller of the function that calls this one."""
    caller = sys._getframe(1).f_back  # noqa: SLF001
    return caller.f_globals if caller else {}
