# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate bench``: saves and loads, measured beside those of C devices of the same fields.

The reference devices (cdefs/bench/reference_device.c) are in the same process, and the same QEMU
code walks them.  Everything is measured in turn, A B A B.  A figure is the median of its samples,
a ratio the median of the ratios in each turn.  Times in process are CPU time, because nothing
waits there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..vm.monitor import import_qmp
from .machine import describe_machine
from .microbenchmarks import microbenchmarks
from .process import in_process
from .python_state import STATES, python_states
from .serializers import msgspec_version
from .shapes import SHAPES
from .vm import in_vms

__all__ = ["Plan", "add_arguments", "measure", "run"]


@dataclass(frozen=True)
class Plan:
    """The subjects of a measurement, the turns of each, and the most seconds for them.

    ``shape_turns`` and ``shape_seconds`` are those of the states, too.
    """

    shapes: Sequence[str] = tuple(SHAPES)
    states: Sequence[str] = tuple(STATES)
    shape_turns: int = 41
    shape_seconds: float = 3.0
    counts: Sequence[int] = (0, 10, 100, 1_000, 10_000)
    threads: Sequence[int] = (0, 1, 4)
    vm_turns: int = 25
    vm_seconds: float = 12.0
    load_counts: Sequence[int] = (1_000,)
    microbenchmark_turns: int = 41
    imports: int = 9


_FULL = Plan()
_QUICK = replace(
    _FULL,
    shape_turns=11,
    shape_seconds=0.8,
    vm_turns=3,
    vm_seconds=1.5,
    microbenchmark_turns=11,
    imports=3,
)
# For tests: a small one of everything.
_TINY = Plan(("4 u32", "buffer 128 B"), ("session",), 3, 0.1, (0, 10), (0, 1), 1, 0.1, (10,), 3, 1)


def measure(
    plan: Plan, qemu: str, extra: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure everything, and return the object that ``--json`` prints.

    ``say`` is called with each step that begins.  Raises ``VMError`` for a QEMU that cannot be
    used, and ``NativeError`` without ``qemu.qmp``.
    """
    import_qmp()  # raises before minutes of work, not after them
    if msgspec_version() is None:
        say("msgspec is not installed, its rows are left out: pip install 'qemu-vmstate[bench]'")
    result: dict[str, Any] = {
        "machine": describe_machine(qemu),
        "in_process": [],
        "python_state": [],
    }
    for shape in plan.shapes:
        say(f"in process: {shape}")
        result["in_process"] += in_process(plan.shape_turns, plan.shape_seconds, [shape])
    for state in plan.states:
        say(f"Python state: {state}")
        result["python_state"] += python_states(plan.shape_turns, plan.shape_seconds, [state])
    say("microbenchmarks")
    rows = list(microbenchmarks(plan.microbenchmark_turns, plan.imports))
    result["vm"], registrations = in_vms(
        qemu,
        plan.counts,
        plan.threads,
        plan.vm_turns,
        plan.vm_seconds,
        plan.load_counts,
        extra,
        say,
    )
    result["microbenchmarks"] = rows + registrations
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``qemu-vmstate bench``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, no tables")
    parser.add_argument("--quick", action="store_true", help="a minute instead of five")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--picture", metavar="FILE", help="draw it, as .svg or .png")
    parser.add_argument(
        "--qemu",
        default="qemu-system-x86_64",
        help="the emulator for the part in VMs, of the version this was built for",
    )


def run(options: argparse.Namespace, qemu_arguments: Sequence[str] = ()) -> int:
    """Measure and print; return the exit status."""
    # What is missing for the output is said before minutes of work, not after them.
    if not options.json:
        from . import report
    if options.picture:
        from . import picture
    plan = _TINY if options.tiny else _QUICK if options.quick else _FULL

    def say(what: str) -> None:
        print(f"qemu-vmstate bench: {what}", file=sys.stderr)

    result = measure(plan, options.qemu, qemu_arguments, say)
    if options.picture:
        picture.draw(result, options.picture)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        report.show(result)
    return 0
