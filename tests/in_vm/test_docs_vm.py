# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples with VMs of README.md and the pages in docs/ work when pasted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..pages import PAGES, README, blocks
from ..vm.pytest_runs import run_pytest
from .conftest import CHECKOUT, Emulator, StartVM, script

WITH_VMS = [page for page in PAGES if blocks(page, "python vm-script")]
WITH_TESTS = [page for page in PAGES if blocks(page, "python vm-test")]


def script_of(page: Path) -> str:
    (script,) = blocks(page, "python vm-script")
    return script


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Emulator:
    """Make a folder of the test's own the working folder, and put the emulator first in PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qemu-system-x86_64").symlink_to(emulator["path"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("QEMU_VMSTATE_QEMU", emulator["native"])
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    for name, value in emulator["env"].items():
        monkeypatch.setenv(name, value)
    return emulator


@pytest.mark.parametrize("page", WITH_VMS, ids=lambda page: page.name)
def test_the_script_migrates_as_shown(working_folder: Emulator, page: Path) -> None:
    Path("dev.py").write_text(script_of(page))
    namespace: dict[str, object] = {}
    hosts = blocks(page, "python vm-host")
    assert hosts
    for host in hosts:
        exec(compile(host, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", WITH_TESTS, ids=lambda page: page.name)
def test_the_test_passes_as_shown(working_folder: Emulator, page: Path, tmp_path: Path) -> None:
    files = {"dev.py": script_of(page), "test_it.py": "".join(blocks(page, "python vm-test"))}
    status, output = run_pytest(tmp_path, files)
    assert status == 0, output
    assert " passed" in output


@pytest.mark.guest
def test_the_plugin_is_called_as_shown(start: StartVM, emulator: Emulator, tmp_path: Path) -> None:
    (code,) = blocks(CHECKOUT / "docs" / "vms.md", "python vm-plugin")
    extra = [*emulator["args"], "-m", "16", "-smp", "2"]
    vm = start(script=script(tmp_path, code), machine="pc", extra=extra)
    vm.wait_until(lambda: vm.python.eval("sorted(vcpus)") == [0, 1] or None, "both virtual CPUs")


def test_the_command_starts_it_as_shown(working_folder: Emulator, shim: str) -> None:
    Path("dev.py").write_text(script_of(README) + "print('registered', flush=True)\n")
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
