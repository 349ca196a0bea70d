# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring whether loads that fail leak memory."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from ..errors import DeclarationError, InvalidError
from ..inprocess import load
from ..process_memory import resident_memory
from .devices import make
from .mutate import Mutator
from .subject import Subject
from .worker import drawn_declaration

__all__ = ["failing_loads"]

DECLARATIONS = 12
STREAMS = 24


def failing_loads(count: int, seed: str) -> int:
    """Return the KiB that ``count`` failing loads add to the resident memory of this process.

    The declarations follow from ``seed``.  A tenth as many loads come first, so that memory which
    is allocated only once does not count.
    """
    cases = _cases(seed)
    _fail(cases, count // 10)
    before = resident_memory()
    _fail(cases, count)
    return (resident_memory() - before) >> 10


def _cases(seed: str) -> list[tuple[Any, bytes, int | None]]:
    rng = random.Random(seed)
    cases: list[tuple[Any, bytes, int | None]] = []
    batch = 0
    while len(cases) < DECLARATIONS * STREAMS:
        batch += 1
        with contextlib.suppress(DeclarationError, InvalidError):
            subject = Subject(make(drawn_declaration(seed, batch)))
            mutator = Mutator(subject.obj, rng)
            found = 0
            for _ in range(50 * STREAMS):
                data, version = mutator.stream(subject.corpus), mutator.version()
                try:
                    load(subject.obj, data, version)
                except InvalidError:
                    cases.append((subject.obj, data, version))
                    found += 1
                if found == STREAMS:
                    break
    return cases


def _fail(cases: list[tuple[Any, bytes, int | None]], count: int) -> None:
    done = 0
    while done < count:
        for obj, data, version in cases:
            with contextlib.suppress(InvalidError):
                load(obj, data, version)
            done += 1
