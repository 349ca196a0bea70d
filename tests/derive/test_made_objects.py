# SPDX-License-Identifier: GPL-2.0-or-later
"""New objects that a load makes, values that stand for None, and what refuses a load."""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    DeclarationError,
    Equal,
    InvalidError,
    OutOfRangeError,
    ToMigrationState,
    VArray,
    VMStruct,
    derive_to_migration_state,
    field,
    i8,
    i32_positive_le,
    load,
    migrates,
    register_converter,
    save,
    u8,
    u16,
    u32,
)


class Regs(VMStruct):
    config: u16 = 7


class Limited(VMStruct):
    magic: Equal[u32] = 5
    lim: u8 = field(minimum=2, default=3)


class Unlimited(VMStruct):
    plain: u8 = 9


class Counted(VMStruct):
    n: u8 = 0
    values: VArray[u8, Literal[2]] = field(num="n")


@derive_to_migration_state
@dataclass
class Bounded:
    low: u8 = field(minimum=2, default=3)
    high: i8 = field(minimum=1, maximum=4, default=4)
    magic: Equal[u16] = 0x102
    level: i32_positive_le = 6
    plain: u8 = 8


def one(hint: Any, make: Callable[[], Any], **options: Any) -> Any:
    """Return a derived class with one attribute."""
    namespace = {"__annotations__": {"a": hint}, "a": field(default_factory=make, **options)}
    return derive_to_migration_state(dataclass(type("One", (), namespace)))


NONE_FORMS: list[tuple[Any, bytes]] = [
    # Zeros, but for what no load would accept as 0.
    (Bounded, b"\3\4\1\2\0\0\0\6\0"),
    (Limited, b"\0\0\0\5\3"),
    (Unlimited, b"\0"),
    (Counted, b"\0"),
    (tuple[u8, Bounded], b"\0\3\4\1\2\0\0\0\6\0"),
    (Array[u8, Literal[2]], b"\0\0"),
]


@pytest.mark.parametrize(("hint", "rest"), NONE_FORMS)
@pytest.mark.parametrize("inside", [False, True])
def test_what_stands_for_none_can_be_loaded(hint: Any, rest: bytes, inside: bool) -> None:
    if inside:
        cls = one(list[hint | None], lambda: [None, None], max_length=2)
        wire = b"\2" + (b"\0" + rest) * 2
    else:
        cls = one(hint | None, lambda: None)
        wire = b"\0" + rest
    state, other = cls(), cls()
    assert save(state) == wire
    load(other, wire)
    assert other == state
    assert save(other) == wire


def test_object_that_refuses_a_value() -> None:
    class Even:
        def __get__(self, obj: Any, cls: type) -> Any:
            return 0 if obj is None else obj.__dict__["number"]

        def __set__(self, obj: Any, value: int) -> None:
            if value % 2:
                raise ValueError("it is odd")
            obj.__dict__["number"] = value

    @derive_to_migration_state
    @dataclass
    class Item:
        number: u8 = 0

    Item.number = Even()  # type: ignore[assignment]
    state = one(list[Item], list, max_length=3)()
    load(state, b"\2\4\6")
    assert [item.number for item in state.a] == [4, 6]
    message = r"One.*\.a\[1\]\.number: a new Item refuses 7: ValueError: it is odd"
    with pytest.raises(InvalidError, match=message):
        load(state, b"\2\2\7")
    assert [item.number for item in state.a] == [4, 6]


@pytest.mark.parametrize("made", [3, int, None])
def test_class_that_makes_something_else(made: Any) -> None:
    @derive_to_migration_state
    @dataclass
    class Strange:
        number: u8 = 0

        def __new__(cls, *args: Any) -> Any:
            return object.__new__(cls) if args else made

    state = one(list[Strange], list, max_length=3)()
    state.a.append(Strange(4))
    assert save(state) == b"\1\4"
    with pytest.raises(InvalidError, match=r"a\[0\]: .* does not migrate as Strange"):
        load(state, b"\1\5")
    assert state.a[0].number == 4


def test_layout_class_that_makes_something_else() -> None:
    class Strange(VMStruct):
        number: u8 = 0
        fake = False

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return 3 if cls.fake else super().__new__(cls, *args, **kwargs)

    state = one(list[Strange], list, max_length=3)()
    state.a.append(Strange(number=4))
    Strange.fake = True
    with pytest.raises(InvalidError, match=r"a\[0\]: 3 is a int, which does not migrate"):
        load(state, b"\1\5")
    assert state.a[0].number == 4


def test_new_object_whose_post_init_takes_more_is_made_by_its_class() -> None:
    """No load knows the values of an ``InitVar``; without a default it is refused."""

    @derive_to_migration_state
    @dataclass
    class Scaled:
        number: u8 = 0
        factor: InitVar[int] = 3
        scaled: int = field(default=0, omit=True)

        def __post_init__(self, factor: int) -> None:
            self.scaled = factor

    state = one(list[Scaled], list, max_length=3)()
    load(state, b"\1\5")
    assert state.a == [Scaled(5)]
    assert state.a[0].scaled == 3

    @derive_to_migration_state
    @dataclass
    class Needy:
        number: u8
        factor: InitVar[int]

        def __post_init__(self, factor: int) -> None: ...

    with pytest.raises(DeclarationError, match=r"One\.a: each load makes new objects of Needy"):
        one(list[Needy], list, max_length=3)


def test_own_state_that_cannot_be_made_is_refused() -> None:
    class Ticks(ToMigrationState[Regs]):
        def __init__(self, owner: object, count: int = 0) -> None:
            self.owner = owner

        def snapshot_migration_state(self, target: Regs) -> None: ...

        def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None: ...

    for hint in (list[Ticks], Ticks | None, dict[u8, Ticks]):
        with pytest.raises(
            DeclarationError,
            match=r"One\.a: each load makes new objects of Ticks, and Ticks\(\) lacks arguments "
            r"\(missing a required argument: 'owner'\); give them defaults",
        ):
            one(hint, list, max_length=3)
    # A state that a restore keeps needs no new object.
    one(Ticks, lambda: Ticks(None))


class Unhashable:
    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        if self.number == 9:
            raise ValueError("nine")
        return 1

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Unhashable)
        if 8 in (self.number, other.number):
            raise ValueError("eight")
        return self.number == other.number

    def __repr__(self) -> str:
        return f"Unhashable({self.number})"


register_converter(Unhashable, u8, lambda value: value.number, Unhashable)


@pytest.mark.parametrize(
    ("hint", "wire", "message"),
    [
        (
            dict[Unhashable, u8],
            b"\2\1\1\x09\1",
            r"a\[Unhashable\(9\)\]: .*: nine; keep it",
        ),
        (dict[Unhashable, u8], b"\2\1\1\x08\1", r"a\[Unhashable\(8\)\]: .*: eight; keep"),
        (
            set[Unhashable],
            b"\2\1\x09",
            r"a: \[Unhashable\(1\), .*cannot be .*: nine; keep",
        ),
        (
            frozenset[Unhashable],
            b"\2\1\x08",
            r"a: \[Unhashable\(1\), .* cannot be .*: eight; keep",
        ),
        (
            set[Decimal],
            b"\1\0\0\0\4sNaN",
            r"a: \[Decimal\('sNaN'\)\] cannot be looked up: ",
        ),
    ],
)
def test_key_that_cannot_be_looked_up(hint: Any, wire: bytes, message: str) -> None:
    state = one(hint, hint.__origin__, max_length=3)()
    with pytest.raises(InvalidError, match=message):
        load(state, wire)
    assert not state.a


def test_bytearray_whose_size_cannot_change_is_refused_before_anything_changes() -> None:
    @derive_to_migration_state(max_length=4)
    @dataclass
    class Raw:
        first: u8 = 0
        names: list[u8] = field(default_factory=list)
        raw: bytearray = field(default_factory=bytearray)

    state: Any = Raw(1, [2], bytearray(b"ab"))
    with memoryview(state.raw) as view:
        source = Raw(5, [6], bytearray(b"x")).to_migration_state()  # type: ignore[attr-defined]
        with pytest.raises(InvalidError, match=r"RawMigration\.raw: .* memoryview .*; release it"):
            state.restore_migrated_state_mut(source, 1)
        assert state == Raw(1, [2], bytearray(b"ab"))
        load(state, b"\5\1\6\0\0\0\2xy")
        assert bytes(view) == b"xy"
    load(state, b"\5\1\6\0\0\0\1z")
    assert state == Raw(5, [6], bytearray(b"z"))


@dataclass
class Elsewhere:
    """What is in a property, which a load gives a new object."""

    shown: Any

    @property
    def value(self) -> Any:
        return self.shown

    @value.setter
    def value(self, value: Any) -> None:
        self.shown = value


def test_new_collections_know_what_the_ones_before_them_knew() -> None:
    cls = type("Defaults", (Elsewhere,), {})
    migrates(cls, fields={"value": field(defaultdict[u8, u8], max_length=3)})
    state = cls(defaultdict(lambda: 7, {1: 2}))
    load(state, b"\1\3\4")
    assert (type(state.shown), dict(state.shown), state.shown[9]) == (defaultdict, {3: 4}, 7)

    cls = type("Bounded", (Elsewhere,), {})
    migrates(cls, fields={"value": field(deque[u8], max_length=3)})
    state = cls(deque([1, 2], maxlen=2))
    load(state, b"\1\5")
    assert (state.shown, state.shown.maxlen) == (deque([5]), 2)
    with pytest.raises(InvalidError, match=r"\.value: the stream has 3 elements, and the deque's"):
        load(state, b"\3\5\6\7")
    assert state.shown == deque([5])


def test_defaultdict_that_a_load_would_make_is_refused() -> None:
    inner = Annotated[defaultdict[u8, u8], field(max_length=2)]
    for hint in (defaultdict[u8, u8] | None, list[inner], inner | None):
        with pytest.raises(DeclarationError, match=r"One\.a: a load would make a new defaultdict"):
            one(hint, lambda: None, max_length=3)


class Colour:
    def __init__(self, rgb: int) -> None:
        self.rgb = rgb


class Named(Colour):
    pass


register_converter(Colour, u8, lambda colour: colour.rgb, Colour)


def test_converter_gets_objects_of_its_class_only() -> None:
    cls = one(list[Colour], list, max_length=3)
    assert save(cls([Colour(4), Named(5)])) == b"\2\4\5"
    for value, message in (
        (3, r"a\[0\]: 3 is a int, not a Colour"),
        (None, r"a\[0\]: None is no value, not a Colour; annotate it with \| None"),
    ):
        with pytest.raises(OutOfRangeError, match=message):
            save(cls([value]))


class Bits(enum.Flag, boundary=enum.CONFORM):
    A = 1
    B = 64


class Kept(enum.Flag, boundary=enum.KEEP):
    A = 1


class Ejected(enum.IntFlag, boundary=enum.EJECT):
    A = 1


@pytest.mark.parametrize("hint", [Bits, Kept, Ejected])
def test_flags_with_other_bits_are_refused_or_saved_as_they_were_loaded(hint: Any) -> None:
    state = one(list[hint], list, max_length=3)()
    for number in range(256):
        try:
            load(state, bytes((1, number)))
        except InvalidError:
            assert hint is Bits
            assert number & ~65
        else:
            assert save(state) == bytes((1, number))
