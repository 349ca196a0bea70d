# SPDX-License-Identifier: GPL-2.0-or-later
"""Two calls that are timed from Python, as users make them."""

from __future__ import annotations

import gc
import time
import timeit
from collections.abc import Callable

__all__ = ["SAMPLE_US", "TimedCalls"]

SAMPLE_US = 1500.0
"""The microseconds that one sample takes, by repeating the call."""


class TimedCalls:
    """A save and a load without arguments, each of which returns its mean microseconds."""

    def __init__(self, save: Callable[[], object], load: Callable[[], object]) -> None:
        self._save, self._load = save, load
        self._count = 1
        self._count = max(1, min(1000, int(SAMPLE_US / self.save())))

    def _time(self, call: Callable[[], object]) -> float:
        # timeit turns the garbage collector off, but users pay for it.
        ns = timeit.timeit(call, gc.enable, time.thread_time_ns, self._count)
        return ns / 1000 / self._count

    def save(self) -> float:
        """Time the save."""
        return self._time(self._save)

    def load(self) -> float:
        """Time the load."""
        return self._time(self._load)
