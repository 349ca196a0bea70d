# SPDX-License-Identifier: GPL-2.0-or-later
"""Each limit of the benchmark, met and missed by results that are made from arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from qemu_vmstate.bench.budgets import Budget, budgets, ratio_text
from qemu_vmstate.bench.python_state import STATES
from qemu_vmstate.bench.shapes import SHAPES

from .results import (
    REFERENCE_US,
    SERIALIZER_US,
    figure,
    process_rows,
    result,
    state_rows,
    vm_rows,
)

BELOW, ABOVE = 0.99, 1.01


def judged(of: dict[str, Any], what: str, limit: str) -> bool:
    """Return whether a result is within the one budget of this name and limit."""
    found = [budget for budget in budgets(of) if (budget.what, budget.limit) == (what, limit)]
    assert len(found) == 1, budgets(of)
    return found[0].met


REFERENCE_LIMITS = [
    ("native", "32 u32", 0.10, 0.10),
    ("native", "256 u32", 0.05, 0.05),
    ("native", "16,384 u32", 0.03, 0.03),
    ("native", "list of 1000 structs", 0.03, 0.03),
    ("native", "buffer 128 B", 0.80, 0.80),
    ("native", "buffer 64 KiB", 0.90, 0.90),
    ("native", "buffer 1 MiB", 0.90, 0.90),
    ("native", "buffer 64 MiB", 0.90, 0.90),
    ("fast path", "32 u32", 0.35, 0.50),
    ("fast path", "buffer 64 KiB", 1.25, 1.25),
    ("fast path", "buffer 1 MiB", 1.25, 1.25),
    ("fast path", "buffer 64 MiB", 1.25, 1.25),
    ("derived", "32 u32", 0.80, 1.00),
    ("derived", "list of 1000 structs", 0.70, 1.50),
]


@pytest.mark.parametrize(("path", "shape", "save", "load"), REFERENCE_LIMITS)
def test_ratios_to_the_reference_device(path: str, shape: str, save: float, load: float) -> None:
    assert shape in SHAPES
    for operation, most in (("save", save), ("load", load)):
        for factor in (BELOW, ABOVE):
            rows = process_rows(shape, operation, {path: most * REFERENCE_US * factor})
            what, limit = f"{path}, {shape}, {operation}", f"{most:.2f} x reference device"
            assert judged(result(rows), what, limit) == (factor == BELOW)


@pytest.mark.parametrize("operation", ["save", "load"])
@pytest.mark.parametrize("shape", ["32 u32", "list of 1000 structs"])
def test_derived_dataclasses_are_at_par_with_msgspec(shape: str, operation: str) -> None:
    for factor in (BELOW, ABOVE):
        rows = process_rows(
            shape, operation, {"derived": SERIALIZER_US["msgspec dataclass"] * factor}
        )
        what, limit = f"derived, {shape}, {operation}", "1.00 x msgspec dataclass"
        assert judged(result(rows), what, limit) == (factor == BELOW)
    without = process_rows(shape, operation, {"derived": 1.0}, {"pickle": 20.0})
    assert [budget.limit for budget in budgets(result(without))] != []
    assert not [budget for budget in budgets(result(without)) if "msgspec" in budget.limit]


@pytest.mark.parametrize("operation", ["save", "load"])
@pytest.mark.parametrize(("form", "most"), [("typed", 1.5), ("Packed", 1.2)])
@pytest.mark.parametrize("state", STATES)
def test_conversions_of_python_state_take_little_more_than_msgspec(
    state: str, form: str, most: float, operation: str
) -> None:
    what, limit = f"{form}, {state}, {operation}", f"{most:.2f} x msgspec"
    for factor in (BELOW, ABOVE):
        rows = result(python_state=state_rows(state, operation, {form: 10 * most * factor}))
        if (form, state) == ("Packed", "bytes of 64 KiB"):
            assert budgets(rows) == []
        else:
            assert judged(rows, what, limit) == (factor == BELOW)
    without = result(python_state=state_rows(state, operation, {form: 1.0}, None))
    assert not [budget for budget in budgets(without) if "msgspec" in budget.limit]


@pytest.mark.parametrize("form", ["typed", "Packed"])
def test_every_python_state_but_bytes_is_converted_faster_than_by_pickle(form: str) -> None:
    bytes_ = state_rows("bytes of 64 KiB", "load", {form: 99.0}, None)
    fast = state_rows("session", "save", {form: 1.0}, None)
    for factor in (BELOW, ABOVE):
        slow = state_rows("dict of 100 str to int", "load", {form: 20 * factor}, None)
        assert budgets(result(python_state=bytes_ + fast + slow)) == [
            Budget(
                f"{form}, save and load, slowest Python state",
                "1.00 x pickle",
                f"{factor:.2f} (load of dict of 100 str to int)",
                factor == BELOW,
            )
        ]


def test_no_shape_is_slower_than_the_reference_device() -> None:
    fast = process_rows("4 u32", "save", {"native": REFERENCE_US * 0.5})
    for factor in (BELOW, ABOVE):
        slow = process_rows("8 parts of 8 u32", "load", {"native": REFERENCE_US * factor})
        assert budgets(result(fast + slow)) == [
            Budget(
                "native, save and load, slowest shape",
                "1.00 x reference device",
                f"{factor:.2f} (load of 8 parts of 8 u32)",
                factor == BELOW,
            )
        ]


@pytest.mark.parametrize(
    ("busy", "threads", "most"), [(1, "1 busy thread", 2), (4, "4 busy threads", 3)]
)
def test_the_destination_beside_busy_threads(busy: int, threads: str, most: int) -> None:
    what = f"destination, 1,000 fast path devices beside {threads}"
    for factor in (BELOW, ABOVE):
        times = {"reference": 3.5, "native": 3.0, "fast path": 3.5 * most * factor}
        limit = f"{most:.2f} x reference devices"
        assert judged(result(vm=vm_rows(1_000, busy, times)), what, limit) == (factor == BELOW)
    unmeasured = result(vm=vm_rows(1_000, busy, times, incoming=False))
    assert not [budget for budget in budgets(unmeasured) if budget.what == what]


@pytest.mark.parametrize(("busy", "threads"), [(1, "1 busy thread"), (4, "4 busy threads")])
def test_native_devices_at_the_source_beside_busy_threads(busy: int, threads: str) -> None:
    for factor in (BELOW, ABOVE):
        times = {"reference": 5.0, "native": 5 * 1.2 * factor}
        what = f"source, 1,000 native devices beside {threads}"
        assert judged(result(vm=vm_rows(1_000, busy, times)), what, "1.20 x reference devices") == (
            factor == BELOW
        )


def test_python_conversions_at_the_source_beside_a_busy_thread() -> None:
    for factor in (BELOW, ABOVE):
        idle = vm_rows(1_000, 0, {"reference": 4.0, "fast path": 5.0})
        one = vm_rows(1_000, 1, {"reference": 4.0, "fast path": 5.0 * 3 * factor})
        what = "source, 1,000 fast path devices beside 1 busy thread"
        assert judged(result(vm=idle + one), what, "3.00 x without it") == (factor == BELOW)


def test_the_downtime_of_ten_thousand_devices() -> None:
    for factor in (BELOW, ABOVE):
        rows = vm_rows(10_000, 0, {"reference": 40.0, "native": 40 * 0.9 * factor})
        what = "downtime of 10,000 native devices"
        assert judged(result(vm=rows), what, "0.90 x reference devices") == (factor == BELOW)


def test_the_growth_of_the_fast_path() -> None:
    for factor in (BELOW, ABOVE):
        few = vm_rows(1_000, 0, {"reference": 4.0, "fast path": 5.0})
        many = vm_rows(10_000, 0, {"reference": 40.0, "fast path": 50 * 1.2 * factor})
        what = "growth from 1,000 to 10,000 fast path devices"
        assert judged(result(vm=few + many), what, "1.20 x reference devices") == (factor == BELOW)


FIGURES = [
    ("register one device, up to 10000", "native", "us", 3.0, "3 us"),
    ("memory of one device, up to 10000", "native", "bytes", 1024.0, "1 KiB beside its state"),
    ("import", "qemu_vmstate and a device class", "ms", 40.0, "40 ms"),
]


@pytest.mark.parametrize(("what", "name", "unit", "most", "limit"), FIGURES)
def test_absolute_figures(what: str, name: str, unit: str, most: float, limit: str) -> None:
    for factor in (BELOW, ABOVE):
        rows = [figure(what, name, unit, most * factor)]
        assert judged(result(microbenchmarks=rows), what, limit) == (factor == BELOW)


RATIOS = [
    ("save() call, 32 u32", "save(device)", 0.6, "0.60 x pickle"),
    ("load() call, 32 u32", "load(device)", 0.6, "0.60 x pickle"),
    ("get an attribute", "layout class in a guard of a Migratable", 1.5, "1.50 x ctypes.Structure"),
    ("set an attribute", "layout class in a guard of a Migratable", 1.5, "1.50 x ctypes.Structure"),
]


@pytest.mark.parametrize(("what", "name", "most", "limit"), RATIOS)
def test_ratios_of_calls_and_attributes(what: str, name: str, most: float, limit: str) -> None:
    for factor in (BELOW, ABOVE):
        rows = [figure(what, name, "ns", 100.0, most * factor)]
        assert judged(result(microbenchmarks=rows), what, limit) == (factor == BELOW)


def test_a_large_part_is_held_once() -> None:
    for mib, met in ((66.0, True), (130.0, False)):
        rows = [figure("64 MiB buffer part, idle", "native", "mib", mib)]
        assert judged(result(microbenchmarks=rows), "64 MiB buffer part, idle", "held once") == met


def test_small_ratios_have_two_digits() -> None:
    assert [ratio_text(ratio) for ratio in (1.234, 0.1, 0.0567, 0.012)] == [
        *("1.23", "0.10", "0.057", "0.012")
    ]


def test_nothing_that_was_not_measured_is_judged() -> None:
    assert budgets(result()) == []
