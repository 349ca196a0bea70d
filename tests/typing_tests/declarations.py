# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of declarations; checked by mypy, never run.

A ``type: ignore`` names an error that mypy must find, because it reports unused ones.
"""

from __future__ import annotations

from typing import Literal, assert_type

from qemu_vmstate import (
    Arc,
    Array,
    BqlCell,
    BqlRefCell,
    Buffer,
    Device,
    Migratable,
    Mutex,
    MutexGuard,
    ToMigrationState,
    VMStruct,
    describe,
    field,
    load,
    save,
    u8,
    u32,
    u64,
    zeroed,
)


class Inner(VMStruct):
    a: u8 = 0


class Regs(VMStruct):
    config: u64 = 0
    enabled: bool = False
    fifo: Array[u8, Literal[16]] = zeroed()
    inners: Array[Inner, Literal[2]] = zeroed()
    grid: Array[Array[u32, Literal[3]], Literal[2]] = zeroed()
    raw: Buffer[Literal[4]] = zeroed()
    inner: Inner = zeroed()
    renamed: u32 = field(default=3, name="other")


class Required(VMStruct):
    must: u8


class Ticks(ToMigrationState[Regs]):
    def __init__(self) -> None:
        self.seen: set[int] = set()

    def snapshot_migration_state(self, target: Regs) -> None:
        target.config = len(self.seen)

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.seen = set(range(source.config))


class Timer(Device, name="timer", version_id=2, minimum_version_id=1):
    regs: Migratable[Mutex[Regs]]
    ticks: Migratable[BqlRefCell[Ticks]]
    shared: Migratable[Arc[Mutex[Regs]]]
    level: BqlCell[u8]
    count: u32 = 5
    words: Array[u32, Literal[4]] = zeroed()
    cache: dict[str, int] = field(default_factory=dict, omit=True)


dev = Timer(count=3)
assert_type(dev.regs, Mutex[Regs])
assert_type(dev.ticks, BqlRefCell[Ticks])
assert_type(dev.shared, Arc[Mutex[Regs]])
assert_type(dev.level, BqlCell[int])
assert_type(dev.count, int)
assert_type(dev.cache, dict[str, int])
assert_type(dev.words[0], int)
assert_type(dev.regs.try_lock(), MutexGuard[Regs] | None)
assert_type(dev.regs.into_inner(), Regs)
assert_type(dev.level.get(), int)

with dev.regs.lock() as r:
    assert_type(r, Regs)
    assert_type(r.config, int)
    assert_type(r.enabled, bool)
    assert_type(r.fifo, Array[int, Literal[16]])
    assert_type(r.fifo[0], int)
    assert_type(r.fifo[1:3], list[int])
    assert_type(list(r.fifo), list[int])
    assert_type(len(r.fifo), int)
    assert_type(r.inners[0], Inner)
    assert_type(r.inners[0].a, int)
    assert_type(r.grid[0][1], int)
    assert_type(r.raw[0], int)
    assert_type(bytes(r.raw), bytes)
    assert_type(memoryview(r.fifo), memoryview[int])
    r.config |= 1
    r.fifo = range(16)
    r.fifo[0] = 1
    r.fifo[1:3] = [1, 2]
    r.raw = b"abcd"
    r.inner = Inner(a=1)
    r.config = "1"  # type: ignore[assignment]
    r.fifo = 3  # type: ignore[assignment]
    r.fifo = ["x"]  # type: ignore[list-item]
    print(r.fifo["x"])  # type: ignore[call-overload]
    r.raw = "text"  # type: ignore[assignment]
    r.cofnig = 1  # type: ignore[attr-defined]

with dev.ticks.borrow() as ticks:
    assert_type(ticks, Ticks)
    assert_type(ticks.seen, set[int])
with dev.ticks.borrow_mut() as ticks:
    ticks.seen.add(1)

assert_type(save(dev), bytes)
load(dev, b"")
load(dev, bytearray(), 1)
assert_type(describe(dev)["fields"], object)  # type: ignore[assert-type]
load(dev, "text")  # type: ignore[arg-type]

Regs()
Regs(config=1, fifo=[1] * 16, raw=b"abcd", inner=Inner())
Regs(1)  # type: ignore[call-arg]
Regs(config="1")  # type: ignore[arg-type]
Regs(nothing=1)  # type: ignore[call-arg]
Required(must=1)
Required()  # type: ignore[call-arg]

standalone = Migratable(Mutex(Regs()))
with standalone.lock() as r:
    assert_type(r, Regs)
Migratable(Regs())  # type: ignore[type-var]

print(dev.nothing)  # type: ignore[attr-defined]
dev.regs = Mutex(Regs())
dev.regs = Mutex(Inner())  # type: ignore[arg-type]
assert_type(Mutex(Regs()).lock().value, Regs)
assert_type(Ticks().to_migration_state(), Regs)
assert_type(Arc(Mutex(Regs())).clone(), Arc[Mutex[Regs]])
