# SPDX-License-Identifier: GPL-2.0-or-later
"""Python state beside serializers: what a derived dataclass adds to the encoding of an object.

Each state is on the wire by the form of its type, and as ``Packed``.  The serializers get the same
object in classes without this package's decorator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from ..derive.decorator import derive_to_migration_state
from ..device.device import Device
from ..inprocess import load, save
from ..state.cells import Mutex
from ..state.migratable import Migratable
from ..wire.annotations import Packed, i64
from ..wire.field_options import field
from .calls import TimedCalls
from .process import OPERATIONS, ratio_to
from .samples import rounds
from .serializers import PICKLE, message_pack, msgspec_version, pickle_of

__all__ = [
    "FORMS",
    "MSGSPEC",
    "STATES",
    "PythonState",
    "conversions",
    "python_states",
    "whole_calls",
]

MSGSPEC = "msgspec"
FORMS = ("typed", "Packed")
"""A form for each type, and MessagePack in a buffer."""

_MOST = 128
_PACKED = 1 << 17


@dataclass
class Point:
    """An element of a list, with small and large numbers."""

    x: int = 0
    y: int = 0
    weight: int = 0
    id: int = 0


@dataclass
class Request:
    """A request of a session."""

    id: int = 0
    path: str = ""
    done: bool = False


@dataclass
class Session:
    """A session with a field of each kind."""

    user: str
    ids: list[int]
    headers: dict[str, str]
    key: bytes
    requests: list[Request]
    load: float
    tags: set[str]
    parent: int | None


@derive_to_migration_state(int_type=i64)
@dataclass
class DerivedPoint(Point):
    """The same, derived."""


@derive_to_migration_state(int_type=i64, max_length=_MOST)
@dataclass
class DerivedRequest(Request):
    """The same, derived."""


@derive_to_migration_state(int_type=i64, max_length=_MOST)
@dataclass
class DerivedSession(Session):
    """The same, derived."""

    requests: list[DerivedRequest]  # type: ignore[assignment]


class PythonState(NamedTuple):
    """An object, its annotation, and derived states that have an equal one, by their form."""

    value: Any
    annotation: Any
    states: dict[str, Any]


def _of(value: Any, annotation: Any, typed: Any) -> PythonState:
    states = {"typed": typed}
    if msgspec_version():
        hint = Packed[annotation, Literal[_PACKED]]  # type: ignore[valid-type]
        states["Packed"] = _holder(value, hint, None)
    return PythonState(value, annotation, states)


def _holder(value: Any, annotation: Any, most: int | None) -> Any:
    """Return a derived state with one attribute, which has the value."""
    namespace = {
        "__module__": __name__,
        "__annotations__": {"value": annotation},
        "value": field(default_factory=lambda: value),
    }
    cls: Any = type("Holder", (), namespace)
    return derive_to_migration_state(int_type=i64, max_length=most)(dataclass(cls))()


def _dict() -> PythonState:
    value = {f"key{number}": number * 1000 for number in range(100)}
    return _of(value, dict[str, int], _holder(dict(value), dict[str, int], _MOST))


def _list() -> PythonState:
    def points(cls: type[Point]) -> list[Any]:
        return [cls(number, 2 * number, number % 7, number**3) for number in range(1000)]

    typed = _holder(points(DerivedPoint), list[DerivedPoint], 1024)
    return _of(points(Point), list[Point], typed)


def _bytes() -> PythonState:
    value = bytes(range(256)) * 256
    return _of(value, bytes, _holder(value, bytes, len(value)))


def _session() -> PythonState:
    def session(cls: type[Session], request: type[Request]) -> Session:
        return cls(
            user="margaret",
            ids=list(range(50)),
            headers={f"x-header-{number}": f"value {number}" for number in range(20)},
            key=bytes(range(32)),
            requests=[request(n, f"/items/{n}", n % 2 == 0) for n in range(30)],
            load=1.5,
            tags={"admin", "staff", "on call"},
            parent=None,
        )

    return _of(session(Session, Request), Session, session(DerivedSession, DerivedRequest))


STATES: dict[str, Callable[[], PythonState]] = {
    "dict of 100 str to int": _dict,
    "list of 1,000 dataclasses": _list,
    "bytes of 64 KiB": _bytes,
    "session": _session,
}
"""A maker of each state by its name."""


def conversions(state: Any) -> TimedCalls:
    """Return the two conversions between a state and a migrated form that exists."""
    migrated = type(state).Migrated()
    snapshot = partial(state.snapshot_migration_state, migrated)
    return TimedCalls(snapshot, partial(state.restore_migrated_state_mut, migrated, 1))


def _device(state: Any) -> Device:
    """Return a device that has the state in a ``Mutex``."""
    namespace = {
        "__module__": __name__,
        "__annotations__": {"state": Migratable[Mutex[type(state)]]},  # type: ignore[misc]
        "state": field(default_factory=lambda: Migratable(Mutex(state))),
    }
    metaclass: Any = type(Device)
    made: Device = metaclass("BenchState", (Device,), namespace, name="bench-state")()
    return made


def whole_calls(state: Any) -> TimedCalls:
    """Return ``save()`` and ``load()`` of a device that has the state in a ``Mutex``."""
    device = _device(state)
    return TimedCalls(partial(save, device), partial(load, device, save(device)))


def _device_of(form: str) -> str:
    return f"device, {form}"


def python_states(
    turns: int, seconds: float, names: Iterable[str] = STATES
) -> Iterator[dict[str, Any]]:
    """Measure every state, and yield the rows of the benchmark's ``python_state``.

    Each has ``turns`` samples, or fewer if an operation takes ``seconds``.  Without msgspec the
    form ``Packed`` and the ratios to msgspec are left out.
    """
    for name in names:
        value, annotation, states = STATES[name]()
        others = {PICKLE: pickle_of(value)}
        if msgspec_version():
            others[MSGSPEC] = message_pack(value, annotation)
        runners = {form: conversions(state) for form, state in states.items()}
        runners |= {path: TimedCalls(each.save, each.load) for path, each in others.items()}
        devices = {form: whole_calls(state) for form, state in states.items()}
        for operation in OPERATIONS:
            calls = {path: getattr(each, operation) for path, each in runners.items()}
            calls |= {_device_of(form): getattr(each, operation) for form, each in devices.items()}
            measured = rounds(calls, turns, seconds)
            for path in runners:
                row = {
                    "state": name,
                    "path": path,
                    "op": operation,
                    "us": measured.median(path),
                    **{ratio_to(to): measured.ratio(path, to) for to in others},
                    "noise": measured.noise(path),
                }
                if path in devices:
                    row["device_us"] = measured.median(_device_of(path))
                yield row
