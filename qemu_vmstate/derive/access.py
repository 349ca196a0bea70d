# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a field's value is in a state, and the code that reads and writes it there.

An ordinary attribute keeps the object that is assigned to it, and the assignment cannot fail.
What a property, another descriptor, a ``__setattr__`` or a function of the user stores is not
known before: it can be another object, and it can be refused.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from types import MappingProxyType, MemberDescriptorType, WrapperDescriptorType
from typing import Any, NamedTuple

from ..errors import DeclarationError, InvalidError, VMStateError
from ..layout.refusals import short_repr

__all__ = ["Access", "AttributePlace", "FunctionPlace", "Place", "access_of", "store"]

_SETATTR: Any = object.__setattr__


class AttributePlace:
    """An attribute of a state, or of an object that a path of attributes leads to, the holder."""

    can_lack = True
    """Whether a holder can be without the value."""

    def __init__(self, path: str) -> None:
        *holders, self.name = path.split(".")
        self.holder_of: Callable[[Any], Any] = attrgetter(".".join(holders)) if holders else _same

    def get(self, holder: Any) -> Any:
        """Return the value; raise ``AttributeError`` if the holder lacks it."""
        return getattr(holder, self.name)

    def set(self, holder: Any, value: Any) -> None:
        """Assign to the attribute."""
        setattr(holder, self.name, value)

    def delete(self, holder: Any) -> None:
        """Delete the attribute."""
        delattr(holder, self.name)

    def is_ordinary(self, holder: Any) -> bool:
        """Return whether it is an ordinary attribute of the holder."""
        return _is_ordinary(type(holder), self.name)


class FunctionPlace:
    """Two functions that get and set a value of a state, which is the holder here."""

    can_lack = False
    """A value that cannot be read could not be set again."""

    def __init__(self, getter: Callable[[Any], Any], setter: Callable[[Any, Any], object]) -> None:
        self.get, self.set = getter, setter
        self.holder_of: Callable[[Any], Any] = _same

    def is_ordinary(self, _holder: Any) -> bool:
        """Return ``False``: a function can do anything."""
        return False


Place = AttributePlace | FunctionPlace


class Access(NamedTuple):
    """How generated code reads and writes a field's value in the object ``self``.

    ``read`` is an expression; ``read_or_none`` is one too, which is ``None`` if the object lacks
    the value.  ``write`` is a statement, with ``{}`` for the new value.  ``names`` are the
    globals that they use.  ``attribute`` is the ordinary attribute of ``self`` that has the value,
    or empty if it lies elsewhere: then ``write`` can fail.  ``lacks_setter`` says why the value
    cannot be written, if that is known.
    """

    read: str
    read_or_none: str
    write: str
    place: Place
    attribute: str = ""
    names: Mapping[str, Any] = MappingProxyType({})
    lacks_setter: str = ""

    def get(self, state: Any) -> Any:
        """Return the value in ``state``."""
        return self.place.get(self.place.holder_of(state))


def access_of(cls: type, name: str, declared: Any, where: str, path: str) -> Access:
    """Return the access to the field ``name`` of ``cls``.

    ``declared`` is the option ``attribute`` of :func:`~qemu_vmstate.field`, or ``None``.
    ``path`` names the field in errors about its value.  Raises ``DeclarationError``, which names
    the field ``where``, for a place that no object can have.
    """
    if declared is None or isinstance(declared, str):
        return _of_attribute(cls, name, name if declared is None else declared, where, path)
    functions = declared if isinstance(declared, tuple) and len(declared) == 2 else (None, None)
    getter, setter = functions
    if not callable(getter) or not (setter is None or callable(setter)):
        raise DeclarationError(
            f"{where}: attribute={short_repr(declared)} says no place of a value; give a name, a "
            "path like 'rx.fifo', or two functions, get(obj) and set(obj, value)"
        )
    place = FunctionPlace(getter, setter or _refuse)
    access = _slow(name, f"_get_{name}(self)", place, path)
    lacks = "" if setter else "its attribute= has no function that sets it"
    return access._replace(names={**access.names, f"_get_{name}": getter}, lacks_setter=lacks)


def _of_attribute(cls: type, name: str, declared: str, where: str, path: str) -> Access:
    parts = declared.split(".")
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        raise DeclarationError(
            f"{where}: attribute={declared!r} is no name of an attribute, and no path of names "
            "like 'rx.fifo'"
        )
    if not cls.__dictoffset__ and not any(_find(cls, each) for each in (parts[0], "__getattr__")):
        raise DeclarationError(
            f"{where}: an object of {cls.__name__} cannot have the attribute {parts[0]}, which is "
            "in no __slots__; correct the name, or say with attribute= where the value is"
        )
    read, place = f"self.{declared}", AttributePlace(declared)
    if len(parts) > 1:
        return _slow(name, read, place, path)
    if _is_ordinary(cls, declared):
        or_none, write = f"getattr(self, {declared!r}, None)", f"{read} = {{}}"
        return Access(read, or_none, write, place, declared)
    return _slow(name, read, place, path)._replace(lacks_setter=_lacks_setter(cls, declared))


def _slow(name: str, read: str, place: Place, path: str) -> Access:
    names = {
        f"_get_{name}_or_none": partial(_get_or_none, place),
        f"_set_{name}": partial(store, place, path),
    }
    or_none, write = f"_get_{name}_or_none(self)", f"_set_{name}(self, {{}})"
    return Access(read, or_none, write, place, names=names)


def _get_or_none(place: Place, state: Any) -> Any:
    try:
        return place.get(place.holder_of(state))
    except AttributeError:
        return None


def store(place: Place, path: str, state: Any, value: Any) -> None:
    """Set a value in ``state``; raise ``InvalidError`` with ``path`` if that raises."""
    try:
        place.set(place.holder_of(state), value)
    except VMStateError as exc:
        if isinstance(exc, InvalidError):
            exc.path = exc.path or path
        raise
    except Exception as exc:
        raise InvalidError(
            f"{short_repr(value)} could not be stored: {type(exc).__name__}: {exc}", path
        ) from exc


def _refuse(state: Any, value: Any) -> None:
    raise AssertionError(f"{value!r} is assigned to a field of {state!r} that is read only")


def _same(state: Any) -> Any:
    return state


def _find(cls: type, name: str) -> Any:
    """Return what a class has by this name, as it is in the class, or ``None``."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def _is_ordinary(cls: type, name: str) -> bool:
    """Return whether an object keeps what is assigned to it by this name.

    A descriptor can do something else, unless it is a slot.
    """
    # A type in C has a __getattribute__ even if it does what that of object does.
    if cls.__setattr__ is not _SETATTR or type(cls.__getattribute__) is not WrapperDescriptorType:
        return False
    found = _find(cls, name)
    is_slot = isinstance(found, MemberDescriptorType) and "__slots__" in vars(found.__objclass__)
    return is_slot or not hasattr(type(found), "__set__")


def _lacks_setter(cls: type, name: str) -> str:
    found = _find(cls, name)
    if isinstance(found, property) and found.fset is None:
        return f"{cls.__name__}.{name} is a property without a setter"
    field: Any = getattr(cls, "model_fields", {}).get(name)
    if getattr(field, "frozen", False) is True:
        return f"{cls.__name__}.{name} is frozen"
    return ""
