# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md's examples with VMs work when pasted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..test_readme import blocks
from .conftest import CHECKOUT, Emulator


@pytest.fixture
def pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Emulator:
    """Put dev.py in the working folder, and the emulator first in PATH."""
    (tmp_path / "dev.py").write_text(blocks("python vm-script")[0])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qemu-system-x86_64").symlink_to(emulator["path"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("QEMU_VMSTATE_QEMU", emulator["native"])
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    for name, value in emulator["env"].items():
        monkeypatch.setenv(name, value)
    return emulator


def test_the_script_migrates_as_shown(pasted: Emulator) -> None:
    (host,) = blocks("python vm-host")
    exec(compile(host, "README.md", "exec"), {})


def test_the_command_starts_it_as_shown(pasted: Emulator, shim: str) -> None:
    Path("dev.py").write_text(Path("dev.py").read_text() + "print('registered', flush=True)\n")
    command = [sys.executable, "-m", "qemu_vmstate", "run", "--shim", shim, "dev.py", "--"]
    qemu = ["qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults"]
    ended = subprocess.run(
        [*command, *qemu, "-monitor", "stdio"],
        input="quit\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "registered\n" in ended.stdout, ended.stderr
    assert ended.returncode == 0
