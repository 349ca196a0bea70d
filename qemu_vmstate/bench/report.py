# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and a picture of a benchmark's result."""

from __future__ import annotations

import os
from typing import Any

from ..errors import NativeError
from .budgets import budgets
from .process import PICKLE, REFERENCE
from .shapes import PATHS

try:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise NativeError(
        f"the tables and the picture of a benchmark need matplotlib and rich ({error}): "
        "pip install 'qemu-vmstate[bench]'; without them, --json prints the figures"
    ) from None

__all__ = ["draw", "show"]

_COLOURS = {REFERENCE: "black", "native": "tab:green", "fast path": "tab:blue"}
_COLOURS |= {"derived": "tab:orange", PICKLE: "tab:red"}


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
    for table in (_in_process(result), _in_vms(result), _microbenchmarks(result), _budgets(result)):
        console.print()
        console.print(table)


def _in_process(result: dict[str, Any]) -> Table:
    table = _table(
        "In process: ratio to the reference device (ratio to pickle)",
        *("shape", "op", *PATHS, "reference device", *PATHS, PICKLE, "noise"),
    )
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in result["in_process"]:
        rows.setdefault((row["shape"], row["op"]), {})[row["path"]] = row
    for (shape, operation), paths in rows.items():
        ratios = [
            f"{paths[path]['ratio_to_reference']:.2f} ({paths[path]['ratio_to_pickle']:.2f})"
            for path in PATHS
        ]
        times = [_time(paths[path]["us"]) for path in (REFERENCE, *PATHS, PICKLE)]
        noise = f"{100 * paths[REFERENCE]['noise']:.0f} %"
        table.add_row(shape, operation, *ratios, *times, noise)
    return table


def _in_vms(result: dict[str, Any]) -> Table:
    table = _table(
        "In a VM: ratio to as many reference devices (downtime, ms; first hook to last, ms)",
        *("devices", "busy threads", "native", "fast path", "reference devices", "noise"),
    )
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for row in result["vm"]:
        rows.setdefault((row["devices"], row["busy_threads"]), {})[row["path"]] = row
    for (devices, busy), paths in rows.items():
        cells = []
        for path in ("native", "fast path", REFERENCE):
            row = paths[path]
            ratio = "" if path == REFERENCE else f"{row['ratio_to_reference']:.2f} "
            cells.append(f"{ratio}({row['downtime_ms']:.0f}; {row['hooks_ms']:.2f})")
        noise = f"{100 * paths[REFERENCE]['noise']:.0f} %"
        table.add_row(f"{devices:,}", str(busy), *cells, noise)
    return table


def _microbenchmarks(result: dict[str, Any]) -> Table:
    table = _table("Microbenchmarks", "what", "with", "ratio", "to", "figure")
    for row in result["microbenchmarks"]:
        unit = next(key for key in ("ns", "us", "ms", "bytes", "mib") if key in row)
        figure = f"{row[unit]:,.0f} {unit}" if row[unit] >= 100 else f"{row[unit]:.1f} {unit}"
        table.add_row(row["what"], row["with"], f"{row['ratio']:.2f}", row["to"], figure)
    return table


def _budgets(result: dict[str, Any]) -> Table:
    table = _table("Budgets", "what", "at most", "measured", "")
    for budget in budgets(result):
        met = "[green]met[/]" if budget.met else "[red]missed[/]"
        table.add_row(budget.what, budget.limit, budget.measured, met)
    return table


def draw(result: dict[str, Any], path: str) -> None:
    """Draw the cost over the size of a state and over the number of devices, into ``path``."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    by_size, by_fields, by_devices = figure.subplots(1, 3)
    for axes, kind, what in (
        (by_size, "buffer", "bytes of one buffer"),
        (by_fields, "u32", "bytes of u32 fields"),
    ):
        for name in (REFERENCE, *PATHS, PICKLE):
            rows = [
                row
                for row in result["in_process"]
                if row["path"] == name
                and row["op"] == "save"
                and (row["shape"].startswith(kind) or row["shape"].endswith(f" {kind}"))
                and "parts" not in row["shape"]
            ]
            axes.plot(
                [row["bytes"] for row in rows],
                [row["us"] for row in rows],
                **_style(name),
            )
        axes.set(xscale="log", yscale="log", xlabel=what, ylabel="one save, microseconds")
    for name in (REFERENCE, "native", "fast path"):
        for busy, line in ((0, "-"), (1, "--")):
            rows = [
                row
                for row in result["vm"]
                if row["path"] == name and row["busy_threads"] == busy and row["devices"]
            ]
            axes = by_devices
            axes.plot(
                [row["devices"] for row in rows],
                [row["hooks_ms"] for row in rows],
                **_style(name) | {"linestyle": line, "label": f"{name}, {busy} busy"},
            )
    by_devices.set(
        xscale="log", yscale="log", xlabel="devices in a VM", ylabel="first hook to last, ms"
    )
    for axes in (by_size, by_fields, by_devices):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path)


def _style(name: str) -> dict[str, Any]:
    return {"color": _COLOURS[name], "marker": ".", "label": name, "linewidth": 1}
