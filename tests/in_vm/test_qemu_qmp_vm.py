# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``qemu.qmp`` of a QEMU source tree in the path instead of the installed one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import CHECKOUT, Emulator, environment, source_of

PROGRAM = """
import sys
from qemu_vmstate.vm import VM
with VM(qemu=sys.argv[1], extra=sys.argv[2:]) as vm:
    print(vm.qmp("query-status")["status"])
"""


@pytest.mark.one_emulator
def test_the_ones_of_qemus_trees_work_or_are_named(emulator: Emulator) -> None:
    trees = environment()["trees"]
    assert trees
    for tree in trees:
        python = source_of(tree["build"]) / "python"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, emulator["path"], *emulator["args"]],
            env=os.environ | emulator["env"] | {"PYTHONPATH": f"{python}:{CHECKOUT}"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        # The client of 7.2 connects to an address only; that of 10.0 also to a socket.
        if tree["version"].startswith("7."):
            wanted = f"the one in {python}/qemu/qmp is too old to use a socket"
            assert wanted in done.stderr
        else:
            assert done.stdout == "running\n", done.stderr
