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

__all__ = ["Access", "Location", "access_of"]


class Location(NamedTuple):
    """The place of a value in one state, with the functions that get, set and delete it.

    ``delete`` is ``None`` if two functions are the place.  ``is_ordinary``: it is an ordinary
    attribute.
    """

    get: Callable[[], Any]
    set: Callable[[Any], object]
    delete: Callable[[], object] | None
    is_ordinary: bool

    def store(self, value: Any, path: str) -> None:
        """Set the value; raise ``InvalidError`` with ``path`` if that raises."""
        try:
            self.set(value)
        except VMStateError as exc:
            if isinstance(exc, InvalidError):
                exc.path = exc.path or path
            raise
        except Exception as exc:
            raise InvalidError(
                f"{short_repr(value)} could not be stored: {type(exc).__name__}: {exc}", path
            ) from exc


class Access(NamedTuple):
    """How generated code reads and writes a field's value in the object ``self``.

    ``read`` is an expression; ``read_or_none`` is one too, which is ``None`` if the object lacks
    the value.  ``write`` is a statement, with ``{}`` for the new value.  ``names`` are the
    globals that they use.  ``attribute`` is the ordinary attribute of ``self`` that has the value,
    or empty if it lies elsewhere: then ``write`` can fail.  ``locate`` returns the place of the
    value in a state.  ``lacks_setter`` says why the value cannot be written, if that is known.
    """

    read: str
    read_or_none: str
    write: str
    locate: Callable[[Any], Location]
    attribute: str = ""
    names: Mapping[str, Any] = MappingProxyType({})
    lacks_setter: str = ""


def access_of(cls: type, name: str, place: Any, where: str, path: str) -> Access:
    """Return the access to the field ``name`` of ``cls``.

    ``place`` is the option ``attribute`` of :func:`~qemu_vmstate.field`, or ``None``.
    ``path`` names the field in errors about its value.  Raises ``DeclarationError``, which names
    the field ``where``, for a place that no object can have.
    """
    if place is None or isinstance(place, str):
        return _of_attribute(cls, name, name if place is None else place, where, path)
    functions = place if isinstance(place, tuple) and len(place) == 2 else (None, None)
    getter, setter = functions
    if not callable(getter) or not (setter is None or callable(setter)):
        raise DeclarationError(
            f"{where}: attribute={short_repr(place)} says no place of a value; give a name, a path "
            "like 'rx.fifo', or two functions, get(obj) and set(obj, value)"
        )

    def locate(state: Any) -> Location:
        return Location(partial(getter, state), partial(setter or _refuse, state), None, False)

    lacks = "" if setter else "its attribute= has no function that sets it"
    return _slow(name, f"_get_{name}(self)", locate, path, lacks)


def _of_attribute(cls: type, name: str, place: str, where: str, path: str) -> Access:
    *holders, last = place.split(".")
    for part in (*holders, last):
        if not part.isidentifier() or keyword.iskeyword(part):
            raise DeclarationError(
                f"{where}: attribute={place!r} is no name of an attribute, and no path of names "
                "like 'rx.fifo'"
            )
    first = place.split(".")[0]
    if not cls.__dictoffset__ and not any(_find(cls, each) for each in (first, "__getattr__")):
        raise DeclarationError(
            f"{where}: an object of {cls.__name__} cannot have the attribute {first}, which is in "
            "no __slots__; correct the name, or say with attribute= where the value is"
        )
    read = f"self.{place}"
    holder_of = attrgetter(".".join(holders)) if holders else _same

    def locate(state: Any) -> Location:
        holder = holder_of(state)
        return Location(
            partial(getattr, holder, last),
            partial(setattr, holder, last),
            partial(delattr, holder, last),
            _is_ordinary(type(holder), last),
        )

    if holders:
        return _slow(name, read, locate, path)
    if _is_ordinary(cls, last):
        return Access(read, f"getattr(self, {last!r}, None)", f"{read} = {{}}", locate, last)
    return _slow(name, read, locate, path, _lacks_setter(cls, last))


def _slow(
    name: str, read: str, locate: Callable[[Any], Location], path: str, lacks_setter: str = ""
) -> Access:
    names = {
        f"_get_{name}": partial(_get, locate),
        f"_get_{name}_or_none": partial(_get_or_none, locate),
        f"_set_{name}": partial(_set, locate, path),
    }
    or_none, write = f"_get_{name}_or_none(self)", f"_set_{name}(self, {{}})"
    return Access(read, or_none, write, locate, "", names, lacks_setter)


def _get(locate: Callable[[Any], Location], state: Any) -> Any:
    return locate(state).get()


def _get_or_none(locate: Callable[[Any], Location], state: Any) -> Any:
    try:
        return locate(state).get()
    except AttributeError:
        return None


def _set(locate: Callable[[Any], Location], path: str, state: Any, value: Any) -> None:
    try:
        location = locate(state)
    except AttributeError as exc:
        raise InvalidError(f"the value has no place in this object: {exc}", path) from exc
    location.store(value, path)


def _refuse(state: Any, value: Any) -> None:
    raise AssertionError(f"{value!r} is assigned to a field of {state!r} that is read only")


def _same(state: Any) -> Any:
    return state


def _find(cls: type, name: str) -> Any:
    """Return what a class has by this name, as it is in the class, or ``None``."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _is_ordinary(cls: type, name: str) -> bool:
    """Return whether an object keeps what is assigned to it by this name.

    A descriptor can do something else, unless it is a slot.
    """
    found = _find(cls, name)
    is_slot = isinstance(found, MemberDescriptorType) and "__slots__" in vars(found.__objclass__)
    return (
        (is_slot or not hasattr(type(found), "__set__"))
        and _find(cls, "__setattr__") is vars(object)["__setattr__"]
        # A type in C has one even if it does what that of object does.
        and isinstance(_find(cls, "__getattribute__"), WrapperDescriptorType)
    )


def _lacks_setter(cls: type, name: str) -> str:
    found = _find(cls, name)
    if isinstance(found, property) and found.fset is None:
        return f"{cls.__name__}.{name} is a property without a setter"
    field: Any = getattr(cls, "model_fields", {}).get(name)
    if getattr(field, "frozen", False) is True:
        return f"{cls.__name__}.{name} is frozen"
    return ""
