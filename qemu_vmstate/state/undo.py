# SPDX-License-Identifier: GPL-2.0-or-later
"""All or nothing: what undoes a restore, and how it is used.

An :data:`Undo` is made before a state is restored, by its ``__undo_migrated_state__()``.  The
undos of a failed load are called the newest first, because two of them may share a state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

__all__ = ["Undo", "noted", "roll_back_all"]

Undo = Callable[[], object]
"""Makes a state what it was when this was made; is called once at most."""


def roll_back_all(undos: Iterable[tuple[str, Undo | None]], exc: BaseException) -> None:
    """Call all of ``undos``, each with its name, the newest first; note what fails on ``exc``."""
    for name, undo in reversed(list(undos)):
        if undo:
            with noted(exc, name):
                undo()


@contextlib.contextmanager
def noted(exc: BaseException, what: str) -> Iterator[None]:
    """Note what is raised while ``what`` is rolled back on the ``exc`` that is the reason."""
    try:
        yield
    except BaseException as second:
        exc.add_note(f"and rolling {what} back raised {type(second).__name__}")
