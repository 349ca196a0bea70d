# SPDX-License-Identifier: GPL-2.0-or-later
"""``field()``: what a field's annotation does not say."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

from ..errors import DeclarationError

__all__ = ["FieldOptions", "field", "zeroed"]

_MISSING: Any = object()

_CONVERSIONS = ("into", "try_into", "clone", "length", "none")


@dataclass(frozen=True, kw_only=True)
class FieldOptions:
    """What :func:`field` was told."""

    default: Any = _MISSING
    default_factory: Callable[[], Any] | None = None
    name: str | None = None
    omit: bool = False
    into: Any = None
    try_into: Any = None
    clone: bool = False
    length: int | None = None
    none: Any = None
    version_id: int = 0
    field_exists: Callable[[Any, int], bool] | None = None
    keep: bool = False
    minimum: int | None = None
    maximum: int | None = None
    num: str | int | None = None
    size: str | int | None = None
    multiply: int = 1
    start: int = 0
    struct_version_id: int | None = None
    needed: bool | Callable[[Any], bool] | None = None
    err_hint: str | None = None

    @property
    def has_default(self) -> bool:
        """Whether either kind of default was given."""
        return self.default is not _MISSING or self.default_factory is not None

    def make_default(self) -> Any:
        """Return the default value, made anew."""
        return self.default_factory() if self.default_factory else self.default

    def given(self, *names: str) -> list[str]:
        """Those of the options ``names`` that say something."""
        return [name for name in names if getattr(self, name) != getattr(NO_OPTIONS, name)]

    def of_wire(self, **changes: Any) -> FieldOptions:
        """Return the options that are about the wire and not about the attribute."""
        rest = {name: getattr(NO_OPTIONS, name) for name in (*_CONVERSIONS, "default_factory")}
        return dataclasses.replace(self, **rest, **changes)

    def refuse_conversions(self, where: str) -> None:
        """Raise ``DeclarationError`` for options that a dataclass only can have."""
        if self.given(*_CONVERSIONS):
            raise DeclarationError(
                f"{where}: into, try_into, clone, length and none are for dataclasses with "
                "@derive_to_migration_state; a layout class and a device have the wire's own types"
            )

    def __set_name__(self, owner: type, attribute: str) -> None:
        # Layout classes and devices read this object themselves.  Any other class
        # that holds one is about to become a dataclass: speak its language.
        if hasattr(owner, "__layout__") or hasattr(owner, "__parts__"):
            return
        known: dict[str, Any] = {"metadata": {FieldOptions: self}}
        if self.default_factory is not None:
            known["default_factory"] = self.default_factory
        elif self.has_default:
            known["default"] = self.default
        setattr(owner, attribute, dataclasses.field(**known))


NO_OPTIONS = FieldOptions()
"""What an annotation alone says."""


P = ParamSpec("P")


def _with_parameters_of(
    options: Callable[P, FieldOptions],
) -> Callable[[Callable[..., Any]], Callable[P, Any]]:
    """Give a function that takes any option the parameters of ``FieldOptions``, for help too."""

    def decorate(function: Callable[..., Any]) -> Callable[P, Any]:
        signature = inspect.signature(options).replace(return_annotation="Any")
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return decorate


@_with_parameters_of(FieldOptions)
def field(**options: Any) -> Any:
    """Say more about a field than its annotation does.

    ``default``: its value at rest and before a load; one number fills an array.
    ``default_factory``: makes it (devices and dataclasses only).  ``name``: its
    name in the description, if that is not the attribute's.  ``omit``: an
    attribute of a device or dataclass that is not migrated, as upstream's
    ``#[migration_state(omit)]``.

    When it is on the wire, as the ``VMStateField`` members of these names
    (include/migration/vmstate.h):

    - ``version_id``: since that version of its class's description.
    - ``field_exists``: called with the staged struct and the version, before the
      field is written or read; what comes after it is not loaded yet.
    - ``keep``: if the stream lacks it, the live value stays; else it becomes the
      default.
    - ``needed``, for a ``Subsection``: ``True``, or called with the staged
      struct.  Without it the subsection is written if it differs from its
      defaults.

    What it may be:

    - ``minimum``, ``maximum``: of a whole number.  An assignment beyond raises
      ``OutOfRangeError``; in a stream it fails the load before anything changes.
    - ``err_hint``: what QEMU says when an ``Equal`` field is not equal.

    How long it is:

    - ``num``: of a ``VArray``, ``PointerArray`` or ``Unused`` the name of the
      field, declared before it, that counts its elements; of an ``Array`` how
      many elements are on the wire, from ``start`` on (VMSTATE_SUB_ARRAY).
    - ``size``: the same for a ``VBuffer`` and ``Bitmap`` (in bits), and for a
      ``Buffer`` (VMSTATE_PARTIAL_BUFFER, VMSTATE_BUFFER_START_MIDDLE).
    - ``multiply``: so many elements or bytes for each one that is counted.
    - ``struct_version_id``: a struct as of that version (VMSTATE_VSTRUCT).

    ``into``, ``try_into``, ``clone``, ``length`` and ``none`` are for dataclasses;
    see :func:`~qemu_vmstate.derive_to_migration_state`.

    Raises ``DeclarationError`` for both kinds of default; the class that has
    the field raises it for options that do not fit the annotation.
    """
    made = FieldOptions(**options)
    if made.default is not _MISSING and made.default_factory is not None:
        raise DeclarationError("field() takes default or default_factory, not both")
    return made


# An unknown option is an error of what the user called.
FieldOptions.__init__.__qualname__ = "field"


def zeroed() -> Any:
    """Declare a field that is zero initially, as every field without a default is.

    It tells type checkers that the field need not be given.
    """
    return NO_OPTIONS
