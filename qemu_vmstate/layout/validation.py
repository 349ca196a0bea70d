# SPDX-License-Identifier: GPL-2.0-or-later
"""``validate``: a condition on a state, as VMSTATE_VALIDATE of include/migration/vmstate.h.

In C, a validation that fails while saving aborts QEMU.  Here it fails the save or
the load with a message, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..errors import DeclarationError, InvalidError

__all__ = ["Validator", "validate", "validators_of"]

F = TypeVar("F", bound=Callable[..., bool])


class Validator(NamedTuple):
    """A method that returns whether a state is valid, and the message if it is not."""

    message: str
    method: str

    def check(self, owner: Any, path: str, *arguments: Any) -> None:
        """Raise ``InvalidError`` at ``path`` unless the method of ``owner`` returns true."""
        try:
            valid = getattr(owner, self.method)(*arguments)
        except InvalidError as exc:
            exc.path = exc.path or path
            raise
        if not valid:
            raise InvalidError(self.message, path)


def validate(message: str) -> Callable[[F], F]:
    """Return a decorator of a method that checks a state: ``@validate("the level is in range")``.

    The method of a layout class is called on the staged copy, without arguments;
    the method of a ``Device`` gets the staged copy of the complete device.  It is
    called before a save writes anything and before a load changes anything.  If it
    returns false or raises, the save or the load fails.

    Raises ``DeclarationError`` for an empty message.

    In C: ``migration/vmstate.h: VMSTATE_VALIDATE``, which aborts QEMU in a save.
    """
    if not isinstance(message, str) or not message:
        raise DeclarationError('validate() takes a message: @validate("the level is in range")')

    def mark(method: F) -> F:
        method.__validate__ = message  # type: ignore[attr-defined]
        return method

    return mark


def validators_of(cls: type) -> tuple[Validator, ...]:
    """Return the validators of a class, those of its bases first, without overridden ones."""
    found: dict[str, Validator] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            message = getattr(value, "__validate__", None)
            if isinstance(message, str):
                found[name] = Validator(message, name)
    return tuple(found.values())
