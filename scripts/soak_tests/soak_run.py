# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs of scripts/soak, after everything is set up."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from . import crowd_device, soak_trials
from .soak_trials import Emulator

ENVIRONMENT = Path(__file__).resolve().parents[2] / "build" / "test-environment.json"


@dataclass
class Item:
    """One kind of trial, and its results."""

    name: str
    wanted: int
    trials: Callable[[], Generator[Any, None, None]]
    done: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    error: str = ""

    def run(self, seconds: float) -> None:
        """Run trials until there are as many as wanted, the time is over, or one fails."""
        begun = time.monotonic()
        trials = self.trials()
        try:
            while self.done < self.wanted and time.monotonic() - begun < seconds:
                outcome = next(trials)
                self.done += 1
                if isinstance(outcome, str):
                    self.outcomes[outcome] += 1
                elif isinstance(outcome, int):
                    self.memory.append(outcome)
            trials.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.error = traceback.format_exception_only(error)[0].strip().splitlines()[0]
            traceback.print_exc()
        self.seconds = time.monotonic() - begun

    def figure(self) -> str:
        """Return the result as text: the number of trials, and their outcomes or the error."""
        line = f"{self.name:<48} {self.done:>7} of {self.wanted:<7} {self.seconds:>6.0f} s"
        if self.memory:
            half = self.memory[len(self.memory) // 2]
            line += f"  memory {half} KiB at half time, {self.memory[-1]} KiB at the end"
        if self.error:
            line += f"  WRONG: {self.error}"
        for outcome, count in self.outcomes.most_common():
            line += f"\n{'':<48} {count:>7} {outcome}"
        return line


def each(
    trial: Callable[[Emulator, random.Random], str], emulator: Emulator, dice: random.Random
) -> Generator[str, None, None]:
    """Repeat one trial, and yield its outcomes."""
    while True:
        yield trial(emulator, dice)


def items(emulators: list[Emulator], dice: random.Random) -> list[Item]:
    """Return all kinds of trials."""
    found = [Item("saves and loads beside 16 threads, in process", 100_000, crowd_device.trials)]
    for emulator in emulators:
        name = emulator["name"]
        found += [
            Item(
                f"live migrations beside 8 threads, {name}",
                100,
                partial(soak_trials.hops, emulator),
            ),
            Item(
                f"source or destination killed, {name}",
                100,
                partial(each, soak_trials.kill, emulator, dice),
            ),
            Item(
                f"migrate_cancel, {name}",
                100,
                partial(each, soak_trials.cancel, emulator, dice),
            ),
            Item(
                f"snapshot-save and snapshot-load, {name}",
                500,
                partial(soak_trials.snapshots, emulator),
            ),
            Item(
                f"QEMU's end beside 8 threads, {name}",
                200,
                partial(each, soak_trials.end, emulator, dice),
            ),
        ]
    return found


def main() -> int:
    """Run the items, and return 0 if nothing went wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    seed = random.randrange(10**9) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    emulators = json.loads(ENVIRONMENT.read_text())["emulators"]
    emulators = [emulator for emulator in emulators if emulator["native"]]
    chosen = [item for item in items(emulators, random.Random(seed)) if options.only in item.name]
    if not chosen:
        print(f"soak: no item's name has {options.only!r} in it", file=sys.stderr)
        return 2
    deadline = time.monotonic() + options.minutes * 60
    for number, item in enumerate(chosen):
        item.run((deadline - time.monotonic()) / (len(chosen) - number))
        print(item.figure(), flush=True)
    print(f"\nThe figures (seed {seed}):")
    for item in chosen:
        print(item.figure())
    wrong = [item.name for item in chosen if item.error or not item.done]
    print(f"\nWrong: {'; '.join(wrong)}" if wrong else "\nNothing went wrong.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
