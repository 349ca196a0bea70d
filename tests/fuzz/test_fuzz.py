# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzzer: it finds deliberate mistakes, and reports nothing in correct objects."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VArray,
    VMStruct,
    cli,
    field,
    load,
    u8,
    u16,
)
from qemu_vmstate.fuzz.command import fuzz

HERE = __name__


class Regs(VMStruct, name="regs"):
    n: u8 = 0
    values: VArray[u16, Literal[3]] = field(num="n")
    mode: u8 = 0


class State(ToMigrationState[Regs]):
    """A state that follows the rules; subclasses violate them."""

    def __init__(self) -> None:
        self.regs = Regs()

    def snapshot_migration_state(self, target: Regs) -> None:
        target.values, target.mode = self.regs.values, self.regs.mode

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        self.take(source)
        self.regs.values, self.regs.mode = source.values, source.mode

    def take(self, source: Regs) -> None:
        """Do nothing; subclasses violate the rules here."""


class Aborts(State):
    def take(self, source: Regs) -> None:
        if source.mode == 0xFF:
            os.abort()


class Hangs(State):
    def take(self, source: Regs) -> None:
        if source.mode == 0xFF:
            threading.Event().wait()


class Raises(State):
    def take(self, source: Regs) -> None:
        if source.mode == 0xFF:
            raise KeyError("mode")


class Unsaveable(State):
    def snapshot_migration_state(self, target: Regs) -> None:
        super().snapshot_migration_state(target)
        if self.regs.mode == 0xFF:
            raise InvalidError("cannot be saved")


class Unstable(State):
    times = itertools.count()

    def snapshot_migration_state(self, target: Regs) -> None:
        super().snapshot_migration_state(target)
        target.mode = next(self.times) & 0xFF


class Unloadable(State):
    loads = 0

    def take(self, source: Regs) -> None:
        self.loads += 1
        if self.loads % 3 == 0:
            raise InvalidError("every third one")


class Growing(State):
    kept: list[bytes]

    def __init__(self) -> None:
        super().__init__()
        self.kept = []

    def take(self, source: Regs) -> None:
        self.kept.append(random.Random(len(self.kept)).randbytes(1 << 20))


class Changing(VMStruct):
    """A list that all instances share, so that no undo covers it."""

    mode: u8 = 0


changing = Changing()


class Changes(State):
    def __init__(self) -> None:
        super().__init__()
        self.shared = changing

    def take(self, source: Regs) -> None:
        if source.mode & 1:
            changing.mode = source.mode
            raise InvalidError("refused, and changed")


def device_of(state: type[State]) -> Any:
    class Dev(Device, name="dev"):
        part: Migratable[Mutex[state]]  # type: ignore[valid-type]

    return Dev()


def aborts() -> Any:
    return device_of(Aborts)


def hangs() -> Any:
    return device_of(Hangs)


def raises() -> Any:
    return device_of(Raises)


def unsaveable() -> Any:
    return device_of(Unsaveable)


def unstable() -> Any:
    return device_of(Unstable)


def unloadable() -> Any:
    return device_of(Unloadable)


def growing() -> Any:
    return device_of(Growing)


def changes() -> Any:
    return device_of(Changes)


def sound() -> Any:
    return device_of(State)


def starts_slowly() -> Any:
    threading.Event().wait(3)
    return sound()


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (aborts, "crash", f"signal {signal.SIGABRT.value}"),
        (raises, "exception", "KeyError"),
        (unsaveable, "unsaveable", "cannot be saved"),
        (unstable, "unstable", "saves as"),
        (unloadable, "unloadable", "every third one"),
        (growing, "memory", "MiB more"),
        (changes, "changed", "refused, and changed"),
        (hangs, "hang", "nothing for 2 s"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_breaks_the_rules_is_found_and_found_again(make: Any, kind: str, words: str) -> None:
    target = f"{HERE}:{make.__name__}"
    report = fuzz(seed="1", batch=0, targets=[target], hang_seconds=2)
    (first,) = report.findings
    assert first.kind == kind
    assert words in first.text
    assert first.reproduce == f"qemu-vmstate fuzz {target} --seed 1 --batch 0"
    (again,) = fuzz(seed="1", batch=0, targets=[target], hang_seconds=2).findings
    assert (again.kind, again.input, again.version) == (first.kind, first.input, first.version)
    assert first.input or kind in ("unstable", "unloadable")


def test_a_slow_start_is_no_stream_that_hangs() -> None:
    targets = [f"{HERE}:starts_slowly"]
    assert not fuzz(seed="1", batch=0, per_batch=20, targets=targets, hang_seconds=2).findings


def test_the_input_that_is_reported_is_the_one() -> None:
    (found,) = fuzz(seed="1", batch=0, targets=[f"{HERE}:raises"]).findings
    with pytest.raises(KeyError):
        load(raises(), bytes.fromhex(found.input), found.version)


def test_a_crash_ends_its_batch_and_no_more() -> None:
    report = fuzz(seed="1", inputs=200, per_batch=100, targets=[f"{HERE}:aborts"])
    assert len(report.findings) > 1
    assert len({finding.batch for finding in report.findings}) == len(report.findings)
    assert report.crashes == len(report.findings)


def test_an_object_that_follows_the_rules_is_not_reported() -> None:
    report = fuzz(seed="1", inputs=4000, targets=[f"{HERE}:sound"])
    assert not report.findings, report.text()
    assert report.inputs == report.accepted + report.rejected == 4000
    assert min(report.accepted, report.rejected) > 400


def test_no_batch_begins_when_the_time_is_up() -> None:
    assert fuzz(seed="1", seconds=0).inputs == 0


def test_a_seed_gives_the_same_streams_again() -> None:
    first, second = (fuzz(seed="same", inputs=1500, per_batch=300) for _ in range(2))
    other = fuzz(seed="other", inputs=1500, per_batch=300)
    assert (first.accepted, first.rejected) == (second.accepted, second.rejected)
    assert (first.accepted, first.rejected) != (other.accepted, other.rejected)


def test_command_says_what_it_tried_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fuzz", "--batch", "0", "--per-batch", "300", "--seed", "5", "--json"]
    assert cli.main([*arguments, f"{HERE}:sound"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["inputs"] == report["accepted"] + report["rejected"] == 300
    assert report["seed"] == "5"
    assert report["findings"] == []
    assert cli.main([*arguments, f"{HERE}:unstable"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == "unstable"


def test_loads_that_fail_leave_no_memory() -> None:
    """The memory is measured in another process, without the memory of other tests."""
    command = [sys.executable, "-m", "qemu_vmstate", "fuzz", "--failing-loads", "30000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["growth_kib"] <= 1024


@pytest.mark.parametrize("seed", ["fixed", None], ids=["fixed", "random"])
def test_malformed_streams_do_no_damage(seed: str | None) -> None:
    """The random seed is in the report, which a failure shows."""
    report = fuzz(inputs=32000, seed=seed)
    assert not report.findings, report.text()
    assert report.accepted > 100, report.text()
    assert report.rejected > 1000, report.text()


EXAMPLES = (
    *("qemu_devices.hpet:HPET", "qemu_devices.pl011:PL011"),
    *("qemu_devices.mc146818rtc:RTC", "qemu_devices.serial_isa:SerialISA"),
    *("demo_device:Nic", "soak_tests.crowd_device:Crowd"),
)


def test_malformed_streams_do_no_damage_to_the_example_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout = Path(__file__).resolve().parents[2]
    for place in (checkout / "examples", checkout / "scripts"):
        monkeypatch.syspath_prepend(place)
    report = fuzz(inputs=12000, per_batch=1000, targets=EXAMPLES)
    assert not report.findings, report.text()
    assert report.accepted > 100, report.text()
    assert report.rejected > 1000, report.text()
