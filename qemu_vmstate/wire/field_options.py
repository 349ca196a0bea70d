# SPDX-License-Identifier: GPL-2.0-or-later
"""``field()``: the options of a field that its annotation does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec

from ..errors import DeclarationError
from .record import defaults_of, record, replace

if TYPE_CHECKING:
    import inspect
    from dataclasses import KW_ONLY

__all__ = ["FieldOptions", "field", "zeroed"]

_MISSING: Any = object()

_CONVERSIONS = ("into", "try_into", "clone", "length", "max_length", "count_type", "none")
_FOREIGN = ("annotation", "attribute")


class _Signature:
    """The signature of ``field()``, made when it is asked for: inspect takes 6 ms to import."""

    def __get__(self, _instance: object, owner: type) -> inspect.Signature:
        import inspect

        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if name == "annotation"
                else inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=owner.__annotations__[name],
            )
            for name, default in defaults_of(owner).items()
        ]
        return inspect.Signature(parameters, return_annotation="Any")


@record(called="field")
class FieldOptions:
    """The options that :func:`field` was given."""

    annotation: Any = _MISSING
    _: KW_ONLY
    default: Any = _MISSING
    default_factory: Callable[[], Any] | None = None
    name: str | None = None
    omit: bool = False
    into: Any = None
    try_into: Any = None
    clone: bool = False
    length: int | None = None
    max_length: int | None = None
    count_type: Any = None
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
    attribute: Any = None

    __signature__: ClassVar[_Signature] = _Signature()

    @property
    def has_default(self) -> bool:
        """Whether either kind of default was given."""
        return self.default is not _MISSING or self.default_factory is not None

    def make_default(self) -> Any:
        """Return the default value; a factory makes a new one each time."""
        return self.default_factory() if self.default_factory else self.default

    def given(self, *names: str) -> list[str]:
        """Return those of the options ``names`` that differ from their defaults."""
        return [name for name in names if getattr(self, name) != getattr(NO_OPTIONS, name)]

    def of_wire(self, **changes: Any) -> FieldOptions:
        """Return a copy without the options of a dataclass's attribute, and with ``changes``."""
        names = (*_FOREIGN, *_CONVERSIONS, "default_factory")
        rest = {name: getattr(NO_OPTIONS, name) for name in names}
        return replace(self, **rest, **changes)

    def refuse_conversions(self, where: str) -> None:
        """Raise ``DeclarationError`` for options that only a derived class can have."""
        self.refuse_foreign(where)
        if self.given(*_CONVERSIONS):
            raise DeclarationError(
                f"{where}: into, try_into, clone, length, max_length, count_type and none are for "
                "dataclasses with @derive_to_migration_state; a layout class and a device have the "
                "wire's own types"
            )

    def refuse_foreign(self, where: str) -> None:
        """Raise ``DeclarationError`` for what only the fields of ``migrates()`` can have."""
        if self.given(*_FOREIGN):
            raise DeclarationError(
                f"{where}: field() takes an annotation and attribute= in the fields of migrates(); "
                "here the annotation goes behind the colon, and the value is in the attribute"
            )

    def __set_name__(self, owner: type, attribute: str) -> None:
        # Layout classes and devices read this object themselves.  Any other class is
        # about to become a dataclass, which reads dataclasses.field() only.
        if hasattr(owner, "__layout__") or hasattr(owner, "__parts__"):
            return
        import dataclasses  # here, because that class has imported it already

        known: dict[str, Any] = {"metadata": {FieldOptions: self}}
        if self.default_factory is not None:
            known["default_factory"] = self.default_factory
        elif self.has_default:
            known["default"] = self.default
        setattr(owner, attribute, dataclasses.field(**known))


NO_OPTIONS = FieldOptions()
"""The options of a field that has only an annotation."""


P = ParamSpec("P")


def _with_parameters_of(
    options: Callable[P, FieldOptions],
) -> Callable[[Callable[..., Any]], Callable[P, Any]]:
    """Give a function the parameters of ``FieldOptions``, for type checkers and ``help()``."""

    def decorate(function: Callable[..., Any]) -> Callable[P, Any]:
        function.__wrapped__ = options  # type: ignore[attr-defined]
        return function

    return decorate


@_with_parameters_of(FieldOptions)
def field(annotation: Any = _MISSING, **options: Any) -> Any:
    """Return the options of a field, to be assigned to it in the class's body.

    ``default``: its initial value, with which a load begins too; one number fills
    an array.  ``default_factory``: makes that value (devices and dataclasses
    only).  ``name``: its name in the description, if that is not the attribute's.
    ``omit``: the attribute of a device or dataclass is not migrated, as with
    upstream's ``#[migration_state(omit)]``.

    Whether it is on the wire, as the ``VMStateField`` members of these names
    (include/migration/vmstate.h):

    - ``version_id``: the first version of its class's description that has it.
    - ``field_exists``: a function of the staged struct and the version, called
      before the field is written or read; a load has not read later fields yet.
    - ``keep``: if the stream lacks the field, the object keeps its value; without
      ``keep`` the field gets its default.
    - ``needed``, for a ``Subsection``: ``True``, or a function of the staged
      struct.  Without it the subsection is written if it differs from its
      defaults.

    Its value:

    - ``minimum``, ``maximum``: the limits of a whole number.  An assignment
      outside them raises ``OutOfRangeError``; such a value in a stream fails the
      load before anything changes.
    - ``err_hint``: the hint that QEMU reports when an ``Equal`` field differs.

    Its length:

    - ``num``: for a ``VArray``, ``PointerArray`` or ``Unused`` the name of the
      field, declared before it, that counts its elements; for an ``Array`` the
      number of elements on the wire, from ``start`` on (VMSTATE_SUB_ARRAY).
    - ``size``: the same for a ``VBuffer`` and ``Bitmap`` (in bits), and for a
      ``Buffer`` (VMSTATE_PARTIAL_BUFFER, VMSTATE_BUFFER_START_MIDDLE).
    - ``multiply``: the number of elements or bytes for each one that is counted.
    - ``struct_version_id``: the version of a struct (VMSTATE_VSTRUCT).

    ``into``, ``try_into``, ``clone``, ``length``, ``max_length``, ``count_type`` and ``none``
    are for dataclasses; see :func:`~qemu_vmstate.derive_to_migration_state`.  ``annotation``, the
    only positional argument, and ``attribute`` are for the fields of
    :func:`~qemu_vmstate.migrates`.

    Raises ``DeclarationError`` for both kinds of default; the class that has
    the field raises it for options that do not fit the annotation.
    """
    made = FieldOptions(annotation, **options)
    if made.default is not _MISSING and made.default_factory is not None:
        raise DeclarationError("field() takes default or default_factory, not both")
    return made


def zeroed() -> Any:
    """Declare a field that is zero initially, as every field without a default is.

    It tells type checkers that the field need not be given.
    """
    return NO_OPTIONS
