# SPDX-License-Identifier: GPL-2.0-or-later
"""The classes for sections whose arrays, buffers and elements vary in size.

The sections are saved here by devices with all kinds of such fields.  The class that is written for
one of them loads it and saves it again, and also loads what the device saves in another state: that
shows that what counts the elements was found.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    Bitmap,
    Buffer,
    Device,
    GTree,
    Migratable,
    Mutex,
    PointerArray,
    QTailQ,
    Subsection,
    Tmp,
    VArray,
    VBuffer,
    VMStruct,
    field,
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
from qemu_vmstate.scaffold.generator import scaffold
from qemu_vmstate.scaffold.roundtrip import roundtrip
from qemu_vmstate.stream.reader import read

from ..saved import file_of
from ..stream.streams import Parse, be32, entry, stream_of, vmsd
from .test_scaffold import declared, imported


class Entry(VMStruct, name="entry"):
    size_key: u32 = field(maximum=64)
    key: VBuffer[Literal[64]] = field(size="size_key")
    value: i64 = 0


class Table(VMStruct, name="table"):
    num_table: u32 = 0
    table: VArray[Entry, Literal[40]] = field(num="num_table")


class Point(VMStruct, name="point"):
    x: u8 = 0
    y: u16 = 0


class Line(VMStruct, name="line"):
    # Not the names of a derived dataclass.
    colour: u8 = 0
    n: u8 = 0
    length: u32 = 0
    points: VArray[Point, Literal[9]] = field(num="n")
    label: VBuffer[Literal[99]] = field(size="length")


class Maybe(VMStruct, name="maybe"):
    has_value: bool = False
    value: i64 = 0


class Asked(VMStruct, name="asked"):
    has_value: bool = False
    value: i64 = field(field_exists=lambda state, _: bool(state.has_value), default=0)


class Bits(VMStruct, name="bits"):
    bits: i32 = 0
    bitmap: Bitmap[Literal[300]] = field(size="bits")


class Queue(VMStruct, name="queue"):
    queue: QTailQ[Entry, Literal[3]] = zeroed()
    tree: GTree[u64, Entry, Literal[3]] = zeroed()


def entries(*keys: bytes) -> list[Entry]:
    return [Entry(key=key, value=len(key)) for key in keys]


def table(*keys: bytes) -> Table:
    return Table(table=entries(*keys))


def line(colour: int, label: bytes, *points: int) -> Line:
    return Line(colour=colour, label=label, points=[Point(x=x, y=x) for x in points])


def todo(seen: int, what: str) -> str:
    return f"# TODO: up to {seen} {what} in this stream, which does not say how many there can be."


def device_of(**fields: Any) -> Any:
    """Return a device class ``dev`` with those fields: types, or pairs of a type and options."""
    namespace: dict[str, Any] = {"__module__": __name__, "__annotations__": {}}
    for name, declared_as in fields.items():
        type_, options = declared_as if isinstance(declared_as, tuple) else (declared_as, zeroed())
        namespace["__annotations__"][name] = type_
        namespace[name] = options
    return types.new_class("Dev", (Device,), {"name": "dev"}, lambda body: body.update(namespace))


def counted(type_: Any, num: str = "num_list") -> tuple[Any, Any]:
    return type_, field(num=num)


# The fields of a device, its state in the stream, another state, and what is declared.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    **{
        f"numbers counted by {name}": (
            {"num_list": kind, "list": counted(VArray[u32, Literal[99]])},
            {"list": [1, 2, 3]},
            {"list": range(16)},
            [
                f"num_list: {name} = 0",
                todo(3, "elements"),
                'list: VArray[u32, Literal[16]] = field(num="num_list")',
            ],
        )
        for kind, name in ((u8, "u8"), (u16, "u16"), (u32, "u32"), (i32, "i32"))
    },
    "one number": (
        {"num_list": u16, "list": counted(VArray[i64, Literal[99]])},
        {"list": [-1]},
        {"list": range(16)},
        [
            "num_list: u16 = 0",
            todo(1, "elements"),
            'list: VArray[i64, Literal[16]] = field(num="num_list")',
        ],
    ),
    "bytes": (
        {"size_data": u32, "data": (VBuffer[Literal[999]], field(size="size_data"))},
        {"data": bytes(range(100))},
        {"data": b""},
        [
            "size_data: u32 = 0",
            todo(100, "bytes"),
            'data: VBuffer[Literal[128]] = field(size="size_data")',
        ],
    ),
    "no bytes": (
        {"size_data": u32, "data": (VBuffer[Literal[999]], field(size="size_data"))},
        {"data": b""},
        {"data": b"sixteen bytes..."},
        [
            "size_data: u32 = 0",
            todo(0, "bytes"),
            'data: VBuffer[Literal[16]] = field(size="size_data")',
        ],
    ),
    "structs": (
        {"num_list": u8, "list": counted(VArray[Point, Literal[99]])},
        {"list": [Point(x=1, y=2)] * 17},
        {"list": [Point(x=3)]},
        [
            "num_list: u8 = 0",
            todo(17, "elements"),
            'list: VArray[Point, Literal[32]] = field(num="num_list")',
        ],
    ),
    "a dict": (
        {"num_list": u32, "list": counted(VArray[Entry, Literal[99]])},
        {"list": entries(b"one", b"a key of more than 16 bytes", b"")},
        {"list": entries(*[b"x" * size for size in range(16)])},
        [
            "num_list: u32 = 0",
            todo(3, "elements"),
            'list: VArray[Entry, Literal[16]] = field(num="num_list")',
            "--- Entry",
            "size_key: u32 = 0",
            todo(27, "bytes"),
            'key: VBuffer[Literal[32]] = field(size="size_key")',
            "value: i64 = 0",
        ],
    ),
    "nested dicts": (
        {"num_list": u16, "list": counted(VArray[Table, Literal[99]])},
        {"list": [table(), table(b"a"), table(b"", b"long", b"b"), table(b"c", b"cc")]},
        {"list": [table(*[b"x"] * 16)] * 16},
        [
            "num_list: u16 = 0",
            todo(4, "elements"),
            'list: VArray[Table, Literal[16]] = field(num="num_list")',
            "--- Table",
            "num_table: u32 = 0",
            todo(3, "elements"),
            'table: VArray[Entry, Literal[16]] = field(num="num_table")',
            "--- Entry",
            "size_key: u32 = 0",
            todo(4, "bytes"),
            'key: VBuffer[Literal[16]] = field(size="size_key")',
            "value: i64 = 0",
        ],
    ),
    "other names of counts": (
        {"lines": Array[Line, Literal[3]]},
        {"lines": [line(7, b"ab", 1, 2, 3), line(1, b"", 4), line(2, b"c")]},
        {"lines": [line(0, b"x" * 16, *range(9))] * 3},
        [
            "lines: Array[Line, Literal[3]] = zeroed()",
            "--- Line",
            "colour: u8 = 0",
            "n: u8 = 0",
            "length: u32 = 0",
            todo(3, "elements"),
            'points: VArray[Point, Literal[16]] = field(num="n")',
            todo(2, "bytes"),
            'label: VBuffer[Literal[16]] = field(size="length")',
        ],
    ),
    "a bool before a value": (
        {"has_value": bool, "value": i64, "list": Array[Maybe, Literal[2]]},
        {"value": 3, "list": [Maybe(has_value=True, value=1), Maybe()]},
        {"has_value": True, "value": -3},
        [
            "has_value: bool = False",
            "value: i64 = 0",
            "list: Array[Maybe, Literal[2]] = zeroed()",
            "--- Maybe",
            "has_value: bool = False",
            "value: i64 = 0",
        ],
    ),
    "a bool without which there is no value": (
        {"list": Array[Asked, Literal[2]]},
        {"list": [Asked(has_value=True, value=1), Asked()]},
        {"list": [Asked(), Asked(has_value=True, value=-1)]},
        [
            "list: Array[Asked, Literal[2]] = zeroed()",
            "--- Asked",
            "has_value: bool = False",
            "value: i64 = field(field_exists=lambda state, _: bool(state.has_value), default=0)",
        ],
    ),
    "bitmaps": (
        {"list": Array[Bits, Literal[3]]},
        {"list": [Bits(bits=1, bitmap=[1] + [0] * 4), Bits(), Bits(bits=64, bitmap=[2] * 5)]},
        {"list": [Bits(bits=40, bitmap=[3] + [0] * 4)] * 3},
        [
            "list: Array[Bits, Literal[3]] = zeroed()",
            "--- Bits",
            "bits: i32 = 0",
            todo(64, "bits"),
            'bitmap: Bitmap[Literal[64]] = field(size="bits")',
        ],
    ),
    "lists and trees": (
        {"list": Array[Queue, Literal[2]]},
        {
            "list": [
                Queue(queue=entries(b"a", b"bc"), tree={2: entries(b"")[0]}),
                Queue(tree={1: entries(b"b")[0], 2: entries(b"abc")[0]}),
            ]
        },
        {"list": [Queue(queue=entries(b"x" * 16)), Queue()]},
        [
            "list: Array[Queue, Literal[2]] = zeroed()",
            "--- Queue",
            "queue: QTailQ[Entry, Literal[16]] = zeroed()",
            "tree: GTree[u64, QueueEntry, Literal[16]] = zeroed()",
        ],
    ),
    "states": (
        {"state": Migratable[Mutex[Table]]},
        {"state": table(b"a", b"bb")},
        {"state": table()},
        [
            "state: Table = zeroed()",
            "--- Table",
            "num_table: u32 = 0",
            todo(2, "elements"),
            'table: VArray[Entry, Literal[16]] = field(num="num_table")',
        ],
    ),
}


def made(fields: dict[str, Any], state: dict[str, Any]) -> Any:
    """Return a device with those fields in that state."""
    device = device_of(**fields)()
    for name, value in state.items():
        if name == "state":
            with device.state.lock() as inner:
                inner.restore_migrated_state_mut(value, 1)
        else:
            setattr(device, name, value)
    return device


def source_of(device: Any, path: Path) -> str:
    """Return the module for a device's file, whose class was checked with it."""
    stream = read(file_of(device, path / "vm.mig"))
    assert roundtrip(stream).summary.startswith("identical: 1 of 1 sections, 0 bytes opaque")
    return scaffold(stream)


@pytest.mark.parametrize("name", CASES)
def test_the_class_loads_other_states_too(name: str, tmp_path: Path) -> None:
    fields, state, other, expected = CASES[name]
    source = source_of(made(fields, state), tmp_path)
    lines, cls = [], "Dev"
    for line in [*expected, "--- "]:
        if not line.startswith("--- "):
            lines.append(line)
            continue
        assert declared(source, cls).splitlines() == lines
        lines, cls = [], line.removeprefix("--- ")
    model = imported(source)["Dev"]()
    wire = save(made(fields, other))
    load(model, wire)
    assert save(model) == wire


def test_a_number_of_another_value_counts_nothing(parse: Parse) -> None:
    source = scaffold(
        parse(
            stream_of(
                b"\2" + be32(3) + b"\1\2\3" + b"ab",
                entry("num_list", "uint8", 1),
                entry("size_data", "uint32", 4),
                entry("list", "uint8", 1, array_len=3),
                entry("data", "buffer", 2),
            )
        )
    )
    assert declared(source).splitlines() == [
        "num_list: u8 = 0",
        "size_data: u32 = 0",
        "list: Array[u8, Literal[3]] = zeroed()",
        "data: Buffer[Literal[2]] = zeroed()",
    ]


def test_a_number_that_cannot_count_in_c_counts_nothing(parse: Parse) -> None:
    source = scaffold(
        parse(
            stream_of(
                b"\0\0\0\0\0\0\0\2" + b"\1\2" + b"\2ab",
                entry("num_list", "uint64", 8),
                entry("list", "uint8", 1, array_len=2),
                entry("size_data", "uint8", 1),
                entry("data", "buffer", 2),
            )
        )
    )
    assert "VArray[" not in source
    assert "VBuffer[" not in source


class Few(VMStruct, name="few"):
    count: u8 = 0
    more: VArray[u8, Literal[4]] = field(num="count")
    other: VArray[u8, Literal[4]] = field(num="count")


class SubMore(VMStruct, name="unlike/more"):
    more: u8 = 0


class Unlike(VMStruct, name="unlike"):
    first: u8 = 0
    more: Subsection[SubMore] = field()


def test_elements_without_a_common_class_are_fields_of_their_own(tmp_path: Path) -> None:
    device = device_of(list=Array[Unlike, Literal[3]], few=Array[Few, Literal[2]])()
    device.list = [Unlike(), Unlike(more=SubMore(more=1)), Unlike()]
    device.few = [Few(more=[1], other=[2]), Few(more=[1, 2], other=[3, 4])]
    source = source_of(device, tmp_path)
    assert declared(source).splitlines() == [
        "# Not all elements of list are alike.",
        'list_0: Unlike = field(name="list[0]")',
        'list_1: DevUnlike = field(name="list[1]")',
        'list_2: Unlike = field(name="list[2]")',
        "few: Array[Few, Literal[2]] = zeroed()",
    ]


def test_a_name_that_is_not_the_attributes(parse: Parse) -> None:
    inner = [entry("num.class", "uint8", 1), entry("class", "uint16", 2)]
    two = vmsd("e", inner[0], inner[1] | {"array_len": 2})
    elements = [
        entry("e", "struct", 1, index=0, struct=vmsd("e", inner[0])),
        entry("e", "struct", 5, struct=two),
    ]
    stream = parse(stream_of(b"\0" + b"\2\0\1\0\2", *elements))
    assert declared(scaffold(stream), "E").splitlines() == [
        'num_class: u8 = field(name="num.class", default=0)',
        todo(2, "elements"),
        'class_: VArray[u16, Literal[16]] = field(name="class", num="num_class")',
    ]
    assert roundtrip(stream).identical == 1


# ------------------------------------------------------------------------------ any content


class Inner(VMStruct, name="inner"):
    size_name: u32 = field(maximum=20)
    name: VBuffer[Literal[20]] = field(size="size_name")
    num_points: u8 = 0
    points: VArray[Point, Literal[4]] = field(num="num_points")
    bits: u32 = 0
    bitmap: Bitmap[Literal[200]] = field(size="bits")
    fixed: Array[u16, Literal[2]] = zeroed()
    raw: Buffer[Literal[3]] = zeroed()


class Around(VMStruct, name="around"):
    number: u16 = 0
    num_inner: u16 = 0
    inner: VArray[Inner, Literal[3]] = field(num="num_inner")
    pointers: PointerArray[Inner, Literal[2]] = zeroed()
    queue: QTailQ[Inner, Literal[2]] = zeroed()
    tmp: Tmp[Point] = zeroed()


class Dev(Device, name="dev"):
    num_around: u32 = 0
    around: VArray[Around, Literal[3]] = field(num="num_around")
    one: Around = zeroed()


INNERS = st.builds(
    lambda name, points, bits, fixed: Inner(
        name=name,
        points=[Point(x=x) for x in points],
        bits=bits,
        bitmap=[bits] * 4,
        fixed=fixed,
    ),
    st.binary(max_size=20),
    st.lists(st.integers(0, 255), max_size=4),
    st.integers(0, 200),
    st.lists(st.integers(0, 3), min_size=2, max_size=2),
)
AROUNDS = st.builds(
    lambda number, inner, pointers, queue: Around(
        number=number, inner=inner, pointers=pointers, queue=queue
    ),
    st.integers(0, 3),
    st.lists(INNERS, max_size=3),
    st.lists(INNERS, min_size=2, max_size=2),
    st.lists(INNERS, max_size=2),
)


@given(st.lists(AROUNDS, max_size=3), AROUNDS)
def test_any_content_comes_back(
    tmp_path_factory: pytest.TempPathFactory, around: list[Around], one: Around
) -> None:
    device = Dev(around=around, one=one)
    stream = read(file_of(device, tmp_path_factory.mktemp("any") / "vm.mig"))
    (result,) = roundtrip(stream).results
    assert (result.outcome, result.why, result.opaque.total()) == ("identical", "", 0)
