# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's device: some twenty fields in three parts, which a thread changes all the time.

The ``steps`` of a part determine all of its fields; ``NicRegs.at(steps)``, ``Link.at()`` and
``Stats.at()`` compute them.  So every byte of a copy can be checked while the original changes,
and a snapshot that mixes two moments is detected.

Run inside a VM, it registers one device, ``dev``.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

from qemu_vmstate import (
    Array,
    BqlRefCell,
    Buffer,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    asdict,
    bql_lock_guard,
    field,
    i16,
    i64,
    register,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)

RING = 16
PROTOCOLS = ("tcp", "udp", "icmp")


class NicRegs(VMStruct, name="pynic/regs"):
    """Registers and a ring of descriptors: a layout class, copied by C under its Mutex."""

    steps: u64 = 0
    control: u32 = 1
    status: u32 = 0
    head: u8 = 0
    tail: u8 = 0
    produced: u64 = 0
    consumed: u64 = 0
    ring: Array[u16, Literal[16]] = zeroed()
    checksum: u64 = 0

    def step(self) -> None:
        """Receive a packet and, from the ninth on, send one."""
        self.steps += 1
        self.ring[self.tail] = self.steps * 40503 % 65536
        self.tail = (self.tail + 1) % RING
        self.produced += 1
        if self.produced - self.consumed > 8:
            self.ring[self.head] = 0
            self.head = (self.head + 1) % RING
            self.consumed += 1
        self.status = self.steps & 0xFF
        self.checksum = sum(self.ring) + self.produced + self.consumed

    @classmethod
    def at(cls, steps: int) -> NicRegs:
        """Return the registers after that many steps."""
        regs = cls()
        # Only the last packets are in the ring; the effect of earlier ones is computed.
        done = max(0, steps - 2 * RING)
        regs.steps = regs.produced = done
        regs.consumed = max(0, done - 8)
        regs.tail, regs.head = regs.produced % RING, regs.consumed % RING
        for packet in range(regs.consumed + 1, regs.produced + 1):
            regs.ring[(packet - 1) % RING] = packet * 40503 % 65536
        for _ in range(steps - done):
            regs.step()
        return regs


class LinkEvent(VMStruct, name="pynic/event"):
    """One change of the link."""

    step: u32 = 0
    up: bool = False


class Link(VMStruct, name="pynic/link"):
    """The link's state: a layout class that the BQL guards."""

    steps: u32 = 0
    up: bool = False
    speed: u32 = 0
    temperature: i16 = 20
    mac: Buffer[Literal[6]] = field(default=b"\x52\x54\x00\x12\x34\x56")
    history: Array[LinkEvent, Literal[4]] = zeroed()

    def step(self) -> None:
        """Change the link to up or down."""
        self.steps += 1
        self.up = self.steps % 2 == 1
        self.speed = 10 ** (1 + self.steps % 4) if self.up else 0
        self.temperature = self.steps * 7 % 100 - 40
        event = self.history[self.steps % 4]
        event.step, event.up = self.steps, self.up

    @classmethod
    def at(cls, steps: int) -> Link:
        """Return the link after that many steps."""
        link = cls()
        link.steps = max(0, steps - 4)
        for _ in range(steps - link.steps):
            link.step()
        return link


class StatsMigration(VMStruct, name="pynic/stats"):
    """The migrated form of ``Stats``."""

    steps: u64 = 0
    counts: Array[u64, Literal[3]] = zeroed()
    balance: i64 = 0


class Stats(ToMigrationState[StatsMigration]):
    """Counters in Python types: an ordinary class with its own conversions."""

    def __init__(self) -> None:
        self.steps = 0
        self.by_protocol: Counter[str] = Counter()
        self.balance = 0

    def step(self) -> None:
        """Count a packet."""
        self.steps += 1
        self.by_protocol[PROTOCOLS[self.steps % 3]] += 1
        self.balance += -1 if self.steps % 2 else 1

    def snapshot_migration_state(self, target: StatsMigration) -> None:
        """Convert counters by name to an array."""
        target.steps = self.steps
        target.counts = [self.by_protocol[protocol] for protocol in PROTOCOLS]
        target.balance = self.balance

    def restore_migrated_state_mut(self, source: StatsMigration, version_id: int) -> None:
        """Refuse counters that do not add up, before anything is changed."""
        if sum(source.counts) != source.steps:
            raise InvalidError(
                f"the counts {list(source.counts)} do not add up to the steps {source.steps}"
            )
        self.steps = source.steps
        self.by_protocol = Counter(dict(zip(PROTOCOLS, source.counts, strict=True)))
        self.balance = source.balance

    @classmethod
    def at(cls, steps: int) -> StatsMigration:
        """Return the migrated form of the counters after that many steps."""
        counts = [steps // 3 + (0 < i <= steps % 3) for i in range(3)]
        return StatsMigration(steps=steps, counts=counts, balance=-(steps % 2))


class Nic(Device, name="pynic", version_id=1):
    """A network card; ``serial`` is a plain field, the worker is not migrated."""

    serial: u32 = 0xC0FFEE
    regs: Migratable[Mutex[NicRegs]]
    link: Migratable[BqlRefCell[Link]]
    stats: Migratable[Mutex[Stats]]
    worker: threading.Thread | None = field(default=None, omit=True)
    running: bool = field(default=False, omit=True)

    def step(self, with_link: bool) -> None:
        """Change every part once, each under its lock."""
        with self.regs.lock() as regs:
            regs.step()
        with self.stats.lock() as stats:
            stats.step()
        if with_link:
            with bql_lock_guard(), self.link.borrow_mut() as link:
                link.step()

    def start(self) -> None:
        """Start a thread that changes the state."""
        self.running = True
        self.worker = threading.Thread(target=self._work, name="pynic worker", daemon=True)
        self.worker.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self.running = False
        if self.worker is not None:
            self.worker.join()

    def _work(self) -> None:
        rounds = 0
        while self.running:
            rounds += 1
            self.step(with_link=rounds % 50 == 0)

    def steps(self) -> tuple[int, int, int]:
        """Return the steps of the three parts: registers, link, statistics."""
        with self.regs.lock() as regs, self.stats.lock() as stats:
            done = regs.steps, stats.steps
        with bql_lock_guard(), self.link.borrow() as link:
            return done[0], link.steps, done[1]


def state_at(steps: tuple[int, int, int]) -> Nic:
    """Return a card whose parts have done that many steps."""
    card = Nic(regs=NicRegs.at(steps[0]), link=Link.at(steps[1]))
    with card.stats.lock() as stats:
        stats.restore_migrated_state_mut(Stats.at(steps[2]), 1)
    return card


def fault(wire: bytes, steps: tuple[int, int, int]) -> str | None:
    """Return a message if a saved card is not one after that many steps, else ``None``."""
    expected = save(state_at(steps))
    if wire == expected:
        return None
    at = next((i for i, (a, b) in enumerate(zip(wire, expected, strict=False)) if a != b), -1)
    return (
        f"a state after {steps} steps must be {expected.hex()}, but it is {wire.hex()} "
        f"(first difference at byte {at}, lengths {len(wire)} and {len(expected)})"
    )


def state() -> tuple[bytes, tuple[int, int, int], dict[str, object]]:
    """Return the card's wire bytes, steps and fields; the worker must have stopped."""
    with bql_lock_guard(), dev.link.borrow() as link:
        shown_link = asdict(link)
    with dev.regs.lock() as regs, dev.stats.lock() as stats:
        shown: dict[str, object] = {"serial": dev.serial, "regs": asdict(regs), "link": shown_link}
        shown["stats"] = asdict(stats.to_migration_state())
    return save(dev), dev.steps(), shown


if __name__ == "__main__":
    dev = Nic()
    register(dev)
