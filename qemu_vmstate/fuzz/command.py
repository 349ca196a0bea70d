# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate fuzz``: fuzzing with malformed streams, against QEMU's C code, in process.

Random declarations with the complete vocabulary, or your own devices, get streams that are
slightly or completely malformed.  Each stream must either be refused with ``InvalidError`` and
leave every byte of the object unchanged, or load a state that saves to a stream which loads and
saves to the same bytes again.  Everything else is a finding: a crash, a hang, another exception,
a changed state, unbounded memory.

The streams are loaded in worker processes, so that a crash ends only a worker.  The same seed and
batch give the same streams again::

    qemu-vmstate fuzz --seconds 60
    qemu-vmstate fuzz --seed 5 --batch 1234     # one batch of it, for a debugger
    qemu-vmstate fuzz mydevices:make_timer      # an object, or a function that returns one
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..bindings import native
from .memory import failing_loads
from .worker import Journal, drawn_declaration

__all__ = ["Finding", "Report", "add_arguments", "fuzz", "run"]

PER_BATCH = 2000
BATCHES_PER_PROCESS = 100
"""The batches of one worker process; it is limited because classes are never released."""

GROWTH_KIB = 1024
"""The limit for the memory that failing loads add: of a million, one byte each."""

MOST_FINDINGS = 20
"""The number of findings after which a run ends."""

HANG_SECONDS = 60.0
"""The time limit of one stream; it allows for sanitizers, valgrind and a busy machine."""

_TAIL = 6000


@dataclass
class Finding:
    """A violation of the rules.

    ``kind`` is crash, hang, exception, changed, unsaveable, unloadable, unstable, memory, differs
    (from QEMU's own walk), misread (by its description), lossy, order (of sets) or replaced;
    ``input`` the stream in hexadecimal, ``version`` its ``version_id`` (``None``: the newest);
    ``declaration`` the Python source of the class; ``reproduce`` the command that repeats it.
    """

    kind: str
    text: str
    batch: int
    input: str
    version: int | None
    declaration: str
    reproduce: str


@dataclass
class Report:
    """The figures and findings of a run; ``refused`` is the number of refused declarations."""

    seed: str
    qemu: str
    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    batches: int = 0
    refused: int = 0
    crashes: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """The number of streams per second."""
        return self.inputs / self.seconds if self.seconds else 0.0

    def text(self) -> str:
        """Return the report as text."""
        lines = [
            f"QEMU {self.qemu}, seed {self.seed}: {self.inputs} streams in {self.seconds:.0f} s "
            f"({self.per_second:.0f}/s), {self.accepted} loaded, {self.rejected} refused; "
            f"{self.batches - self.refused} declarations; {len(self.findings)} finding(s)"
        ]
        for finding in self.findings:
            lines += [
                "",
                f"{finding.kind}: {finding.text}",
                f"input (version {finding.version or 'newest'}): {finding.input}",
                f"again: {finding.reproduce}",
                finding.declaration,
            ]
        return "\n".join(lines)


def fuzz(
    *,
    seconds: float | None = None,
    inputs: int | None = None,
    seed: str | None = None,
    batch: int | None = None,
    targets: Sequence[str] = (),
    per_batch: int = PER_BATCH,
    hang_seconds: float = HANG_SECONDS,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Load streams for ``seconds`` or until there were ``inputs``, and return a report.

    Ends early after many findings.  ``seed`` (default: a random one) and ``per_batch``, the number
    of streams for each declaration, determine the streams; ``batch`` selects a single batch.
    ``targets`` are ``module:attribute`` of objects, or of functions that return one, to use
    instead of random declarations.  ``progress`` is called after each worker process.
    """
    seed = str(random.SystemRandom().randrange(10**6)) if seed is None else seed
    driver = _Driver(Report(seed, native.capabilities().qemu), targets, per_batch, hang_seconds)
    started = time.monotonic()
    until = time.time() + seconds if seconds is not None else 0.0
    report = driver.report
    next_batch = batch or 0
    while True:
        count = 1 if batch is not None else BATCHES_PER_PROCESS
        if inputs is not None:
            count = max(1, min(count, -(-(inputs - report.inputs) // per_batch)))
        next_batch = driver.process(next_batch, count, until)
        report.seconds = time.monotonic() - started
        if progress:
            progress(report)
        over = (until and time.time() > until) or len(report.findings) >= MOST_FINDINGS
        if over or batch is not None or (inputs is not None and report.inputs >= inputs):
            return report


class _Driver:
    """Starts worker processes and collects their results."""

    def __init__(
        self, report: Report, targets: Sequence[str], per_batch: int, hang_seconds: float
    ) -> None:
        self.report = report
        self._targets = list(targets)
        self._per_batch = per_batch
        self._hang_seconds = hang_seconds

    def process(self, first: int, batches: int, until: float) -> int:
        """Run batches in one process, and return the number of the next batch."""
        with tempfile.TemporaryDirectory(prefix="qemu-vmstate-fuzz-") as folder:
            journal = Journal(Path(folder) / "journal")
            command = [sys.executable, "-m", "qemu_vmstate.fuzz.worker", f"{folder}/journal"]
            command += self._targets
            command += ["--seed", self.report.seed, "--first", str(first)]
            command += ["--batches", str(batches), "--per-batch", str(self._per_batch)]
            command += ["--until", str(until)]
            with open(f"{folder}/out", "w+") as out, open(f"{folder}/err", "w+") as err:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment()
                )
                hung = self._watch(process, journal)
                out.seek(0)
                last = first - 1
                for line in out.read().splitlines():
                    last = self._batch(json.loads(line))
                err.seek(0)
                stderr = err.read()[-_TAIL:]
            if process.returncode == 0 and not hung:
                return last + 1
            number, batch, version, data = journal.read()
            self.report.inputs += max(0, number - 1)
            how = f"nothing for {self._hang_seconds:.0f} s" if hung else _status(process.returncode)
            self.report.crashes += 1
            self._find(
                "hang" if hung else "crash",
                f"{how}\n{stderr}",
                max(batch, first),
                version,
                data.hex(),
            )
            return max(batch, first) + 1

    def _watch(self, process: subprocess.Popen[bytes], journal: Journal) -> bool:
        """Wait for the end, and return whether the process hung and was killed."""
        seen, since = -1, time.monotonic()
        while True:
            try:
                process.wait(timeout=0.5)
                return False
            except subprocess.TimeoutExpired:
                number = journal.read()[0]
            # Before the first stream it starts Python and imports the target.
            limit = self._hang_seconds if number else max(self._hang_seconds, HANG_SECONDS)
            if number != seen:
                seen, since = number, time.monotonic()
            elif time.monotonic() - since > limit:
                process.send_signal(6)  # SIGABRT, so that faulthandler prints the place
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                return True

    def _batch(self, result: dict[str, Any]) -> int:
        report = self.report
        report.batches += 1
        report.accepted += result["accepted"]
        report.rejected += result["rejected"]
        report.inputs += result["tried"]
        report.refused += "refused" in result
        if "finding" in result:
            found = result["finding"]
            self._find(
                found["kind"], found["text"], result["batch"], found["version"], found["input"]
            )
        return int(result["batch"])

    def _find(self, kind: str, text: str, batch: int, version: int | None, data: str) -> None:
        seed = self.report.seed
        declaration = "" if self._targets else drawn_declaration(seed, batch).source
        again = ["qemu-vmstate", "fuzz", *self._targets, "--seed", seed, "--batch", str(batch)]
        if self._per_batch != PER_BATCH:
            again += ["--per-batch", str(self._per_batch)]
        self.report.findings.append(
            Finding(kind, text, batch, data, version, declaration, " ".join(again))
        )


def _environment() -> dict[str, str]:
    """Return an environment in which a child finds this package."""
    folder = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])}


def _status(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _failing_loads(options: argparse.Namespace) -> int:
    growth = failing_loads(options.failing_loads, options.seed or "0")
    found = {"failing_loads": options.failing_loads, "growth_kib": growth}
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{options.failing_loads} loads failed; {growth} KiB more are resident")
    return 1 if growth > GROWTH_KIB else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``qemu-vmstate fuzz``."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="MODULE:ATTRIBUTE",
        help="an object, or what makes one, instead of declarations drawn at random",
    )
    parser.add_argument("--seconds", type=float, help="how long (default: 60, or --inputs)")
    parser.add_argument("--inputs", type=int, help="at least so many streams")
    parser.add_argument("--seed", help="of another run, to try the same again")
    parser.add_argument("--batch", type=int, help="that batch of the seed only")
    parser.add_argument(
        "--per-batch", type=int, default=PER_BATCH, help=f"streams a declaration ({PER_BATCH})"
    )
    parser.add_argument(
        "--failing-loads",
        type=int,
        metavar="N",
        help="instead: so many loads that fail, and what memory they leave",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, with every finding")


def run(options: argparse.Namespace) -> int:
    """Run the verb ``fuzz``, and return 1 if anything was found."""
    if options.failing_loads:
        return _failing_loads(options)
    seconds = options.seconds
    if seconds is None and options.inputs is None and options.batch is None:
        seconds = 60.0

    def progress(report: Report) -> None:
        print(
            f"{report.seconds:.0f} s: {report.inputs} streams, "
            f"{len(report.findings)} finding(s), seed {report.seed}",
            file=sys.stderr,
        )

    report = fuzz(
        seconds=seconds,
        inputs=options.inputs,
        seed=options.seed,
        batch=options.batch,
        targets=options.targets,
        per_batch=options.per_batch,
        progress=progress,
    )
    if options.json:
        print(json.dumps(asdict(report) | {"per_second": report.per_second}))
    else:
        print(report.text())
    return 1 if report.findings else 0
