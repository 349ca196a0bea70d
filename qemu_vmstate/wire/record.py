# SPDX-License-Identifier: GPL-2.0-or-later
"""``record``, the part of ``dataclasses.dataclass(frozen=True)`` that wire types need.

``dataclass`` compiles code for each class: with it, the twelve record classes took a fifth of the
time of importing this package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, dataclass_transform

__all__ = ["defaults_of", "record", "replace"]

T = TypeVar("T")

REQUIRED: Any = object()
"""The default of a field that has none."""


@dataclass_transform(frozen_default=True)
def record(*, called: str | None = None) -> Callable[[type[T]], type[T]]:
    """Return a decorator that makes a class one of immutable objects with its annotated fields.

    The constructor takes the fields behind a ``_: KW_ONLY`` as keywords only.  ``called``: its name
    in errors, by default the class's.
    """

    def decorate(cls: type[T]) -> type[T]:
        fields: dict[str, Any] = {}
        for base in reversed(cls.__mro__[1:]):
            fields |= base.__dict__.get("__record__", {})
        positional = None
        for name, hint in cls.__annotations__.items():
            if str(hint).endswith("KW_ONLY"):
                positional = tuple(fields)
            elif not str(hint).startswith("ClassVar"):
                fields[name] = cls.__dict__.get(name, REQUIRED)
        made: Any = cls
        made.__record__ = fields
        made.__record_positional__ = tuple(fields) if positional is None else positional
        made.__record_called__ = called or cls.__name__
        for name, method in _METHODS.items():
            setattr(made, name, method)
        return cls

    return decorate


def replace(instance: T, **changes: Any) -> T:
    """Return a copy of an object of a record class with other values of some fields."""
    return type(instance)(**(_values(instance) | changes))


def defaults_of(cls: type[Any]) -> dict[str, Any]:
    """Return the fields of a record class, all of which have defaults, and these."""
    fields: dict[str, Any] = cls.__record__
    return fields


def _values(instance: Any) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in instance.__record__}


def _init(self: Any, *values: Any, **named: Any) -> None:
    fields, positional, called = self.__record__, self.__record_positional__, self.__record_called__
    if len(values) > len(positional):
        raise TypeError(
            f"{called}() takes {len(positional)} positional arguments, but {len(values)} were given"
        )
    given = dict(zip(positional, values, strict=False))
    for name in named:
        if name in given:
            raise TypeError(f"{called}() got multiple values for argument {name!r}")
        if name not in fields:
            raise TypeError(f"{called}() got an unexpected keyword argument {name!r}")
    made = fields | given | named
    missing = [name for name, value in made.items() if value is REQUIRED]
    if missing:
        raise TypeError(f"{called}() lacks the arguments {', '.join(missing)}")
    self.__dict__.update(made)


def _refuse(self: Any, name: str, *_value: Any) -> NoReturn:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")


def _eq(self: Any, other: object) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(tuple(_values(self).values()))


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in _values(self).items())
    return f"{type(self).__qualname__}({values})"


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
}
