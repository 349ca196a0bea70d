# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own policies and ways to migrate that concern the Python inside: docs/promises.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu_vmstate.embed.control import ControlError
from qemu_vmstate.vm.launch import Script

from .conftest import Emulator, LaunchError, StartVM, script

STARTS_A_CHILD = """
import os, subprocess
def start_a_child():
    return subprocess.run(["true"]).returncode
"""


def test_a_sandbox_without_spawn_denies_children(
    start: StartVM, launch_error: LaunchError, emulator: Emulator, tmp_path: Path
) -> None:
    extra = [*emulator["args"], "-sandbox", "on,spawn=deny"]
    if emulator["name"].startswith("minimal"):  # Debian's are built with seccomp
        assert "-sandbox support is not enabled" in launch_error(extra=extra)
        return
    vm = start(script=script(tmp_path, STARTS_A_CHILD), extra=extra)
    if vm.version < (8, 0, 0):
        with pytest.raises(ControlError):
            vm.python.eval("start_a_child()")
        assert vm.wait() == -31, "SIGSYS"
        return
    with pytest.raises(PermissionError):
        vm.python.eval("start_a_child()")
    assert vm.quit() == 0


CPR = """
import os, sys
from qemu_vmstate import *

class Regs(VMStruct):
    n: u32 = 0

class Dev(Device, name="pycpr"):
    regs: Migratable[Mutex[Regs]]
    def load_complete(self, loaded):
        with open(OUT, "w") as out:
            with self.regs.lock() as regs:
                out.write(f"{loaded} {regs.n}")
        os._exit(0)

dev = Dev()
register(dev)
"""
RAM = [
    *("-m", "64", "-object", "memory-backend-memfd,id=ram,size=64M,share=on"),
    *("-machine", "aux-ram-share=on,memory-backend=ram"),
]


@pytest.mark.parametrize("environment", [True, False], ids=["with", "without"])
def test_cpr_exec_starts_python_again_if_its_command_names_the_shim(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, environment: bool
) -> None:
    """QEMU replaces itself; 10.2 is the first version that can."""
    if tuple(map(int, emulator["version"].split(".")[:2])) < (10, 2):
        return
    out, stream = tmp_path / "out", tmp_path / "stream"
    path = script(tmp_path, CPR.replace("OUT", repr(str(out))))
    vm = start(script=path, shim=shim, extra=[*emulator["args"], *RAM])
    vm.python.exec("with dev.regs.lock() as regs: regs.n = 7")
    own = Script(path, (), "preload" if shim == "preload" else "plugin")
    needed = {k: v for k, v in own.environment({}).items() if k != "QEMU_VMSTATE_CONTROL"}
    command = [
        *(["env", *(f"{key}={value}" for key, value in needed.items())] if environment else []),
        *(emulator["path"], *emulator["args"], "-nodefaults", "-display", "none", "-M", "none"),
        *(*own.qemu_arguments(), *RAM, "-incoming", f"file:{stream}"),
    ]
    vm.qmp("migrate-set-parameters", {"mode": "cpr-exec", "cpr-exec-command": command})
    vm.migrate({"transport": "file", "filename": str(stream), "offset": 0})
    status = vm.wait()
    if environment or shim == "plugin":
        assert (status, out.read_text()) == (0, "True 7")
    else:
        assert status != 0
        assert not out.exists()
        assert "Unknown section or instance 'pycpr'" in vm.log
