# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of ``scripts/test``, and the summary at their end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.console import SetupError, say
from provision.environment import CHECKOUT, Environment, ensure, report

# These run once; everything else in tests/ runs once for each QEMU tree.
ONCE = {"in_vm": ("-n", "2"), "packaging": (), "doctor": ("-n", "2"), "natives": ("-n", "2")}

# Native code that hangs cannot be interrupted by pytest's own time limit.
STEP_SECONDS = 1800

NO_TESTS_COLLECTED = 5


@dataclass
class Result:
    """The result of one step; ``note`` explains the numbers."""

    name: str
    ok: bool
    seconds: float
    counts: tuple[int, int, int] | None = None
    note: str = ""


class Run:
    """Runs the steps one after the other, also after one that fails."""

    def __init__(
        self, environment: Environment, extra: Sequence[str], seconds: float = STEP_SECONDS
    ) -> None:
        self.environment = environment
        self.extra = list(extra)
        self._seconds = seconds
        self.results: list[Result] = []
        self._reports = CHECKOUT / "build" / "junit"
        self._reports.mkdir(parents=True, exist_ok=True)

    def tool(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> None:
        """Run a Python module as a step that has no counts; ``env`` is added to its environment."""
        started = time.monotonic()
        status = self._call(name, [self.environment.python, "-m", *command], env or {})
        self.results.append(Result(name, status == 0, time.monotonic() - started))

    def command(self, name: str, program: str, *arguments: str) -> None:
        """Run a program as ``tool()`` runs a module."""
        started = time.monotonic()
        path = Path(self.environment.python).with_name(program)
        status = self._call(name, [str(path), *arguments], {})
        self.results.append(Result(name, status == 0, time.monotonic() - started))

    def tests(self, name: str, arguments: Sequence[str], qemu: str, python: str) -> None:
        """Run pytest as a step, in process with the native parts for the QEMU version ``qemu``."""
        file = self._reports / f"{name.replace(' ', '-').replace(',', '')}.xml"
        file.unlink(missing_ok=True)
        started = time.monotonic()
        status = self._call(
            name,
            [python, "-m", "pytest", f"--junitxml={file}", *arguments, *self.extra],
            {"QEMU_VMSTATE_QEMU": qemu},
        )
        seconds = time.monotonic() - started
        counts = _counts(file)
        note = ""
        if counts is None:
            counts, note = (0, 1, 0), f"pytest ended with status {status} and no report"
        elif status == NO_TESTS_COLLECTED:
            note = "no test was selected"
            # The arguments may select no test of some steps.
            status = 0 if self.extra else status
        elif status and not counts[1]:
            note = f"pytest ended with status {status}"
        self.results.append(Result(name, status == 0, seconds, counts, note))

    def _call(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> int:
        say(f"--- {name}")
        try:
            return subprocess.run(
                command,
                cwd=CHECKOUT,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                timeout=self._seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            say(f"{name}: stopped after {self._seconds} s")
            return 124
        except OSError as error:
            say(f"{name}: {command[0]}: {error.strerror}; run scripts/setup again")
            return 127


def _counts(file: Path) -> tuple[int, int, int] | None:
    """Return passed, failed and skipped of a JUnit file; None if it cannot be read."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    total = failed = skipped = 0
    for suite in root.iter("testsuite"):
        total += int(suite.get("tests", "0"))
        failed += int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        skipped += int(suite.get("skipped", "0"))
    return max(0, total - failed - skipped), failed, skipped


def run_all(environment: Environment, extra: Sequence[str]) -> list[Result]:
    """Run every step."""
    steps = Run(environment, extra)
    steps.tool("ruff check", "ruff", "check", ".")
    steps.tool("ruff format", "ruff", "format", "--check", ".")
    steps.tool("mypy", "mypy")
    steps.command("import-linter", "lint-imports")
    sources = sorted(str(path) for path in (CHECKOUT / "cdefs").rglob("*.[ch]"))
    steps.command("clang-format", "clang-format", "--dry-run", "-Werror", *sources)
    in_process = ["tests", *(f"--ignore=tests/{name}" for name in ONCE)]
    for tree in environment.trees:
        name = f"in process, QEMU {tree.version}"
        steps.tests(name, in_process, tree.version, environment.python)
    newest = environment.trees[-1]
    paths = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "scripts")])
    native = {"QEMU_VMSTATE_QEMU": newest.version, "PYTHONPATH": paths}
    steps.tool("docs", "commands.docs_build", env=native)
    if environment.later_python:
        python = Path(environment.later_python)
        name = f"in process, QEMU {newest.version}, {_python_name(python)}"
        steps.tests(name, in_process, newest.version, str(python))
    for name, options in ONCE.items():
        if (CHECKOUT / "tests" / name).is_dir():
            what = "in VMs" if name == "in_vm" else name
            steps.tests(what, [f"tests/{name}", *options], newest.version, environment.python)
    return steps.results


def _python_name(python: Path) -> str:
    return python.parent.parent.name.replace(".venv-", "Python ")


def summary(environment: Environment, results: Sequence[Result]) -> str:
    """Return the table of results, a list of what was not tested, and a last line with the sums."""
    width = max(len(result.name) for result in results)
    head = f"{'step':<{width}}  result  passed  failed  skipped  seconds"
    lines = ["", head, "-" * len(head)]
    for result in results:
        numbers = ["-" if result.counts is None else str(value) for value in result.counts or "---"]
        row = f"{result.name:<{width}}  {'ok' if result.ok else 'FAILED':<6}"
        row += f"  {numbers[0]:>6}  {numbers[1]:>6}  {numbers[2]:>7}  {result.seconds:>7.1f}"
        lines.append(f"{row}  {result.note}".rstrip())
    if environment.missing:
        lines += ["", "Not tested:", *(f"  - {reason}" for reason in environment.missing)]
    broken = [result.name for result in results if not result.ok]
    lines += ["", f"Not passed: {', '.join(broken)}" if broken else "Every step passed."]
    sums = [sum((result.counts or (0, 0, 0))[index] for result in results) for index in range(3)]
    lines.append(f"{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``scripts/test``, and return its exit status; the arguments go to every pytest run."""
    extra = list(sys.argv[1:] if arguments is None else arguments)
    if extra[:1] in (["-h"], ["--help"]):
        print(
            "usage: scripts/test [PYTEST ARGUMENT ...]\n\nProvide what the tests need (see "
            "scripts/setup), run the linters and every test\nagainst every QEMU, and end with a "
            "summary. Arguments go to every pytest run,\nfor example: scripts/test -k subsections"
        )
        return 0
    try:
        environment = ensure("test")
        report(environment)
        results = run_all(environment, extra)
    except SetupError as error:
        print(f"test: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("test: interrupted.", file=sys.stderr)
        return 130
    print(summary(environment, results), flush=True)
    return 0 if all(result.ok for result in results) else 1
