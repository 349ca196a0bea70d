# SPDX-License-Identifier: GPL-2.0-or-later
"""All or nothing: records of what rolls a restore back, and how they are used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

__all__ = ["Undo", "noted", "roll_back_all"]


class Undo:
    """An undo record: what was changed, and what makes it again what it was.

    ``name`` is for messages.  ``roll_back`` is called once at most; what it raises is noted
    on the exception that is the reason, see :func:`roll_back_all`.
    """

    __slots__ = ("name", "roll_back")

    def __init__(self, name: str, roll_back: Callable[[BaseException], object]) -> None:
        self.name = name
        self.roll_back = roll_back


def roll_back_all(undos: Sequence[Undo], exc: BaseException) -> None:
    """Roll all of ``undos`` back, the newest first; note what goes wrong on ``exc``."""
    for undo in reversed(undos):
        with noted(exc, undo.name):
            undo.roll_back(exc)


@contextlib.contextmanager
def noted(exc: BaseException, what: str) -> Iterator[None]:
    """Note what is raised while ``what`` is rolled back on the ``exc`` that is the reason."""
    try:
        yield
    except BaseException as second:
        exc.add_note(f"and taking {what} back raised {type(second).__name__}")
