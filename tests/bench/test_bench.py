# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: what it measures, and the form of its output."""

from __future__ import annotations

import itertools

import pytest

from qemu_vmstate import save
from qemu_vmstate.bench.budgets import budgets
from qemu_vmstate.bench.native import ffi, lib
from qemu_vmstate.bench.samples import Samples, rounds
from qemu_vmstate.bench.shapes import PATHS, SHAPES, Pickled, Python, ReferenceDevice

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
                if name.endswith("u32"):
                    state.r0 = 9
        filled.save(3, stream)
        again.load(3, stream, len(wire))
        assert save(again.device) == wire


def test_pickle_is_given_the_same_state() -> None:
    pickled = Pickled(SHAPES["4 u32"]())
    pickled.save()
    pickled.load()
    assert len(pickled.states) == 1
    assert vars(pickled.states[0]) == dict.fromkeys(["r0", "r1", "r2", "r3"], 0x11223344)


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


def test_budgets_of_incoming_migrations_allow_more_beside_more_threads() -> None:
    def row(busy: int, ratio: float) -> dict[str, object]:
        return {
            "devices": 1000,
            "path": "fast path",
            "busy_threads": busy,
            "ratio_to_reference": 1.0,
            "hooks_ms": 1.0,
            "incoming_ms": 8.75,
            "incoming_ratio_to_reference": ratio,
        }

    rows = [row(0, 9.0), row(1, 2.5), row(4, 2.5)]
    found = budgets({"in_process": [], "vm": rows, "microbenchmarks": []})
    assert [(b.measured, b.met) for b in found if "loaded beside" in b.what] == [
        ("2.50 (8.8 ms)", False),
        ("2.50 (8.8 ms)", True),
    ]


def test_budgets_judge_by_their_limits() -> None:
    def row(path: str, us: float, ratio: float) -> dict[str, object]:
        return {
            "shape": "32 u32",
            "bytes": 128,
            "path": path,
            "op": "save",
            "us": us,
            "ratio_to_reference": ratio,
            "ratio_to_pickle": 0.1,
        }

    rows = [row("reference", 1.0, 1.0), row("native", 1.06, 1.06), row("fast path", 1.4, 1.4)]
    found = budgets({"in_process": rows, "vm": [], "microbenchmarks": []})
    assert [(budget.what, budget.met) for budget in found] == [
        ("native, save and load, every shape", False),
        ("fast path, 32 fields, save", True),
    ]
