# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that a stream may lack, and that record what a load tells them.

``pyplain`` is restored by C alone.  ``pyport`` and ``pymixed`` have hooks, and
``migrated = False`` keeps them out of the next streams.  ``pylate`` and ``pybare`` are
registered by ``register_late()``.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from qemu_vmstate import (
    BqlCell,
    BqlRefCell,
    Device,
    Migratable,
    MigrationPriority,
    Mutex,
    ToMigrationState,
    VMStruct,
    bql_lock_guard,
    bql_locked,
    field,
    register,
    u16,
    u32,
)

told: list[Any] = []
"""``(device, hook, *arguments)`` of each call of a hook."""
refusing: set[tuple[str, str]] = set()
"""The hooks that raise: ``(device, hook)``."""


def tell(device: str, hook: str, *arguments: Any) -> None:
    assert bql_locked()
    told.append((device, hook, *arguments))
    if (device, hook) in refusing:
        raise OSError(f"no {hook} now")


class Regs(VMStruct):
    count: u32 = 3
    kept: u32 = field(default=4, keep=True)


class ItemsMigration(VMStruct):
    count: u32 = 0


class Items(ToMigrationState[ItemsMigration]):
    def __init__(self) -> None:
        self.items: list[int] = []

    def snapshot_migration_state(self, target: ItemsMigration) -> None:
        target.count = len(self.items)

    def restore_migrated_state_mut(self, source: ItemsMigration, version_id: int) -> None:
        self.items[:] = range(source.count)
        if ("pymixed", "restore") in refusing:
            refusing.clear()  # the undo is a restore, too
            raise OSError("no restore now")


class Hooked(Device, name="pyhooked"):
    """The hooks that the devices share."""

    migrated: bool = field(default=True, omit=True)

    def needed(self) -> bool:
        return self.migrated

    def post_load(self, version_id: int) -> None:
        tell(self.__description__[0], "post_load", version_id)

    def load_complete(self, loaded: bool) -> None:
        tell(self.__description__[0], "load_complete", loaded)

    def load_rolled_back(self) -> None:
        tell(self.__description__[0], "load_rolled_back")


class Plain(Device, name="pyplain"):
    regs: Migratable[Mutex[Regs]]
    more: Migratable[BqlRefCell[Regs]]


class Late(Plain, name="pylate"):
    pass


class BareRegs(VMStruct):
    count: u32 = 3


class Bare(Device, name="pybare"):
    """A device of which every stream has every byte."""

    regs: Migratable[Mutex[BareRegs]]


class Mixed(Hooked, name="pymixed", version_id=2):
    """Every kind of part."""

    regs: Migratable[Mutex[Regs]]
    items: Migratable[Mutex[Items]]
    cell: BqlCell[u16]
    plain: u32 = 5
    kept: u32 = field(default=6, keep=True)


class Port(Hooked, name="pyport", priority=MigrationPriority.GICV3):
    """A device that listens on the port that its state names; it is loaded first."""

    port: u16 = 0

    def __init__(self) -> None:
        self.listener: socket.socket | None = None

    def bind(self) -> None:
        if self.listener is not None:
            self.listener.close()
        self.listener = None
        if self.port:
            self.listener = socket.create_server(("127.0.0.1", self.port))

    def bound(self) -> int:
        """Return the port that it listens on."""
        return 0 if self.listener is None else self.listener.getsockname()[1]

    def post_load(self, version_id: int) -> None:
        super().post_load(version_id)
        self.bind()

    def load_rolled_back(self) -> None:
        super().load_rolled_back()
        self.bind()


plain, mixed, port, late, bare = Plain(), Mixed(), Port(), Late(), Bare()
for dev in (plain, mixed, port):
    register(dev)


def register_late() -> None:
    register(late)
    register(bare)


def free_ports(number: int) -> list[int]:
    """Return ports that nothing listens on, no two the same."""
    with contextlib.ExitStack() as stack:
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
        return [stack.enter_context(probe).getsockname()[1] for probe in probes]


def bql() -> contextlib.AbstractContextManager[Any]:
    """Hold the BQL, which the thread that runs this script holds already."""
    return contextlib.nullcontext() if bql_locked() else bql_lock_guard()


def change(value: int) -> None:
    """Give every field of all devices the value, or a list of that length."""
    with bql():
        for dev in (plain, late):
            with dev.regs.lock() as regs, dev.more.borrow_mut() as more:
                regs.count = regs.kept = more.count = more.kept = value
        with bare.regs.lock() as only:
            only.count = value
        with mixed.regs.lock() as regs, mixed.items.lock() as state:
            regs.count = regs.kept = value
            state.items[:] = range(value)
        mixed.cell.set(value)
        mixed.plain = mixed.kept = value


def seen() -> dict[str, tuple[int, ...]]:
    """Return the fields of all devices but ``pyport``."""
    values: dict[str, tuple[int, ...]] = {}
    with bql():
        for dev in (plain, late):
            with dev.regs.lock() as regs, dev.more.borrow() as more:
                name = dev.__description__[0]
                values[name] = (regs.count, regs.kept, more.count, more.kept)
        with bare.regs.lock() as only:
            values["pybare"] = (only.count,)
        with mixed.regs.lock() as regs, mixed.items.lock() as state:
            values["pymixed"] = (
                *(regs.count, regs.kept, len(state.items)),
                *(mixed.cell.get(), mixed.plain, mixed.kept),
            )
    return values


def take_told() -> list[Any]:
    """Return what the devices were told since the last call."""
    taken = list(told)
    told.clear()
    return taken
