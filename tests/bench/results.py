# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of a benchmark, made from arithmetic: of the form that ``measure()`` returns."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

REFERENCE_US = 8.0
SERIALIZER_US = {"pickle": 20.0, "msgspec dataclass": 10.0, "msgspec Struct": 5.0}


def process_rows(
    shape: str,
    operation: str,
    ours: dict[str, float],
    serializers: dict[str, float] = SERIALIZER_US,
    size: int = 128,
) -> list[Row]:
    """Return the rows of a shape whose own paths take so many microseconds."""
    times = {"reference": REFERENCE_US, **ours, **serializers}
    keys = {
        "reference": "ratio_to_reference",
        "pickle": "ratio_to_pickle",
        "msgspec dataclass": "ratio_to_msgspec_dataclass",
        "msgspec Struct": "ratio_to_msgspec_struct",
    }
    return [
        {
            "shape": shape,
            "bytes": size,
            "path": path,
            "op": operation,
            "us": us,
            **{keys[to]: us / times[to] for to in ("reference", *serializers)},
            "noise": 0.01,
        }
        for path, us in times.items()
    ]


def state_rows(
    state: str, operation: str, ours: dict[str, float], msgspec_us: float | None = 10.0
) -> list[Row]:
    """Return the rows of a Python state whose conversions take so many microseconds.

    A device takes twice as long as the conversion, and pickle 20 us.
    """
    others = {"pickle": 20.0} | ({} if msgspec_us is None else {"msgspec": msgspec_us})
    return [
        {
            "state": state,
            "path": path,
            "op": operation,
            "us": us,
            **{f"ratio_to_{to}": us / others[to] for to in others},
            "noise": 0.01,
            **({"device_us": 2 * us} if path in ours else {}),
        }
        for path, us in (ours | others).items()
    ]


def vm_rows(devices: int, busy: int, times: dict[str, float], incoming: bool = True) -> list[Row]:
    """Return the rows of VMs in which the devices of each path take so many milliseconds."""
    return [
        {
            "devices": devices,
            "path": path,
            "busy_threads": busy,
            "downtime_ms": ms,
            "hooks_ms": ms,
            "ratio_to_reference": ms / times["reference"],
            "ratio_of": "downtime_ms",
            "noise": 0.01,
            **(_incoming(ms, times["reference"]) if incoming else {}),
        }
        for path, ms in times.items()
    ]


def _incoming(ms: float, reference_ms: float) -> Row:
    return {
        "incoming_ms": ms,
        "incoming_running_ms": 2 * ms,
        "incoming_ratio_to_reference": ms / reference_ms,
    }


def figure(what: str, name: str, unit: str, value: float, ratio: float = 1.0) -> Row:
    """Return a row of the microbenchmarks."""
    return {"what": what, "with": name, unit: value, "ratio": ratio, "to": "the other"}


def result(
    in_process: list[Row] | None = None,
    vm: list[Row] | None = None,
    microbenchmarks: list[Row] | None = None,
    python_state: list[Row] | None = None,
) -> dict[str, Any]:
    """Return a result with these rows."""
    return {
        "machine": {"cpu": "abacus", "cores": 1},
        "in_process": in_process or [],
        "python_state": python_state or [],
        "vm": vm or [],
        "microbenchmarks": microbenchmarks or [],
    }


def everything(serializers: dict[str, float] = SERIALIZER_US) -> dict[str, Any]:
    """Return a result with rows of every kind."""
    ours = {"native": 2.0, "fast path": 4.0, "derived": 6.0}
    has_msgspec = "msgspec dataclass" in serializers
    forms = {"typed": 12.0} | ({"Packed": 11.0} if has_msgspec else {})
    shapes = {"4 u32": 16, "32 u32": 128, "buffer 128 B": 128, "buffer 64 KiB": 65536}
    return result(
        [
            row
            for shape, size in shapes.items()
            for operation in ("save", "load")
            for row in process_rows(shape, operation, ours, serializers, size)
        ],
        [
            row
            for devices in (0, 10, 1_000)
            for busy in (0, 1, 4)
            for row in vm_rows(
                devices,
                busy,
                {
                    "reference": 1 + devices / 100,
                    "native": 1 + devices / 200,
                    "fast path": 1 + devices / 50,
                },
                incoming=devices == 1_000,
            )
        ],
        [figure("import", "asyncio", "ms", 30.0)],
        [
            row
            for operation in ("save", "load")
            for row in state_rows("session", operation, forms, 10.0 if has_msgspec else None)
        ],
    )
