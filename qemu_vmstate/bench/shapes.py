# SPDX-License-Identifier: GPL-2.0-or-later
"""The shapes of state that the benchmark saves and loads, each by every path."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..derive.decorator import derive_to_migration_state
from ..device.device import Device, staging_of
from ..errors import VMStateError
from ..layout.vmstruct import VMStruct, VMStructMeta
from ..state.cells import Mutex
from ..state.migratable import Migratable
from ..vmsd.description import VMStateDescription, walked
from ..wire.annotations import Array, Buffer, VArray, u32
from ..wire.field_options import field
from .native import ffi, lib

__all__ = [
    "PATHS",
    "SHAPES",
    "Python",
    "ReferenceDevice",
    "Shape",
    "Subject",
    "make_device",
]

PATHS = ("native", "fast path", "derived")
"""A layout class; one whose conversions are overridden in Python; a derived dataclass."""

_FILL = 0x11223344
_COUNT = 1000
_NUMBERS = 16_384


def _struct(name: str, hints: dict[str, Any], values: dict[str, Any] | None = None) -> Any:
    namespace = {"__module__": __name__, "__annotations__": hints, **(values or {})}
    made = VMStructMeta(name, (VMStruct,), namespace)
    globals()[name] = made
    return made


def _overridden(cls: Any) -> type[Any]:
    """Return a class of the same layout whose conversions are overridden in Python."""

    def snapshot_migration_state(self: Any, target: Any) -> None:
        super(made, self).snapshot_migration_state(target)

    def restore_migrated_state_mut(self: Any, source: Any, version_id: int) -> None:
        super(made, self).restore_migrated_state_mut(source, version_id)

    namespace = {
        "__module__": __name__,
        "__annotations__": {},
        "snapshot_migration_state": snapshot_migration_state,
        "restore_migrated_state_mut": restore_migrated_state_mut,
    }
    made: Any = VMStructMeta(f"{cls.__name__}Overridden", (cls,), namespace)
    return made  # type: ignore[no-any-return]


def _derived(name: str, hints: dict[str, Any], defaults: dict[str, Any]) -> Any:
    namespace: dict[str, Any] = {"__module__": __name__, "__annotations__": hints}
    namespace.update(defaults)
    return derive_to_migration_state(dataclass(type(name, (), namespace)))


@dataclass(frozen=True)
class Shape:
    """A shape of state: its two classes, and the number of such parts in a device."""

    name: str
    layout: type[Any]
    derived: type[Any]
    fill: Callable[[Any], None]
    parts: int = 1

    @property
    def bytes(self) -> int:
        """The bytes of its state in memory."""
        return self.parts * int(self.layout.__layout__.size)


@functools.cache
def _class_of(shape: Shape, path: str) -> type[Any]:
    """Return the class of a shape's parts that migrates by ``path``."""
    if path == "fast path":
        return _overridden(shape.layout)
    return shape.layout if path == "native" else shape.derived


def _u32_fields(count: int) -> Shape:
    names = [f"r{index}" for index in range(count)]
    hints = dict.fromkeys(names, u32)

    def fill(state: Any) -> None:
        for name in names:
            setattr(state, name, _FILL)

    return Shape(
        f"{count} u32",
        _struct(f"Fields{count}", hints),
        _derived(f"DerivedFields{count}", hints, dict.fromkeys(names, 0)),
        fill,
    )


def _array() -> Shape:
    hints = {"numbers": Array[u32, Literal[_NUMBERS]]}  # type: ignore[valid-type]

    def zeros() -> list[int]:
        return [0] * _NUMBERS

    def fill(state: Any) -> None:
        state.numbers = [_FILL] * _NUMBERS

    return Shape(
        f"{_NUMBERS:,} u32",
        _struct("Numbers", hints),
        _derived("DerivedNumbers", hints, {"numbers": field(default_factory=zeros)}),
        fill,
    )


def _buffer(size: int, name: str) -> Shape:
    hints = {"data": Buffer[Literal[size]]}  # type: ignore[valid-type]

    def fill(state: Any) -> None:
        state.data = bytes(range(16, 144)) * (size // 128)

    return Shape(
        f"buffer {name}",
        _struct(f"Buffer{size}", hints),
        _derived(
            f"DerivedBuffer{size}", hints, {"data": field(default_factory=lambda: bytes(size))}
        ),
        fill,
    )


def _nested() -> Shape:
    inner = _u32_fields(8)
    return dataclasses.replace(inner, name="8 parts of 8 u32", parts=8)


def _list() -> Shape:
    names = ["address", "length", "flags", "id"]
    hints = dict.fromkeys(names, u32)
    element = _struct("Element", hints)
    derived = _derived("DerivedElement", hints, dict.fromkeys(names, 0))

    def fill(state: Any) -> None:
        for item in state.items:
            for name in names:
                setattr(item, name, _FILL)

    def states() -> list[Any]:
        return [derived() for _ in range(_COUNT)]

    return Shape(
        f"list of {_COUNT} structs",
        _struct(
            "List",
            {"count": u32, "items": VArray[element, Literal[_COUNT]]},  # type: ignore[valid-type]
            {"count": _COUNT, "items": field(num="count")},
        ),
        _derived(
            "DerivedList",
            {"count": u32, "items": list[derived]},  # type: ignore[valid-type]
            {"count": _COUNT, "items": field(default_factory=states, length=_COUNT)},
        ),
        fill,
    )


SHAPES: dict[str, Callable[[], Shape]] = {
    "4 u32": lambda: _u32_fields(4),
    "32 u32": lambda: _u32_fields(32),
    "256 u32": lambda: _u32_fields(256),
    f"{_NUMBERS:,} u32": _array,
    "buffer 128 B": lambda: _buffer(128, "128 B"),
    "buffer 64 KiB": lambda: _buffer(64 << 10, "64 KiB"),
    "buffer 1 MiB": lambda: _buffer(1 << 20, "1 MiB"),
    "buffer 64 MiB": lambda: _buffer(64 << 20, "64 MiB"),
    "8 parts of 8 u32": _nested,
    f"list of {_COUNT} structs": _list,
}
"""A maker of each shape by its name: large shapes must not stay in memory."""


@functools.cache
def device_class(shape: Shape, path: str) -> type[Device]:
    """Return a device class with the shape's parts, each in a ``Mutex``, initially empty."""
    cls = _class_of(shape, path)
    hint = Migratable[Mutex[cls]]  # type: ignore[valid-type]
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {f"part{index}": hint for index in range(shape.parts)},
    }
    for attribute in namespace["__annotations__"]:
        namespace[attribute] = field(default_factory=lambda: Migratable(Mutex(cls())))
    metaclass: Any = type(Device)
    made: type[Device] = metaclass(
        f"Bench{cls.__name__}", (Device,), namespace, name="bench-device"
    )
    return made


class Subject:
    """The base of what QEMU's code saves and loads repeatedly."""

    _vmsd: Any
    _opaque: Any

    def save(self, count: int, stream: Any) -> float:
        """Save ``count`` times into ``stream``, and return the mean microseconds of one save."""
        return self._us(
            lib().qv_timed_save(self._vmsd, self._opaque, count, stream, len(stream)), count
        )

    def load(self, count: int, stream: Any, size: int) -> float:
        """Load ``size`` bytes ``count`` times, and return the mean microseconds of one load."""
        return self._us(
            lib().qv_timed_load(self._vmsd, self._opaque, 1, count, stream, count * size), count
        )

    def _us(self, ns: int, count: int) -> float:
        if ns < 0:
            raise VMStateError(f"the benchmark's {type(self).__name__} failed with errno {-ns}")
        return ns / count / 1000


def make_device(shape: Shape, path: str) -> Device:
    """Return a device that migrates by ``path``, with its state filled."""
    device = device_class(shape, path)()
    for index in range(shape.parts):
        with getattr(device, f"part{index}").lock() as state:
            shape.fill(state)
    return device


class Python(Subject):
    """A device of this package."""

    def __init__(self, shape: Shape, path: str) -> None:
        self.device = make_device(shape, path)
        self._staging = staging_of(self.device)
        self._vmsd = ffi.cast("void *", self._staging.description.cdata)
        self._opaque = ffi.cast("void *", self._staging.address)


@functools.cache
def _reference_description(shape: Shape) -> VMStateDescription:
    with walked():
        return VMStateDescription(device_class(shape, "native").Migrated, "bench-device", 1, 1)


class ReferenceDevice(Subject):
    """The C device of the same fields."""

    def __init__(self, shape: Shape) -> None:
        cls = device_class(shape, "native").Migrated
        size = cls.__layout__.size
        description = ffi.cast("void *", _reference_description(shape).cdata)
        self.cdata = ffi.gc(
            lib().qv_reference_device_new(description, shape.parts, size),
            lib().qv_reference_device_free,
        )
        self._vmsd = lib().qv_reference_device_description(self.cdata)
        self._opaque = ffi.cast("void *", self.cdata)
        state = cls()
        for index in range(shape.parts):
            shape.fill(getattr(state, f"part{index}"))
        ffi.memmove(lib().qv_reference_device_state(self.cdata), ffi.from_buffer(state), size)
