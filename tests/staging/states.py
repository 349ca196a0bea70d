# SPDX-License-Identifier: GPL-2.0-or-later
"""States of many kinds that are four bytes on the wire, devices of them, and checks of refusals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any

import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    u8,
    u16,
    u32,
    validate,
)
from qemu_vmstate.device.device import staging_of

make_class: Any = type(Device)

BAD, WORSE = 666, 667


class Word(VMStruct):
    """A layout class of four bytes; all states here have four bytes on the wire."""

    value: u32 = 0


class Echo(Word):
    """A layout class with its own conversions, which also changes a global dict."""

    def snapshot_migration_state(self, target: Any) -> None:
        super().snapshot_migration_state(target)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        super().restore_migrated_state_mut(source, version_id)
        elsewhere[id(self)] = self.value
        refuse(self.value)


elsewhere: dict[int, int] = {}


class Wide(Echo):
    """The same with an attribute besides its memory."""

    __slots__ = ("seen",)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        self.seen = source.value
        super().restore_migrated_state_mut(source, version_id)


class Own(ToMigrationState[Word]):
    """A state with its own layout, which a restore changes before it checks the value."""

    def __init__(self) -> None:
        self.digits = [0]

    def snapshot_migration_state(self, target: Word) -> None:
        target.value = self.digits[0]

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        self.digits[:] = [source.value]
        self.more = version_id
        refuse(source.value)


def refuse(number: int) -> None:
    if number == BAD:
        raise InvalidError("666")
    if number == WORSE:
        raise KeyError(number)


class Picky(int):
    def __new__(cls, number: int) -> Picky:
        refuse(number)
        return super().__new__(cls, number)


@derive_to_migration_state
@dataclass
class Point:
    value: Picky = field(default=0, into=u32)


@derive_to_migration_state
@dataclass
class Numbers:
    high: u16 = 0
    low: u16 = plain_field(default_factory=int)


@derive_to_migration_state
@dataclass
class Bytes:
    """A list and a bytearray that are changed in place, and bytes that are not."""

    items: list[u8] = field(default_factory=lambda: [0], length=1)
    data: bytearray = field(default_factory=lambda: bytearray(1), length=1)
    fixed: bytes = field(default_factory=lambda: bytes(2), length=2)


@derive_to_migration_state
@dataclass
class Nest:
    """A state in a state."""

    inner: Numbers = plain_field(default_factory=Numbers)


@derive_to_migration_state
@dataclass
class Nests:
    inner: list[Point] = field(default_factory=lambda: [Point()], length=1)


@derive_to_migration_state
@dataclass
class Around:
    """A state with its own conversions in a derived one."""

    inner: Own = plain_field(default_factory=Own)


class Sub(Point):
    """A subclass with an attribute that only its own conversions handle."""

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        self.more = source.value
        super().restore_migrated_state_mut(source, version_id)  # type: ignore[misc]


KINDS: dict[str, Any] = {
    "layout": Echo,
    "slots": Wide,
    "own": Own,
    "derived": Point,
    "numbers": Numbers,
    "bytes": Bytes,
    "nest": Nest,
    "nests": Nests,
    "around": Around,
    "sub": Sub,
}
RAISING = {"layout", "slots", "own", "derived", "nests", "around", "sub"}
"""The kinds whose restore fails for BAD and WORSE."""


def device_of(states: Sequence[Any], name: str, **namespace: Any) -> Any:
    """Return a device with a Mutex for each of the state classes: part0, part1, ..."""
    hints = {f"part{i}": Migratable[Mutex[state]] for i, state in enumerate(states)}  # type: ignore[valid-type]
    namespace |= {"__module__": __name__, "__annotations__": hints}
    return make_class("Parts", (Device,), namespace, name=name)()


def always(self: Any, source: Any) -> bool:
    return True


def device(kinds: list[str], slow: bool = False, **namespace: Any) -> Any:
    """Return a device with a part of each kind, of which ``word`` is a native one.

    With ``slow`` it has a validation, and for that the slow path.
    """
    if slow:
        namespace["always"] = validate("always")(always)
    made = device_of([KINDS.get(kind, Word) for kind in kinds], "several", **namespace)
    assert bool(getattr(staging_of(made), "fast_path", None)) != slow
    for part in range(len(kinds)):
        elsewhere[id(inner(made, part))] = 0
    return made


def inner(dev: Any, part: int) -> Any:
    """Return the state of a part without its lock."""
    return getattr(dev, f"part{part}").into_inner()


def shape(value: Any) -> Any:
    """Return a comparable copy of a state and everything in it."""
    if isinstance(value, VMStruct):
        return type(value), bytes(value), getattr(value, "seen", None), elsewhere.get(id(value))
    if isinstance(value, list):
        return [shape(item) for item in value]
    if hasattr(value, "__dict__") and not isinstance(value, int):
        return {name: shape(item) for name, item in vars(value).items()}
    return type(value), bytes(value) if isinstance(value, bytearray) else value


def objects(value: Any) -> Any:
    """Return the identities of a state and the mutable objects in it."""
    if isinstance(value, list):
        return id(value), [objects(item) for item in value]
    if hasattr(value, "__dict__") and not isinstance(value, int):
        return id(value), {name: objects(item) for name, item in vars(value).items()}
    return None if isinstance(value, int | bytes) else id(value)


def seen(dev: Any, look: Callable[[Any], Any], count: int) -> list[Any]:
    return [look(inner(dev, part)) for part in range(count)]


def wire_of(numbers: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def messages(exc: BaseException) -> list[str]:
    """Return the message of an exception, and its notes with the hook and the path."""
    return [f"{type(exc).__name__}: {exc}", *getattr(exc, "__notes__", [])]


def refused(dev: Any, data: bytes, count: int) -> list[str]:
    """Return the messages of a load that fails and changes neither states nor their objects."""
    before, same = seen(dev, shape, count), seen(dev, objects, count)
    with pytest.raises((InvalidError, KeyError)) as caught:
        load(dev, data)
    assert seen(dev, shape, count) == before
    assert seen(dev, objects, count) == same
    return messages(caught.value)


@contextmanager
def raising_signal() -> Iterator[None]:
    """Let SIGUSR1 raise a KeyboardInterrupt."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)
