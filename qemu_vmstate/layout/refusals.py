# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions for values that a layout class refuses, with what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Sized
from numbers import Number
from typing import Any

from ..bindings.loader import _state
from ..errors import OutOfRangeError
from ..wire.types import SCALARS, Scalar

__all__ = ["refused", "short_repr"]


def refused(target: _state.Field, index: int, value: object, reason: str) -> Exception:
    """Return the exception for a refused store; called from cdefs/state/values.c."""
    path = target.name if index < 0 else f"{target.name}[{index}]"
    scalar = SCALARS.get(target.kind)
    if reason == "range" and scalar:
        limits = f"({target.low} to {target.high})"
        if scalar.greatest is not None:
            limits = f"(its greatest is {scalar.greatest})"
        message = f"{short_repr(value)} is out of range for {scalar.name} {limits}"
        return OutOfRangeError(message, path)
    if reason == "length":
        given = len(value) if isinstance(value, Sized) else "a wrong number of"
        message = f"{given} elements for {target.count}; an array's length is fixed"
        return OutOfRangeError(message + _flat_instead(value, target.count), path)
    if reason == "count":
        given = len(value) if isinstance(value, Sized) else "too many"
        message = f"{given} elements, and there is room for {target.count}"
        if isinstance(given, int) and given <= target.count:
            message = f"{given} elements, which is no multiple of {target.multiply}"
        return OutOfRangeError(message, path)
    wanted = scalar.name if scalar else target.cls.__name__ if target.cls else "an array"
    message = f"{short_repr(value)} is a {type(value).__name__}, not {wanted}"
    return _WrongTypeError(message + (_number_instead(value, scalar) if scalar else ""), path)


def short_repr(value: object) -> str:
    """Return a value's ``repr``, cut to a length that fits into an error message."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits has none, for instance
        return f"a value of {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else text[:77] + "..."


class _WrongTypeError(OutOfRangeError, TypeError):
    """A value of a type that its field cannot hold."""


def _flat_instead(value: object, count: int) -> str:
    """Return what to write instead of an array of several dimensions with *count* elements."""
    dimensions = getattr(value, "ndim", 1)
    if dimensions == 1 or getattr(value, "size", None) != count:
        return ""
    return f"; this one has {dimensions} dimensions, and the field has one: write VALUE.ravel()"


def _number_instead(value: Any, scalar: Scalar) -> str:
    """Return what to write instead of a number of another type, as of ctypes or decimal."""
    # Whoever has such a value has imported the module.
    ctypes = sys.modules.get("ctypes")
    if ctypes and isinstance(value, ctypes._SimpleCData):  # noqa: SLF001
        return "; write VALUE.value"
    if not isinstance(value, Number) or scalar.kind == "?":
        return ""
    if not scalar.is_whole:
        return "; write float(VALUE)"
    try:
        whole = value == int(value)  # type: ignore[call-overload]
    except (ArithmeticError, TypeError, ValueError):  # neither NaN nor a complex number has one
        return ""
    return "; write int(VALUE)" if whole else "; write int(VALUE) or round(VALUE)"
