# SPDX-License-Identifier: GPL-2.0-or-later
"""``validate``: what must hold of a state, as VMSTATE_VALIDATE of include/migration/vmstate.h.

In C a validation that fails while saving aborts QEMU.  Here it fails the save or
the load: with a sentence, and with nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..errors import DeclarationError, InvalidError

__all__ = ["Validator", "validate", "validators_of"]

F = TypeVar("F", bound=Callable[..., bool])


class Validator(NamedTuple):
    """A method that tells whether a state is valid, and the sentence for when it is not."""

    sentence: str
    method: str

    def check(self, owner: Any, path: str, *arguments: Any) -> None:
        """Raise ``InvalidError`` at ``path`` unless the method of ``owner`` returns true."""
        try:
            valid = getattr(owner, self.method)(*arguments)
        except InvalidError as exc:
            exc.path = exc.path or path
            raise
        if not valid:
            raise InvalidError(self.sentence, path)


def validate(sentence: str) -> Callable[[F], F]:
    """``@validate("the level is within the fifo")`` above a method that checks it.

    In a layout class the method is called without arguments on the staged copy; in
    a ``Device`` with the staged copy of the whole device as its argument.  It is
    called before a save writes anything and before a load changes anything; for
    a false result, or an exception, it fails.

    Raises ``DeclarationError`` for a sentence that says nothing.
    """
    if not isinstance(sentence, str) or not sentence:
        raise DeclarationError('validate() takes a sentence: @validate("the level is in range")')

    def mark(method: F) -> F:
        method.__validate__ = sentence  # type: ignore[attr-defined]
        return method

    return mark


def validators_of(cls: type) -> tuple[Validator, ...]:
    """Return a class's validators, its bases' first; an override replaces what it overrides."""
    found: dict[str, Validator] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            sentence = getattr(value, "__validate__", None)
            if isinstance(sentence, str):
                found[name] = Validator(sentence, name)
    return tuple(found.values())
