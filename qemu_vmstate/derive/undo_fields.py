# SPDX-License-Identifier: GPL-2.0-or-later
"""The undo of a restore that can fail half-way: each field is set to what it was before."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from ..errors import InvalidError, VMStateError
from ..state.to_migration_state import undo_of, undo_of_attributes
from ..state.undo import Undo
from ..wire.types import ArrayType
from .access import AttributePlace, Place, store
from .contents import is_filled, made_like, refill_of, roll_contents_back
from .runtime import as_kind_of, copy_rows, refilled, roll_rows_back
from .spec import FieldConversion, Shape
from .values import attempt

__all__ = ["prepare_array", "prepare_form", "undo_of_fields", "unreadable"]

_ABSENT: Any = object()


class _Former(NamedTuple):
    """The ``value`` that a place had, or ``_ABSENT``.

    ``equal`` is it or a copy of it, because a setter may fill the object that it has, which can be
    the one that was returned.
    """

    place: Place
    holder: Any
    value: Any
    equal: Any

    def set_again(self) -> None:
        """Set the value, or delete it if there was none."""
        if self.value is not _ABSENT:
            self.place.set(self.holder, self.equal)
            if self.equal is not self.value and self.place.get(self.holder) is self.equal:
                self.place.set(self.holder, self.value)
        elif isinstance(self.place, AttributePlace):
            with contextlib.suppress(AttributeError):
                self.place.delete(self.holder)

    def is_again(self) -> bool:
        """Return whether the place has the value."""
        try:
            value = self.place.get(self.holder)
            return value is self.equal or bool(value == self.equal)
        except Exception:  # for instance numpy's arrays
            return False


def undo_of_fields(fields: Iterable[FieldConversion], state: Any, own_version: int) -> Undo:
    """Return the undo of the next restore of ``state``, which may fail at any of ``fields``.

    Raises ``InvalidError`` for a value that cannot be read, and so not be set again.
    """
    states: list[Undo] = []
    formers: list[_Former] = []
    contents: list[Undo] = []
    for field in fields:
        if field.shape is Shape.STATES:
            states += _undos_of_states(field, state, own_version)
        else:
            formers.append(_former(field, state, contents))
    # Attributes refer to the same objects again, and what setters changed beside the value is
    # undone; at last what is in these objects.
    reset = [undo_of_attributes(state), *contents]

    def roll_back() -> None:
        ordinary, computed = [], []
        for former in formers:
            if former.place.is_ordinary(former.holder):
                ordinary.append(former.set_again)
            elif former.value is not _ABSENT:
                computed.append(former)
        # In this order each setter finds the other values as they were when it was called.
        refused = _call_all(former.set_again for former in reversed(computed))
        failures = [exc for exc in refused if not isinstance(exc, Exception)]
        failures += _call_all([*states, *ordinary, *reset])
        # A setter may have changed another field's value: in the order of the wire, as a restore.
        changed = [former.set_again for former in computed if not former.is_again()]
        failures += _call_all(changed)
        if changed:
            failures += _call_all([*ordinary, *reset])
        if failures:
            raise failures[0]

    return roll_back


def _call_all(undos: Iterable[Undo]) -> list[BaseException]:
    """Call each of ``undos``; return what was raised."""
    failures: list[BaseException] = []
    for undo in undos:
        try:
            undo()
        except BaseException as exc:
            failures.append(exc)
    return failures


def _undos_of_states(field: FieldConversion, state: Any, own_version: int) -> list[Undo]:
    try:
        value = field.access.get(state)
        nested = list(value) if isinstance(field.type, ArrayType) else [value]
    except Exception:
        return []  # their restore fails before anything changes
    return [undo_of(each, own_version) for each in nested]


def _former(field: FieldConversion, state: Any, contents: list[Undo]) -> _Former:
    """Return the value of a field; add the undo of what is in an array to ``contents``."""
    place = field.access.place
    holder, value = _previous(field, state)
    is_array = field.shape is Shape.ARRAY or bool(field.form and field.form.replaces_contents)
    if not is_array or value is _ABSENT:
        return _Former(place, holder, value, value)
    if undo := _undo_of_contents(value, field.shape is Shape.FORM):
        contents.append(undo)
    return _Former(place, holder, value, value if place.is_ordinary(holder) else _copy_of(value))


def _copy_of(value: Any) -> Any:
    for duplicate in (copy.deepcopy, copy.copy):
        # Not everything that is in a collection can be copied.
        with contextlib.suppress(Exception):
            return duplicate(value)
    return value


def _previous(field: FieldConversion, state: Any) -> tuple[Any, Any]:
    """Return the object that a field's place is in, and the value that it has there."""
    place = field.access.place
    try:
        holder = place.holder_of(state)
        try:
            return holder, place.get(holder)
        except Exception as exc:
            is_absent = isinstance(exc, AttributeError) and place.can_lack
            if not (is_absent or place.is_ordinary(holder)):
                raise
            return holder, _ABSENT
    except VMStateError:
        raise
    except Exception as exc:
        raise _lost(field, exc) from exc


def _lost(field: FieldConversion, exc: Exception) -> InvalidError:
    return InvalidError(
        "the value cannot be read before the load, so it could not be set again if the load fails: "
        f"{type(exc).__name__}: {exc}",
        field.path,
    )


def _undo_of_contents(value: Any, has_form: bool) -> Undo | None:
    if value is None or isinstance(value, bytes | tuple):
        return None
    if value.__class__ in (list, bytearray):
        return partial(roll_rows_back, value, copy_rows(value))
    if has_form:
        # A restore changes none of the elements, which need not be such that they can be copied.
        return partial(roll_contents_back, value, copy.copy(value)) if is_filled(value) else None
    return partial(refilled, value, copy.deepcopy(value))


def prepare_array(field: FieldConversion, state: Any, loaded: Any) -> Callable[[], None]:
    """Return a function that stores ``loaded``: in an ordinary attribute's list, else as a new one.

    Raises ``InvalidError`` if the present value cannot be read, or cannot hold it.
    """
    place = field.access.place
    holder, current = _previous(field, state)
    if current is _ABSENT:
        current = None
    fills = place.is_ordinary(holder)
    if fills:
        loaded = as_kind_of(current, loaded, field.path)
    elif isinstance(current, tuple | bytes | bytearray) and loaded is not None:
        loaded = attempt(type(current), type(current).__name__, field.path, loaded)

    def commit() -> None:
        if not (fills and refilled(current, loaded)):
            store(place, field.path, state, loaded)

    return commit


def prepare_form(field: FieldConversion, state: Any, loaded: Any) -> Callable[[], None]:
    """Do what :func:`prepare_array` does, for a value of a form."""
    place = field.access.place
    holder, current = _previous(field, state)
    fills = place.is_ordinary(holder) and current is not _ABSENT
    refill = refill_of(current, loaded, field.path) if fills else None
    if refill is None:
        loaded = made_like(current, loaded, field.path)

    def commit() -> None:
        if refill is None:
            store(place, field.path, state, loaded)
        else:
            refill(current, loaded)

    return commit


def unreadable(fields: Iterable[FieldConversion], state: Any, exc: Exception) -> Exception:
    """Return the error for the field whose value made a conversion raise ``exc``.

    It is ``exc`` itself if every value can be read.
    """
    if isinstance(exc, VMStateError):
        return exc
    for field in fields:
        try:
            field.access.get(state)
        except Exception as missing:
            error = InvalidError(
                f"the value cannot be read, because of {type(missing).__name__}: {missing}; "
                "set it first"
                + (
                    ", or say with attribute= where it is"
                    if field.options.given("annotation")
                    else ""
                ),
                field.path,
            )
            error.__cause__ = exc
            return error
    return exc
