# SPDX-License-Identifier: GPL-2.0-or-later
"""The undo of a restore, with which a failed load changes nothing.

The ``__undo_migrated_state__()`` of a state makes its :data:`Undo` before the restore.  The
undos of a failed load are called newest first, because two of them may share a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["Undo", "roll_back_all"]

Undo = Callable[[], object]
"""A function that resets a state to what it was when the function was made.

It is called at most once.
"""


def roll_back_all(undos: Iterable[tuple[str, Undo | None]], exc: BaseException) -> None:
    """Call the last of ``undos`` first; add a note to ``exc`` with the name of each that fails."""
    for name, undo in reversed(list(undos)):
        if undo:
            try:
                undo()
            except BaseException as second:
                exc.add_note(f"and rolling {name} back raised {type(second).__name__}")
