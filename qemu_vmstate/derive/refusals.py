# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions for values that a conversion refuses, with what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bindings.loader import _state
from ..errors import InvalidError, OutOfRangeError
from ..layout.refusals import short_repr

__all__ = ["refused_value", "set_up_refusals"]


def refused_value(reason: str, value: object, detail: Any, limit: int) -> Exception:
    """Return the exception for a value; called from cdefs/state/convert.c, which adds the path."""
    return _REASONS[reason](value, detail, limit)


def _kind(value: object, cls: type, _limit: int) -> Exception:
    return _WrongKindError(f"{_described(value)}, not a {cls.__name__}{_none_instead(value)}")


def _described(value: object) -> str:
    if value is None:
        return "None is no value"
    return f"{short_repr(value)} is a {type(value).__name__}"


def _none_instead(value: object) -> str:
    return "; annotate it with | None if it can be None" if value is None else ""


class _WrongKindError(OutOfRangeError, TypeError):
    """A value of a class that its attribute cannot hold."""


def _elements(_value: object, count: int, limit: int) -> Exception:
    return OutOfRangeError(
        f"{count} elements, and the maximum is {limit}; keep fewer, or raise its max_length"
    )


def _length(_value: object, count: int, limit: int) -> Exception:
    return OutOfRangeError(f"{count} elements for {limit}; its length is fixed")


def _bytes(value: object, count: int, limit: int) -> Exception:
    of = " of UTF-8" if isinstance(value, str) else ""
    return OutOfRangeError(
        f"{count} bytes{of}, and the maximum is {limit}; keep fewer, or raise its max_length"
    )


def _loaded(_value: object, count: int, limit: int) -> Exception:
    return InvalidError(f"a count of {count}, and the maximum is {limit}")


def _surrogate(value: object, _detail: object, _cause: object) -> Exception:
    return InvalidError(
        f"{short_repr(value)} has a surrogate, which UTF-8 cannot hold; decode it with "
        "errors='replace', or declare bytes"
    )


def _utf8(_value: object, _detail: object, cause: Any) -> Exception:
    return InvalidError(
        f"the stream has no UTF-8 here: {cause.reason} at byte {cause.start} of "
        f"{short_repr(bytes(cause.object[:64]))}"
    )


def _duplicate(value: Any, count: int, _limit: int) -> Exception:
    return InvalidError(
        f"the stream has a key twice: its {count} items have {len(value)} keys, "
        f"{short_repr(list(value))}"
    )


def _order(value: Any, _detail: object, _limit: int) -> Exception:
    return InvalidError(
        f"the stream's elements {short_repr(value)} are not in ascending order, or one is there "
        "twice"
    )


def _same(value: Any, index: int, _limit: int) -> Exception:
    return InvalidError(
        f"two of {short_repr(list(value))} are the same on the wire, at place {index} in its "
        "order; convert them to different values"
    )


def _cls(value: object, cls: type, _limit: int) -> Exception:
    return _WrongKindError(
        f"{_described(value)}, which does not migrate as {cls.__name__}{_none_instead(value)}"
    )


def _attribute(value: object, name: str, cause: BaseException) -> Exception:
    return InvalidError(
        f"this {type(value).__name__} has no attribute {name!r} ({type(cause).__name__}: {cause}); "
        "set it before a save"
    )


def _convert(value: object, cls: type | None, cause: BaseException) -> Exception:
    wanted = cls.__name__ if cls else "value of the wire's type"
    return InvalidError(f"{short_repr(value)} is no {wanted}: {type(cause).__name__}: {cause}")


def _encode(value: object, errors: Any, cause: Exception) -> Exception:
    refused: Exception = errors.encode_error(value, cause)
    return refused


def _decode(value: object, errors: Any, cause: Exception) -> Exception:
    refused: Exception = errors.decode_error(value, cause)
    return refused


def _setter(value: object, cls: type, cause: BaseException) -> Exception:
    return InvalidError(
        f"a new {cls.__name__} refuses {short_repr(value)}: {type(cause).__name__}: {cause}"
    )


def _hash(value: object, _detail: object, cause: BaseException) -> Exception:
    return InvalidError(
        f"{short_repr(value)} cannot be looked up: {type(cause).__name__}: {cause}; keep it out "
        "of sets and of the keys of dicts"
    )


def _post_init(_value: object, cls: type, cause: BaseException) -> Exception:
    return InvalidError(
        f"{cls.__name__}.__post_init__() refuses what was loaded: {type(cause).__name__}: {cause}"
    )


_REASONS: dict[str, Callable[[Any, Any, Any], Exception]] = {
    "kind": _kind,
    "elements": _elements,
    "length": _length,
    "bytes": _bytes,
    "loaded elements": _loaded,
    "loaded bytes": _loaded,
    "surrogate": _surrogate,
    "utf8": _utf8,
    "duplicate": _duplicate,
    "order": _order,
    "same": _same,
    "class": _cls,
    "attribute": _attribute,
    "convert": _convert,
    "encode": _encode,
    "decode": _decode,
    "setter": _setter,
    "hash": _hash,
    "post_init": _post_init,
}


def set_up_refusals() -> None:
    """Let conversions raise these exceptions; to be called before the first is made."""
    _state.set_conversion_errors(InvalidError, refused_value)
