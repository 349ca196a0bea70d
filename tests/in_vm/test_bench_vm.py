# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate bench`` from end to end, with the smallest parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.bench.budgets import budgets

from .conftest import CHECKOUT, Emulator


@pytest.mark.one_emulator
def test_json_and_picture(emulator: Emulator, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    command = [sys.executable, "-m", "qemu_vmstate", "bench", "--tiny", "--json"]
    command += ["--qemu", emulator["path"], "--picture", str(picture)]
    search = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(search), "QEMU_VMSTATE_QEMU": emulator["native"]}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | settings
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert list(result) == ["machine", "in_process", "python_state", "vm", "microbenchmarks"]
    assert result["machine"]["qemu"].startswith("QEMU emulator version")
    every_path = {"reference", "native", "fast path", "derived"}
    every_path |= {"pickle", "msgspec dataclass", "msgspec Struct"}
    cells = {(row["shape"], row["path"], row["op"]) for row in result["in_process"]}
    shapes = ("4 u32", "buffer 128 B")
    assert cells == {
        (s, path, op) for s in shapes for path in every_path for op in ("save", "load")
    }
    for row in result["in_process"]:
        assert row["us"] > 0
        assert row["ratio_to_reference"] > 0
        assert row["ratio_to_pickle"] > 0
        assert row["ratio_to_msgspec_struct"] > 0
        for path in ("reference", "pickle", "msgspec dataclass"):
            if row["path"] == path:
                assert row[f"ratio_to_{path.replace(' ', '_')}"] == 1
    paths = ("typed", "Packed", "pickle", "msgspec")
    cells = {(row["state"], row["path"], row["op"]) for row in result["python_state"]}
    assert cells == {("session", path, op) for path in paths for op in ("save", "load")}
    combinations = {(row["devices"], row["path"], row["busy_threads"]) for row in result["vm"]}
    vm_paths = ("reference", "native", "fast path")
    assert combinations == {
        (n, path, busy) for n in (0, 10) for path in vm_paths for busy in (0, 1)
    }
    for row in result["vm"]:
        assert row["downtime_ms"] >= 0
        assert row["ratio_to_reference"] > 0
        # Ten devices take longer than none, so the marks are around them.
        assert row["hooks_ms"] > (0.005 if row["devices"] else 0)
        if row["devices"]:
            # The machine runs after the last of the devices is loaded.
            assert row["incoming_running_ms"] > row["incoming_ms"] > 0.005
            assert row["incoming_ratio_to_reference"] > 0
    figures = {(row["what"], row["with"]) for row in result["microbenchmarks"]}
    assert figures >= {
        ("get an attribute", "layout class in a guard of a Migratable"),
        ("save() call, 32 u32", "save(device)"),
        ("load() call, 32 u32", "load(device)"),
        ("import", "qemu_vmstate and a device class"),
        ("64 MiB buffer part, idle", "native"),
    }
    # The names are those that the budgets look for.
    judged = {budget.what for budget in budgets(result)}
    assert judged >= {what for what, _ in figures if what.endswith("attribute")}
    assert judged >= {"native, buffer 128 B, save", "import", "save() call, 32 u32"}
    assert judged >= {"Packed, session, load", "typed, save and load, slowest Python state"}
    assert picture.read_text().lstrip().startswith("<?xml")


def test_a_qemu_that_cannot_be_started_is_said() -> None:
    command = [sys.executable, "-m", "qemu_vmstate", "bench", "--tiny", "--json"]
    settings = {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [*command, "--qemu", "no-such-qemu"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | settings,
    )
    assert done.returncode == 1
    assert "no-such-qemu" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
