# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with a field of every type; ``--version N`` is its version_id."""

from __future__ import annotations

import sys
from typing import Literal

from qemu_vmstate import (
    Array,
    Bitmap,
    Buffer,
    Device,
    Equal,
    GTree,
    Migratable,
    Mutex,
    PointerArray,
    QEMUTimer,
    QList,
    QTailQ,
    Subsection,
    Tmp,
    ToMigrationState,
    Unused,
    VArray,
    VBuffer,
    VMStruct,
    cpudouble,
    field,
    register,
    save,
    u8,
    u16,
    u32,
    u64,
    validate,
    zeroed,
)

VERSION = int(sys.argv[sys.argv.index("--version") + 1]) if "--version" in sys.argv else 2


class Item(VMStruct):
    a: u8 = 0
    b: u16 = 7


class Key(VMStruct):
    low: u16 = 0
    high: u16 = 0


class Gap(VMStruct):
    """A condition, because otherwise QEMU 7.2 describes all elements of an array by the first."""

    a: u8 = 0
    b: u16 = field(default=7, field_exists=lambda state, _: state.a < 100)


class Irq(VMStruct, name="regs/irq"):
    level: u8 = 0


class Regs(VMStruct, name="regs"):
    ports: Equal[u8] = 4
    n: u8 = 0
    items: VArray[Item, Literal[5]] = field(num="n")
    size: u32 = 0
    data: VBuffer[Literal[16]] = field(size="size")
    bits: Bitmap[Literal[100]] = zeroed()
    gaps: PointerArray[Gap, Literal[3]] = field(default=[Gap(), None, Gap()])
    tree: GTree[Key, Item, Literal[4]] = zeroed()
    value: cpudouble = 0.5
    part: Array[u32, Literal[8]] = field(start=2, num=3)
    head: Buffer[Literal[8]] = field(size=3)
    irq: Subsection[Irq] = zeroed()

    @validate("the first bit is set")
    def first_bit(self) -> bool:
        return not self.bits[0] & 1


class Names(ToMigrationState[Item]):
    def __init__(self) -> None:
        self.names = ["x"]

    def snapshot_migration_state(self, target: Item) -> None:
        target.a = len(self.names)

    def restore_migrated_state_mut(self, source: Item, version_id: int) -> None:
        self.names = source.a * ["x"]


class Extra(VMStruct, name="everything/extra"):
    x: u32 = 9


class Everything(Device, name="everything", version_id=VERSION, minimum_version_id=1):
    count: u8 = 1
    regs: Migratable[Mutex[Regs]]
    channels: VArray[Migratable[Mutex[Item]], Literal[3]] = field(num="count")
    names: Array[Migratable[Mutex[Names]], Literal[2]]
    queue: QTailQ[Item, Literal[4]]
    stack: QList[Item, Literal[4]]
    direct: GTree[u64, Item, Literal[4]]
    tmp: Tmp[Item]
    timer: QEMUTimer
    _was: Unused[Literal[2]]
    newer: u16 = field(default=77, version_id=2)
    extra: Subsection[Migratable[Mutex[Extra]]] = field(name="everything/extra")
    calls: list[str] = field(omit=True, default_factory=list)

    def pre_save(self) -> None:
        self.calls.append("pre_save")

    def post_load(self, version_id: int) -> None:
        self.calls.append(f"post_load {version_id}")


dev = Everything(timer=QEMUTimer())


def change() -> None:
    """Set every field to a value other than its default."""
    dev.count = 2
    with dev.regs.lock() as regs:
        regs.items = [Item(a=1), Item(a=2, b=3)]
        regs.data = b"some data"
        regs.bits = [2, 3]
        regs.gaps[2] = Gap(a=200)
        regs.tree = {(1, 2): Item(a=5), (3, 4): Item(a=6)}
        regs.value = -2.25
        regs.part = range(8)
        regs.head = b"abcdefgh"
        regs.irq.level = 1
    for number, channel in enumerate(dev.channels):
        with channel.lock() as item:
            item.b = 100 + number
    with dev.names[1].lock() as names:
        names.names = 5 * ["y"]
    dev.queue = [Item(a=7), Item(a=8)]
    dev.stack = [Item(a=9)]
    dev.direct = {2**63: Item(a=10)}
    dev.tmp = Item(a=11)
    dev.timer.mod_ns(2**60)
    dev.newer = 78
    with dev.extra.lock() as extra:
        extra.x = 10


def wire() -> bytes:
    """Return the device's wire bytes."""
    return save(dev)


register(dev)
