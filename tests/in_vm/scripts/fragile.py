# SPDX-License-Identifier: GPL-2.0-or-later
"""A device whose snapshot and restore fail on demand; ``--version N`` is its version_id."""

from __future__ import annotations

import sys

from qemu_vmstate import (
    BqlCell,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    field,
    register,
    save,
    u8,
    u32,
    unregister,
)

VERSION = int(sys.argv[sys.argv.index("--version") + 1]) if "--version" in sys.argv else 2


class Regs(VMStruct):
    first: u32 = 1
    second: u32 = 2


class NotesMigration(VMStruct):
    count: u8 = 0
    total: u32 = 0


class Notes(ToMigrationState[NotesMigration]):
    def __init__(self) -> None:
        self.items: list[int] = []
        self.total = 0
        self.fail_snapshot: str | None = None
        self.fail_restore: str | None = None
        self.during: list[object] = []

    def snapshot_migration_state(self, target: NotesMigration) -> None:
        if self.fail_snapshot == "register":
            register(Other())
        if self.fail_snapshot == "unregister":
            unregister(dev)
        if self.fail_snapshot:
            raise InvalidError(self.fail_snapshot)
        target.count = len(self.items)
        target.total = self.total

    def restore_migrated_state_mut(self, source: NotesMigration, version_id: int) -> None:
        self.items[:] = range(source.count)
        if self.fail_restore:
            raise ValueError(self.fail_restore)
        self.total = source.total


class Fragile(Device, name="pyfragile", version_id=VERSION, minimum_version_id=min(VERSION, 2)):
    regs: Migratable[Mutex[Regs]]
    level: BqlCell[u8]
    notes: Migratable[Mutex[Notes]]
    size: u32 = 7
    loads: int = field(default=0, omit=True)


class Other(Device, name="pyother"):
    value: u32 = 0


def as_seen() -> tuple[bytes, list[int], int]:
    """Return the device's state: its wire bytes, and the members of the ordinary class."""
    notes = dev.notes.into_inner()
    failing, notes.fail_snapshot = notes.fail_snapshot, None
    try:
        return save(dev), list(notes.items), notes.total
    finally:
        notes.fail_snapshot = failing


def change(first: int, items: int) -> None:
    with dev.regs.lock() as regs, dev.notes.lock() as notes:
        regs.first = first
        notes.items = list(range(items))
        notes.total = items * 10


dev = Fragile()
registration = register(dev)
