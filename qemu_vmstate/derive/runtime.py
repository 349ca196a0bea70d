# SPDX-License-Identifier: GPL-2.0-or-later
"""What the code that derive_writer.py generates calls when a state is saved or loaded."""

from __future__ import annotations

import copy
import dataclasses
import enum
import struct
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, get_args

from ..bindings.loader import _state
from ..errors import DeclarationError, InvalidError
from ..layout.vmstruct import VMStruct, _shown
from ..state.to_migration_state import (
    restore_or_undo,
    snapshot_if_possible,
)
from ..wire.types import Scalar, StructType


@dataclasses.dataclass(frozen=True)
class _Codec:
    """``to`` makes the wire's value, ``back`` the attribute's; ``None``: they are the same."""

    to: Callable[[Any], Any] | None = None
    back: Callable[[Any], Any] | None = None


_UNFIT = (struct.error, OverflowError)


def _unfit_value() -> Any:
    raise struct.error("not what the field holds")


def _check(
    cls: type, migrated: type[Any], known: weakref.WeakSet[type], state: Any, struct_: Any
) -> None:
    """Refuse a subclass whose further fields would be lost, and foreign memory."""
    mine = type(state)
    if not isinstance(struct_, migrated):
        raise TypeError(
            f"{cls.__name__} migrates as {migrated.__name__}, and was given a "
            f"{type(struct_).__name__}"
        )
    if mine in known:
        return
    fields = dataclasses.fields(mine) if dataclasses.is_dataclass(mine) else ()
    if fields != dataclasses.fields(cls):
        raise DeclarationError(
            f"class {mine.__name__} has other fields than {cls.__name__}, from which it "
            "inherits its conversions; write @derive_to_migration_state above it too"
        )
    known.add(mine)


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _wire_name(type_: Any) -> str:
    if isinstance(type_, Scalar):
        return type_.name
    if isinstance(type_, StructType):
        return type_.cls.__name__
    if type_.is_buffer:
        return f"Buffer[{type_.length}]"
    return f"Array[{_wire_name(type_.element)}, {type_.length}]"


def _plain(type_: Any, value: Any) -> Any:
    """A layout class's value without its memory: numbers, bytes and lists, copied structs."""
    if isinstance(type_, Scalar):
        return value
    if isinstance(type_, StructType):
        return copy.copy(value)
    if type_.is_buffer:
        return bytes(value)
    if isinstance(type_.element, Scalar):
        return value[:]
    return [_plain(type_.element, item) for item in value]


def _in_range(scalar: Scalar, value: Any) -> int:
    if not scalar.low <= value <= scalar.high:
        raise InvalidError(
            f"{value} is out of range for {scalar.name} ({scalar.low} to {scalar.high})"
        )
    return int(value)


def _attempt(convert: Callable[[Any], Any], wanted: str, path: str, value: Any) -> Any:
    """``convert(value)``; what it raises becomes an ``InvalidError`` at ``path``."""
    try:
        return convert(value)
    except InvalidError as exc:
        exc.path = exc.path or path
        raise
    except Exception as exc:
        raise InvalidError(
            f"{_shown(value)} is no {wanted}: {type(exc).__name__}: {exc}", path
        ) from exc


def _enum_member(cls: type[enum.Enum], path: str, value: Any) -> Any:
    try:
        return cls(value)
    except ValueError as exc:
        members = [f"{name} ({int(member.value)})" for name, member in cls.__members__.items()]
        shown = ", ".join(members[:16]) + (", ..." if len(members) > 16 else "")
        raise InvalidError(
            f"{_shown(value)} is no {cls.__name__}, which has {shown or 'no members'}", path
        ) from exc


def _enum_to(cls: type[enum.Enum], path: str, value: Any) -> Any:
    # An IntEnum attribute often holds the bare number.
    member = value if isinstance(value, cls) else _enum_member(cls, path, value)
    return getattr(member, "value", member)


def _sentinel(codec: _Codec, none: int, path: str) -> _Codec:
    inner_to, inner_back = codec.to, codec.back

    def to(value: Any) -> Any:
        if value is None:
            return none
        value = inner_to(value) if inner_to else value
        if value == none:
            raise InvalidError(f"{none} stands for None on the wire", path)
        return value

    def back(value: Any) -> Any:
        if value == none:
            return None
        return inner_back(value) if inner_back else value

    return _Codec(to, back)


def _like(live: Any, fresh: Any, path: str) -> Any:
    """``fresh`` as what ``live`` is: what a tuple or bytes will be replaced with."""
    if isinstance(live, tuple | bytes) and not isinstance(fresh, type(live)):
        return _attempt(type(live), type(live).__name__, path, fresh)
    if live is None or isinstance(live, list | tuple | bytes | bytearray):
        return fresh
    if not hasattr(live, "__setitem__") or len(live) != len(fresh):
        raise InvalidError(
            f"{_shown(live)} cannot hold {len(fresh)} elements; make it a list of that many", path
        )
    return fresh


def _refill(state: Any, attribute: str, fresh: Any) -> None:
    """Put ``fresh`` into the attribute's object if that can change, else into the attribute."""
    live = getattr(state, attribute, None)
    if live is None or fresh is None or isinstance(live, tuple | bytes):
        setattr(state, attribute, fresh)
    else:
        _fill(live, fresh)


def _fill(live: Any, fresh: Any) -> None:
    if not isinstance(live, list | bytearray):
        for index, item in enumerate(fresh):
            live[index] = item
    elif (
        len(live) == len(fresh)
        and all(isinstance(item, list) for item in fresh)
        and all(isinstance(item, list) for item in live)
    ):
        for old, new in zip(live, fresh, strict=True):
            _fill(old, new)
    else:
        live[:] = fresh


def _items(live: Any) -> Any:
    """A copy of the numbers that a restore changes inside of ``live``; ``None``: none."""
    if live is None or live.__class__ in (bytes, tuple):
        return None
    if live.__class__ not in (list, bytearray):
        raise TypeError
    return live[:]


def _put_items_back(live: Any, items: Any) -> None:
    if items is not None:
        live[:] = items


def _rows(live: Any) -> Any:
    """The same of lists in a list, which stay the same objects."""
    if live.__class__ is not list:
        return _items(live)
    return [(item, _rows(item) if item.__class__ is list else None) for item in live]


def _put_rows_back(live: Any, rows: Any) -> None:
    if live.__class__ is not list:
        _put_items_back(live, rows)
        return
    for item, inner in rows:
        if inner is not None:
            _put_rows_back(item, inner)
    live[:] = [item for item, _ in rows]


def _wrong_state(value: Any, cls: type[Any], path: str) -> InvalidError:
    return InvalidError(
        f"{_shown(value)} is a {type(value).__name__}, which does not migrate as {cls.__name__}",
        path,
    )


def _snapshot_state(state: Any, target: Any, path: str, index: int | None = None) -> None:
    cls = type(target)
    if getattr(state, "Migrated", None) is not cls:
        raise _wrong_state(state, cls, _element_path(path, index))
    try:
        state.snapshot_migration_state(target)
    except InvalidError as exc:
        _put_under(exc, cls, _element_path(path, index))
        raise


def _element_path(path: str, index: int | None) -> str:
    return path if index is None else f"{path}[{index}]"


def _put_under(exc: InvalidError, cls: type[Any], path: str) -> None:
    """Make a path in the nested class one in the class around it."""
    first, dot, rest = exc.path.partition(".")
    if first in [base.__name__ for base in cls.__mro__]:
        exc.path = f"{path}{dot}{rest}"
    else:
        exc.path = f"{path} ({exc.path})" if exc.path else path


def _elements(states: Any, targets: Any, path: str) -> Iterable[tuple[int, Any, Any]]:
    try:
        given = len(states)
    except TypeError:
        raise InvalidError(f"{_shown(states)} is no list of {len(targets)}", path) from None
    if given != len(targets):
        raise InvalidError(f"{given} elements for {len(targets)}; an array's length is fixed", path)
    return zip(range(given), states, targets, strict=True)


def _snapshot_states(states: Any, targets: Any, path: str) -> None:
    for index, state, target in _elements(states, targets, path):
        _snapshot_state(state, target, path, index)


_Formers = Iterable[tuple[Any, Any]]


def _formers_of_states(states: Any) -> _Formers:
    """Each state and what undoes its restore; ``TypeError``: only that could know."""
    return [(state, _former_of_state(state)) for state in states]


def _former_of_state(state: Any) -> Any:
    own: Any = type(state)
    if _is_derived(own):
        return own._former_migrated_state(state)
    if own.restore_migrated_state_mut is VMStruct.restore_migrated_state_mut:
        return bytes(state)
    raise TypeError


def _put_states_back(formers: _Formers, own_version: int) -> None:
    for state, former in formers:
        if isinstance(former, bytes):
            _state.fill(state, former)
        else:
            state._put_back_migrated_state(former, own_version)


def _is_derived(cls: type) -> bool:
    """Whether its conversions are what its own decorator made."""
    own = cls.__dict__
    return "_prepare_migrated_state" in own and "restore_migrated_state_mut" in own


def _all_are(states: Any, cls: type, count: int) -> bool:
    if states.__class__ is not list or len(states) != count:
        return False
    for state in states:  # noqa: SIM110 - all() takes twice as long
        if state.__class__ is not cls:
            return False
    return True


def _put_numbers_back(former: Any, each: int, own_version: int) -> None:
    """``former``: states and their numbers, one after the other; or as ``_formers_of_states``."""
    if former.__class__ is tuple:
        states, numbers = former
        former = zip(states, zip(*[iter(numbers)] * each, strict=True), strict=True)
    _put_states_back(former, own_version)


_Foreign = list[tuple[Any, Any, str]]


def _prepare_state(
    state: Any,
    source: Any,
    version_id: int,
    foreign: _Foreign,
    path: str,
    index: int | None = None,
) -> Callable[[], None]:
    """Validate ``source``; returns what will put it into ``state`` and cannot fail.

    A state that only its own restore can validate goes into ``foreign``.
    """
    cls = type(source)
    if getattr(state, "Migrated", None) is not cls:
        raise _wrong_state(state, cls, _element_path(path, index))
    own = type(state)
    restore = getattr(own, "restore_migrated_state_mut", None)
    if restore is VMStruct.restore_migrated_state_mut:
        return partial(_state.assign, state, source)
    if _is_derived(own):
        try:
            commit: Callable[[], None] = own._prepare_migrated_state(
                state, source, version_id, foreign
            )
        except InvalidError as exc:
            _put_under(exc, cls, _element_path(path, index))
            raise
        return commit
    # It may keep that.
    foreign.append((state, copy.copy(source), _element_path(path, index)))
    return _nothing


def _nothing() -> None:
    """A foreign state was restored before."""


def _prepare_states(
    states: Any, sources: Any, version_id: int, foreign: _Foreign, path: str
) -> Callable[[], None]:
    commits = [
        _prepare_state(state, source, version_id, foreign, path, index)
        for index, state, source in _elements(states, sources, path)
    ]

    def commit() -> None:
        for each in commits:
            each()

    return commit


def _restore_all(foreign: _Foreign, version_id: int, commit: Callable[[], None]) -> None:
    """Restore what can still refuse, then commit the rest; or undo, and raise."""
    done = []
    try:
        for state, source, path in foreign:
            before = snapshot_if_possible(state)
            try:
                _restore_foreign(state, source, version_id)
            except InvalidError as exc:
                _put_under(exc, type(source), path)
                raise
            done.append((state, before))
        commit()
    except BaseException as exc:
        for state, before in reversed(done):
            if before is not None:
                try:
                    _restore_foreign(state, before, type(before).__layout__.version_id)
                except BaseException as second:
                    exc.add_note(f"and taking a former state back raised {second!r}")
        raise


def _restore_foreign(state: Any, source: Any, version_id: int) -> None:
    if hasattr(state, "restore_migrated_state"):
        state.restore_migrated_state(source, version_id)
    else:
        restore_or_undo(state, source, version_id, type(source).__layout__.version_id)
