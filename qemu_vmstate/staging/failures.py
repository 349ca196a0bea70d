# SPDX-License-Identifier: GPL-2.0-or-later
"""What the hooks of a ``save()`` or ``load()`` raised, for its caller."""

from __future__ import annotations

import threading

__all__ = ["running"]


class _Running(threading.local):
    """Of each ``save()`` and ``load()`` in this thread what its hooks raised.

    By the staging struct's identity.  A migration's hooks are not in it: nobody
    waits for their exceptions.
    """

    def __init__(self) -> None:
        self.failures: dict[int, list[BaseException]] = {}


running = _Running()
