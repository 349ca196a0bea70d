# SPDX-License-Identifier: GPL-2.0-or-later
"""Complete devices compared with the same devices in C, for combinations of fields.

The devices in c_reference/devices.c give the bytes, the descriptions and the loaded values.
"""

from __future__ import annotations

import itertools
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    Bitmap,
    Buffer,
    Device,
    Equal,
    InvalidError,
    Migratable,
    Mutex,
    PointerArray,
    StreamError,
    Subsection,
    Unused,
    VArray,
    VBuffer,
    VersionError,
    VMStateError,
    VMStruct,
    describe,
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
from qemu_vmstate.inprocess import description_text

from .. import c_reference
from ..release import loads_null

Unchanged = Callable[[Any], Any]


class Pair(VMStruct, name="pair"):
    x: u8 = 0
    y: u32 = 0


# ---------------------------------------------------------------------- variable lengths
class Channel(VMStruct, name="channel"):
    active: bool = False
    used: u16 = 0
    fifo: VArray[u16, Literal[4]] = field(num="used")


class Mixed(VMStruct, name="mixed", version_id=2, minimum_version_id=1):
    serial: u32 = 0
    pair: Pair = zeroed()
    channels_n: u8 = 0
    channels: VArray[Channel, Literal[4]] = field(num="channels_n")
    length: i32 = 0
    text: VBuffer[Literal[32]] = field(size="length")
    unused: Unused[Literal[3]] = zeroed()
    words_n: u32 = 0
    words: VArray[u32, Literal[6]] = field(num="words_n")
    bits_n: i32 = 0
    bits: Bitmap[Literal[192]] = field(size="bits_n")
    unused_since_2: Unused[Literal[2]] = field(name="unused", version_id=2)
    slots: PointerArray[Pair, Literal[3]] = zeroed()
    regs: Array[u16, Literal[8]] = field(start=2, num=3)
    ram: Buffer[Literal[16]] = zeroed()
    last: i64 = field(version_id=2, default=0)


class MixedDevice(Device, name="mixed", version_id=2, minimum_version_id=1):
    """The same fields as a device; only the part in a lock is nested."""

    state: Migratable[Mutex[Mixed]]


def _with_fields_of_mixed(namespace: dict[str, Any]) -> None:
    fields = Mixed.__layout__.fields
    namespace["__module__"] = __name__
    namespace["__annotations__"] = {info.attribute: info.type for info in fields}
    namespace.update({info.attribute: info.options for info in fields})


VERSIONS = {"name": "mixed", "version_id": 2, "minimum_version_id": 1}
# The same as plain fields of a device.
FlatDevice: Any = types.new_class("FlatDevice", (Device,), VERSIONS, _with_fields_of_mixed)


NUMBERS = {n: st.integers(0, 2**n - 1) for n in (8, 16, 32, 64)}
PAIRS = st.fixed_dictionaries({"x": NUMBERS[8], "y": NUMBERS[32]})
FIFOS = st.lists(NUMBERS[16], max_size=4)


def _channel(active: bool, fifo: list[int]) -> dict[str, Any]:
    return {"active": active, "used": len(fifo), "fifo": fifo}


def _mixed(
    channels: list[Any], text: bytes, words: list[int], bits: tuple[int, list[int]], **rest: Any
) -> dict[str, Any]:
    return rest | {
        "channels_n": len(channels),
        "channels": channels,
        "length": len(text),
        "text": text,
        "words_n": len(words),
        "words": words,
        "bits_n": bits[0],
        "bits": bits[1],
    }


MIXED = st.builds(
    _mixed,
    serial=NUMBERS[32],
    pair=PAIRS,
    channels=st.lists(st.builds(_channel, st.booleans(), FIFOS), max_size=4),
    text=st.binary(max_size=32),
    words=st.lists(NUMBERS[32], max_size=6),
    bits=st.tuples(st.integers(0, 192), st.lists(NUMBERS[64], min_size=3, max_size=3)),
    slots=st.lists(st.none() | PAIRS, min_size=3, max_size=3),
    regs=st.lists(NUMBERS[16], min_size=8, max_size=8),
    ram=st.binary(min_size=16, max_size=16),
    last=st.integers(-(2**63), 2**63 - 1),
)


def mixed(values: Mapping[str, Any]) -> Mixed:
    obj = Mixed()
    for name, value in values.items():
        if name == "pair":
            obj.pair = Pair(**value)
        elif name == "slots":
            obj.slots = [None if one is None else Pair(**one) for one in value]
        elif name == "channels":
            obj.channels = [Channel(active=one["active"], fifo=one["fifo"]) for one in value]
        elif name not in ("channels_n", "length", "words_n"):
            setattr(obj, name, value)
    return obj


def there(values: Mapping[str, Any]) -> Mixed:
    """Return an object to load into, with the same NULL pointers."""
    return Mixed(slots=[None if one is None else Pair() for one in values["slots"]])


@given(MIXED)
def test_device_of_variable_lengths_is_saved_as_in_c(values: dict[str, Any]) -> None:
    reference = c_reference.device("mixed")
    data, description = reference.save_as_text(reference.make(values))
    assert save(mixed(values)) == data
    assert description_text(mixed(values)) == description


@given(MIXED)
@loads_null
def test_device_of_variable_lengths_loads_what_c_saved(values: dict[str, Any]) -> None:
    reference = c_reference.device("mixed")
    data, _ = reference.save(reference.make(values))
    obj, expected = there(values), mixed(values)
    load(obj, data)
    # A field that is not on the wire is unchanged.
    expected.regs = [0, 0, *values["regs"][2:5], 0, 0, 0]
    words = -(-values["bits_n"] // 64)
    expected.bits = values["bits"][:words] + [0] * (3 - words)
    for name in Mixed.__annotations__:
        if not name.startswith("unused"):
            assert repr(getattr(obj, name)) == repr(getattr(expected, name)), name
    assert save(obj) == data


@given(MIXED, st.data())
@loads_null
def test_device_of_variable_lengths_is_loaded_completely_or_not(
    values: dict[str, Any], data: st.DataObject
) -> None:
    wire = save(mixed(values))
    cut = wire[: data.draw(st.integers(0, len(wire) - 1), "length")]
    obj = there(values)
    before = bytes(obj)
    with pytest.raises(StreamError, match=rf"the stream of {len(cut)} bytes ends") as caught:
        load(obj, cut)
    assert bytes(obj) == before
    numbers = re.search(r"whose (\d+) byte\(s\) begin at (\d+);", str(caught.value))
    assert numbers
    width, at = map(int, numbers.groups())
    assert at <= len(cut) < at + width
    reference = c_reference.device("mixed")
    with pytest.raises(c_reference.CError):
        reference.load(reference.make({**values, "slots": values["slots"]}), cut)


@given(MIXED)
@loads_null
def test_older_version_of_a_device_of_variable_lengths(values: dict[str, Any]) -> None:
    reference = c_reference.device("mixed")
    data, _ = reference.save(reference.make(values), version_id=1)
    obj = there(values)
    load(obj, data, version_id=1)
    assert obj.last == 0
    assert obj.serial == values["serial"]
    assert bytes(obj.text) == values["text"]
    assert bytes(obj.ram) == values["ram"]


@given(MIXED)
def test_same_bytes_under_a_mutex_of_a_device(values: dict[str, Any]) -> None:
    dev = MixedDevice(state=mixed(values))
    assert save(dev) == save(mixed(values))


@given(MIXED, st.data())
@loads_null
def test_same_as_plain_fields_of_a_device(values: dict[str, Any], data: st.DataObject) -> None:
    wire = save(mixed(values))
    dev, obj = FlatDevice(slots=list(there(values).slots)), there(values)
    load(dev, wire)
    load(obj, wire)
    assert save(dev) == wire
    assert description_text(dev) == description_text(obj)
    cut = wire[: data.draw(st.integers(0, len(wire) - 1), "length")]
    with pytest.raises(StreamError):
        load(dev, cut)
    assert save(dev) == wire


# --------------------------------------------------------------------------- subsections
class PortExtra(VMStruct, name="port/extra"):
    extra: u16 = 0


class Port(VMStruct, name="port"):
    a: u8 = 0
    extra: Subsection[PortExtra] = zeroed()


class One(VMStruct, name="subs/one", version_id=3, minimum_version_id=2):
    one: u16 = 0


class Deep(VMStruct, name="subs/two/deep"):
    deep: u64 = 0


class Two(VMStruct, name="subs/two"):
    two: u32 = 0
    deep: Subsection[Deep] = field(needed=lambda state: state.deep.deep != 0)


class Subs(VMStruct, name="subs"):
    base: u32 = 0
    ports: Array[Port, Literal[3]] = zeroed()
    one: Subsection[One] = zeroed()
    two: Subsection[Two] = field(needed=lambda state: state.two.two != 0)


def subs(base: int, ports: list[tuple[int, int]], one: int, two: int, deep: int) -> Subs:
    obj = Subs(base=base)
    for port, (a, extra) in zip(obj.ports, ports, strict=True):
        port.a, port.extra.extra = a, extra
    obj.one.one, obj.two.two, obj.two.deep.deep = one, two, deep
    return obj


def c_subs(base: int, ports: list[tuple[int, int]], **rest: int) -> dict[str, Any]:
    return {"base": base, "ports": [{"a": a, "extra": extra} for a, extra in ports], **rest}


COMBINATIONS = [
    {"base": 7, "ports": [(1, 0), (2, e), (3, 0)], "one": one, "two": two, "deep": deep}
    for e, one, two, deep in itertools.product((0, 5), (0, 0x101), (0, 0x20202), (0, 2**40))
]


@pytest.mark.parametrize("values", COMBINATIONS, ids=str)
def test_needed_subsections_are_saved_as_in_c(values: dict[str, Any]) -> None:
    reference = c_reference.device("subs")
    data, description = reference.save(reference.make(c_subs(**values)))
    assert save(subs(**values)) == data
    assert describe(subs(**values)) == description


@pytest.mark.parametrize("values", COMBINATIONS, ids=str)
def test_subsections_are_loaded_as_in_c(values: dict[str, Any]) -> None:
    reference = c_reference.device("subs")
    data, _ = reference.save(reference.make(c_subs(**values)))
    c_obj, obj = reference.make({}), Subs()
    reference.load(c_obj, data)
    load(obj, data)
    assert obj.base == c_obj.base
    assert [one.extra.extra for one in obj.ports] == [one.extra for one in c_obj.ports]
    found = (obj.one.one, obj.two.two, obj.two.deep.deep)
    assert found == (c_obj.one, c_obj.two, c_obj.deep)
    assert save(obj) == data


BASE = save(Subs(base=7))


def part(name: str, version_id: int, payload: bytes) -> bytes:
    """Return a subsection on the wire (docs/devel/migration/main.rst)."""
    return b"\5" + bytes([len(name)]) + name.encode() + version_id.to_bytes(4, "big") + payload


ONE = part("subs/one", 3, b"\1\2")
OTHER_ONE = part("subs/one", 3, b"\3\4")
TWO = part("subs/two", 1, b"\0\0\0\x09")
DEEP = part("subs/two/deep", 1, bytes(7) + b"\x0b")

TAKEN = {
    "none": b"",
    "in order": ONE + TWO + DEEP,
    "in another order": TWO + DEEP + ONE,
    "twice": ONE + TWO + OTHER_ONE,
    "twice and nested": TWO + DEEP + ONE + TWO,
    "its oldest version": part("subs/one", 2, b"\1\2"),
    "a version of which C sees one byte": part("subs/one", 0x103, b"\1\2"),
}
REFUSED = {
    "unknown": part("subs/three", 1, b"\1\2"),
    "unknown after a known one": ONE + part("subs/three", 1, b""),
    "the nested one without its parent": DEEP,
    "the nested one after another": ONE + DEEP,
    "known but for its last letter": part("subs/on", 3, b"\1\2"),
    "with a name that is longer": part("subs/ones", 3, b"\1\2"),
    "of another parent": part("subt/one", 3, b"\1\2"),
    "with a name as short as its parent's": part("subs", 3, b"\1\2"),
    "too new": part("subs/one", 4, b"\1\2"),
    "too old": part("subs/one", 1, b"\1\2"),
    "version 0": part("subs/one", 0, b"\1\2"),
    "cut in its length": b"\5",
    "cut in its name": ONE[:6],
    "cut in its version": ONE[:12],
    "cut in its payload": ONE[:-1],
    "followed by something": ONE + b"\6",
}


@pytest.mark.parametrize("wire", TAKEN.values(), ids=TAKEN.keys())
def test_subsections_on_the_wire_that_c_takes(wire: bytes) -> None:
    reference = c_reference.device("subs")
    c_obj, obj = reference.make({}), subs(1, [(1, 1)] * 3, 1, 1, 1)
    reference.load(c_obj, BASE + wire)
    load(obj, BASE + wire)
    found = (obj.one.one, obj.two.two, obj.two.deep.deep)
    assert found == (c_obj.one, c_obj.two, c_obj.deep)  # what is absent has its default


@pytest.mark.parametrize("wire", REFUSED.values(), ids=REFUSED.keys())
def test_subsections_on_the_wire_that_c_refuses(wire: bytes) -> None:
    reference = c_reference.device("subs")
    with pytest.raises(c_reference.CError):
        reference.load(reference.make({}), BASE + wire)
    obj = subs(1, [(1, 1)] * 3, 1, 1, 1)
    before = bytes(obj)
    with pytest.raises(VMStateError):
        load(obj, BASE + wire)
    assert bytes(obj) == before


# ------------------------------------------------------- what may be absent, in an array
class Cell(VMStruct, name="cell"):
    kind: u8 = 0
    value: u32 = field(field_exists=lambda state, _: state.kind != 0, default=0)


class Cells(VMStruct, name="cells"):
    cells: Array[Cell, Literal[3]] = zeroed()
    end: u8 = 0


@pytest.mark.parametrize("kinds", list(itertools.product((0, 1), repeat=3)))
def test_field_that_an_earlier_one_decides_on(kinds: tuple[int, ...]) -> None:
    cells = [{"kind": kind, "value": 0x10203 + i} for i, kind in enumerate(kinds)]
    reference = c_reference.device("cells")
    data, description = reference.save(reference.make({"cells": cells, "end": 9}))
    obj = Cells(cells=[Cell(**one) for one in cells], end=9)
    assert save(obj) == data
    assert describe(obj) == description
    loaded, c_loaded = Cells(), reference.make({})
    load(loaded, data)
    reference.load(c_loaded, data)
    assert [one.value for one in loaded.cells] == [one.value for one in c_loaded.cells]
    for length in range(len(data)):
        with pytest.raises(VMStateError):
            load(Cells(), data[:length])


# ------------------------------------------------------------------------------ versions
class GrownPair(VMStruct, name="pair", version_id=2, minimum_version_id=1):
    x: u8 = 0
    y: u32 = field(version_id=2, default=0)


class Grown(VMStruct, name="grown", version_id=4, minimum_version_id=2):
    a: u8 = 0
    b: u16 = field(version_id=3, default=300)
    c: u32 = field(version_id=4, keep=True)
    d: u8 = field(version_id=2, default=0)
    old: GrownPair = field(version_id=3, struct_version_id=1)
    now: GrownPair = field(version_id=4, struct_version_id=2)


GROWN = {"a": 1, "b": 2, "c": 3, "d": 4, "old": {"x": 5, "y": 6}, "now": {"x": 7, "y": 8}}


def grown(values: Mapping[str, Any]) -> Grown:
    rest = {name: GrownPair(**values[name]) for name in ("old", "now")}
    return Grown(**{**values, **rest})


def test_struct_versions_are_saved_as_in_c() -> None:
    reference = c_reference.device("grown")
    data, description = reference.save(reference.make(GROWN))
    assert save(grown(GROWN)) == data
    assert describe(grown(GROWN)) == description


@pytest.mark.parametrize("version", range(2, 5))
def test_each_version_that_is_taken(version: int) -> None:
    reference = c_reference.device("grown")
    data, _ = reference.save(reference.make(GROWN), version_id=version)
    initial = {"a": 0, "b": 300, "c": 77, "d": 0, "old": {"x": 0, "y": 0}, "now": {"x": 0, "y": 0}}
    c_obj, obj = reference.make(initial), Grown(c=77, b=99)
    reference.load(c_obj, data, version)
    load(obj, data, version)
    expected = c_reference.read(c_obj, GROWN)
    assert (obj.a, obj.b, obj.c, obj.d) == tuple(expected[name] for name in "abcd")
    for name in ("old", "now"):
        pair = getattr(obj, name)
        assert {"x": pair.x, "y": pair.y} == expected[name]


@pytest.mark.parametrize("version", [-1, 0, 1, 5, 2**31 - 1])
def test_each_version_that_is_refused(version: int) -> None:
    reference = c_reference.device("grown")
    data, _ = reference.save(reference.make(GROWN))
    with pytest.raises(c_reference.CError):
        reference.load(reference.make({}), data, version)
    obj = grown(GROWN)
    before = bytes(obj)
    with pytest.raises(VersionError, match="reads 2 to 4"):
        load(obj, data, version)
    assert bytes(obj) == before


# --------------------------------------------------------------- what a short stream lacks
class Checked(VMStruct, name="checked"):
    low: u8 = field(minimum=1, default=1)
    same: Equal[u8] = 7
    slots: PointerArray[u8, Literal[1]] = field(default=[None])


@loads_null
def test_a_stream_that_ends_is_not_said_to_have_bad_values() -> None:
    """The error is the early end, not a value that C reads behind it."""
    for length, last in enumerate(("low", "same", r"slots\[0\]")):
        with pytest.raises(StreamError, match=rf"ends inside checked\.{last}, whose 1 byte"):
            load(Checked(), b"\1\x07"[:length])


def test_a_long_stream_with_a_bad_value_is_not_said_to_end() -> None:
    """QEMU has not read most of the stream then."""

    class Long(VMStruct, name="long"):
        low: u8 = field(minimum=1, default=1)
        rest: Buffer[Literal[300000]] = zeroed()

    with pytest.raises(InvalidError, match=r"long\.low: 0 is out of range"):
        load(Long(), bytes(300001))
    with pytest.raises(StreamError, match=r"ends inside long\.rest"):
        load(Long(), b"\1" + bytes(299999))
