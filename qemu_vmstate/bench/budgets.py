# SPDX-License-Identifier: GPL-2.0-or-later
"""Budgets: the limits of the benchmark's figures, and whether a result is within them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .process import OPERATIONS, REFERENCE, ratio_to
from .python_state import MSGSPEC
from .serializers import MSGSPEC_DATACLASS, PICKLE

__all__ = ["Budget", "budgets", "ratio_text"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """The limit of one figure, the measured value, and whether it is within the limit."""

    what: str
    limit: str
    measured: str
    met: bool


@dataclass(frozen=True)
class _Most:
    """The most that one path may take for one shape, as a ratio to what ``to`` takes."""

    path: str
    shape: str
    save: float
    load: float
    to: str = REFERENCE


_IN_PROCESS = (
    _Most("native", "32 u32", 0.10, 0.10),
    _Most("native", "256 u32", 0.05, 0.05),
    _Most("native", "16,384 u32", 0.03, 0.03),
    _Most("native", "list of 1000 structs", 0.03, 0.03),
    _Most("native", "buffer 128 B", 0.80, 0.80),
    _Most("native", "buffer 64 KiB", 0.90, 0.90),
    _Most("native", "buffer 1 MiB", 0.90, 0.90),
    _Most("native", "buffer 64 MiB", 0.90, 0.90),
    _Most("fast path", "32 u32", 0.35, 0.50),
    _Most("fast path", "buffer 64 KiB", 1.25, 1.25),
    _Most("fast path", "buffer 1 MiB", 1.25, 1.25),
    _Most("fast path", "buffer 64 MiB", 1.25, 1.25),
    _Most("derived", "32 u32", 0.80, 1.00),
    _Most("derived", "list of 1000 structs", 0.70, 1.50),
    _Most("derived", "32 u32", 1.00, 1.00, to=MSGSPEC_DATACLASS),
    _Most("derived", "list of 1000 structs", 1.00, 1.00, to=MSGSPEC_DATACLASS),
)

_PYTHON_STATE = {"typed": 1.5, "Packed": 1.2}
"""The most that a conversion takes, as a ratio to msgspec's."""

_ONLY_BYTES = "bytes of 64 KiB"
"""A state that each of them only copies, and ``Packed`` twice, into its message and out of it."""

_INCOMING = {1: 2, 4: 3}
"""The most that 1,000 devices beside so many busy threads take on the destination, as a ratio."""


def budgets(result: dict[str, Any]) -> list[Budget]:
    """Return every budget whose figures a result of ``measure()`` has."""
    found: list[Budget] = []
    for make in (
        *(_slowest, _in_process, _python_state, _slowest_beside_pickle),
        *(_busy, _incoming, _ten_thousand, _microbenchmarks),
    ):
        found += make(result)
    return found


def ratio_text(ratio: float) -> str:
    """Return a ratio as text, with two digits that say something."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def _where(rows: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _ratio(what: str, ratio: float, most: float, to: str, detail: str = "") -> Budget:
    return Budget(what, f"{most:.2f} x {to}", f"{ratio_text(ratio)}{detail}", ratio <= most)


def _slowest(result: dict[str, Any]) -> Iterator[Budget]:
    rows = _where(result["in_process"], path="native")
    if rows:
        row = max(rows, key=lambda row: row[ratio_to(REFERENCE)])
        detail = f" ({row['op']} of {row['shape']})"
        what = "native, save and load, slowest shape"
        yield _ratio(what, row[ratio_to(REFERENCE)], 1.0, f"{REFERENCE} device", detail)


def _in_process(result: dict[str, Any]) -> Iterator[Budget]:
    for bar in _IN_PROCESS:
        for operation in OPERATIONS:
            rows = _where(result["in_process"], path=bar.path, shape=bar.shape, op=operation)
            for row in rows:
                # Without msgspec there is no ratio to it.
                if ratio_to(bar.to) in row:
                    yield _ratio(
                        f"{bar.path}, {bar.shape}, {operation}",
                        row[ratio_to(bar.to)],
                        bar.save if operation == "save" else bar.load,
                        f"{REFERENCE} device" if bar.to == REFERENCE else bar.to,
                    )


def _python_state(result: dict[str, Any]) -> Iterator[Budget]:
    for form, most in _PYTHON_STATE.items():
        for row in _where(result["python_state"], path=form):
            # Without msgspec there is no ratio to it.
            if ratio_to(MSGSPEC) in row and (form, row["state"]) != ("Packed", _ONLY_BYTES):
                what = f"{form}, {row['state']}, {row['op']}"
                yield _ratio(what, row[ratio_to(MSGSPEC)], most, MSGSPEC)


def _slowest_beside_pickle(result: dict[str, Any]) -> Iterator[Budget]:
    for form in _PYTHON_STATE:
        rows = _where(result["python_state"], path=form)
        rows = [row for row in rows if row["state"] != _ONLY_BYTES]
        if rows:
            row = max(rows, key=lambda row: row[ratio_to(PICKLE)])
            detail = f" ({row['op']} of {row['state']})"
            what = f"{form}, save and load, slowest Python state"
            yield _ratio(what, row[ratio_to(PICKLE)], 1.0, PICKLE, detail)


def _vm(result: dict[str, Any], path: str, devices: int, busy: int) -> Row | None:
    rows = _where(result["vm"], path=path, devices=devices, busy_threads=busy)
    return rows[0] if rows else None


def _threads(busy: int) -> str:
    return f"beside {busy} busy thread{'s' if busy > 1 else ''}"


def _busy(result: dict[str, Any]) -> Iterator[Budget]:
    for busy in (1, 4):
        if row := _vm(result, "native", 1000, busy):
            what = f"source, 1,000 native devices {_threads(busy)}"
            yield _ratio(what, row[ratio_to(REFERENCE)], 1.2, f"{REFERENCE} devices")
    idle, one = _vm(result, "fast path", 1000, 0), _vm(result, "fast path", 1000, 1)
    if idle and one:
        yield _ratio(
            f"source, 1,000 fast path devices {_threads(1)}",
            one["hooks_ms"] / idle["hooks_ms"],
            3,
            "without it",
            f" ({idle['hooks_ms']:.1f} and {one['hooks_ms']:.1f} ms)",
        )


def _incoming(result: dict[str, Any]) -> Iterator[Budget]:
    for busy, most in _INCOMING.items():
        row = _vm(result, "fast path", 1000, busy)
        if row and "incoming_ms" in row:
            yield _ratio(
                f"destination, 1,000 fast path devices {_threads(busy)}",
                row["incoming_ratio_to_reference"],
                most,
                f"{REFERENCE} devices",
                f" ({row['incoming_ms']:.1f} ms)",
            )


def _ten_thousand(result: dict[str, Any]) -> Iterator[Budget]:
    if row := _vm(result, "native", 10_000, 0):
        what = "downtime of 10,000 native devices"
        yield _ratio(what, row[ratio_to(REFERENCE)], 0.9, f"{REFERENCE} devices")
    rows = [
        (_vm(result, "fast path", devices, 0), _vm(result, REFERENCE, devices, 0))
        for devices in (1_000, 10_000)
    ]
    ratios = [
        mine["hooks_ms"] / reference["hooks_ms"] for mine, reference in rows if mine and reference
    ]
    if len(ratios) == 2:
        what = "growth from 1,000 to 10,000 fast path devices"
        yield _ratio(what, ratios[1] / ratios[0], 1.2, f"{REFERENCE} devices")


@dataclass(frozen=True)
class _Figure:
    """The most that one figure of the microbenchmarks may be."""

    what: str
    name: str
    key: str
    most: float
    limit: str
    form: str


_FIGURES = (
    _Figure("save() call, 32 u32", "save(device)", "ratio", 0.6, "0.60 x pickle", "{:.2f}"),
    _Figure("load() call, 32 u32", "load(device)", "ratio", 0.6, "0.60 x pickle", "{:.2f}"),
    _Figure("register one device, up to 10000", "native", "us", 3, "3 us", "{:.1f} us"),
    _Figure(
        "memory of one device, up to 10000",
        "native",
        "bytes",
        1024,
        "1 KiB beside its state",
        "{:.0f} bytes",
    ),
    _Figure("import", "qemu_vmstate and a device class", "ms", 40, "40 ms", "{:.0f} ms"),
    *(
        _Figure(
            f"{verb} an attribute",
            "layout class in a guard of a Migratable",
            "ratio",
            1.5,
            "1.50 x ctypes.Structure",
            "{:.2f}",
        )
        for verb in ("get", "set")
    ),
    _Figure("64 MiB buffer part, idle", "native", "mib", 96, "held once", "{:.1f} MiB"),
)


def _microbenchmarks(result: dict[str, Any]) -> Iterator[Budget]:
    for figure in _FIGURES:
        wanted = {"what": figure.what, "with": figure.name}
        for row in _where(result["microbenchmarks"], **wanted):
            value = row[figure.key]
            measured = figure.form.format(value)
            yield Budget(figure.what, figure.limit, measured, value <= figure.most)
