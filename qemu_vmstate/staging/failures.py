# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions of hooks, for the caller of ``save()`` or ``load()``."""

from __future__ import annotations

import threading

__all__ = ["running"]


class _Running(threading.local):
    """The exceptions of each ``save()`` and ``load()`` in this thread, by ``id()`` of the staging.

    A migration has no entry: it has no caller to raise an exception to.
    """

    def __init__(self) -> None:
        self.failures: dict[int, list[BaseException]] = {}


running = _Running()
