# SPDX-License-Identifier: GPL-2.0-or-later
"""Budgets: the limits of the benchmark's figures, and whether a result is within them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .process import OPERATIONS, PICKLE, REFERENCE

__all__ = ["Budget", "budgets"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """The limit of one figure, the measured value, and whether it is within the limit."""

    what: str
    limit: str
    measured: str
    met: bool


def budgets(result: dict[str, Any]) -> list[Budget]:
    """Return every budget whose figures a result of ``measure()`` has."""
    found: list[Budget] = []
    for make in (
        _native,
        _fast_path,
        _large,
        _derived,
        _busy,
        _incoming,
        _growth,
        _microbenchmarks,
    ):
        found += make(result)
    return found


def _process(result: dict[str, Any], **wanted: Any) -> list[Row]:
    return _where(result["in_process"], **wanted)


def _where(rows: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _over_reference(row: Row, result: dict[str, Any]) -> float:
    """Return by how many microseconds the row exceeds the reference device's."""
    [reference] = _process(result, shape=row["shape"], op=row["op"], path=REFERENCE)
    return float(row["us"] - reference["us"])


def _native(result: dict[str, Any]) -> Iterator[Budget]:
    rows = _process(result, path="native")
    if rows:
        middle = statistics.median(row["ratio_to_reference"] for row in rows)
        worst = max(rows, key=lambda row: row["ratio_to_reference"])
        ratio = worst["ratio_to_reference"]
        yield Budget(
            "native, save and load, every shape",
            "1.00 x reference device, none over 1.05",
            f"median {middle:.2f}, most {ratio:.2f} ({worst['op']} of {worst['shape']})",
            middle <= 1.005 and ratio <= 1.05,
        )


def _fast_path(result: dict[str, Any]) -> Iterator[Budget]:
    for row in _process(result, path="fast path", shape="32 u32"):
        more = _over_reference(row, result)
        yield Budget(
            f"fast path, 32 fields, {row['op']}",
            "reference device + 0.5 us",
            f"+ {more:.2f} us",
            more <= 0.5,
        )


def _large(result: dict[str, Any]) -> Iterator[Budget]:
    for row in _process(result, path="fast path"):
        if row["shape"].startswith("buffer") and row["bytes"] >= 64 << 10:
            ratio = row["ratio_to_reference"]
            what = f"fast path, {row['shape']}, {row['op']}"
            yield Budget(what, "1.25 x reference device", f"{ratio:.2f}", ratio <= 1.25)


def _derived(result: dict[str, Any]) -> Iterator[Budget]:
    rows = _process(result, path="derived", shape="32 u32")
    for row in rows:
        more, most = _over_reference(row, result), {"save": 1.2, "load": 0.8}[row["op"]]
        yield Budget(
            f"derived dataclass of 32 ints, {row['op']}",
            f"reference device + {most} us",
            f"+ {more:.2f} us",
            more <= most,
        )
    if len(rows) == len(OPERATIONS):
        pickled = sum(row["us"] for row in _process(result, path=PICKLE, shape="32 u32"))
        ratio = sum(row["us"] for row in rows) / pickled
        yield Budget(
            "derived dataclass of 32 ints, both", "half of pickle's", f"{ratio:.2f}", ratio <= 0.5
        )


def _vm(result: dict[str, Any], path: str, devices: int, busy: int) -> Row | None:
    rows = _where(result["vm"], path=path, devices=devices, busy_threads=busy)
    return rows[0] if rows else None


def _busy(result: dict[str, Any]) -> Iterator[Budget]:
    for busy in (1, 4):
        if row := _vm(result, "native", 1000, busy):
            ratio = row["ratio_to_reference"]
            yield Budget(
                f"1,000 native devices beside {busy} busy Python thread(s)",
                "1.2 x the reference devices'",
                f"{ratio:.2f}",
                ratio <= 1.2,
            )
    idle, one = _vm(result, "fast path", 1000, 0), _vm(result, "fast path", 1000, 1)
    if idle and one:
        ratio = one["hooks_ms"] / idle["hooks_ms"]
        yield Budget(
            "1,000 fast path devices beside one busy thread",
            "3 x without it",
            f"{ratio:.2f} ({idle['hooks_ms']:.1f} and {one['hooks_ms']:.1f} ms)",
            ratio <= 3,
        )


def _incoming(result: dict[str, Any]) -> Iterator[Budget]:
    for busy, limit in ((1, 2), (4, 3)):
        row = _vm(result, "fast path", 1000, busy)
        if row and "incoming_ratio_to_reference" in row:
            ratio = row["incoming_ratio_to_reference"]
            yield Budget(
                f"1,000 fast path devices loaded beside {busy} busy Python thread(s)",
                f"{limit} x the reference devices'",
                f"{ratio:.2f} ({row['incoming_ms']:.1f} ms)",
                ratio <= limit,
            )


def _growth(result: dict[str, Any]) -> Iterator[Budget]:
    for path in ("native", "fast path"):
        ends = [
            (_vm(result, path, devices, 0), _vm(result, REFERENCE, devices, 0))
            for devices in (1_000, 10_000)
        ]
        ratios = [
            mine["hooks_ms"] / reference["hooks_ms"]
            for mine, reference in ends
            if mine and reference
        ]
        if len(ratios) == 2:
            grown = ratios[1] / ratios[0]
            what = f"downtime from 1,000 to 10,000 devices, {path}"
            yield Budget(
                what, "grows as the reference devices', x 1.2", f"{grown:.2f}", grown <= 1.2
            )


def _registration(result: dict[str, Any]) -> Iterator[Budget]:
    what = "register one device, up to 10000"
    rows = {row["with"]: row for row in _where(result["microbenchmarks"], what=what)}
    numbered = rows.get(f"{REFERENCE}, numbered by QEMU")
    if numbered:
        ratio = rows["native"]["us"] / numbered["us"]
        limit = "2 x reference device that QEMU numbers"
        yield Budget(what, limit, f"{ratio:.2f}", ratio <= 2)


def _microbenchmarks(result: dict[str, Any]) -> Iterator[Budget]:
    wanted: list[tuple[str, str, str, Callable[[Row], tuple[str, bool]]]] = [
        (
            "register one device, up to 10000",
            "native",
            "2 x reference device with a given number",
            lambda row: (f"{row['ratio']:.2f}", row["ratio"] <= 2),
        ),
        (
            "memory of one device, up to 10000",
            "native",
            "1 KiB beside its state",
            lambda row: (f"{row['bytes']:.0f} bytes", row["bytes"] < 1024),
        ),
        (
            "get an attribute",
            "layout class in a guard of a Migratable",
            "1.5 x ctypes.Structure",
            lambda row: (f"{row['ratio']:.2f}", row["ratio"] <= 1.5),
        ),
        (
            "set an attribute",
            "layout class in a guard of a Migratable",
            "1.5 x ctypes.Structure",
            lambda row: (f"{row['ratio']:.2f}", row["ratio"] <= 1.5),
        ),
        (
            "64 MiB buffer part, idle",
            "native",
            "held once",
            lambda row: (f"{row['mib']:.1f} MiB", row["mib"] < 96),
        ),
        ("import", "qemu_vmstate", "100 ms", lambda row: (f"{row['ms']:.0f} ms", row["ms"] <= 100)),
    ]
    yield from _registration(result)
    for what, which, limit, judge in wanted:
        for row in _where(result["microbenchmarks"], what=what, **{"with": which}):
            measured, met = judge(row)
            yield Budget(what, limit, measured, met)
