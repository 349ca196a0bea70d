# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of a benchmark's result."""

from __future__ import annotations

import os
from typing import Any

from ..errors import NativeError
from .budgets import budgets, ratio_text
from .process import REFERENCE, ratio_to
from .python_state import FORMS, MSGSPEC
from .serializers import MSGSPEC_DATACLASS, MSGSPEC_STRUCT, PICKLE
from .shapes import PATHS
from .vm import VM_PATHS

try:
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise NativeError(
        f"the tables of a benchmark need rich ({error}): "
        "pip install 'qemu-vmstate[bench]'; without it, --json prints the figures"
    ) from None

__all__ = ["show"]

Row = dict[str, Any]

_SERIALIZERS = (PICKLE, MSGSPEC_DATACLASS, MSGSPEC_STRUCT)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def _time(us: float) -> str:
    return f"{us / 1000:.1f} ms" if us >= 10_000 else f"{us:.2f} us"


def show(result: dict[str, Any]) -> None:
    """Print all tables, with ratios first."""
    # Rich assumes 80 columns for a pipe, which has no width.
    console = Console(highlight=False, width=None if os.isatty(1) else 170)
    console.print("Machine: " + ", ".join(f"{k} {v}" for k, v in result["machine"].items()))
    tables = (
        *(_in_process(result), _beside_serializers(result), _python_state(result)),
        *(_in_vms(result), _destinations(result), _microbenchmarks(result), _budgets(result)),
    )
    for table in tables:
        if table.row_count:
            console.print()
            console.print(table)


def _in_process(result: dict[str, Any]) -> Table:
    table = _table(
        "In process: ratio to the reference device",
        *("shape", "op", *PATHS, "reference device", *PATHS, "noise"),
    )
    for (shape, operation), paths in _by_path(result["in_process"], "shape", "op").items():
        ratios = [ratio_text(paths[path][ratio_to(REFERENCE)]) for path in PATHS]
        times = [_time(paths[path]["us"]) for path in (REFERENCE, *PATHS)]
        table.add_row(shape, operation, *ratios, *times, _noise(paths))
    return table


def _beside_serializers(result: dict[str, Any]) -> Table:
    rows = result["in_process"]
    # msgspec may be missing.
    there = [name for name in _SERIALIZERS if any(row["path"] == name for row in rows)]
    table = _table(
        "In process: ratio of a derived dataclass to serializers of an equal one",
        *("shape", "op", *(f"to {name}" for name in there), "derived", *there),
    )
    for (shape, operation), paths in _by_path(rows, "shape", "op").items():
        ratios = [ratio_text(paths["derived"][ratio_to(name)]) for name in there]
        times = [_time(paths[path]["us"]) for path in ("derived", *there)]
        table.add_row(shape, operation, *ratios, *times)
    return table


def _python_state(result: dict[str, Any]) -> Table:
    rows = result["python_state"]
    there = {row["path"] for row in rows}
    forms = [form for form in FORMS if form in there]
    others = [name for name in (MSGSPEC, PICKLE) if name in there]
    table = _table(
        "Python state beside serializers: ratio of the conversion",
        *("state", "op"),
        *(
            f"to {name}" if index else f"{form} to {name}"
            for form in forms
            for index, name in enumerate(others)
        ),
        *(*forms, *others, *(f"{form} device" for form in forms)),
    )
    for (state, operation), paths in _by_path(rows, "state", "op").items():
        ratios = [ratio_text(paths[form][ratio_to(name)]) for form in forms for name in others]
        times = [_time(paths[path]["us"]) for path in (*forms, *others)]
        times += [_time(paths[form]["device_us"]) for form in forms]
        table.add_row(state, operation, *ratios, *times)
    return table


_VM_COLUMNS = ("devices", "busy threads", "native", "fast path", "reference devices")


def _in_vms(result: dict[str, Any]) -> Table:
    table = _table(
        "In a VM, source: ratio (downtime; first hook to last, ms)", *_VM_COLUMNS, "noise"
    )
    for (devices, busy), paths in _by_path(result["vm"], "devices", "busy_threads").items():
        times = {
            path: f"({row['downtime_ms']:.0f}; {row['hooks_ms']:.2f})"
            for path, row in paths.items()
        }
        ratios = {path: row[ratio_to(REFERENCE)] for path, row in paths.items()}
        table.add_row(f"{devices:,}", str(busy), *_vm_cells(times, ratios), _noise(paths))
    return table


def _destinations(result: dict[str, Any]) -> Table:
    table = _table("In a VM, destination: ratio (first hook to last; to running, ms)", *_VM_COLUMNS)
    measured = [row for row in result["vm"] if "incoming_ms" in row]
    for (devices, busy), paths in _by_path(measured, "devices", "busy_threads").items():
        times = {
            path: f"({row['incoming_ms']:.2f}; {row['incoming_running_ms']:.2f})"
            for path, row in paths.items()
        }
        ratios = {path: row["incoming_ratio_to_reference"] for path, row in paths.items()}
        table.add_row(f"{devices:,}", str(busy), *_vm_cells(times, ratios))
    return table


def _vm_cells(times: dict[str, str], ratios: dict[str, float]) -> list[str]:
    """Return the cells of the paths, with ratios, and that of the reference devices."""
    ours = [path for path in VM_PATHS if path != REFERENCE]
    return [*(f"{ratio_text(ratios[path])} {times[path]}" for path in ours), times[REFERENCE]]


def _by_path(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], dict[str, Row]]:
    """Group rows by the values of ``keys``; a group has the row of each path."""
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), {})[row["path"]] = row
    return groups


def _noise(paths: dict[str, Row]) -> str:
    return f"{100 * paths[REFERENCE]['noise']:.0f} %"


def _microbenchmarks(result: dict[str, Any]) -> Table:
    table = _table("Microbenchmarks", "what", "with", "ratio", "to", "figure")
    for row in result["microbenchmarks"]:
        unit = next(key for key in ("ns", "us", "ms", "bytes", "mib") if key in row)
        figure = f"{row[unit]:,.0f} {unit}" if row[unit] >= 100 else f"{row[unit]:.1f} {unit}"
        table.add_row(row["what"], row["with"], ratio_text(row["ratio"]), row["to"], figure)
    return table


def _budgets(result: dict[str, Any]) -> Table:
    table = _table("Budgets", "what", "at most", "measured", "")
    for budget in budgets(result):
        met = "[green]met[/]" if budget.met else "[red]missed[/]"
        table.add_row(budget.what, budget.limit, budget.measured, met)
    return table
