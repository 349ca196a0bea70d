# SPDX-License-Identifier: GPL-2.0-or-later
"""Every Python from 3.11 on that the machine has runs a device, in process and in a VM."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm.vm import VM

from .test_install import CHECKOUT, environment, run

sys.path.insert(0, str(CHECKOUT / "scripts"))
from provision import python_gate, pythons

IN_PROCESS = """
import sys
sys.path.insert(0, "examples")
import demo_device
from qemu_vmstate import load, save
nic, copy = demo_device.Nic(), demo_device.Nic()
for _ in range(100): nic.step(with_link=True)
load(copy, save(nic))
assert demo_device.fault(save(copy), (100, 100, 100)) is None
"""


def installed() -> Iterator[Any]:
    """Return one installation of each version, and Debian's own."""
    found: dict[tuple[str, bool], pythons.Interpreter] = {}
    for path in ["/usr/bin/python3", *python_gate.interpreters()]:
        python = pythons.ask(path) if os.access(path, os.X_OK) else None
        if python and python.version >= (3, 11):
            found.setdefault((python.minor, python.debian), python)
    for (minor, debian), python in sorted(found.items()):
        yield pytest.param(python, id=f"{minor}-debian" if debian else minor)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("python", list(installed()))
def test_a_virtual_environment_of_it_runs_a_device_in_process_and_in_a_vm(
    python: pythons.Interpreter, tmp_path: Path
) -> None:
    if python.lacks:
        pytest.skip(f"Python {python.minor} lacks {' and '.join(python.lacks)}")
    run(python.executable, "-m", "venv", tmp_path / "venv")
    inside = tmp_path / "venv" / "bin" / "python"
    run(
        inside, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "5", "cffi>=2.1"
    )
    emulators = [e for e in environment()["emulators"] if e["native"]]
    for emulator in emulators:
        env = {"QEMU_VMSTATE_QEMU": emulator["native"], "PYTHONPATH": str(CHECKOUT)}
        subprocess.run(
            [inside, "-c", IN_PROCESS], cwd=CHECKOUT, env=os.environ | env, check=True, timeout=60
        )
        options = {
            "script": CHECKOUT / "examples" / "demo_device.py",
            "python": str(inside),
            "qemu": emulator["path"],
            "extra": emulator["args"],
            "env": emulator["env"],
        }
        for shim in ("plugin", "preload"):
            with (
                VM(name="here", shim=shim, **options) as here,
                VM(name="there", shim=shim, incoming=True, **options) as there,
            ):
                assert here.python.eval("__import__('sys').prefix") == str(tmp_path / "venv")
                version = here.python.eval("tuple(__import__('sys').version_info[:3])")
                assert version == python.version
                here.python.exec("for _ in range(100): dev.step(with_link=True)")
                here.migrate_to(there)
                assert there.python.eval("fault(save(dev), (100, 100, 100))") is None
                assert here.quit() == there.quit() == 0


def test_an_environment_serves_whatever_its_python_is_called(tmp_path: Path) -> None:
    directory = tmp_path / "venv"
    installation = Path(sys.base_prefix) / "bin"
    first = pythons.ask(str(installation / "python3"))
    assert first
    pythons.make_environment(directory, first, ["pip"], "pip")
    (directory / "kept").touch()
    minor = f"python3.{sys.version_info.minor}"
    # The last one is the environment of a user who has activated it.
    for path in (installation / minor, directory / "bin" / "python"):
        again = pythons.ask(str(path))
        assert again
        pythons.make_environment(directory, again, ["pip"], "pip")
        assert (directory / "kept").exists(), f"made anew for {path}"
