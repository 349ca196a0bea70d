# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints the exceptions that no Python code can catch, because C called what raised them."""

from __future__ import annotations

import sys

__all__ = ["print_exception"]


def print_exception(exc: BaseException) -> None:
    """Print ``exc`` with its traceback to the log, which is stderr."""
    # Imported here, because it takes a twentieth of the package's import time.
    import traceback

    traceback.print_exception(exc, file=sys.stderr)
