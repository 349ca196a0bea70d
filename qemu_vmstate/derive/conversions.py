# SPDX-License-Identifier: GPL-2.0-or-later
"""Gives a class its ``Migrated`` and both conversions, made from a list of fields."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import DeclarationError
from ..state.to_migration_state import ToMigrationState
from ..wire.field_options import FieldOptions
from .codegen import ClassWriter
from .fields import conversion_of
from .functions import CONVERSIONS
from .lookup import ClassOptions

__all__ = ["Declaration", "Declared", "add_conversions", "declaration_of", "foreign_fields"]


class Declared(NamedTuple):
    """A field as it was declared: its name on the wire, its annotation and its options."""

    name: str
    hint: Any
    options: FieldOptions


class Declaration(NamedTuple):
    """What a class was declared with; the fuzzer draws values by it."""

    fields: tuple[Declared, ...]
    given: ClassOptions


def declaration_of(cls: type) -> Declaration | None:
    """Return what a class of its own, not a base of it, was declared with, or ``None``."""
    found: Declaration | None = vars(cls).get("__migration_declared__")
    return found


def add_conversions(
    cls: type,
    fields: Iterable[Declared],
    rename: str | None,
    keywords: dict[str, Any],
    given: ClassOptions,
    *,
    foreign: bool = False,
) -> None:
    """Make ``cls`` a ``ToMigrationState`` with ``fields``, in their order on the wire.

    ``rename`` and ``keywords`` are those of its ``Migrated``, ``given`` is what it says about
    annotations without options.  ``foreign``: the fields are those of ``migrates()``, so that a
    subclass inherits the conversions whatever it adds.
    Raises ``DeclarationError`` for a class or a field that cannot be saved or restored.
    """
    what = f"class {cls.__name__}"
    for method in CONVERSIONS:
        if method in cls.__dict__:
            maker = "migrates()" if foreign else "the decorator"
            raise DeclarationError(
                f"{what} has a {method} of its own; leave it to {maker}, or write both conversions "
                f"and leave {maker} out"
            )
    if rename is not None and not (isinstance(rename, str) and rename.isidentifier()):
        raise DeclarationError(f"{what}: rename={rename!r} is no name for a class")
    migrated_name = rename or f"{cls.__name__}Migration"
    writer = ClassWriter(migrated_name)
    fields = tuple(fields)
    for name, hint, options in fields:
        writer.add(conversion_of(cls, migrated_name, name, hint, options, given))
    migrated = writer.migrated.layout_class(cls, keywords)
    generated = writer.functions(cls, migrated, inheritable=foreign)
    target: Any = cls
    target.__migration_declared__ = Declaration(fields, given)
    target.__migration_object__ = None if foreign else writer.object_parts(cls, migrated)
    if not foreign and target.__dataclass_params__.frozen:
        # It is no state, because it cannot be restored; others have objects of it, made anew.
        if target.__migration_object__ is None:
            raise DeclarationError(
                f"{what} is frozen, so each load makes a new object of it, and a field of it has "
                "no form for that; leave frozen=True out"
            )
        return
    if not issubclass(cls, ToMigrationState):
        ToMigrationState.register(cls)
        generated["to_migration_state"] = ToMigrationState.to_migration_state
    for method, function in generated.items():
        setattr(target, method, function)
    target.Migrated = migrated
    target.__migration_numbers__ = writer.numbers
    target.__migration_foreign__ = [field.name for field in fields] if foreign else []
    abc.update_abstractmethods(target)


def foreign_fields(cls: type) -> list[str]:
    """Return the names of the fields that ``migrates()`` gave this class, not a base of it."""
    names: list[str] = vars(cls).get("__migration_foreign__", [])
    return names
