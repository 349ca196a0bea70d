# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects the fields of a derived class's ``Migrated``, and makes that layout class."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ..bindings.loader import _state
from ..errors import BqlError, DeclarationError, InvalidError
from ..layout.descriptors import compact
from ..layout.vmstruct import VMStruct, VMStructMeta
from ..state.bql import bql_lock_guard
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.types import WireType
from .spec import FieldConversion

__all__ = ["MigratedFields"]


class MigratedFields:
    """The fields of the layout class ``name``, in the order of the wire."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fields: dict[str, tuple[WireType, FieldOptions]] = {}
        self._defaults: dict[str, Any] = {}  # the initial values of a new object, as on the wire

    def add(
        self,
        attribute: str,
        type_: WireType,
        where: str,
        options: FieldOptions,
        to_wire: Callable[[Any], Any],
    ) -> None:
        """Add a field; ``to_wire`` converts its default, and returns ``None`` if it has none.

        Raises ``DeclarationError`` for a name that is taken, and for a default that is needed
        and cannot be converted.
        """
        if attribute in self._fields:
            raise DeclarationError(
                f"{where}: another field is named {attribute} on the wire; rename one of them"
            )
        self._fields[attribute] = (type_, options.of_wire(default=NO_OPTIONS.default))
        if not options.has_default:
            return
        needed = options.given("version_id", "field_exists", "minimum", "maximum")
        try:
            default = _default_on_wire(options, to_wire)
        except Exception as exc:
            if not needed:
                return  # a placeholder, which a snapshot refuses if it is still there
            raise DeclarationError(
                f"{where}: an older stream or a limit asks for its default, which has no form on "
                f"the wire ({exc}); give it another"
            ) from exc
        if default is None:
            return
        if needed:
            self._fields[attribute] = (type_, options.of_wire(default=default))
        else:
            self._defaults[attribute] = default

    def set_default(
        self, migrated: type[VMStruct], field: FieldConversion, conversion: _state.Conversion
    ) -> None:
        """Put the default of a field with a form into the layout class's initial memory.

        Raises ``DeclarationError`` if it is needed and cannot be converted.
        """
        if not field.options.has_default:
            return
        initial = migrated()
        try:
            conversion.pack(field.options.make_default(), initial)
        except Exception as exc:
            if not field.options.given("version_id", "field_exists"):
                return  # a placeholder, which a snapshot refuses if it is still there
            raise DeclarationError(
                f"{field.where}: an older stream asks for its default, which has no form on the "
                f"wire ({exc}); give it another"
            ) from exc
        migrated.__image__ = compact(bytes(initial))

    def options_of(self, attribute: str) -> FieldOptions:
        """Return the options of a field that was added."""
        return self._fields[attribute][1]

    def layout_class(self, cls: type, keywords: dict[str, Any]) -> type[VMStruct]:
        """Return the layout class, which pickle finds as the attribute ``Migrated`` of ``cls``."""
        namespace: dict[str, Any] = {
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.Migrated",
            "__doc__": f"The migrated form of ``{cls.__name__}``.",
            "__annotations__": {name: type_ for name, (type_, _) in self._fields.items()},
            **{name: options for name, (_, options) in self._fields.items()},
        }
        made: Any = VMStructMeta(self.name, (VMStruct,), namespace, **keywords)
        if not self._defaults:
            return made  # type: ignore[no-any-return]
        initial = made()
        for name, default in self._defaults.items():
            # A snapshot reports a default that does not fit, if it is still there.
            with contextlib.suppress(InvalidError):
                setattr(initial, name, default)
        made.__image__ = compact(bytes(initial))
        return made  # type: ignore[no-any-return]


def _default_on_wire(options: FieldOptions, to_wire: Callable[[Any], Any]) -> Any:
    try:
        return to_wire(options.make_default())
    except BqlError:  # the default contains a BqlRefCell
        with bql_lock_guard():
            return to_wire(options.make_default())
