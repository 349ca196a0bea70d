# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples that are taken in turn, A B A B, and their medians, ratios and noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Samples", "rounds"]


@dataclass
class Samples:
    """Samples of several things that were measured in turn, A B A B."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Add the next sample of ``name``."""
        self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Return the median of ``name``'s samples."""
        return statistics.median(self.samples[name])

    def ratio(self, name: str, to: str) -> float:
        """Return the median of each turn's ratio of ``name`` to ``to``, in which drift cancels."""
        pairs = zip(self.samples[name], self.samples[to], strict=True)
        return statistics.median(mine / other if other else 1.0 for mine, other in pairs)

    def noise(self, name: str) -> float:
        """Return half of the interquartile range of the samples, as a share of the median."""
        samples = self.samples[name]
        if len(samples) == 1:
            return 0.0
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return (high - low) / 2 / (median or 1.0)


def rounds(calls: dict[str, Callable[[], float]], turns: int, seconds: float) -> Samples:
    """Call all in turn, ``turns`` times; after three turns, stop when ``seconds`` have passed."""
    samples = Samples()
    until = time.monotonic() + seconds
    for turn in range(turns):
        if turn >= 3 and time.monotonic() > until:
            break
        for name, call in calls.items():
            samples.add(name, call())
    return samples
