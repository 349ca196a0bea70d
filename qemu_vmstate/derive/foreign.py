# SPDX-License-Identifier: GPL-2.0-or-later
"""``migrates``: both conversions of a class whose source is somebody else's."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import DeclarationError
from ..layout.annotations import evaluated
from ..layout.refusals import short_repr
from ..wire.caller import caller_globals, caller_locals
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.record import replace
from .conversions import Declared, add_conversions, foreign_fields
from .lookup import class_options

__all__ = ["migrates"]

C = TypeVar("C", bound=type)

_IMMUTABLE_TYPE = 1 << 8
"""Py_TPFLAGS_IMMUTABLETYPE (CPython's Include/object.h)."""


def migrates(
    cls: C,
    /,
    *,
    fields: Mapping[str, Any],
    rename: str | None = None,
    name: str | None = None,
    version_id: int = 1,
    minimum_version_id: int = 1,
    int_type: Any = None,
    max_length: int | None = None,
) -> C:
    """Make a class whose source is not yours a ``ToMigrationState``, and return it.

    ::

        from qemu_vmstate import Mutex, field, load, migrates, save, u8, u32

        class Fifo:  # somebody else's, as is Uart
            def __init__(self) -> None:
                self.data = [0] * 4

        class Uart:
            def __init__(self) -> None:
                self.rx = Fifo()
                self._divisor = 1
                self.line_control = 3
                self.registers = {"scratch": 0}

            @property
            def divisor(self) -> int:
                return self._divisor

            @divisor.setter
            def divisor(self, value: int) -> None:
                if value == 0:
                    raise ValueError("a divisor of 0")
                self._divisor = value

        migrates(
            Uart,
            fields={
                "lcr": field(u8, attribute="line_control"),
                "divisor": u32,
                "fifo": field(list[u8], length=4, attribute="rx.data"),
                "scratch": field(
                    u8,
                    attribute=(
                        lambda uart: uart.registers["scratch"],
                        lambda uart, value: uart.registers.update(scratch=value),
                    ),
                ),
            },
        )

        uart = Mutex(Uart())
        assert save(uart) == bytes([3, 0, 0, 0, 1, 0, 0, 0, 0, 0])

    ``fields`` has what is migrated, in the order of the wire: names, each with an annotation, or
    ``field(annotation, ...)`` with the options that a field of a dataclass can have, but
    ``omit``.  Nothing else of the object is saved, and a restore leaves it as it is.  An annotation
    that is a string is evaluated with the names of the calling module.  ``rename``, ``name``,
    ``version_id``, ``minimum_version_id``, ``int_type`` and ``max_length`` are those of
    :func:`derive_to_migration_state`, as is what the class gets: ``Migrated``,
    ``to_migration_state()`` and both conversions.

    The option ``attribute`` says where a value is in the object:

    - a name, by default that of the field.  It can be a property's;
    - a path of names, like ``"rx.data"``;
    - two functions, ``get(obj)`` and ``set(obj, value)``.  ``(get, None)`` is for a nested state,
      which is restored in place.

    They are called under the state's ``Mutex``, in the thread that saves or loads, so they must not
    wait for another thread, and must not lock what is locked before that ``Mutex`` elsewhere.

    A restore fills a list that an ordinary attribute has.  To a property, to ``set`` and to a class
    with a ``__setattr__`` (models of pydantic, classes of attrs with validators) it gives new
    objects, one field after the other.  If any of these raises an exception, the restore raises
    ``InvalidError`` with the field's path, and nothing has changed: each field is set to what
    ``get`` returned before the restore, and then the object's own attributes are reset.  So ``get``
    returns what a later ``set`` does not change, and ``set`` has no effect that a second call with
    the old value would not undo.

    A subclass inherits the conversions: they save and restore the same fields of it, and leave what
    it adds alone.  To migrate more, name the subclass and all its fields in a ``migrates()`` of its
    own.

    Raises ``DeclarationError`` for a class that migrates already, for one whose objects cannot
    be restored (an ``Enum``, a ``NamedTuple``, a frozen class), for one that cannot be given
    attributes (built in, or of an extension), and for a field that cannot be saved or restored.
    """
    scope, namespace = caller_globals(), caller_locals()
    _refuse_class(cls)
    if not isinstance(fields, Mapping) or not fields:
        raise DeclarationError(
            f"class {cls.__name__}: fields={short_repr(fields)} names no fields; give a dict of "
            "names on the wire, each with an annotation or field(annotation, ...)"
        )
    declared = []
    for key, value in fields.items():
        where = f"{cls.__name__}.{key}"
        if not isinstance(key, str) or not key.isidentifier():
            raise DeclarationError(
                f"{where}: a field's name is a name of Python; add name={key!r} to its field() for "
                "another one on the wire"
            )
        options = _options(value, where)
        hint = options.annotation
        if isinstance(hint, str):
            hint = evaluated(hint, where, scope, namespace)
        declared.append(Declared(key, hint, options))
    keywords = {"name": name, "version_id": version_id, "minimum_version_id": minimum_version_id}
    given = class_options("migrates()", int_type, max_length)
    add_conversions(cls, declared, rename, keywords, given, foreign=True)
    return cls


def _options(value: Any, where: str) -> FieldOptions:
    if not isinstance(value, FieldOptions):
        return replace(NO_OPTIONS, annotation=value)
    if not value.given("annotation"):
        raise DeclarationError(
            f"{where}: field() lacks the annotation, which is its first argument here, as in "
            "field(list[u8], length=16)"
        )
    if value.omit:
        raise DeclarationError(
            f"{where}: omit has no meaning here, because only the fields that are named are "
            "migrated; leave the field out"
        )
    return value


def _refuse_class(cls: Any) -> None:
    """Raise ``DeclarationError`` for what is no class, or one that cannot be given conversions."""
    if not isinstance(cls, type):
        raise DeclarationError(
            f"migrates() takes a class, and was given {short_repr(cls)}; name the class"
        )
    what = f"class {cls.__name__}"
    for base in cls.__mro__:
        if "Migrated" in vars(base) and (base is cls or not foreign_fields(base)):
            inherited = "" if base is cls else f", because its base {base.__name__} does"
            raise DeclarationError(
                f"{what} migrates already{inherited}; leave migrates() out, or make it a "
                "field of a class of your own"
            )
    if issubclass(cls, enum.Enum):
        raise DeclarationError(
            f"{what} is an Enum, whose members cannot be restored; make it a field of another "
            "class, with try_into=u8 or a wider type"
        )
    if kind := _immutable_kind(cls):
        raise DeclarationError(
            f"{what} is {kind}, so an object of it cannot be restored; make its values fields of "
            "the object that refers to it, with attribute=(get, set), whose set() makes a new one"
        )
    if cls.__flags__ & _IMMUTABLE_TYPE:
        raise DeclarationError(
            f"{what} is built in, or of an extension, and cannot be given attributes; derive a "
            f"class of your own from it and name that, or make the {cls.__name__} a field of "
            "another class, with try_into= and the wire type that it converts to and from"
        )


def _immutable_kind(cls: Any) -> str:
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "a NamedTuple"
    if getattr(getattr(cls, "__dataclass_params__", None), "frozen", False):
        return "a frozen dataclass"
    if getattr(cls.__setattr__, "__name__", "") == "_frozen_setattrs":
        return "a frozen class of attrs"
    if getattr(cls, "model_config", {}).get("frozen"):
        return "a frozen model of pydantic"
    first = getattr(cls, "__config__", None)  # of pydantic 1
    if getattr(first, "frozen", False) or not getattr(first, "allow_mutation", True):
        return "a frozen model of pydantic"
    return ""
