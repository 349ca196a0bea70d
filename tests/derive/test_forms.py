# SPDX-License-Identifier: GPL-2.0-or-later
"""Collections, text, bytes and other values of variable length in derived dataclasses."""

from __future__ import annotations

import copy
import enum
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType

import pytest

from qemu_vmstate import (
    Array,
    Buffer,
    DeclarationError,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    StreamError,
    ToMigrationState,
    VMStruct,
    asdict,
    derive_to_migration_state,
    field,
    i16,
    i64,
    load,
    register_converter,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)

UserId = NewType("UserId", int)


class Mode(enum.Enum):
    IDLE = 0
    BUSY = 300


class Level(enum.IntEnum):
    LOW = -1
    HIGH = 5


class Colour(enum.Enum):
    RED = "red"
    BLUE = "bleu"


class Bits(enum.Flag):
    A = 1
    B = 256


class Regs(VMStruct):
    config: u16 = 7
    fifo: Array[u8, Literal[2]] = zeroed()


@derive_to_migration_state(int_type=i16, max_length=4)
@dataclass
class Item:
    number: int = 1
    name: str = ""


@derive_to_migration_state
@dataclass(frozen=True)
class Key:
    bus: u8
    slot: u8


def one(hint: Any, default: Any, **options: Any) -> Any:
    """Return a derived class with one attribute."""
    namespace = {
        "__annotations__": {"a": hint},
        "a": field(default_factory=lambda: copy.deepcopy(default), **options),
    }
    return derive_to_migration_state(dataclass(type("One", (), namespace)))


def be32(number: int) -> bytes:
    return number.to_bytes(4, "big")


# The annotation, its options, a value, and the bytes by which it goes on the wire.
FORMS: list[tuple[Any, dict[str, Any], Any, bytes]] = [
    (list[u32], {"max_length": 255}, [1, 2**32 - 1], b"\2" + be32(1) + b"\xff" * 4),
    (list[u32], {"max_length": 256}, [1], b"\0\1" + be32(1)),
    (list[u8], {"max_length": 65536}, [7], b"\0\0\0\1\7"),
    (list[u8], {"max_length": 9, "count_type": u16}, [7], b"\0\1\7"),
    (list[u8], {"max_length": 9}, [], b"\0"),
    (list[bool], {"max_length": 9}, [True, False], b"\2\1\0"),
    (list[float], {"max_length": 9}, [1.5], b"\1" + struct.pack(">d", 1.5)),
    (tuple[u8, ...], {"max_length": 9}, (1, 2), b"\2\1\2"),
    (deque[u16], {"max_length": 9}, deque([1, 2]), b"\2\0\1\0\2"),
    (bytes, {"max_length": 9}, b"abc", be32(3) + b"abc"),
    (bytearray, {"max_length": 9}, bytearray(b"abc"), be32(3) + b"abc"),
    (bytes, {"max_length": 9, "count_type": u64}, b"a", bytes(7) + b"\1a"),
    (str, {"max_length": 9}, "grün\0", be32(6) + b"gr\xc3\xbcn\0"),
    (list[str], {"max_length": 3}, None, b""),
    (
        list[Annotated[str, field(max_length=5)]],
        {"max_length": 3},
        ["a", "", "bc"],
        b"\3" + be32(1) + b"a" + be32(0) + be32(2) + b"bc",
    ),
    (
        list[Annotated[list[u8], field(max_length=5)]],
        {"max_length": 3},
        [[1], [], [2, 3]],
        b"\3" + b"\1\1" + b"\0" + b"\2\2\3",
    ),
    (
        dict[Annotated[str, field(max_length=5)], i16],
        {"max_length": 3},
        {"z": -1, "a": 2},
        b"\2" + be32(1) + b"z\xff\xff" + be32(1) + b"a\0\2",
    ),
    (
        dict[u8, Annotated[dict[u8, bool], field(max_length=2)]],
        {"max_length": 3},
        {5: {1: True}, 3: {}},
        b"\2" + b"\5\1\1\1" + b"\3\0",
    ),
    (set[u16], {"max_length": 9}, {258, 3, 256}, b"\3\0\3\1\0\1\2"),
    (set[i16], {"max_length": 9}, {1, -1, 0}, b"\3\xff\xff\0\0\0\1"),
    (frozenset[u8], {"max_length": 9}, frozenset({2, 1}), b"\2\1\2"),
    (
        set[Annotated[str, field(max_length=5)]],
        {"max_length": 9},
        {"b", "aa", "", "a"},
        b"\4" + be32(0) + be32(1) + b"a" + be32(2) + b"aa" + be32(1) + b"b",
    ),
    (set[float], {"max_length": 9}, {1.0, -2.0}, b"\2" + struct.pack(">dd", -2.0, 1.0)),
    (set[tuple[u8, i16]], {"max_length": 9}, {(1, 2), (1, -2)}, b"\2" + b"\1\xff\xfe" + b"\1\0\2"),
    (set[Mode], {"max_length": 9}, {Mode.BUSY, Mode.IDLE}, b"\2\0\0\1\x2c"),
    (set[Key], {"max_length": 9}, {Key(2, 1), Key(1, 9)}, b"\2\1\x09\2\1"),
    (list[u8] | None, {"max_length": 9}, [4], b"\1\1\4"),
    (list[u8] | None, {"max_length": 9}, None, b"\0\0"),
    (str | None, {"max_length": 9}, None, b"\0" + be32(0)),
    (str | None, {"max_length": 9}, "a", b"\1" + be32(1) + b"a"),
    (list[u8 | None], {"max_length": 9}, [None, 4], b"\2\0\0\1\4"),
    (u8 | None, {}, None, b"\0\0"),
    (u8 | None, {}, 3, b"\1\3"),
    (tuple[u8, bool, u16], {}, (1, True, 2), b"\1\1\0\2"),
    (dict[tuple[u8, u8], u8], {"max_length": 3}, {(1, 2): 3}, b"\1\1\2\3"),
    (float, {}, -0.0, struct.pack(">d", -0.0)),
    (Mode, {}, Mode.BUSY, b"\1\x2c"),
    (Level, {}, Level.LOW, b"\xff"),
    (Colour, {}, Colour.BLUE, be32(4) + b"bleu"),
    (list[Colour], {"max_length": 2}, [Colour.RED], b"\1" + be32(3) + b"red"),
    (Bits, {}, Bits.A | Bits.B, b"\1\1"),
    (list[Bits], {"max_length": 2}, [Bits.A | Bits.B], b"\1\1\1"),
    (list[Mode], {"max_length": 2}, [Mode.BUSY], b"\1\1\x2c"),
    (Mode, {"try_into": u64}, Mode.BUSY, (300).to_bytes(8, "big")),
    (list[Item], {"max_length": 3}, [Item(2, "b")], b"\1\0\2" + be32(1) + b"b"),
    (dict[u8, Item], {"max_length": 3}, {1: Item(2, "")}, b"\1\1\0\2" + be32(0)),
    (Item | None, {}, None, b"\0\0\0" + be32(0)),
    (Item | None, {}, Item(3, "x"), b"\1\0\3" + be32(1) + b"x"),
    (Key, {}, Key(1, 2), b"\1\2"),
    (dict[Key, u8], {"max_length": 3}, {Key(1, 2): 3}, b"\1\1\2\3"),
    (list[Regs], {"max_length": 3}, [Regs(config=258, fifo=[1, 2])], b"\1\1\2\1\2"),
    (list[Buffer[Literal[2]]], {"max_length": 3}, [b"ab"], b"\1ab"),
    (list[Array[u16, Literal[2]]], {"max_length": 3}, [[1, 2]], b"\1\0\1\0\2"),
    (list[Annotated[bytes, field(length=2)]], {"max_length": 3}, [b"ab"], b"\1ab"),
    (list[Annotated[str, field(max_length=3)]], {"length": 2}, ["a", ""], be32(1) + b"a" + be32(0)),
    (list[UserId], {"max_length": 3}, None, b""),
    (Counter[u8], {"max_length": 3}, Counter({1: -2}), b"\1\1" + (2**64 - 2).to_bytes(8, "big")),
    (OrderedDict[u8, u8], {"max_length": 3}, OrderedDict([(2, 1), (1, 2)]), b"\2\2\1\1\2"),
    (defaultdict[u8, u8], {"max_length": 3}, defaultdict(int, {2: 1}), b"\1\2\1"),
]
FORMS = [form for form in FORMS if form[2] is not None or form[3]]


@pytest.mark.parametrize(("hint", "options", "value", "wire"), FORMS)
def test_value_goes_on_the_wire_and_comes_back(
    hint: Any, options: dict[str, Any], value: Any, wire: bytes
) -> None:
    cls = one(hint, value, **options)
    state = cls()
    assert save(state) == wire
    other = cls()
    kept = other.a
    load(other, wire)
    assert other.a == value
    assert type(other.a) is type(value)
    if isinstance(value, list | dict | set | deque | bytearray):
        assert other.a is kept
        kept.clear()
        load(other, wire)
        assert other.a is kept
        assert other.a == value


@pytest.mark.parametrize(("hint", "options", "value", "wire"), FORMS)
def test_short_or_long_stream_changes_nothing(
    hint: Any, options: dict[str, Any], value: Any, wire: bytes
) -> None:
    state = one(hint, value, **options)()
    before = copy.deepcopy(state)
    for broken in (wire[:-1], wire + b"\0"):
        with pytest.raises(StreamError):
            load(state, broken)
        assert state == before


def test_mutable_values_inside_are_made_anew() -> None:
    cls = one(list[Item], [], max_length=4)
    state = cls()
    state.a = [Item(1, "a"), Item(2, "b")]
    first = state.a[0]
    wire = save(state)
    first.number = 9
    load(state, wire)
    assert state.a == [Item(1, "a"), Item(2, "b")]
    assert first == Item(9, "a")


def test_annotations_without_width_get_that_of_the_class() -> None:
    @derive_to_migration_state(int_type=i64, max_length=2)
    @dataclass
    class Plain:
        number: int = -1
        names: list[str] | None = None
        user: UserId = UserId(3)

    state = Plain(names=["ab", "c"])
    wire = save(state)
    assert wire == b"".join(
        [b"\xff" * 8, b"\1\2", be32(2), b"ab", be32(1), b"c", (3).to_bytes(8, "big")]
    )
    other = Plain()
    load(other, wire)
    assert other == state
    with pytest.raises(OutOfRangeError, match=r"PlainMigration.names: 3 elements, and the maximum"):
        save(Plain(names=["", "", ""]))
    with pytest.raises(OutOfRangeError, match=r"PlainMigration.names\[1\]: 3 bytes of UTF-8"):
        save(Plain(names=["", "abc"]))


@pytest.mark.parametrize("options", [{"int_type": int}, {"int_type": float}, {"max_length": 0}])
def test_class_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=r"derive_to_migration_state\(\): "):
        derive_to_migration_state(**options)(dataclass(type("Bad", (), {})))


# The annotation, its options, a value that is refused, and the error.
REFUSED: list[tuple[Any, dict[str, Any], Any, str]] = [
    (list[u8], {"max_length": 2}, [1, 2, 3], "One.a: 3 elements, and the maximum is 2; keep"),
    (list[u8], {"max_length": 2}, [1, 256], "One.a[1]: 256 is out of range for u8 (0 to 255)"),
    (
        list[u8],
        {"max_length": 2},
        None,
        "One.a: None is no value, not a list; annotate it with |",
    ),
    (list[u8], {"max_length": 2}, "ab", "One.a: 'ab' is a str, not a list"),
    (list[u8], {"max_length": 2}, {1: 2}, "One.a: {1: 2} is a dict, not a list"),
    (list[u8], {"max_length": 2}, {1}, "One.a: {1} is a set, not a list"),
    (set[u8], {"max_length": 2}, [1], "One.a: [1] is a list, not a set"),
    (dict[u8, u8], {"max_length": 2}, [1], "One.a: [1] is a list, not a dict"),
    (dict[u8, u8], {"max_length": 1}, {1: 2, 3: 4}, "One.a: 2 elements, and the maximum is 1"),
    (dict[u8, u8], {"max_length": 2}, {1: 256}, "One.a[1]: 256 is out of range for u8"),
    (dict[u8, u8], {"max_length": 2}, {256: 1}, "One.a[256]: 256 is out of range for u8"),
    (bytes, {"max_length": 2}, b"abc", "One.a: 3 bytes, and the maximum is 2; keep fewer"),
    (bytes, {"max_length": 2}, "ab", "One.a: 'ab' is a str, not a bytes"),
    (str, {"max_length": 2}, "aü", "One.a: 3 bytes of UTF-8, and the maximum is 2"),
    (str, {"max_length": 2}, b"a", "One.a: b'a' is a bytes, not a str"),
    (str, {"max_length": 9}, "\udc80", "One.a: '\\udc80' has a surrogate, which UTF-8 cannot hold"),
    (
        list[Item],
        {"max_length": 2},
        [Item(2**15)],
        "One.a[0].number: 32768 is out of range",
    ),
    (list[Item], {"max_length": 2}, [Item(1, "abcde")], "One.a[0].name: 5 bytes of UTF-8, and the"),
    (list[Item], {"max_length": 2}, [3], "One.a[0]: 3 is a int, which does not migrate as Item"),
    (list[Regs], {"max_length": 2}, [3], "One.a[0]: 3 is a int, which does not migrate as Regs"),
    (tuple[u8, u8], {}, (1,), "One.a: 1 elements for 2; its length is fixed"),
    (tuple[u8, u8], {}, (1, 300), "One.a[1]: 300 is out of range for u8"),
    (tuple[u8, u8], {}, [1, 2], "One.a: [1, 2] is a list, not a tuple"),
    (list[Mode], {"max_length": 2}, [7], "One.a[0]: 7 is no Mode, which has IDLE (0), BUSY (300)"),
    (Colour, {}, "green", "One.a: 'green' is no Colour, which has RED ('red'), BLUE ('bleu')"),
    (u8 | None, {}, 300, "One.a: 300 is out of range for u8"),
]


@pytest.mark.parametrize(("hint", "options", "value", "message"), REFUSED)
def test_value_that_has_no_place_is_refused(
    hint: Any, options: dict[str, Any], value: Any, message: str
) -> None:
    state = one(hint, value, **options)()
    with pytest.raises(InvalidError) as caught:
        save(state)
    assert str(caught.value).replace("OneMigration", "One").startswith(message)


# The annotation, its options, a hostile stream, and the error.
HOSTILE: list[tuple[Any, dict[str, Any], bytes, str]] = [
    (list[u8], {"max_length": 2}, b"\3\1\2\3", "num_a: 3 is out of range (0 to 2)"),
    (bytes, {"max_length": 2}, be32(2**31), "size_a: 2147483648 is out of range (0 to 2)"),
    (str, {"max_length": 2}, be32(2) + b"\xc3\x28", "the stream has no UTF-8 here: invalid contin"),
    (str, {"max_length": 3}, be32(3) + b"\xed\xa0\x80", "the stream has no UTF-8 here"),
    (
        dict[u8, u8],
        {"max_length": 3},
        b"\2\1\2\1\3",
        "the stream has a key twice: its 2 items",
    ),
    (set[u8], {"max_length": 3}, b"\2\2\1", "the stream's elements [2, 1] are not in ascending"),
    (set[u8], {"max_length": 3}, b"\2\1\1", "the stream's elements [1, 1] are not in ascending"),
    (frozenset[u8], {"max_length": 3}, b"\2\2\1", "the stream's elements [2, 1] are not in"),
    (Mode, {}, b"\0\5", "5 is no Mode, which has IDLE (0), BUSY (300)"),
    (
        list[Mode],
        {"max_length": 3},
        b"\1\0\5",
        "a[0]: 5 is no Mode, which has IDLE (0), BUSY",
    ),
    (Colour, {}, be32(3) + b"rad", "'rad' is no Colour, which has RED ('red'), BLUE ('bleu')"),
    (
        list[Annotated[str, field(max_length=5)]],
        {"max_length": 3},
        b"\2" + be32(1) + b"a" + be32(1) + b"\xff",
        "a[1]: the stream has no UTF-8 here: invalid start byte at byte 0",
    ),
    (
        dict[u8, Annotated[str, field(max_length=5)]],
        {"max_length": 3},
        b"\1\7" + be32(1) + b"\xff",
        "a[7]: the stream has no UTF-8 here",
    ),
    (
        list[Annotated[list[u8], field(max_length=1)]],
        {"max_length": 3},
        b"\2\1\1\2",
        "num_value: 2 is out of range (0 to 1)",
    ),
]


@pytest.mark.parametrize(("hint", "options", "wire", "message"), HOSTILE)
def test_hostile_stream_is_refused_and_changes_nothing(
    hint: Any, options: dict[str, Any], wire: bytes, message: str
) -> None:
    default = {list: [], dict: {}, set: set(), str: "", bytes: b""}
    cls = one(hint, default.get(getattr(hint, "__origin__", hint)), **options)
    state = cls()
    kept = state.a
    before = copy.deepcopy(state)
    with pytest.raises(InvalidError) as caught:
        load(state, wire)
    assert message in str(caught.value)
    assert state == before
    assert state.a is kept


def test_later_part_that_fails_undoes_the_collections() -> None:
    @derive_to_migration_state(max_length=9)
    @dataclass
    class Queues:
        numbers: list[u8]
        names: dict[str, u8]
        seen: set[u8]
        waiting: deque[u8]
        raw: bytearray
        text: str
        kind: tuple[u8, ...]

    class Refusing(ToMigrationState[Regs]):
        refuse = False

        def snapshot_migration_state(self, target: Regs) -> None: ...

        def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
            if self.refuse:
                raise InvalidError("not today")

    class Both(Device, name="both"):
        queues: Migratable[Mutex[Queues]]
        other: Migratable[Mutex[Refusing]]

    def queues(first: int) -> Queues:
        return Queues(
            [first],
            {"a": first},
            {first},
            deque([first], maxlen=5),
            bytearray([first]),
            "t",
            (first,),
        )

    device = Both(queues=Migratable(Mutex(queues(1))), other=Migratable(Mutex(Refusing())))
    wire = save(device)
    with device.queues.lock() as state:
        for name, value in vars(queues(2)).items():
            setattr(state, name, value)
        before = copy.deepcopy(state.__class__(**vars(state)))
        objects = dict(vars(state))
    with device.other.lock() as other:
        other.refuse = True
    with pytest.raises(InvalidError, match="not today"):
        load(device, wire)
    with device.queues.lock() as state:
        assert vars(state) == vars(before)
        assert all(getattr(state, name) is value for name, value in objects.items())
        assert state.waiting.maxlen == 5
    with device.other.lock() as other:
        other.refuse = False
    load(device, wire)
    with device.queues.lock() as state:
        assert vars(state) == vars(queues(1))
        mutable = ("numbers", "names", "seen", "waiting", "raw")
        assert all(getattr(state, name) is objects[name] for name in mutable)


def test_deque_that_would_drop_elements_is_refused() -> None:
    cls = one(deque[u8], deque(), max_length=9)
    state = cls()
    state.a = deque([7], maxlen=2)
    with pytest.raises(InvalidError, match=r"One.*\.a: the stream has 3 elements, and the deque's"):
        load(state, b"\3\1\2\3")
    assert state.a == deque([7])


def test_new_objects_get_what_does_not_migrate_and_are_checked() -> None:
    made = []

    @derive_to_migration_state
    @dataclass
    class Request:
        size: u8
        cache: list[int] = field(default_factory=lambda: [1], omit=True)

        def __post_init__(self) -> None:
            if self.size == 255:
                raise ValueError("255 is reserved")
            made.append(self.size)

    cls = one(list[Request], [], max_length=4)
    state = cls()
    load(state, b"\2\5\6")
    assert state.a == [Request(5), Request(6)]
    assert state.a[0].cache is not state.a[1].cache
    made.clear()
    with pytest.raises(InvalidError, match=r"a\[1\]: Request.__post_init__\(\) refuses what"):
        load(state, b"\2\5\xff")
    assert [request.size for request in state.a] == [5, 6]


def test_states_with_conversions_of_their_own_are_made_and_restored() -> None:
    class Ticks(ToMigrationState[Regs]):
        count = 0

        def snapshot_migration_state(self, target: Regs) -> None:
            target.config = self.count

        def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
            if source.config == 9:
                raise ValueError("nine")
            self.count = source.config + version_id

    cls = one(list[Ticks], [], max_length=4)
    state = cls()
    ticks = Ticks()
    ticks.count = 258
    state.a.append(ticks)
    assert save(state) == b"\1\1\2\0\0"
    load(state, b"\2\0\1\0\0\0\2\0\0")
    assert [each.count for each in state.a] == [2, 3]
    with pytest.raises(InvalidError, match=r"a\[1\]: .* is no Ticks: ValueError: nine"):
        load(state, b"\2\0\1\0\0\0\x09\0\0")
    assert [each.count for each in state.a] == [2, 3]


def test_equal_sets_have_equal_bytes_however_they_were_filled() -> None:
    names = Annotated[str, field(max_length=8)]
    cls = one(set[names], set(), max_length=200)
    words = [f"w{index}" for index in range(150)]
    first, second = cls(), cls()
    first.a.update(words)
    second.a.update(reversed(words))
    second.a.add("x")
    second.a.remove("x")
    assert save(first) == save(second)
    assert save(first).startswith(b"\x96" + be32(2) + b"w0" + be32(2) + b"w1" + be32(3) + b"w10")


def test_version_that_lacks_a_collection_gets_its_default() -> None:
    @derive_to_migration_state(version_id=2)
    @dataclass
    class Grown:
        count: u8 = 0
        names: list[str] = field(default_factory=lambda: ["x"], max_length=4, version_id=2)
        extra: dict[u8, u8] = field(default_factory=dict, max_length=4, version_id=2, keep=True)

        __annotations__ = {
            "count": u8,
            "names": list[Annotated[str, field(max_length=4)]],
            "extra": dict[u8, u8],
        }

    state = Grown(1, ["a", "b"], {1: 2})
    load(state, b"\5", version_id=1)
    assert state == Grown(5, ["x"], {1: 2})
    assert save(state) == b"\5\1" + be32(1) + b"x" + b"\1\1\2"


def test_migrated_shows_the_fields_of_each_form() -> None:
    cls = one(dict[Annotated[str, field(max_length=3)], u8], {"ab": 1}, max_length=2)
    assert asdict(cls().to_migration_state()) == {
        "num_a": 1,
        "a": [{"size_key": 2, "key": b"ab", "value": 1}],
    }


def test_elements_that_a_snapshot_left_behind_are_reset() -> None:
    cls = one(list[Annotated[str, field(max_length=4)]], ["a", "b", "c"], max_length=8)
    state = cls()
    migrated = state.to_migration_state()
    state.a[:] = ["z"]
    state.snapshot_migration_state(migrated)
    migrated.a = [migrated.a[0]]
    migrated.num_a = 3
    values = [bytes(element.value) for element in migrated.a]
    assert values == [b"z", b"", b""]


def test_keys_that_converters_inside_them_make_the_same_are_refused() -> None:
    class Parity:
        def __init__(self, number: int) -> None:
            self.number = number

    register_converter(Parity, u8, lambda parity: parity.number % 2, Parity)
    keys = {(Parity(1), 5): 1, (Parity(3), 5): 2}
    state = one(dict[tuple[Parity, u8], u8], keys, max_length=4)()
    with pytest.raises(InvalidError, match=r"are the same on the wire"):
        save(state)
