# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: what it measures, and the form of its output."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import msgspec
import pytest

from qemu_vmstate import save
from qemu_vmstate.bench.native import ffi, lib
from qemu_vmstate.bench.python_state import STATES, conversions, python_states, whole_calls
from qemu_vmstate.bench.samples import Samples, rounds
from qemu_vmstate.bench.serializers import message_pack, pickle_of, pickled, serializers
from qemu_vmstate.bench.shapes import PATHS, SHAPES, Python, ReferenceDevice

SMALL = [name for name in SHAPES if "MiB" not in name]


@pytest.mark.parametrize("name", SMALL)
def test_every_path_and_the_reference_device_write_the_same_bytes(name: str) -> None:
    shape = SHAPES[name]()
    wires = [save(Python(shape, path).device) for path in PATHS]
    assert wires[0] == wires[1] == wires[2]
    stream = ffi.new("unsigned char[]", len(wires[0]) + lib().QV_TIMED_TAIL)
    ReferenceDevice(shape).save(1, stream)
    assert bytes(ffi.buffer(stream, len(wires[0]))) == wires[0]


@pytest.mark.parametrize("name", SMALL)
def test_a_timed_load_commits(name: str) -> None:
    shape = SHAPES[name]()
    filled = Python(shape, "native")
    wire = save(filled.device)
    stream = ffi.new("unsigned char[]", 3 * len(wire) + lib().QV_TIMED_TAIL)
    filled.save(3, stream)
    reference = ReferenceDevice(shape)
    ffi.memmove(lib().qv_reference_device_state(reference.cdata), bytes(shape.bytes), shape.bytes)
    reference.load(3, stream, len(wire))
    reference.save(1, stream)
    assert bytes(ffi.buffer(stream, len(wire))) == wire
    for path in PATHS:
        again = Python(shape, path)
        for part in range(shape.parts):
            with getattr(again.device, f"part{part}").lock() as state:
                if name == "16,384 u32":
                    state.numbers[9] = 9
                elif name.endswith("u32"):
                    state.r0 = 9
        filled.save(3, stream)
        again.load(3, stream, len(wire))
        assert save(again.device) == wire


def values(state: Any) -> Any:
    """Return a state as lists and dicts of its fields."""
    if isinstance(state, list):
        return [values(item) for item in state]
    names = getattr(state, "__dataclass_fields__", getattr(state, "__struct_fields__", None))
    return state if names is None else {name: values(getattr(state, name)) for name in names}


@pytest.mark.parametrize("name", SMALL)
def test_serializers_are_given_the_same_state(name: str) -> None:
    shape = SHAPES[name]()
    states = [shape.derived() for _ in range(shape.parts)]
    for state in states:
        shape.fill(state)
    there = dict(serializers(shape))
    assert list(there) == ["pickle", "msgspec dataclass", "msgspec Struct"]
    for serializer in there.values():
        assert values(serializer.states) == values(states)
        assert serializer.load() == serializer.states
        assert serializer.load() is not serializer.states
    kinds = [type(serializer.states[0]) for serializer in there.values()]
    assert kinds[0] is kinds[1]
    assert issubclass(kinds[2], msgspec.Struct)
    assert not {shape.derived} & set(kinds)


def test_messages_are_maps_of_the_fields() -> None:
    message = dict(serializers(SHAPES["4 u32"]()))["msgspec dataclass"].save()
    # MessagePack: an array of one, a map of four, each a string of two characters and a u32.
    fields = (b"\xa2r%d\xce\x11\x22\x33\x44" % index for index in range(4))
    assert message == b"\x91\x84" + b"".join(fields)


def test_pickle_is_given_the_same_state() -> None:
    states = pickled(SHAPES["4 u32"]()).states
    assert len(states) == 1
    assert vars(states[0]) == dict.fromkeys(["r0", "r1", "r2", "r3"], 0x11223344)


def plain(value: Any) -> Any:
    """Return a value as builtin objects, whatever the classes of its dataclasses are."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STATES)
def test_all_are_given_the_same_python_state(name: str) -> None:
    value, annotation, states = STATES[name]()
    assert list(states) == ["typed", "Packed"]
    for state in states.values():
        assert plain(getattr(state, "value", state)) == plain(value)
    assert message_pack(value, annotation).load() == value
    assert pickle_of(value).load() == value
    for item in value if isinstance(value, list) else [value]:
        assert not hasattr(item, "Migrated")


@pytest.mark.parametrize("name", STATES)
def test_timed_conversions_and_calls_restore_a_python_state(name: str) -> None:
    for state in STATES[name]().states.values():
        before = plain(state)
        for calls in (conversions(state), whole_calls(state)):
            for attribute in vars(state):
                setattr(state, attribute, None)
            assert calls.load() > 0
            assert plain(state) == before


def test_python_states_have_rows_of_each_form_and_serializer() -> None:
    rows = list(python_states(3, 0.1, ["session"]))
    paths = ["typed", "Packed", "pickle", "msgspec"]
    assert [(row["op"], row["path"]) for row in rows] == [
        (operation, path) for operation in ("save", "load") for path in paths
    ]
    for row in rows:
        assert row["us"] > 0
        assert row["ratio_to_pickle"] == 1 or row["path"] != "pickle"
        assert row["ratio_to_msgspec"] == 1 or row["path"] != "msgspec"
        # A device takes longer than its conversion.
        assert row.get("device_us", row["us"] + 1) > row["us"]


def test_turns_alternate_and_ratios_are_those_of_a_turn() -> None:
    log: list[str] = []
    a, b = itertools.count(1), itertools.count(1)

    def first() -> float:
        log.append("a")
        return 10.0 * next(a)

    def second() -> float:
        log.append("b")
        return 5.0 * next(b)

    samples = rounds({"a": first, "b": second}, turns=5, seconds=60)
    assert log == ["a", "b"] * 5
    assert samples.median("a") == 30
    assert samples.ratio("b", "a") == 0.5


def test_rounds_end_when_their_time_is_up_but_not_before_three() -> None:
    assert len(rounds({"a": lambda: 1.0}, turns=50, seconds=0).samples["a"]) == 3


def test_noise_is_half_of_the_middle_half() -> None:
    # The quartiles are a quarter behind 9 and 12, around 10.5.
    samples = Samples({"a": [8, 9, 10, 11, 12, 10, 13, 1000], "once": [7]})
    assert samples.noise("a") == pytest.approx((12.25 - 9.75) / 2 / 10.5)
    assert samples.noise("once") == 0
