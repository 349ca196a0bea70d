# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with a derived dataclass of values of any form, which a thread changes all the time."""

from __future__ import annotations

import enum
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from qemu_vmstate import (
    Array,
    Buffer,
    Device,
    Migratable,
    Mutex,
    Packed,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    field,
    i64,
    register,
    register_converter,
    u8,
    u16,
    u32,
    zeroed,
)


class Mode(enum.Enum):
    IDLE = 0
    BUSY = 300


class Colour(enum.Enum):
    RED = "red"
    BLUE = "bleu"


class Rights(enum.Flag):
    READ = 1
    WRITE = 256


class Regs(VMStruct):
    config: u16 = 7
    fifo: Array[u8, Literal[2]] = zeroed()


class Ticks(ToMigrationState[Regs]):
    """A state with conversions of its own."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ticks) and self.count == other.count

    __hash__ = None  # type: ignore[assignment]

    def snapshot_migration_state(self, target: Regs) -> None:
        target.config = self.count

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.count = source.config


class Point:
    """A class with a converter."""

    def __init__(self, pair: tuple[int, str]) -> None:
        self.pair = pair

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.pair == other.pair

    def __hash__(self) -> int:
        return hash(self.pair)


register_converter(
    Point, tuple[u8, Annotated[str, field(max_length=16)]], lambda point: point.pair, Point
)


@derive_to_migration_state
@dataclass(frozen=True)
class Key:
    bus: u8
    name: Annotated[str, field(max_length=8)]


@derive_to_migration_state(int_type=u32, max_length=4)
@dataclass
class Item:
    number: int = 0
    tags: list[str] = field(default_factory=list)


@derive_to_migration_state(int_type=i64, max_length=100)
@dataclass
class Everything:
    """A value of each form; all of them depend on ``step``."""

    step: int = 0
    ratio: float = 0.0
    name: str = ""
    raw: bytes = b""
    scratch: bytearray = field(default_factory=bytearray)
    mac: Buffer[Literal[6]] = field(default=bytes(6))
    mode: Mode = Mode.IDLE
    colour: Colour = Colour.RED
    rights: Rights = Rights.READ
    row: list[int] = field(default_factory=list)
    rows: list[list[u8]] = field(default_factory=list)
    fixed: list[u16] = field(default_factory=lambda: [0] * 3, length=3)
    history: tuple[int, ...] = ()
    pair: tuple[int, str | None] = (0, None)
    waiting: deque[int] = field(default_factory=deque)
    seen: set[int] = field(default_factory=set)
    known: frozenset[tuple[u8, str]] = frozenset()
    table: dict[str, list[int]] = field(default_factory=dict)
    ordered: OrderedDict[int, str] = field(default_factory=OrderedDict)
    counts: Counter[str] = field(default_factory=Counter)
    sums: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    maybe: str | None = None
    item: Item | None = None
    items: list[Item] = field(default_factory=list)
    by_key: dict[Key, Item] = field(default_factory=dict)
    regs: list[Regs] = field(default_factory=list)
    ticks: list[Ticks] = field(default_factory=list)
    points: set[Point] = field(default_factory=set)
    moment: datetime = datetime(2026, 1, 1)
    identity: UUID = field(default_factory=lambda: UUID(int=0))
    price: Decimal = Decimal(0)
    peers: list[IPv6Address] = field(default_factory=list)
    image: Path = field(default=Path(), max_length=64)
    queues: Packed[dict[str, list[int]], Literal[2048]] = field(default_factory=dict)


FILLED = (
    *("scratch", "row", "rows", "fixed", "waiting", "seen", "table", "ordered", "counts", "sums"),
    *("items", "by_key", "regs", "ticks", "points", "peers", "queues"),
)
"""The collections that a load fills again."""


def fill(state: Everything, step: int) -> None:
    """Give all values those of a step; collections stay the same objects."""
    some, few = step % 7, step % 3
    state.step, state.ratio, state.name = step, step / 4, f"é{step}"
    state.raw, state.mac = bytes(some), step.to_bytes(6, "big")
    state.scratch[:] = bytes([few]) * some
    state.mode, state.colour = list(Mode)[step % 2], list(Colour)[step % 2]
    state.rights = Rights.READ | Rights.WRITE if few else Rights.READ
    state.row[:] = range(step, step + some)
    state.rows[:] = [[each] * each for each in range(few)]
    state.fixed[:] = [some, few, 0xFFFF]
    state.history = tuple(range(some))
    state.pair = (step, f"{step}" if few else None)
    state.waiting.clear()
    state.waiting.extend(range(some))
    state.seen.clear()
    state.seen.update(range(step, step + some))
    state.known = frozenset((each, f"{step}") for each in range(few))
    state.ordered.clear()
    for mapping in (state.table, state.ordered, state.counts, state.sums, state.by_key):
        mapping.clear()
    for each in range(some, 0, -1):
        state.table[f"k{each}"] = [step] * few
        state.ordered[each] = f"{step}"
        state.counts[f"c{each}"] = each - few
        state.sums[each] = step / 8
        state.by_key[Key(each, f"{few}")] = Item(step, [f"{each}"])
    state.maybe = f"{step}" if few else None
    state.item = Item(step, ["t"] * few) if few else None
    state.items[:] = [Item(step + each, [f"{each}"]) for each in range(some)]
    state.regs[:] = [Regs(config=each, fifo=[each, few]) for each in range(some)]
    state.ticks[:] = [Ticks(each + few) for each in range(some)]
    state.points.clear()
    state.points.update(Point((each, f"{step}")) for each in range(few))
    state.moment = datetime(
        2026, 1, 1, tzinfo=timezone(timedelta(hours=few), "X" * few)
    ) + timedelta(microseconds=step)
    state.identity, state.price = UUID(int=step), Decimal(step).scaleb(-few)
    state.peers[:] = [IPv6Address(f"fe80::{each}%e{few}") for each in range(few)]
    state.image = Path(f"/img/{step}")
    state.queues.clear()
    state.queues.update({f"q{each}": [step] * few for each in range(some)})


class Anything(Device, name="pyanything"):
    state: Migratable[Mutex[Everything]]


dev = Anything()
register(dev)


def set_to(step: int) -> None:
    with dev.state.lock() as state:
        fill(state, step)


def fault() -> str | None:
    """Return the first attribute that is not as its step says."""
    with dev.state.lock() as state:
        expected = Everything()
        fill(expected, state.step)
        for name, value in vars(expected).items():
            found = getattr(state, name)
            if (type(found), repr(found), found) != (type(value), repr(value), value) and not (
                found == value and "object at" in repr(value)
            ):
                return f"{name}={found!r}, and not {value!r}"
    return None


def step() -> int:
    with dev.state.lock() as state:
        return state.step


kept: dict[str, Any] = {}


def keep() -> None:
    """Remember which objects the collections are."""
    with dev.state.lock() as state:
        kept.update({name: getattr(state, name) for name in FILLED})


def replaced() -> list[str]:
    """Return the collections that are other objects than those that were kept."""
    with dev.state.lock() as state:
        return [name for name, value in kept.items() if getattr(state, name) is not value]


stop = threading.Event()


def change_all_the_time() -> None:
    while not stop.wait(0.0005):
        set_to(step() + 1)


thread = threading.Thread(target=change_all_the_time, daemon=True)
