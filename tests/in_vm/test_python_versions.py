# SPDX-License-Identifier: GPL-2.0-or-later
"""The shim boots another CPython than the one it was compiled with."""

from __future__ import annotations

import subprocess

import pytest

from .conftest import DEMO, StartVM, environment


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
