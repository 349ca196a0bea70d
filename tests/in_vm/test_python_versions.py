# SPDX-License-Identifier: GPL-2.0-or-later
"""The shim boots another CPython than the one it was compiled with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import DEMO, StartVM, environment, script
from .terminals import Terminal


@pytest.fixture
def later_python() -> str:
    found = environment().get("later_python")
    if not found:
        reason = environment().get("later_reason") or "scripts/setup was not run"
        pytest.skip(f"no later Python to test with: {reason}")
    return str(found)


def test_a_later_python_runs_the_device_and_takes_its_stream(
    start: StartVM, shim: str, later_python: str
) -> None:
    asked = [later_python, "-c", "import sys; print(sys.version)"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    there = start("there", script=DEMO, shim=shim, incoming=True, python=later_python)
    here = start("here", script=DEMO, shim=shim)
    assert there.python.eval("__import__('sys').version") == version
    assert here.python.eval("__import__('sys').version") != version
    here.python.exec("dev.start()")
    here.wait_until(lambda: here.python.eval("dev.steps()")[1] > 3 or None, "steps")
    here.migrate_to(there)
    assert there.python.eval("fault(save(dev), dev.steps())") is None
    there.python.exec("dev.start()")
    assert there.quit() == 0


def test_a_later_python_is_debugged(
    start: StartVM, shim: str, later_python: str, tmp_path: Path
) -> None:
    """Python's pdb and its console change between versions."""
    text = "def stop(number):\n    double = 2 * number\n    breakpoint()\n    return double\n"
    vm = start(script=script(tmp_path, text), shim=shim, python=later_python)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        assert "stop()\n-> " in terminal.enter("stop(4)")
        assert terminal.enter("p double") == "8"
        assert terminal.enter("continue") == "8"
        assert "ZeroDivisionError: " in terminal.enter("1 / 0")
        assert terminal.detach() == 0
