# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that fail in a selected hook; in a VM they are pyfirst, pymiddle, pylast and others.

``break_it(dev, hook)`` makes the next save or load fail there, ``mend(dev)`` ends that.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any

from qemu_vmstate import (
    Arc,
    BqlCell,
    BqlRefCell,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    Subsection,
    ToMigrationState,
    VMStruct,
    bql_lock_guard,
    bql_locked,
    derive_to_migration_state,
    field,
    save,
    u8,
    u16,
    u32,
    validate,
)

SAVING = ["pre_save", "post_save", "needed", "field_exists", "validate", "snapshot", "poisoned"]
LOADING = ["pre_load", "post_load", "field_exists", "validate", "restore", "poisoned"]

_broken: set[tuple[str, str]] = set()
_BUILTIN_ERRORS = {"pre_save": KeyError, "post_load": OSError, "needed": ZeroDivisionError}


def _maybe_fail(device: str, hook: str) -> None:
    if (device, hook) in _broken:
        raise _BUILTIN_ERRORS.get(hook, InvalidError)(f"no {hook} now")


class Regs(VMStruct):
    first: u32 = 1
    second: u16 = 2


class CupsMigration(VMStruct):
    count: u8 = 0
    total: u32 = 0


class Cups(ToMigrationState[CupsMigration]):
    """A state that a restore changes in place before it fails."""

    def __init__(self) -> None:
        self.device = ""
        self.items: list[int] = []
        self.total = 0

    def snapshot_migration_state(self, target: CupsMigration) -> None:
        target.count = len(self.items)
        _maybe_fail(self.device, "snapshot")
        target.total = self.total

    def restore_migrated_state_mut(self, source: CupsMigration, version_id: int) -> None:
        self.items[:] = range(source.count)
        if (self.device, "restore") in _broken:
            raise ValueError(f"half a cup of {source.total}")
        self.total = source.total


class Extra(VMStruct):
    depth: u32 = 0


def _exists(state: Any, version_id: int) -> bool:
    _maybe_fail(type(state).__layout__.name, "field_exists")
    return True


def _needed(state: Any) -> bool:
    _maybe_fail(type(state).__layout__.name, "needed")
    return True


class Mixed(Device, name="pymixed"):
    """A device of native parts, parts that Python converts, and plain fields."""

    regs: Migratable[Mutex[Regs]]
    level: BqlCell[u8]
    cups: Migratable[Mutex[Cups]]
    last: Migratable[BqlRefCell[Regs]]
    size: u32 = field(default=7, field_exists=_exists)

    @validate("the size is what the level allows")
    def check(self, source: Any) -> bool:
        return (self.name, "validate") not in _broken

    @property
    def name(self) -> str:
        return type(self).__description__[0]


class _Hooked(Mixed, name="pyhooked"):
    """The same with every hook, for which Python copies the native parts."""

    def pre_save(self) -> None:
        _maybe_fail(self.name, "pre_save")

    def post_save(self) -> None:
        _maybe_fail(self.name, "post_save")

    def pre_load(self) -> None:
        _maybe_fail(self.name, "pre_load")

    def post_load(self, version_id: int) -> None:
        _maybe_fail(self.name, "post_load")


class Native(Device, name="pynative"):
    """A device of native parts only."""

    regs: Migratable[Mutex[Regs]]
    last: Migratable[BqlRefCell[Regs]]
    second: Migratable[Mutex[Regs]]


class Echo(VMStruct):
    """A layout class with its own conversions."""

    value: u32 = 0

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        super().restore_migrated_state_mut(source, version_id)


@derive_to_migration_state
@dataclass
class Point:
    x: u32 = 0
    y: u32 = 0


class Converted(Device, name="pyconverted"):
    """A device of one conversion, which takes the fast path."""

    echo: Migratable[Mutex[Echo]]


class Blend(Device, name="pyblend"):
    """The same besides a native part."""

    regs: Migratable[Mutex[Regs]]
    echo: Migratable[Mutex[Echo]]


class Derived(Device, name="pyderived"):
    """A device of a derived class."""

    point: Migratable[Mutex[Point]]


@derive_to_migration_state
@dataclass
class Row:
    """A state that a restore changes in place, as well as the states in it."""

    items: list[u8] = field(default_factory=lambda: [1, 2, 3], length=3)
    data: bytearray = field(default_factory=lambda: bytearray(2), length=2)
    point: Point = plain_field(default_factory=Point)
    points: list[Point] = field(default_factory=lambda: [Point(), Point()], length=2)


class Several(Device, name="pyseveral"):
    """A device of several conversions of every kind, which takes the fast path."""

    echo: Migratable[Mutex[Echo]]
    row: Migratable[Mutex[Row]]
    cups: Migratable[Mutex[Cups]]
    regs: Migratable[Mutex[Regs]]
    point: Migratable[Mutex[Point]]


class Sharing(Device, name="pysharing"):
    """A device that shares its state with another one, which is loaded later."""

    cups: Migratable[Arc[Mutex[Cups]]]


class NativeSharing(Device, name="pynativesharing"):
    """The same with a native part."""

    regs: Migratable[Arc[Mutex[Regs]]]


class Borrower(Device, name="pyborrower"):
    """A device that takes the slow path."""

    cups: Migratable[Arc[Mutex[Cups]]]
    regs: Migratable[Arc[Mutex[Regs]]]
    level: BqlCell[u8]


class First(_Hooked, name="pyfirst"):
    more: Subsection[Extra] = field(needed=_needed, name="pyfirst/more")


class Middle(_Hooked, name="pymiddle"):
    more: Subsection[Extra] = field(needed=_needed, name="pymiddle/more")


class Last(_Hooked, name="pylast"):
    more: Subsection[Extra] = field(needed=_needed, name="pylast/more")


def expected_message(device: str, hook: str) -> str:
    """Return the error of a failure in ``hook``: its place, exception and message."""
    return {
        "pre_save": f"{device}.pre_save(): KeyError: 'no pre_save now'",
        "post_save": f"{device}.post_save(): no post_save now",
        "pre_load": f"{device}.pre_load(): no pre_load now",
        "post_load": f"{device}.post_load(): OSError: no post_load now",
        "needed": f"{device}.more.needed(): ZeroDivisionError: no needed now",
        "field_exists": f"{device}.size.field_exists(): no field_exists now",
        "validate": f"{device}: the size is what the level allows",
        "snapshot": f"{device}.cups: no snapshot now",
        "restore": f"{device}.cups: ValueError: half a cup of ",
        "poisoned": f"{device}.regs",
    }[hook]


def make(cls: type[Any]) -> Any:
    dev = cls()
    dev.cups.into_inner().device = dev.name
    return dev


def break_it(dev: Any, hook: str) -> None:
    if hook == "poisoned":
        with contextlib.suppress(KeyError), dev.regs.lock():
            raise KeyError
    _broken.add((dev.name, hook))


def mend(dev: Any) -> None:
    dev.regs.clear_poison()
    _broken.clear()


def change(dev: Any, number: int) -> None:
    """Set the device to another state for each ``number``, which is below 100."""
    with _bql():
        with dev.regs.lock() as regs, dev.last.borrow_mut() as last, dev.cups.lock() as cups:
            regs.first = last.first = number * 1000
            cups.items[:] = range(number)
            cups.total = number * 10
        dev.level.set(number)
        dev.size = number


def _bql() -> Any:
    return contextlib.nullcontext() if bql_locked() else bql_lock_guard()


def as_seen(dev: Any) -> tuple[Any, ...]:
    """Return all of the device's state, even if it cannot be saved, and the objects' identities."""
    regs, cups = dev.regs.into_inner(), dev.cups.into_inner()
    with _bql(), dev.last.borrow() as last:
        return (
            *(bytes(regs), bytes(last), list(cups.items), cups.total, dev.level.get(), dev.size),
            *(id(regs), id(last), id(cups), id(cups.items)),
        )


def copies() -> int:
    """Return a count that grows with the instances of staged classes, by their references."""
    gc.collect()
    classes: list[Any] = [Regs, CupsMigration, Extra, First.Migrated, Middle.Migrated]
    return sum(sys.getrefcount(cls) for cls in [*classes, Last.Migrated])


if __name__ == "__main__":
    from qemu_vmstate import register

    devices = {dev.name: dev for dev in map(make, (Mixed, First, Middle, Last))}
    native, converted, derived, blend = Native(), Converted(), Derived(), Blend()
    several, shared, shared_regs = Several(), Arc(Mutex(Cups())), Arc(Mutex(Regs()))
    sharing, native_sharing = Sharing(cups=shared), NativeSharing(regs=shared_regs)
    borrower = Borrower(cups=shared.clone(), regs=shared_regs.clone())
    others = (native, converted, derived, blend, several, sharing, native_sharing, borrower)
    for dev in (*others, *devices.values()):
        register(dev)

    def fail(device: str, hook: str) -> None:
        break_it(devices[device], hook)

    def mend_all() -> None:
        for dev in devices.values():
            mend(dev)

    def change_all(number: int) -> None:
        for dev in devices.values():
            change(dev, number)
        with native.regs.lock() as regs, native.second.lock() as second:
            regs.first = second.first = number
        with converted.echo.lock() as echo, derived.point.lock() as point:
            echo.value = point.x = point.y = number
        with blend.regs.lock() as regs, blend.echo.lock() as echo:
            regs.first = echo.value = number
        with several.echo.lock() as echo, several.regs.lock() as regs:
            echo.value = regs.first = number
        with shared_regs.target.lock() as regs:
            regs.first = number
        with several.point.lock() as point, several.row.lock() as row:
            for each in (point, row.point, *row.points):
                each.x = each.y = number
            row.items[:] = [number] * 3
            row.data[:] = bytes([number, number])
        for cups in (several.cups, shared.target):
            cups.into_inner().items[:] = range(number)
            cups.into_inner().total = number

    def all_seen() -> dict[str, Any]:
        seen: dict[str, Any] = {name: as_seen(dev) for name, dev in devices.items()}
        row, cups = several.row.into_inner(), several.cups.into_inner()
        inside = [row, row.items, row.data, row.point, *row.points, row.points, cups, cups.items]
        seen["objects"] = [id(value) for value in inside]
        return seen | {dev.__description__[0]: save(dev) for dev in others}

    def all_saved() -> dict[str, bytes]:
        saved = {name: save(dev) for name, dev in devices.items()}
        return saved | {dev.__description__[0]: save(dev) for dev in others}
