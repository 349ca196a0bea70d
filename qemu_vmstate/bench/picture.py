# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of a benchmark's result: the cost over sizes, numbers of devices and busy threads.

The same figures always give the same file.  It has no background, and its colours are legible on a
light and on a dark page.  An SVG has text as text, so that it stays small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import NativeError
from .process import REFERENCE
from .serializers import MSGSPEC_DATACLASS, PICKLE
from .shapes import PATHS
from .vm import VM_PATHS

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise NativeError(
        f"the picture of a benchmark needs matplotlib ({error}): pip install 'qemu-vmstate[bench]'"
    ) from None

__all__ = ["draw"]

Row = dict[str, Any]

_GREY = "#7a7a7a"
_COLOURS = {
    REFERENCE: _GREY,
    "native": "#2e9e4f",
    "fast path": "#2f86d1",
    "derived": "#d9822b",
    PICKLE: "#d1495b",
    MSGSPEC_DATACLASS: "#9a6fd0",
}
_BUSY = 4

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "qemu-vmstate",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.bottom": False,
    "axes.spines.left": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GREY,
    "grid.alpha": 0.3,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
}


def draw(result: dict[str, Any], path: str) -> None:
    """Draw the result into the file ``path``, an SVG or a PNG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        figure.patch.set_visible(False)
        (numbers, buffers), (source, destination) = figure.subplots(2, 2)
        _draw_saves(numbers, "one save of u32 numbers, us", result, "u32")
        _draw_saves(buffers, "one save of a buffer, us", result, "buffer")
        _draw_source(source, result)
        _draw_destination(destination, result)
        lines, names = numbers.get_legend_handles_labels()
        figure.legend(lines, names, loc="outside upper center", ncols=len(names))
        # Without it, the file would have the time and the version of the library.
        bare = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(path, metadata=bare if path.endswith(".svg") else None)


def _draw_saves(axes: Axes, title: str, result: dict[str, Any], kind: str) -> None:
    rows = [
        row
        for row in result["in_process"]
        if row["op"] == "save" and kind in row["shape"] and "parts" not in row["shape"]
    ]
    for name in (REFERENCE, *PATHS, PICKLE, MSGSPEC_DATACLASS):
        _line(axes, name, [row for row in rows if row["path"] == name], "bytes", "us")
    _set(axes, title, "bytes", sorted({row["bytes"] for row in rows}), logarithmic=True)


def _draw_source(axes: Axes, result: dict[str, Any]) -> None:
    rows = [row for row in result["vm"] if row["devices"]]
    for name in VM_PATHS:
        for busy, style in ((0, "-"), (_BUSY, ":")):
            own = [row for row in rows if (row["path"], row["busy_threads"]) == (name, busy)]
            _line(axes, name, own, "devices", "hooks_ms", style)
    title = f"source: first hook to last, ms (dotted: {_BUSY} busy threads)"
    _set(axes, title, "devices", sorted({row["devices"] for row in rows}), logarithmic=True)


def _draw_destination(axes: Axes, result: dict[str, Any]) -> None:
    rows = [row for row in result["vm"] if row["devices"] and "incoming_ms" in row]
    if not rows:
        axes.set_axis_off()
        return
    most = max(row["devices"] for row in rows)
    for name in VM_PATHS:
        own = [row for row in rows if (row["path"], row["devices"]) == (name, most)]
        _line(axes, name, own, "busy_threads", "incoming_ms")
    title = f"destination: first hook to last of {most:,} devices, ms"
    threads = sorted({row["busy_threads"] for row in rows})
    _set(axes, title, "busy Python threads", threads, logarithmic=False)


def _line(axes: Axes, name: str, rows: Sequence[Row], x: str, y: str, style: str = "-") -> None:
    axes.plot(
        [row[x] for row in rows],
        [row[y] for row in rows],
        color=_COLOURS[name],
        label=name,
        linestyle=style,
        linewidth=2.5 if name == REFERENCE else 1.5,
    )


def _set(axes: Axes, title: str, x: str, at: Sequence[int], *, logarithmic: bool) -> None:
    axes.set(yscale="log", xlabel=x)
    if logarithmic:
        axes.set(xscale="log")
    axes.patch.set_visible(False)
    axes.set_title(title, fontsize="medium")
    axes.set_xticks(at, [_short(number) for number in at])
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()


def _short(number: int) -> str:
    """Return a number with K or M where it is a multiple of 1,024."""
    for power, unit in ((20, "Mi"), (10, "Ki")):
        if number and number % (1 << power) == 0:
            return f"{number >> power} {unit}"
    return f"{number:,}"
