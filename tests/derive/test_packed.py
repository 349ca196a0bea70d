# SPDX-License-Identifier: GPL-2.0-or-later
"""``Packed``: what goes on the wire, which objects a load changes or replaces, what is refused."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import gc
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from dataclasses import field as plain_field
from typing import Any, Literal, NamedTuple, TypedDict

import attrs
import msgspec
import pytest

from qemu_vmstate import (
    DeclarationError,
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    Packed,
    ToMigrationState,
    VMStruct,
    asdict,
    derive_to_migration_state,
    describe,
    field,
    load,
    save,
    u8,
    u16,
)

from ..missing import hide

# For annotations that are made at run time, which type checkers refuse.
any_packed: Any = Packed


class Mode(enum.Enum):
    IDLE = "idle"
    RUN = "run"


@dataclass
class Packet:
    length: int
    data: bytes = b""


class Row(NamedTuple):
    x: int
    y: int


class Table(TypedDict):
    rows: list[Row]


class Get(msgspec.Struct, tag="get"):
    key: str


class Put(msgspec.Struct, tag="put"):
    key: str
    value: int


@dataclass
class Session:
    rx: list[Packet]
    mode: Mode = Mode.IDLE
    request: Get | Put | None = None
    peers: dict[int, str] = plain_field(default_factory=dict)


@derive_to_migration_state
@dataclass
class State(DerivedState):
    before: u8 = 1
    table: Packed[dict[str, int], Literal[64]] = field(default_factory=dict)
    session: Packed[Session | None, Literal[4096]] = field(default=None)
    after: u16 = 2


def counted(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def test_the_bytes_are_a_number_and_that_many_bytes_of_messagepack() -> None:
    state = State(3, {"a": 1, "bc": -2}, None, 4)
    # A fixmap of 2: fixstr "a", 1; fixstr "bc", -2. Then nil. (The specification of MessagePack.)
    table, nil = bytes.fromhex("82 a161 01 a26263 fe"), b"\xc0"
    wire = b"\3" + counted(table) + counted(nil) + b"\0\4"
    assert save(state) == wire
    other = State()
    load(other, wire)
    assert other == state


def test_the_description_names_the_content() -> None:
    fields = [(one["name"], one["type"], one["size"]) for one in describe(State())["fields"]]
    assert fields == [
        ("before", "uint8", 1),
        ("size_table", "uint32", 4),
        ("table", "messagepack", 1),
        ("size_session", "uint32", 4),
        ("session", "messagepack", 1),
        ("after", "uint16", 2),
    ]
    migrated = State(table={"a": 1}).to_migration_state()
    assert (migrated.size_table, asdict(migrated)["table"]) == (4, b"\x81\xa1a\1")


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Session, Session([Packet(1), Packet(2, b"\0\xff")], Mode.RUN, Put("k", 3), {7: "x"})),
        (Table, {"rows": [Row(1, 2)]}),
        (Row, Row(-1, 2**40)),
        (Get | Put, Get("key")),
        (list[Get | Put], [Put("a", 1), Get("b")]),
        (dict[str, list[float]], {"a": [1.5, float("inf")]}),
        (dict[tuple[int, int], str], {(1, 2): "x"}),
        (list[int], [-(2**63), 2**64 - 1]),
        (str, "zwölf\0"),
        (bytes, b"\0\xff"),
        (bytearray, bytearray(b"\0\xff")),
        (float, 5e-324),
        (bool, True),
        (int | None, None),
        (int | None, 7),
        (set[str], {"a", "b"}),
        (frozenset[int], frozenset({1, 2})),
        (tuple[int, str], (1, "a")),
        (Mode, Mode.RUN),
        (datetime.datetime, datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.UTC)),
        (datetime.datetime, datetime.datetime(2024, 2, 29, 1, 2, 3, 4)),
        (datetime.timedelta, datetime.timedelta(seconds=1.5)),
        (uuid.UUID, uuid.UUID(int=2**127 + 5)),
        (decimal.Decimal, decimal.Decimal("1.10")),
        (Any, {"a": [1, None, b"x"]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_type_comes_back_equal(hint: Any, value: Any) -> None:
    cls: Any = derive_to_migration_state(
        make_dataclass("Holder", [("value", any_packed[hint, 4096])])
    )
    other = cls(None)
    load(other, save(cls(value)))
    assert other.value == value
    assert type(other.value) is type(value)


def test_attrs_classes_come_back_equal() -> None:
    @attrs.define
    class Point:
        x: int
        y: int = 3

    cls: Any = derive_to_migration_state(
        make_dataclass("Holder", [("value", any_packed[Point, 64])])
    )
    other = cls(None)
    load(other, save(cls(Point(1, 2))))
    assert other.value == Point(1, 2)


def test_in_a_state_that_is_nested_in_a_list_of_a_device() -> None:
    @derive_to_migration_state
    @dataclass
    class Rack:
        states: list[State] = field(default_factory=lambda: [State(), State(5)], length=2)

    class Dev(Device, name="rack"):
        rack: Migratable[Mutex[Rack]]

    dev, other = Dev(), Dev()
    with dev.rack.lock() as rack:
        rack.states[1].table = {"x": 9}
        rack.states[1].session = Session([Packet(4)])
        saved = list(rack.states)
    load(other, save(dev))
    assert other.rack.into_inner().states == saved
    wire = save(other).replace(b"\xa6length\4", b"\xa6length\xc0")
    with pytest.raises(
        InvalidError,
        match=r"^rack\.rack\.states\[1\]\.session: its MessagePack is no .*Session \| None: "
        r"Expected `int`, got `None` - at `\$\.rx\[0\]\.length`\n",
    ):
        load(other, wire)
    assert other.rack.into_inner().states == saved


# ------------------------------------------------------- which objects are the same after a load

BUILTINS: list[tuple[Any, Any, Any]] = [
    (dict[str, int], {"a": 1, "b": 2}, {"c": 3}),
    (list[int], [1, 2, 3], [4]),
    (set[int], {1, 2}, {3}),
    (bytearray, bytearray(b"abc"), bytearray(b"d")),
]


def holder(hint: Any) -> Any:
    made: Any = make_dataclass("Holder", [("value", any_packed[hint, 256])])
    return derive_to_migration_state(made)


@pytest.mark.parametrize(("hint", "value", "other"), BUILTINS)
def test_a_mutable_builtin_remains_the_same_object(hint: Any, value: Any, other: Any) -> None:
    state = holder(hint)(value)
    load(state, save(holder(hint)(other)))
    assert state.value is value
    assert value == other


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (dict[str, int], None),
        (dict[str, int], [1]),
        (tuple[int, ...], (1, 2)),
        (Packet, Packet(1)),
    ],
)
def test_an_object_of_another_class_is_replaced(hint: Any, value: Any) -> None:
    cls = holder(hint)
    other = {"a": 3} if hint == dict[str, int] else value
    state = cls(value)
    load(state, save(cls(other)))
    assert state.value is not value or value == ()
    assert state.value == other


def test_a_missing_attribute_is_set() -> None:
    state = State()
    del state.session
    load(state, save(State(session=Session([]))))
    assert state.session == Session([])


@derive_to_migration_state
@dataclass
class Contents(DerivedState):
    table: Packed[dict[str, list[int]], Literal[256]] = field(default_factory=dict)
    items: Packed[list[int], Literal[256]] = field(default_factory=list)
    names: Packed[set[str], Literal[256]] = field(default_factory=set)
    data: Packed[bytearray, Literal[256]] = field(default_factory=bytearray)
    packet: Packed[Packet | None, Literal[256]] = field(default=None)


class Never(ToMigrationState[VMStruct]):
    class Migrated(VMStruct):
        value: u8 = 0

    def snapshot_migration_state(self, target: VMStruct) -> None:
        pass

    def restore_migrated_state_mut(self, source: VMStruct, version_id: int) -> None:
        raise InvalidError("never")


class Late(Device, name="late"):
    contents: Migratable[Mutex[Contents]]
    never: Migratable[Mutex[Never]]


def test_a_load_that_fails_in_a_later_part_is_undone_in_the_same_objects() -> None:
    inner = [1, 2]
    state = Contents({"a": inner}, [1], {"x"}, bytearray(b"ab"), Packet(1))
    kept = list(vars(state).values())
    dev = Late(contents=state)
    new = Contents({"b": [3], "c": []}, [2, 3], {"y", "z"}, bytearray(b"c"), Packet(2))
    with pytest.raises(InvalidError, match=r"(?m)^late\.never: never$"):
        load(dev, save(Late(contents=new)))
    assert all(one is other for one, other in zip(kept, vars(state).values(), strict=True))
    assert state == Contents({"a": [1, 2]}, [1], {"x"}, bytearray(b"ab"), Packet(1))
    assert state.table["a"] is inner


def test_a_refused_field_leaves_the_ones_before_it() -> None:
    state = Contents({"a": [1]}, [1])
    wire = save(Contents({"b": [2]}, [2], {"y"}, bytearray(b"c"), Packet(2)))
    broken = wire.replace(b"\xa6length\2", b"\xa6length\xc2")
    assert broken != wire
    table = state.table
    with pytest.raises(InvalidError, match=r"^ContentsMigration\.packet: "):
        load(state, broken)
    assert state == Contents({"a": [1]}, [1])
    assert state.table is table


# --------------------------------------------------------------------- what cannot be saved


class Own:
    pass


def cyclic() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**64, r"this int cannot be packed: can't serialize ints"),
        ([1, -(2**63) - 1], r"this list cannot be packed: can't serialize ints"),
        ({"a": Own()}, r"this dict cannot be packed: Encoding objects of type Own is unsupported"),
        ("\ud800", r"this str cannot be packed: 'utf-8' codec can't encode"),
        (cyclic(), r"this list cannot be packed: maximum recursion depth exceeded"),
    ],
    ids=["above", "below", "class", "surrogate", "cyclic"],
)
def test_a_value_that_msgspec_cannot_encode_fails_the_save(value: Any, reason: str) -> None:
    state = holder(Any)(value)
    with pytest.raises(InvalidError, match=rf"^HolderMigration\.value: {reason}.*; take values "):
        save(state)


def test_too_many_bytes_fail_the_save_with_both_numbers() -> None:
    # fixmap of 1, fixstr of 10, and a bin 8 of n: 1 + 11 + 2 + n
    cls = holder(dict[str, bytes])
    assert len(save(cls({10 * "k": bytes(242)}))) == 4 + 256
    with pytest.raises(InvalidError) as caught:
        save(cls({10 * "k": bytes(243)}))
    assert str(caught.value) == (
        "HolderMigration.value: this dict is packed into 257 bytes, and the maximum is 256; "
        "remove elements, or declare more: Packed[dict[str, bytes], Literal[512]]"
    )


# ------------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (complex, r"complex cannot be packed: msgspec does not support complex"),
        (dict[str, Own], r"dict\[.*\] cannot be packed: msgspec does not support Own"),
        (str | bytes, r"str \| bytes cannot be packed: Type unions may not contain more than one"),
        (list["Own"], r"list\[Own\] cannot be packed: Type ''Own'' is not supported"),
        (object, r"object cannot be packed: msgspec does not support object"),
    ],
)
def test_a_type_that_msgspec_does_not_support_is_refused(hint: Any, reason: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^Holder\.value: {reason}"):
        holder(hint)


@pytest.mark.parametrize(
    "options",
    [
        *({"into": u8}, {"try_into": u8}, {"clone": True}, {"length": 3}, {"size": "n"}),
        *({"num": 3}, {"start": 1}, {"multiply": 2}),
    ],
    ids=str,
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=rf"^Bad\.a: {next(iter(options))} has no meaning"):

        @derive_to_migration_state
        @dataclass
        class Bad:
            a: Packed[int, Literal[16]] = field(default=1, **options)


def test_limits_are_refused() -> None:
    with pytest.raises(DeclarationError, match=r"\.a: maximum has no meaning for Packed"):

        @derive_to_migration_state
        @dataclass
        class Bad:
            a: Packed[int, Literal[16]] = field(default=1, maximum=3)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("Packed[int]", "Packed takes a type and the most bytes"),
        ("Packed[int, 0]", "Packed: 0 is no length"),
        ("Packed[int, 16] | None", r"write it inside, as in Packed\[int \| None, Literal\[16\]\]"),
        ("None | Packed[int, 16]", "MessagePack has None itself"),
    ],
)
def test_an_annotation_that_is_none_is_refused(annotation: str, reason: str) -> None:
    cls = make_dataclass("Bad", [("a", annotation)], namespace={"__module__": __name__})
    with pytest.raises(DeclarationError, match=reason):
        derive_to_migration_state(cls)


def test_a_layout_class_and_a_device_say_what_packed_is_for() -> None:
    with pytest.raises(
        DeclarationError, match=r"Regs\.a: Packed is the annotation of an attribute"
    ):

        class Regs(VMStruct):
            a: Packed[int, Literal[16]] = field()

    with pytest.raises(DeclarationError, match=r"\.a: Packed is the annotation of an attribute"):

        class Dev(Device, name="dev"):
            a: Packed[int, Literal[16]] = field()


def test_the_name_of_the_size_can_be_taken() -> None:
    with pytest.raises(DeclarationError, match="another field is named size_a on the wire"):

        @derive_to_migration_state
        @dataclass
        class Bad:
            size_a: u8
            a: Packed[int, Literal[16]]


def test_a_python_without_msgspec_says_how_to_install_it() -> None:
    program = (
        hide("msgspec")
        + """
from dataclasses import dataclass
from qemu_vmstate import DeclarationError, Packed, derive_to_migration_state
@dataclass
class State:
    a: Packed[int, 16]
try:
    derive_to_migration_state(State)
except DeclarationError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("State.a: Packed needs msgspec (No module named 'msgspec'")
    assert done.stdout.rstrip().endswith("install it with `pip install 'qemu-vmstate[packed]'`")


def test_msgspec_is_imported_by_the_first_declaration_only() -> None:
    program = """
import sys
from dataclasses import dataclass
from qemu_vmstate import Packed, derive_to_migration_state, u8
@derive_to_migration_state
@dataclass
class Plain:
    a: u8
@dataclass
class State:
    a: Packed[int, 16]
print("msgspec" in sys.modules)
derive_to_migration_state(State)
print("msgspec" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


# --------------------------------------------------------------- its memory


@pytest.mark.parametrize(
    ("hint", "part"),
    [
        (msgspec.Raw, bytes),
        (memoryview, bytes),
        (dict[str, msgspec.Raw], lambda value: bytes(value["a"])),
        (list[memoryview], lambda value: bytes(value[0])),
        (Any, lambda value: value),
        (dict[str, bytes], lambda value: value["a"]),
        (msgspec.msgpack.Ext, lambda value: value.data),
    ],
    ids=["raw", "view", "dict of raw", "list of views", "any", "dict of bytes", "extension"],
)
def test_a_loaded_object_does_not_refer_to_qemus_memory(
    hint: Any, part: Callable[[Any], Any]
) -> None:
    def packed(data: bytes) -> bytes:
        whole: Any = {"a": data} if str(hint).startswith("dict") else data
        if str(hint).startswith("list"):
            whole = [data]
        if hint is msgspec.msgpack.Ext:
            whole = msgspec.msgpack.Ext(3, data)
        made = msgspec.msgpack.encode(whole)
        return len(made).to_bytes(4, "big") + made

    cls = holder(hint)
    state = cls(None)
    load(state, packed(b"abc"))
    kept = copy.copy(state.value) if isinstance(state.value, dict | list) else state.value
    before = part(kept)
    load(state, packed(b"xyz"))
    gc.collect()
    assert part(kept) == before
