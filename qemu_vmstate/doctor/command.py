# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate doctor``: the checks in order, printed as they end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from .check import Check
from .emulators import checks_of, emulators_in_path
from .machine import NEEDED_BY_VMS, machine_checks

__all__ = ["add_arguments", "examine", "run"]

_INDENT = " " * 10
_WIDTH = 20


def examine(named: Sequence[str], timeout: float) -> Iterator[Check]:
    """Yield the checks of this machine and of the emulators *named*, else of those in PATH.

    *timeout* is the seconds for each single wait.
    """
    failed = []
    for check in machine_checks(timeout):
        if check.status == "failed" and check.name in NEEDED_BY_VMS:
            failed.append(check.name)
        yield check
    emulators = named or emulators_in_path()
    if not emulators:
        yield Check(
            "emulators",
            "failed",
            "no qemu-system-* is in PATH",
            "install one, on Debian by `apt-get install qemu-system`, or name its path",
        )
    for emulator in emulators:
        yield from checks_of(emulator, failed, timeout)


def works_end_to_end(checks: Sequence[Check]) -> bool:
    """Return whether a device was migrated."""
    return any(check.name.endswith(" shim") and check.status == "ok" for check in checks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``qemu-vmstate doctor``."""
    parser.add_argument("--json", action="store_true", help="one JSON object with every check")
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long a program may take to answer, by default 30",
    )
    parser.add_argument(
        "emulators", nargs="*", metavar="QEMU", help="an emulator; by default all in PATH"
    )


def run(options: argparse.Namespace) -> int:
    """Examine and print; return 0 if a device was migrated in an emulator, else 1."""
    checks: list[Check] = []
    for check in examine(options.emulators, options.timeout):
        if not options.json:
            _show(check, checks[-1] if checks else None)
        checks.append(check)
    works = works_end_to_end(checks)
    if options.json:
        print(json.dumps({"works": works, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        _show_conclusion(checks, works)
    return 0 if works else 1


def _show(check: Check, before: Check | None) -> None:
    if check.emulator and (before is None or before.emulator != check.emulator):
        print(f"\n{check.emulator}")
    print(f"{check.status:<{len(_INDENT)}}{check.name:<{_WIDTH}}{check.detail}", flush=True)
    if check.remedy:
        print(f"{_INDENT}{'':<{_WIDTH}}-> {check.remedy}", flush=True)


def _show_conclusion(checks: Sequence[Check], works: bool) -> None:
    counts = ", ".join(
        f"{sum(check.status == status for check in checks)} {status}"
        for status in ("ok", "warning", "failed")
    )
    end = "devices migrate here" if works else "no device could be migrated"
    print(f"\n{counts}: {end}")
