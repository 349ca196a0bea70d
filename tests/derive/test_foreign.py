# SPDX-License-Identifier: GPL-2.0-or-later
"""Classes of others that ``migrates()`` gives their conversions."""

from __future__ import annotations

import enum
import pickle
import random
import struct
from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Literal

import pydantic
import pytest

from qemu_vmstate import (
    Array,
    Buffer,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    asdict,
    derive_to_migration_state,
    describe,
    f64,
    field,
    load,
    migrates,
    save,
    u8,
    u16,
    u32,
    u64,
)

from .foreign_classes import (
    FIRST,
    KINDS,
    OTHER,
    WIRE,
    Computed,
    Defined,
    Model,
    Nested,
    Plain,
    Registers,
    Slotted,
)
from .states import Timer

any_type: Any = Array


@pytest.mark.parametrize("cls", KINDS)
def test_saves_and_loads_under_a_mutex_and_in_a_device(cls: Any) -> None:
    part: Any = Migratable[Mutex[cls]]
    device = type("Owner", (Device,), {"__annotations__": {"part": part}}, name="owner")
    dev: Any = device(part=Mutex(cls()))
    for state in (Mutex(cls()), dev):
        assert save(state) == struct.pack(WIRE, *FIRST)
        load(state, struct.pack(WIRE, *OTHER))
        assert save(state) == struct.pack(WIRE, *OTHER)
    assert isinstance(dev.part.into_inner(), ToMigrationState)
    assert [each["name"] for each in describe(dev)["fields"]] == ["part"]


def test_gets_what_the_decorator_gives() -> None:
    plain: Any = Plain()
    assert issubclass(Plain.Migrated, VMStruct)  # type: ignore[attr-defined]
    assert type(plain.to_migration_state()).__name__ == "PlainMigration"
    assert asdict(plain.to_migration_state()) == {"mode": 1, "level": 70000, "words": [1, 2, 3]}
    assert asdict(pickle.loads(pickle.dumps(plain.to_migration_state())))["level"] == 70000


def test_leaves_the_class_as_it_was_otherwise() -> None:
    assert Defined(1, 2) == Defined(1, 2)
    assert Model(mode=5).model_dump() == {"mode": 5, "level": 70000, "words": [1, 2, 3]}
    assert set(Model.model_fields) == {"mode", "level", "words"}
    assert not hasattr(Slotted(), "__dict__")


def test_a_list_in_an_ordinary_attribute_stays_the_same_object() -> None:
    plain, nested = Plain(), Nested()
    lists = [plain.words, nested.rx.fifo.words]
    load(Mutex(plain), struct.pack(WIRE, *OTHER))
    load(Mutex(nested), struct.pack(WIRE, *OTHER))
    assert [plain.words, nested.rx.fifo.words] == [[4, 5, 6]] * 2
    assert lists[0] is plain.words
    assert lists[1] is nested.rx.fifo.words
    assert plain.seen == {"boot"}


def test_setters_get_new_objects_of_the_kind_that_the_value_has() -> None:
    class Kinds:
        def __init__(self) -> None:
            self.stored: dict[str, Any] = {
                "words": (1, 2), "raw": bytearray(2), "fixed": b"ab", "grid": [[1], [2]],
            }  # fmt: skip

    def place(name: str) -> Any:
        return (lambda o: o.stored[name], lambda o, value: o.stored.update({name: value}))

    migrates(
        Kinds,
        fields={
            "words": field(list[u16], length=2, attribute=place("words")),
            "raw": field(bytearray, length=2, attribute=place("raw")),
            "fixed": field(Buffer[Literal[2]], attribute=place("fixed")),
            "grid": field(any_type[Array[u8, Literal[1]], 2], attribute=place("grid")),
        },
    )
    kinds = Kinds()
    before = dict(kinds.stored)
    load(Mutex(kinds), bytes([0, 3, 0, 4, 5, 6, 7, 8, 9, 10]))
    assert kinds.stored == {
        "words": (3, 4), "raw": bytearray([5, 6]), "fixed": b"\7\10", "grid": [[9], [10]],
    }  # fmt: skip
    assert type(kinds.stored["raw"]) is bytearray
    assert before == {"words": (1, 2), "raw": bytearray(2), "fixed": b"ab", "grid": [[1], [2]]}


class Mode(enum.Enum):
    IDLE = 0
    BUSY = 7


class Uart:
    def __init__(self) -> None:
        self.mode_now = Mode.IDLE
        self.peer = IPv4Address("1.2.3.4")
        self.deadline: int | None = None
        self.port: int | None = 9
        self.timer = Timer(5)
        self.lines = [Slotted(), Slotted()]
        self.raw = b"xy"
        self.tail = 3


migrates(
    Uart,
    name="uart",
    rename="UartWire",
    version_id=3,
    minimum_version_id=2,
    fields={
        "mode": field(Mode, try_into=u8, attribute="mode_now"),
        "peer": field(IPv4Address, into=u32),
        "deadline": field("u64 | None", none=2**64 - 1),
        "port": field(u8 | None, none=bool),
        "timer": Timer,
        "lines": field("list[Slotted]", length=2),
        "raw": field(bytes, length=2),
        "tail": field("u8", version_id=3, default=44, name="tail-length"),
    },
)
UART = ">BIQBBI?BI3HBI3H2sB"
UART_FIRST = (0, 0x01020304, 2**64 - 1, 1, 9, 5, True, *FIRST, *FIRST, b"xy", 3)
UART_OTHER = (7, 0x7F000001, 1234, 0, 0, 6, False, *OTHER, *FIRST, b"ab", 8)


def test_options_are_those_of_a_dataclasss_fields() -> None:
    uart = Uart()
    assert save(Mutex(uart)) == struct.pack(UART, *UART_FIRST)
    timer, lines = uart.timer, list(uart.lines)
    load(Mutex(uart), struct.pack(UART, *UART_OTHER))
    assert save(Mutex(uart)) == struct.pack(UART, *UART_OTHER)
    assert uart.mode_now is Mode.BUSY
    assert uart.peer == IPv4Address("127.0.0.1")
    assert (uart.deadline, uart.port, uart.raw, uart.tail) == (1234, None, b"ab", 8)
    assert uart.timer is timer
    assert all(new is old for new, old in zip(uart.lines, lines, strict=True))
    assert (lines[0].level, lines[1].level) == (80000, 70000)
    with pytest.raises(InvalidError, match=r"^uart\.mode: 5 is no Mode"):
        load(Mutex(uart), b"\5" + struct.pack(UART, *UART_OTHER)[1:])


def test_rename_name_and_versions() -> None:
    migrated: Any = Uart.Migrated  # type: ignore[attr-defined]
    assert migrated.__name__ == "UartWire"
    description = describe(Mutex(Uart()))
    assert (description["vmsd_name"], description["version"]) == ("uart", 3)
    assert description["fields"][-1]["name"] == "tail-length"
    uart = Uart()
    load(Mutex(uart), struct.pack(UART, *UART_OTHER)[:-1], version_id=2)
    assert (uart.tail, uart.raw) == (44, b"ab")


def test_a_class_of_numbers_under_other_names_is_converted_in_lists() -> None:
    class Line:
        __slots__ = ("control_register", "divisor_latch")

        def __init__(self, control: int = 0, divisor: int = 0) -> None:
            self.control_register, self.divisor_latch = control, divisor

    migrates(
        Line,
        fields={
            "lcr": field(u8, attribute="control_register"),
            "dl": field(u16, attribute="divisor_latch"),
        },
    )

    @derive_to_migration_state
    @dataclass
    class Card:
        lines: list[Line] = field(default_factory=list, length=2)

    assert Line.__migration_numbers__ is not None  # type: ignore[attr-defined]
    card = Card([Line(1, 2), Line(3, 4)])
    first = card.lines[0]
    assert save(Mutex(card)) == struct.pack(">BHBH", 1, 2, 3, 4)
    load(Mutex(card), struct.pack(">BHBH", 5, 6, 7, 8))
    assert card.lines[0] is first
    assert [(line.control_register, line.divisor_latch) for line in card.lines] == [(5, 6), (7, 8)]
    first.divisor_latch = -1
    with pytest.raises(InvalidError, match=r"^CardMigration\.lines\[0\]\.dl: -1 is out of range"):
        save(Mutex(card))


@pytest.mark.parametrize("cls", KINDS)
def test_is_a_state_like_others_inside_others(cls: Any) -> None:
    class Board:
        def __init__(self) -> None:
            self.one, self.bank = cls(), [cls(), cls()]

    migrates(
        Board,
        fields={
            "one": field(cls, attribute=(lambda board: board.one, None)),
            "bank": field(list[cls], length=2),
        },
    )
    board = Board()
    parts = [board.one, *board.bank]
    load(Mutex(board), struct.pack(">" + 3 * WIRE[1:], *OTHER, *FIRST, *OTHER))
    assert save(Mutex(board)) == struct.pack(">" + 3 * WIRE[1:], *OTHER, *FIRST, *OTHER)
    assert [id(part) for part in parts] == [id(part) for part in (board.one, *board.bank)]


def test_a_subclass_inherits_the_fields_and_can_have_its_own() -> None:
    class Louder(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.volume = 9

    louder = Louder()
    assert save(Mutex(louder)) == struct.pack(WIRE, *FIRST)
    load(Mutex(louder), struct.pack(WIRE, *OTHER))
    assert (louder.level, louder.volume) == (80000, 9)

    class Loudest(Louder):
        pass

    migrates(Loudest, fields={"level": u32, "volume": u8})
    loudest = Loudest()
    assert save(Mutex(loudest)) == struct.pack(">IB", 70000, 9)
    assert save(Mutex(louder)) == struct.pack(WIRE, *OTHER)


def test_a_subclass_may_put_a_property_in_the_place_of_an_attribute() -> None:
    class Scaled(Plain):
        @property
        def level(self) -> int:
            return int(vars(self)["level"])

        @level.setter
        def level(self, value: int) -> None:
            if value == 66:
                raise ValueError("no 66")
            vars(self)["level"] = value

    scaled = Scaled()
    load(Mutex(scaled), struct.pack(WIRE, *OTHER))
    assert scaled.level == 80000
    before = dict(vars(scaled))
    with pytest.raises(ValueError, match="no 66"):
        load(Mutex(scaled), struct.pack(WIRE, 9, 66, 7, 8, 9))
    assert vars(scaled) == before
    assert scaled.words == [4, 5, 6]


def test_a_class_whose_attributes_are_copies_gets_new_lists() -> None:
    class Copying:
        def __init__(self) -> None:
            self.words = [1, 2]

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            return list(value) if name == "words" else value

    migrates(Copying, fields={"words": field(list[u8], length=2)})
    copying = Copying()
    load(Mutex(copying), b"\3\4")
    assert copying.words == [3, 4]


class Rng(random.Random):
    """The generator of the standard library, which keeps its state in C."""


migrates(
    Rng,
    fields={
        "words": field(
            list[u32],
            length=625,
            attribute=(
                lambda rng: rng.getstate()[1],
                lambda rng, words: rng.setstate((3, words, None)),
            ),
        ),
        "gauss_next": field(f64 | None, none=bool),
    },
)


def test_a_generator_of_the_standard_library_goes_on_as_it_would_have() -> None:
    source, target = Rng(1), Rng(2)
    source.gauss(0, 1)
    wire = save(Mutex(source))
    assert len(wire) == 4 * 625 + 1 + 8
    load(Mutex(target), wire)
    assert [target.random() for _ in range(700)] == [source.random() for _ in range(700)]
    assert target.gauss(0, 1) == source.gauss(0, 1)
    before = target.getstate()
    with pytest.raises(
        InvalidError, match=r"^RngMigration\.words: .*could not be stored: ValueErr"
    ):
        load(Mutex(target), wire[: 4 * 624] + b"\0\0\3\0" + wire[4 * 625 :])  # a position of 768
    assert target.getstate() == before


class Queue(deque[int]):
    """A built-in type, of which only a subclass can be given attributes."""


def _refill(queue: Queue, items: list[int]) -> None:
    queue.clear()
    queue.extend(items)


migrates(Queue, fields={"items": field(list[u8], length=3, attribute=(list, _refill))})


def test_a_subclass_of_a_built_in_type() -> None:
    queue = Queue([1, 2, 3])
    assert save(Mutex(queue)) == b"\1\2\3"
    load(Mutex(queue), b"\4\5\6")
    assert list(queue) == [4, 5, 6]
    queue.pop()
    with pytest.raises(InvalidError, match=r"^QueueMigration\.items: 2 elements for 3"):
        save(Mutex(queue))


class Bank(Device, name="bank"):
    plain: Array[Migratable[Mutex[Plain]], Literal[2]]
    regs: Migratable[Mutex[Registers]]
    computed: Migratable[Mutex[Computed]]


def test_a_missing_attribute_is_named_with_its_path_at_a_save() -> None:
    bank = Bank()
    with bank.plain[1].lock() as plain:
        del plain.level
    with pytest.raises(
        InvalidError,
        match=r"^bank\.plain\[1\]\.level: the value cannot be read, because of AttributeError: "
        r"'Plain' object has no attribute 'level'; set it first, or say with attribute= where it",
    ):
        save(bank)
    load(bank, 4 * struct.pack(WIRE, *OTHER))  # which a load repairs
    assert plain.level == 80000


def test_a_function_that_raises_at_a_save_is_named_with_its_path() -> None:
    bank = Bank()
    with bank.regs.lock() as regs:
        regs._file.clear()  # noqa: SLF001 - breaks it
    with pytest.raises(
        InvalidError, match=r"^bank\.regs\.mode: .* because of KeyError: 0"
    ) as caught:
        save(bank)
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_a_load_needs_and_cannot_read_is_named() -> None:
    bank = Bank()
    with bank.regs.lock() as regs:
        regs._file.clear()  # noqa: SLF001 - breaks it
    with pytest.raises(InvalidError, match=r"^bank\.regs\.mode: .* before the load.*KeyError: 0"):
        load(bank, 4 * struct.pack(WIRE, *OTHER))
    nested = Nested()
    del nested.rx
    with pytest.raises(
        InvalidError, match=r"^NestedMigration\.words: the value .* before the load.*attribute 'rx'"
    ):
        load(Mutex(nested), struct.pack(WIRE, *OTHER))
    uart = Uart()
    del uart.timer
    with pytest.raises(InvalidError, match=r"^uart\.timer: the value .* attribute 'timer'; set"):
        load(Mutex(uart), struct.pack(UART, *UART_OTHER))
    assert uart.raw == b"xy"
    uart = Uart()
    del uart.lines
    with pytest.raises(InvalidError, match=r"^uart\.lines: the value .* attribute 'lines'; set it"):
        load(Mutex(uart), struct.pack(UART, *UART_OTHER))
    assert uart.raw == b"xy"


def test_a_function_that_cannot_get_a_value_before_a_load_refuses_it() -> None:
    class Empty:
        pass

    def put(empty: Any, value: int) -> None:
        empty.value = value

    migrates(Empty, fields={"value": field(u8, attribute=(lambda empty: empty.value, put))})
    empty = Empty()
    parts = {"part": Migratable[Mutex[Empty]], "regs": Migratable[Mutex[Registers]]}
    device: Any = type("Two", (Device,), {"__annotations__": parts}, name="two")
    with pytest.raises(
        InvalidError, match=r"^two\.part\.value: the value cannot be read before the load, so it"
    ):
        load(device(part=Mutex(empty)), b"\1" + struct.pack(WIRE, *OTHER))
    assert vars(empty) == {}


def test_a_function_is_called_once_for_each_save() -> None:
    calls = []

    class Board:
        pass

    def get(name: str, value: Any) -> Any:
        def called(_board: Board) -> Any:
            calls.append(name)
            return value

        return (called, lambda _board, _value: None)

    migrates(
        Board,
        fields={
            "number": field(u8, attribute=get("number", 3)),
            "optional": field(u8 | None, none=bool, attribute=get("optional", 4)),
            "words": field(list[u8], length=2, attribute=get("words", [5, 6])),
            "peer": field(IPv4Address, into=u32, attribute=get("peer", IPv4Address(7))),
            "timer": field(Timer, attribute=get("timer", Timer(8))),
            "plain": field(list[Plain], length=1, attribute=get("plain", [Plain()])),
        },
    )
    expected = struct.pack(">BBB2BII?", 3, 1, 4, 5, 6, 7, 8, True) + struct.pack(WIRE, *FIRST)
    assert save(Mutex(Board())) == expected
    assert calls == ["number", "optional", "words", "peer", "timer", "plain"]


def test_values_that_a_model_converts_are_what_it_stores() -> None:
    class Percent(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(validate_assignment=True)
        level: int = 3

        @pydantic.field_validator("level")
        @classmethod
        def _at_most_100(cls, value: int) -> int:
            return min(value, 100)

    migrates(Percent, fields={"level": u64})
    percent = Percent()
    load(Mutex(percent), (250).to_bytes(8))
    assert percent.level == 100
