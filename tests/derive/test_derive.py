# SPDX-License-Identifier: GPL-2.0-or-later

"""Derived conversions of dataclasses: what is on the wire, what comes back, what is refused."""

from __future__ import annotations

import array
import copy
import dataclasses
import enum
import gc
import linecache
import pickle
import struct
import sys
import traceback
import types
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, InitVar, dataclass, make_dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    Arc,
    Array,
    BqlRefCell,
    Buffer,
    DeclarationError,
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    ToMigrationState,
    VMStruct,
    asdict,
    derive_to_migration_state,
    describe,
    field,
    i8,
    i16,
    i32,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

Unchanged = Callable[[Any], AbstractContextManager[None]]
any_type: Any = Array
any_buffer: Any = Buffer
any_list: Any = list


class Mode(enum.Enum):
    IDLE = 0
    RUN = 1
    HALT = 9


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Bits(enum.Flag):
    A = 1
    B = 4


class Loose(enum.IntFlag):
    A = 1


class Regs(VMStruct):
    config: u16 = 7
    fifo: Array[u8, Literal[2]] = zeroed()


@derive_to_migration_state
@dataclass
class Timer:
    expiry: u32 = 5
    armed: bool = True


@derive_to_migration_state
@dataclass
class Ticks:
    """One field of every kind."""

    LIMIT: ClassVar[int] = 3
    count: u32 = 1
    armed: bool = False
    back: i16 = -2
    mode: Mode = field(default=Mode.RUN, try_into=u8)
    peer: IPv4Address = field(default=IPv4Address("1.2.3.4"), into=u32)
    fifo: list[u16] = field(default_factory=lambda: [1, 2, 3], length=3)
    raw: bytes = field(default=b"ab", length=2)
    words: Array[u8, Literal[2]] = field(default_factory=lambda: [8, 9])
    timer: Timer = field(default_factory=Timer)
    timers: list[Timer] = field(default_factory=lambda: [Timer(6), Timer(7)], length=2)
    regs: Regs = field(default_factory=Regs)
    deadline: u16 | None = field(default=None, none=0xFFFF)
    port: u8 | None = field(default=None, none=bool)
    cache: dict[str, Unknown] = field(default_factory=dict, omit=True)

    def total(self) -> int:
        return self.count + self.fifo[0]


TICKS = ">I?hBI3H2s2BI?I?I?HBBH?B"
AT_REST = (
    1, False, -2, 1, 0x01020304, 1, 2, 3, b"ab", 8, 9, 5, True, 6, True, 7, True,
    7, 0, 0, 0xFFFF, False, 0,
)  # fmt: skip
OTHER = (
    9, True, 3, 9, 0x7F000001, 4, 5, 6, b"cd", 10, 11, 50, False, 60, False, 70, True,
    700, 1, 2, 0x1234, True, 99,
)  # fmt: skip


class Holder(Device, name="holder", version_id=3, minimum_version_id=1):
    before: u8 = 4
    ticks: Migratable[Mutex[Ticks]]
    twin: Migratable[BqlRefCell[Timer]]


# --------------------------------------------------------------- on the wire


def test_fields_go_on_the_wire_in_their_order() -> None:
    ticks = Ticks()
    assert save(ticks) == struct.pack(TICKS, *AT_REST)
    load(ticks, struct.pack(TICKS, *OTHER))
    assert save(ticks) == struct.pack(TICKS, *OTHER)
    assert (ticks.count, ticks.armed, ticks.back) == (9, True, 3)
    assert ticks.mode is Mode.HALT
    assert ticks.peer == IPv4Address("127.0.0.1")
    assert (ticks.fifo, ticks.raw, list(ticks.words)) == ([4, 5, 6], b"cd", [10, 11])
    assert ticks.timer == Timer(50, False)
    assert ticks.timers == [Timer(60, False), Timer(70)]
    assert ticks.regs == Regs(config=700, fifo=[1, 2])
    assert (ticks.deadline, ticks.port) == (0x1234, 99)
    assert ticks.total() == 13


def test_none_comes_back() -> None:
    ticks = Ticks(deadline=3, port=4)
    load(ticks, struct.pack(TICKS, *AT_REST))
    assert (ticks.deadline, ticks.port) == (None, None)


def test_migrated_is_a_layout_class_named_after_the_dataclass() -> None:
    migrated: Any = Ticks.Migrated  # type: ignore[attr-defined]
    assert issubclass(migrated, VMStruct)
    assert migrated.__name__ == "TicksMigration"
    assert asdict(migrated(count=3))["count"] == 3
    ticks: Any = Ticks()
    assert isinstance(ticks, ToMigrationState)
    snapshot = ticks.to_migration_state()
    assert type(snapshot) is migrated
    assert (snapshot.mode, snapshot.has_port) == (1, False)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert describe(ticks)["vmsd_name"] == "TicksMigration"


def test_rename_and_the_description_of_the_generated_class() -> None:
    @derive_to_migration_state(rename="Wire", name="my-ticks", version_id=3, minimum_version_id=2)
    @dataclass
    class Renamed:
        a: u8 = field(default=1, name="alpha")

    described = describe(Renamed())
    assert Renamed.Migrated.__name__ == "Wire"  # type: ignore[attr-defined]
    assert (described["vmsd_name"], described["version"]) == ("my-ticks", 3)
    assert described["fields"][0]["name"] == "alpha"
    with pytest.raises(DeclarationError, match=r"class Renamed: rename='a b' is no name"):
        derive_to_migration_state(rename="a b")(make_dataclass("Renamed", []))


def test_in_a_device_beside_others() -> None:
    dev = Holder()
    twin = struct.pack(">I?", 5, True)
    assert save(dev) == b"\4" + struct.pack(TICKS, *AT_REST) + twin
    load(dev, b"\5" + struct.pack(TICKS, *OTHER) + struct.pack(">I?", 8, False))
    assert dev.ticks.into_inner().timers[0] == Timer(60, False)
    assert save(dev) == b"\5" + struct.pack(TICKS, *OTHER) + struct.pack(">I?", 8, False)
    assert [f["name"] for f in describe(dev)["fields"]] == ["before", "ticks", "twin"]


def test_shared_by_two_devices() -> None:
    class One(Device, name="one"):
        timer: Migratable[Arc[Mutex[Timer]]]

    shared = Arc(Mutex(Timer()))
    first, second = One(timer=shared), One(timer=shared.clone())
    load(first, struct.pack(">I?", 77, True))
    assert save(second) == struct.pack(">I?", 77, True)


def test_numbers_between_other_shapes_keep_their_places() -> None:
    @derive_to_migration_state
    @dataclass
    class Mixed:
        a: u8 = 1
        b: u64 = 2**64 - 1
        c: bool = True
        one: list[u32] = field(default_factory=lambda: [7], length=1)
        d: i8 = -128
        e: i32 = -(2**31)
        f: i64 = -(2**63)
        g: u16 = 0xFEDC

    mixed = Mixed()
    wire = struct.pack(">BQ?IbiqH", 1, 2**64 - 1, True, 7, -128, -(2**31), -(2**63), 0xFEDC)
    assert save(mixed) == wire
    load(mixed, wire[::-1])
    assert save(mixed) == wire[:0] + struct.pack(
        ">BQ?IbiqH", *_normal(struct.unpack(">BQBIbiqH", wire[::-1]))
    )


def _normal(values: tuple[int, ...]) -> tuple[int, ...]:
    return (*values[:2], values[2] != 0, *values[3:])


def test_class_without_migrated_fields() -> None:
    @derive_to_migration_state
    @dataclass
    class Nothing:
        cache: int = field(default=3, omit=True)

    nothing = Nothing()
    assert save(nothing) == b""
    load(nothing, b"")
    assert nothing == Nothing(3)


# ----------------------------------------------------------- restored in place


def test_restore_keeps_the_identity_of_nested_states_and_lists() -> None:
    ticks = Ticks(cache={"a": 1})
    ticks.raw = bytearray(b"ab")  # type: ignore[assignment]
    names = ("fifo", "raw", "words", "timer", "timers", "regs", "cache")
    before = {name: getattr(ticks, name) for name in names}
    elements = list(ticks.timers)
    load(ticks, struct.pack(TICKS, *OTHER))
    for name, value in before.items():
        assert getattr(ticks, name) is value, name
    assert all(a is b for a, b in zip(ticks.timers, elements, strict=True))
    assert ticks.cache == {"a": 1}
    assert ticks.raw == b"cd"


def test_tuples_arrays_and_lists_of_lists_stay_what_they_are() -> None:
    @derive_to_migration_state
    @dataclass
    class Shapes:
        pair: any_type[u8, 2] = field(default=(1, 2))
        numbers: any_type[u16, 2] = field(default_factory=lambda: array.array("H", [3, 4]))
        grid: any_type[any_type[u8, 2], 2] = field(default_factory=lambda: [[1, 2], [3, 4]])
        raw: any_type[u8, 2] = field(default=b"\1\2")

    shapes: Any = Shapes()
    numbers, grid, row = shapes.numbers, shapes.grid, shapes.grid[1]
    assert save(shapes) == struct.pack(">2B2H4B2B", 1, 2, 3, 4, 1, 2, 3, 4, 1, 2)
    load(shapes, struct.pack(">2B2H4B2B", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
    assert (shapes.pair, shapes.raw) == ((5, 6), b"\x0d\x0e")
    assert shapes.numbers is numbers
    assert list(numbers) == [7, 8]
    assert shapes.grid is grid
    assert shapes.grid[1] is row
    assert grid == [[9, 10], [11, 12]]
    shapes.numbers = {1, 2}
    with pytest.raises(InvalidError, match=r"ShapesMigration\.numbers: .* make it a list of that"):
        shapes.restore_migrated_state_mut(shapes.Migrated(), 1)


def test_list_of_a_wrong_length_is_refused_on_save_and_repaired_by_a_load() -> None:
    ticks = Ticks(fifo=[1, 2])
    with pytest.raises(
        OutOfRangeError, match=r"^TicksMigration\.fifo: 2 elements for 3; an array's length"
    ):
        save(ticks)
    load(ticks, struct.pack(TICKS, *OTHER))
    assert ticks.fifo == [4, 5, 6]


def test_clone_puts_a_new_object_in_the_attribute() -> None:
    @derive_to_migration_state
    @dataclass
    class Cloned:
        regs: Regs = field(default_factory=Regs, clone=True)
        fifo: list[u8] = field(default_factory=lambda: [1], length=1, clone=True)
        both: list[Regs] = field(default_factory=lambda: [Regs()], length=1, clone=True)

    cloned = Cloned()
    before = vars(cloned).copy()
    load(cloned, struct.pack(">HBBBHBB", 1, 2, 3, 4, 5, 6, 7))
    assert cloned == Cloned(Regs(config=1, fifo=[2, 3]), [4], [Regs(config=5, fifo=[6, 7])])
    assert before["regs"] == Regs()
    assert before["fifo"] == [1]
    assert all(getattr(cloned, name) is not value for name, value in before.items())

    class Longer(Regs):
        more: u8 = 0

    cloned.regs = Longer()
    with pytest.raises(InvalidError, match=r"is a Longer, which does not migrate as Regs"):
        save(cloned)


# ------------------------------------------------------------- into, try_into


class Pair(VMStruct):
    re: i16 = 0
    im: i16 = 0

    def __init__(self, value: complex = 0) -> None:
        super().__init__(re=int(value.real), im=int(value.imag))

    def __complex__(self) -> complex:
        return complex(self.re, self.im)


def test_into_every_kind_of_wire_type() -> None:
    @derive_to_migration_state
    @dataclass
    class Kinds:
        number: int = field(default=3, into=u64)
        point: complex = field(default=1 - 2j, into=Pair)
        hosts: frozenset[int] = field(default=frozenset({5, 6}), try_into=any_type[u8, 2])
        key: bytearray = field(default_factory=lambda: bytearray(b"k"), into=any_buffer[1])
        wrapped: bool = field(default=True, into=u8)
        truth: int = field(default=1, into=bool)

    kinds = Kinds()
    assert save(kinds) == struct.pack(">Qhh2BcB?", 3, 1, -2, 5, 6, b"k", 1, True)
    load(kinds, struct.pack(">Qhh2BcB?", 2**63, -1, 9, 7, 8, b"l", 7, False))
    assert kinds == Kinds(2**63, -1 + 9j, frozenset({7, 8}), bytearray(b"l"), True, 0)
    assert type(kinds.key) is bytearray
    assert type(kinds.truth) is int
    kinds.number = -1
    with pytest.raises(OutOfRangeError, match=r"^KindsMigration\.number: -1 is out of range"):
        save(kinds)


class Even:
    """Converts even numbers only, either way."""

    def __init__(self, value: int) -> None:
        if value % 2:
            raise ValueError("it is odd")
        self.value = value

    def __int__(self) -> int:
        if self.value > 100:
            raise RuntimeError("it is large")
        return self.value


def test_try_into_that_fails_is_an_invalid_error_with_path_and_value(unchanged: Unchanged) -> None:
    @derive_to_migration_state
    @dataclass
    class Tries:
        count: u8 = 1
        even: Even = field(default_factory=lambda: Even(2), try_into=u16)

    class Dev(Device, name="dev"):
        tries: Migratable[Mutex[Tries]]

    dev = Dev()
    with unchanged(dev), pytest.raises(InvalidError) as caught:
        load(dev, struct.pack(">BH", 9, 7))
    assert str(caught.value) == "dev.tries.even: 7 is no Even: ValueError: it is odd"
    assert isinstance(caught.value.__cause__, ValueError)
    dev.tries.into_inner().even.value = 102
    with pytest.raises(
        InvalidError, match=r"^dev\.tries\.even: .* is no u16: RuntimeError: it is large"
    ):
        save(dev)


def test_into_that_fails_all_the_same_raises_its_own_exception_and_changes_nothing() -> None:
    @derive_to_migration_state
    @dataclass
    class Into:
        count: u8 = 1
        even: Even = field(default_factory=lambda: Even(2), into=u16)

    state = Into()
    even = state.even
    with pytest.raises(ValueError, match=r"^it is odd"):
        load(state, struct.pack(">BH", 9, 7))
    assert (state.count, state.even) == (1, even)


def test_try_into_a_wider_number_checks_the_narrower_one() -> None:
    @derive_to_migration_state
    @dataclass
    class Wide:
        a: u8 = field(default=255, try_into=u32)

    wide = Wide()
    assert save(wide) == struct.pack(">I", 255)
    with pytest.raises(
        InvalidError, match=r"^WideMigration\.a: 256 is out of range for u8 \(0 to 255\)"
    ):
        load(wide, struct.pack(">I", 256))
    assert wide.a == 255


def test_clone_with_into_converts_a_copy() -> None:
    class Draining:
        """What gives its items away, as Rust's ``into`` may."""

        def __init__(self, items: list[int]) -> None:
            self.items = items

        def __iter__(self) -> Any:
            while self.items:
                yield self.items.pop(0)

    def drained(**options: Any) -> Any:
        @derive_to_migration_state
        @dataclass
        class Drained:
            queue: Draining = field(into=any_type[u8, 2], **options)

        return Drained(Draining([1, 2]))

    kept, emptied = drained(clone=True), drained()
    assert save(kept) == save(emptied) == b"\1\2"
    assert (kept.queue.items, emptied.queue.items) == ([1, 2], [])
    load(kept, b"\3\4")
    assert kept.queue.items == [3, 4]


# ---------------------------------------------------------------------- enums


@derive_to_migration_state
@dataclass
class Enums:
    mode: Mode = field(default=Mode.IDLE, try_into=u8)
    level: Level = field(default=Level.LOW, try_into=i32)
    bits: Bits = field(default=Bits.A, try_into=u16)
    loose: Loose = field(default=Loose.A, into=u8)
    maybe: Mode | None = field(default=None, try_into=u8, none=255)


def test_enums_have_the_width_declared() -> None:
    enums = Enums()
    assert save(enums) == struct.pack(">BiHBB", 0, 1, 1, 1, 255)
    load(enums, struct.pack(">BiHBB", 9, 2, 5, 3, 1))
    assert enums == Enums(Mode.HALT, Level.HIGH, Bits.A | Bits.B, Loose(3), Mode.RUN)
    assert type(enums.level) is Level
    enums.level = 1  # type: ignore[assignment]
    assert save(enums)[1:5] == struct.pack(">i", 1)


@pytest.mark.parametrize(
    ("wire", "sentence"),
    [
        ((2, 1, 1, 1, 255), "EnumsMigration.mode: 2 is no Mode, which has IDLE (0), RUN (1), "),
        ((0, 0, 1, 1, 255), "EnumsMigration.level: 0 is no Level, which has LOW (1), HIGH (2)"),
        ((0, 1, 2, 1, 255), "EnumsMigration.bits: 2 is no Bits, which has A (1), B (4)"),
        ((0, 1, 1, 1, 254), "EnumsMigration.maybe: 254 is no Mode, which has IDLE (0), RUN (1)"),
    ],
)
def test_unknown_value_on_load_names_the_known_ones(wire: tuple[int, ...], sentence: str) -> None:
    enums = Enums()
    with pytest.raises(InvalidError) as caught:
        load(enums, struct.pack(">BiHBB", *wire))
    assert str(caught.value).startswith(sentence)
    assert enums == Enums()


def test_attribute_that_is_no_member_is_refused_on_save() -> None:
    enums = Enums(mode="idle")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match=r"^EnumsMigration\.mode: 'idle' is no Mode"):
        save(enums)


def test_value_that_stands_for_none_is_refused_on_save() -> None:
    with pytest.raises(
        InvalidError, match=r"^TicksMigration\.deadline: 65535 stands for None on the wire"
    ):
        save(Ticks(deadline=0xFFFF))


def test_bool_before_the_value_goes_with_every_shape() -> None:
    @derive_to_migration_state
    @dataclass
    class Maybe:
        flag: bool | None = field(default=None, none=bool)
        mode: Mode | None = field(default=None, try_into=u8, none=bool)
        mac: bytes | None = field(default=None, length=2, none=bool)
        fifo: list[u8] | None = field(default=None, length=1, none=bool)

    maybe = Maybe()
    absent = struct.pack(">???B?2s?B", False, False, False, 0, False, b"\0\0", False, 0)
    assert save(maybe) == absent
    # What follows a false bool means nothing, not even an unknown mode.
    load(maybe, struct.pack(">???B?2s?B", False, True, False, 77, False, b"xy", False, 3))
    assert maybe == Maybe()
    whole = struct.pack(">???B?2s?B", True, True, True, 9, True, b"xy", True, 3)
    load(maybe, whole)
    assert maybe == Maybe(True, Mode.HALT, b"xy", [3])
    assert save(maybe) == whole
    load(maybe, absent)
    assert maybe == Maybe()


# --------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [
        ("count", 2**32, "holder.ticks.count: 4294967296 is out of range for u32 (0 to "),
        ("count", -1, "holder.ticks.count: -1 is out of range for u32"),
        ("count", 1.5, "holder.ticks.count: 1.5 is a float, not u32"),
        ("count", None, "holder.ticks.count: None is a NoneType, not u32"),
        ("armed", 2, "holder.ticks.armed: 2 is out of range for bool"),
        ("armed", "no", "holder.ticks.armed: 'no' is a str, not bool"),
        ("back", -(2**15) - 1, "holder.ticks.back: -32769 is out of range for i16"),
        ("fifo", [1, 2, 2**16], "holder.ticks.fifo[2]: 65536 is out of range for u16"),
        ("raw", b"abc", "holder.ticks.raw: 3 elements for 2"),
        ("timer", Timer(2**32), "holder.ticks.timer.expiry: 4294967296 is out of range"),
        ("timer", None, "holder.ticks.timer: None is a NoneType, which does not migrate as Timer"),
        ("timers", [Timer(), Timer(-1)], "holder.ticks.timers[1].expiry: -1 is out of range"),
        ("timers", [Timer()], "holder.ticks.timers: 1 elements for 2; an array's length is fixed"),
        ("timers", 3, "holder.ticks.timers: 3 is no list of 2"),
        ("timers", [Timer(), 3], "holder.ticks.timers[1]: 3 is a int, which does not migrate"),
        ("regs", Timer(), "holder.ticks.regs: Timer(expiry=5, armed=True) is a Timer, which "),
    ],
)
def test_refused_value_is_named_with_its_path_in_the_device(
    attribute: str, value: object, sentence: str
) -> None:
    dev = Holder()
    setattr(dev.ticks.into_inner(), attribute, value)
    with pytest.raises(InvalidError) as caught:
        save(dev)
    assert str(caught.value).startswith(sentence)


def test_what_a_field_takes_does_not_depend_on_its_neighbours() -> None:
    class Index:
        def __index__(self) -> int:
            return 7

    numpy = pytest.importorskip("numpy")
    ticks: Any = Ticks(count=Index(), armed=numpy.True_)  # type: ignore[arg-type]
    assert save(ticks)[:5] == struct.pack(">I?", 7, True)
    ticks.armed = 1
    assert save(ticks)[4] == 1
    ticks.count = True
    assert save(ticks)[:4] == struct.pack(">I", 1)


@derive_to_migration_state
@dataclass
class Bare:
    first: u8
    second: u8


def test_missing_attribute_is_named_in_a_traceback_of_the_generated_source() -> None:
    bare: Any = Bare(1, 2)
    del bare.second
    with pytest.raises(AttributeError, match="second") as caught:
        bare.to_migration_state()
    shown = "".join(traceback.format_exception(caught.value))
    assert 'File "<derived ToMigrationState of tests.derive.test_derive.Bare>"' in shown
    assert "_pack0(target, _at0, self.first, self.second)" in shown


def test_generated_source_goes_with_its_class() -> None:
    def make() -> Any:
        @derive_to_migration_state
        @dataclass
        class Local:
            a: u8 = 1

        return Local

    def filename(cls: Any) -> str:
        return str(cls.snapshot_migration_state.__code__.co_filename)

    first, second = make(), make()
    name, gone = filename(first), weakref.ref(first)
    assert filename(second) != name
    linecache.checkcache()
    assert linecache.getline(name, 1).startswith("def snapshot_migration_state")
    del first
    gc.collect()
    assert gone() is None
    assert not linecache.getline(name, 1)
    assert linecache.getline(filename(second), 1)


def test_target_and_source_of_another_class_are_refused() -> None:
    timer: Any = Timer()
    with pytest.raises(TypeError, match="Timer migrates as TimerMigration, and was given a Regs"):
        timer.snapshot_migration_state(Regs())
    with pytest.raises(TypeError, match="Timer migrates as TimerMigration, and was given a Regs"):
        timer.restore_migrated_state_mut(Regs(), 1)


# ------------------------------------------------------------- all or nothing


def test_refused_value_changes_nothing_wherever_it_is() -> None:
    @derive_to_migration_state
    @dataclass
    class Inner:
        number: u8 = 1
        fifo: list[u8] = field(default_factory=lambda: [1], length=1)
        mode: Mode = field(default=Mode.IDLE, try_into=u8)

    @derive_to_migration_state
    @dataclass
    class Outer:
        first: u8 = 1
        regs: Regs = field(default_factory=Regs)
        fifo: list[u8] = field(default_factory=lambda: [1], length=1)
        inners: list[Inner] = field(default_factory=lambda: [Inner(), Inner()], length=2)
        last: u8 = 1

    outer: Any = Outer()
    before = copy.deepcopy(outer)
    source = outer.Migrated(first=9, last=9, fifo=[9])
    source.regs.config = 9
    source.inners[0].number = 9
    source.inners[1].mode = 5
    with pytest.raises(InvalidError, match=r"^OuterMigration\.inners\[1\]\.mode: 5 is no Mode"):
        outer.restore_migrated_state_mut(source, 1)
    assert outer == before
    source.inners[1].mode = 1
    outer.restore_migrated_state_mut(source, 1)
    assert outer != before
    assert outer.inners[1].mode is Mode.RUN


class HandMigration(VMStruct):
    value: u8 = 0


class Hand(ToMigrationState[HandMigration]):
    """Hand-written; refuses 13, after it changed something in place."""

    def __init__(self) -> None:
        self.log = [1]
        self.versions: list[int] = []

    def snapshot_migration_state(self, target: HandMigration) -> None:
        target.value = self.log[0]

    def restore_migrated_state_mut(self, source: HandMigration, version_id: int) -> None:
        self.versions = [*self.versions, version_id]
        self.log[0] = source.value
        if source.value == 13:
            raise InvalidError("unlucky")


@derive_to_migration_state
@dataclass
class Mixture:
    first: u8 = 1
    hand: Hand = field(default_factory=Hand)
    hands: list[Hand] = field(default_factory=lambda: [Hand(), Hand()], length=2)
    locked: Mutex[Hand] = field(default_factory=lambda: Mutex(Hand()))
    timer: Timer = field(default_factory=Timer)


def test_hand_written_states_and_locks_are_fields_too() -> None:
    class Dev(Device, name="dev", version_id=4):
        part: Migratable[Mutex[Mixture]]

    dev = Dev()
    load(dev, struct.pack(">5BI?", 2, 3, 4, 5, 6, 7, False))
    mixture = dev.part.into_inner()
    assert mixture.hand.versions == mixture.locked.into_inner().versions == [4]
    assert [hand.log for hand in mixture.hands] == [[4], [5]]
    assert save(dev) == struct.pack(">5BI?", 2, 3, 4, 5, 6, 7, False)


@pytest.mark.parametrize("at", range(1, 5))
def test_hand_written_state_that_refuses_undoes_the_others(at: int) -> None:
    mixture: Any = Mixture()
    hands = [mixture.hand, *mixture.hands, mixture.locked.into_inner()]
    numbers = [9, 9, 9, 9, 9]
    numbers[at] = 13
    source = mixture.Migrated(first=9)
    source.hand.value, source.hands[0].value, source.hands[1].value = numbers[1:4]
    source.locked.value = numbers[4]
    source.timer.expiry = 9
    path = ["", "hand", "hands[0]", "hands[1]", "locked"][at]
    with pytest.raises(InvalidError) as caught:
        mixture.restore_migrated_state_mut(source, 1)
    assert str(caught.value) == f"MixtureMigration.{path}: unlucky"
    assert [hand.log for hand in hands] == [[1]] * 4
    assert (mixture.first, mixture.timer) == (1, Timer())


# ------------------------------------------------------------ kinds of classes


def test_slots_keyword_only_and_initvar() -> None:
    @derive_to_migration_state
    @dataclass(slots=True)
    class Slotted:
        a: u8
        factor: InitVar[int]
        _: KW_ONLY
        b: u16 = 3
        inner: Timer = field(default_factory=Timer)

        def __post_init__(self, factor: int) -> None:
            self.a *= factor

    slotted = Slotted(2, 3)
    assert not hasattr(slotted, "__dict__")
    assert save(slotted) == struct.pack(">BHI?", 6, 3, 5, True)
    load(slotted, struct.pack(">BHI?", 1, 2, 3, False))
    assert slotted.inner == Timer(3, False)
    assert (slotted.a, slotted.b) == (1, 2)


def test_base_class_fields_go_first_and_can_be_redeclared() -> None:
    @dataclass
    class Plain:
        zero: u8 = 0

    @derive_to_migration_state
    @dataclass
    class Base(Plain):
        one: u8 = 1
        two: u8 = 2

    @derive_to_migration_state
    @dataclass
    class Child(Base):
        three: u8 = 3
        one: u16 = 0x101  # keeps its place

    child = Child()
    assert save(child) == struct.pack(">BHBB", 0, 0x101, 2, 3)
    assert save(Base()) == bytes([0, 1, 2])
    load(child, struct.pack(">BHBB", 4, 5, 6, 7))
    assert child == Child(4, 5, 6, 7)


def test_subclass_is_its_base_as_long_as_it_adds_no_field() -> None:
    class Same(Timer):
        def double(self) -> int:
            return 2 * self.expiry

    @dataclass
    class More(Timer):
        lost: u8 = 1

    same = Same(7)
    load(same, struct.pack(">I?", 8, True))
    assert same.double() == 16
    holder = Ticks(timer=Same(9))
    load(holder, struct.pack(TICKS, *OTHER))
    assert holder.timer == Same(50, False)
    with pytest.raises(
        DeclarationError, match=r"class More has other fields than Timer, from which it inherits"
    ):
        save(More())


def test_subclass_that_writes_a_conversion_itself_is_asked_wherever_it_is() -> None:
    class Careful(Timer):
        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            if source.expiry > 100:
                raise InvalidError(f"{source.expiry} is far away")
            self.expiry = source.expiry  # and leaves armed alone

    ticks = Ticks(timer=Careful(4))
    load(ticks, struct.pack(TICKS, *OTHER))
    assert ticks.timer == Careful(50, True)
    far = list(OTHER)
    far[11] = 101
    with pytest.raises(InvalidError, match=r"^TicksMigration\.timer: 101 is far away"):
        load(ticks, struct.pack(TICKS, *far))
    assert ticks.timer == Careful(50, True)


def test_base_class_of_another_module_has_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    lines = [
        "from __future__ import annotations",
        "from dataclasses import dataclass",
        "from qemu_vmstate import u16 as number",
        "@dataclass",
        "class Base:",
        "    far: number = 1",
    ]
    exec("\n".join(lines), vars(module))

    @derive_to_migration_state
    @dataclass
    class Child(module.Base):  # type: ignore[misc]
        near: u8 = 2

    @derive_to_migration_state
    @dataclass
    class Grandchild(Child):
        last: u8 = 3

    assert save(Grandchild()) == struct.pack(">HBB", 1, 2, 3)


def test_derived_state_is_a_base_for_type_checkers() -> None:
    @derive_to_migration_state
    @dataclass
    class Typed(DerivedState):
        a: u8 = 1

    @dataclass
    class Forgotten(DerivedState):
        a: u8 = 1

    assert issubclass(Typed.Migrated, VMStruct)
    assert asdict(Typed().to_migration_state()) == {"a": 1}
    assert save(Typed()) == b"\1"
    forgotten = Forgotten()
    remedy = r"class Forgotten has no conversions: write @derive_to_migration_state above"
    with pytest.raises(DeclarationError, match="has no Migrated"):
        save(forgotten)
    with pytest.raises(DeclarationError, match=remedy):
        forgotten.snapshot_migration_state(None)
    with pytest.raises(DeclarationError, match=remedy):
        forgotten.restore_migrated_state_mut(None, 1)


def test_local_names_and_strings_in_annotations() -> None:
    class Own(enum.IntEnum):
        A = 1

    @derive_to_migration_state
    @dataclass
    class Local:
        own: Own = field(default=Own.A, try_into=u8)
        parent: Local | None = field(default=None, omit=True)

    assert save(Local()) == b"\1"


# --------------------------------------------------------------- declarations


def declare(hint: Any, **options: Any) -> Any:
    return derive_to_migration_state(
        make_dataclass("Bad", [("a", hint, _dataclass_field(field(**options)))])
    )


def _dataclass_field(options: Any) -> Any:
    """What field() becomes in the body of a class."""

    class Body:
        a = options

    return Body.__dict__["a"]


@dataclass
class Undecorated:
    a: u8 = 1


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (u8, {"omit": True, "into": u8}, "Bad.a: omit stands alone, and into would have no meaning"),
    (u8, {"omit": True, "try_into": u8}, "Bad.a: omit stands alone, and try_into would have"),
    (u8, {"omit": True, "clone": True}, "Bad.a: omit stands alone, and clone would have"),
    (u8, {"omit": True, "none": 0}, "Bad.a: omit stands alone, and none would have"),
    (u8, {"omit": True, "length": 3}, "Bad.a: omit stands alone, and length would have"),
    (u8, {"omit": True, "name": "b"}, "Bad.a: omit stands alone, and name would have"),
    (u8, {"into": u8, "try_into": u8}, "Bad.a: into and try_into together; take into if the"),
    (int, {}, "Bad.a: int has no width on the wire; annotate it u8 to u64 or i8 to i64"),
    (str, {}, "Bad.a: str has no form on the wire; add field(try_into=...) with a wire type"),
    (Mode, {}, "Bad.a: Mode has no width on the wire; add field(try_into=u8)"),
    (list[u8], {}, "Bad.a: a list has no length on the wire; add field(length=16)"),
    (bytes, {}, "Bad.a: bytes has no length on the wire; add field(length=16)"),
    (list[int], {"length": 3}, "Bad.a: int has no width on the wire"),
    (list[u8], {"length": 0}, "Bad.a: 0 is no length; write a number of elements"),
    (u8, {"length": 3}, "Bad.a: length=3 is for list, bytes and bytearray, not for "),
    (u8, {"length": 3, "into": u8}, "Bad.a: length beside into; say it in the type"),
    (Undecorated, {}, "Bad.a: Undecorated is no ToMigrationState; write @derive_to_migration_"),
    (Holder, {}, "Bad.a: Holder has no form on the wire"),
    (Timer, {"clone": True}, "Bad.a: clone copies wire types and layout classes; Timer has a"),
    (list[Timer], {"clone": True, "length": 1}, "Bad.a: clone copies wire types and layout"),
    (u8 | None, {}, "Bad.a: nothing says how None goes on the wire; add none= and the number"),
    (u8, {"none": 3}, "Bad.a: none=3 is for a field that can be None; annotate it as in u16 |"),
    (u8 | None, {"none": 256}, "Bad.a: none=256 is no u8 (0 to 255) that could stand for None"),
    (u8 | None, {"none": True}, "Bad.a: none=True is no u8 (0 to 255) that could stand for None"),
    (bool | None, {"none": 1}, "Bad.a: none=1 is no bool (0 to 1) that could stand for None"),
    (bytes | None, {"none": 0, "length": 2}, "Bad.a: none=0 cannot stand for None in what is"),
    (Timer | None, {"none": bool}, "Bad.a: a state that can be None has no place to be restored"),
    (int | str, {"try_into": u8}, "Bad.a: int | str is no class, so there is nothing to convert"),
    (Mode, {"into": u8}, "Bad.a: not every u8 is a Mode, so into=u8 could fail; use try_into=u8"),
    (Bits, {"into": u8}, "Bad.a: not every u8 is a Bits, so into=u8 could fail; use try_into=u8"),
    (Bits, {"try_into": i8}, "Bad.a: Bits is converted to a number, so try_into takes u8 to u64"),
    (Mode, {"try_into": Regs}, "Bad.a: Mode is converted to a number, so try_into takes bool, "),
    (Mode, {"try_into": bool}, "Bad.a: Mode.HALT is 9, which is no bool (0 to 1); take a wider"),
    (u8, {"into": u32}, "Bad.a: not every u32 is a u8 and the other way round, so into=u32"),
    (float, {"try_into": u64}, "Bad.a: a float in u64 would lose its fraction; keep the number"),
    (str, {"into": int}, "Bad.a: into: int has no width on the wire"),
]


@pytest.mark.parametrize(
    ("hint", "options", "sentence"), REFUSED, ids=[c[2][7:50] for c in REFUSED]
)
def test_declaration_is_refused_with_the_remedy(
    hint: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(hint, **options)
    assert str(caught.value).startswith(sentence)


def test_class_that_cannot_be_derived_is_refused() -> None:
    class NoDataclass:
        a: u8 = 1

    with pytest.raises(DeclarationError, match=r"class NoDataclass is no dataclass, whose fields"):
        derive_to_migration_state(NoDataclass)
    with pytest.raises(DeclarationError, match=r"class Late is no dataclass"):

        @derive_to_migration_state
        class Late(Timer):
            b: u8 = 1

    with pytest.raises(DeclarationError, match=r"class Frozen is frozen, so it cannot be restored"):

        @derive_to_migration_state
        @dataclass(frozen=True)
        class Frozen:
            a: u8 = 1

    with pytest.raises(DeclarationError, match=r"class Both has a snapshot_migration_state of its"):

        @derive_to_migration_state
        @dataclass
        class Both:
            a: u8 = 1

            def snapshot_migration_state(self, target: Any) -> None: ...

    with pytest.raises(DeclarationError, match=r"has_a is another's on the wire; rename one"):

        @derive_to_migration_state
        @dataclass
        class Clash:
            has_a: bool = True
            a: u8 | None = field(default=None, none=bool)

    with pytest.raises(
        DeclarationError, match=r"Reserved.*\.Migrated: the name 'Migrated' is taken"
    ):
        derive_to_migration_state(make_dataclass("Reserved", [("Migrated", u8)]))


def test_options_of_dataclasses_field_work_beside() -> None:
    @derive_to_migration_state
    @dataclass
    class Beside:
        a: u8 = dataclasses.field(default=1, repr=False)
        b: u8 = field(default=2)
        c: u8 = 3

    assert save(Beside()) == b"\1\2\3"
    assert repr(Beside()).endswith("Beside(b=2, c=3)")


# ----------------------------------------------------------------- hypothesis


NUMBERS: list[tuple[Any, str, int, int]] = [
    (bool, "?", 0, 1),
    *((kind, letter, 0, 2**bits - 1) for kind, letter, bits in
      ((u8, "B", 8), (u16, "H", 16), (u32, "I", 32), (u64, "Q", 64))),
    *((kind, letter, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for kind, letter, bits in
      ((i8, "b", 8), (i16, "h", 16), (i32, "i", 32), (i64, "q", 64))),
]  # fmt: skip

Kind = tuple[Any, dict[str, Any], str, Any, Callable[[Any], list[Any]]]
"""Annotation, options, letters in struct, strategy of values, a value's numbers on the wire."""


@st.composite
def kinds(draw: st.DrawFn, depth: int = 2) -> Kind:
    """A declaration of one field."""
    hint, letter, low, high = draw(st.sampled_from(NUMBERS))
    number = st.booleans() if letter == "?" else st.integers(low, high)
    shapes = ["number", "number", "number", "list", "bytes", "enum", "none", "sentinel"]
    shape = draw(st.sampled_from([*shapes, "state", "states"] if depth else shapes))
    length = draw(st.integers(1, 3))
    if shape == "list":
        return (
            any_list[hint],
            {"length": length},
            letter * length,
            st.lists(number, min_size=length, max_size=length),
            list,
        )
    if shape == "bytes":
        return (
            bytes,
            {"length": length},
            f"{length}s",
            st.binary(min_size=length, max_size=length),
            lambda value: [value],
        )
    if shape == "enum":
        return Mode, {"try_into": u16}, "H", st.sampled_from(Mode), lambda value: [value.value]
    if shape == "none":
        return (
            hint | None,
            {"none": bool},
            f"?{letter}",
            st.none() | number,
            lambda value: [value is not None, value or 0],
        )
    if shape == "sentinel":
        return (
            u16 | None,
            {"none": 0x8000},
            "H",
            st.none() | st.integers(0, 0x7FFF),
            lambda value: [0x8000 if value is None else value],
        )
    if shape in ("state", "states"):
        cls, letters, values, wire = draw(classes(depth - 1))
        if shape == "state":
            return cls, {}, letters, values, wire
        return (
            any_list[cls],
            {"length": length},
            letters * length,
            st.lists(values, min_size=length, max_size=length),
            lambda value: [number for each in value for number in wire(each)],
        )
    return hint, {}, letter, number, lambda value: [value]


@st.composite
def classes(draw: st.DrawFn, depth: int = 2) -> tuple[Any, str, Any, Callable[[Any], list[Any]]]:
    """A derived class, its letters in struct, a strategy of objects, an object's numbers."""
    fields = draw(st.lists(kinds(depth), max_size=6))
    slots = draw(st.booleans())
    made = make_dataclass(
        "Drawn",
        [(f"f{n}", kind[0], _dataclass_field(field(**kind[1]))) for n, kind in enumerate(fields)],
        slots=slots,
    )
    derived: Any = derive_to_migration_state(made)

    def wire(value: Any) -> list[Any]:
        return [
            number for n, kind in enumerate(fields) for number in kind[4](getattr(value, f"f{n}"))
        ]

    values = st.builds(derived, *(kind[3] for kind in fields))
    return derived, "".join(kind[2] for kind in fields), values, wire


@given(st.data())
def test_any_declaration_makes_the_round_trip(data: st.DataObject) -> None:
    _, letters, values, wire = data.draw(classes())
    first, second = data.draw(values), data.draw(values)
    expected = struct.pack(">" + letters, *wire(first))
    assert save(first) == expected
    load(second, expected)
    assert second == first
    assert save(Migratable(Mutex(second))) == expected


@given(st.data())
def test_any_bytes_give_a_state_that_saves_or_leave_it_as_it_was(data: st.DataObject) -> None:
    _, letters, values, wire = data.draw(classes())
    state = data.draw(values)
    before = copy.deepcopy(state)
    size = struct.calcsize(">" + letters)
    try:
        load(state, data.draw(st.binary(min_size=size, max_size=size)))
    except InvalidError:
        assert state == before
    again = save(state)
    assert again == struct.pack(">" + letters, *wire(state))


@given(st.data())
def test_any_value_out_of_range_is_refused_by_its_field(data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=9))
    made: Any = derive_to_migration_state(
        make_dataclass("Run", [(f"f{n}", kind[0]) for n, kind in enumerate(drawn)])
    )
    at = data.draw(st.integers(0, len(drawn) - 1))
    _, _, low, high = drawn[at]
    numbers = [0] * len(drawn)
    numbers[at] = data.draw(st.integers(max_value=low - 1) | st.integers(min_value=high + 1))
    with pytest.raises(OutOfRangeError) as caught:
        save(made(*numbers))
    assert caught.value.path == f"RunMigration.f{at}"
