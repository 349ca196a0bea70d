# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate build`` and ``pytest --qemu-build`` with a package that has no native parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.natives import folders

from .test_install import CHECKOUT, clean_environment, environment

Run = Callable[..., subprocess.CompletedProcess[str]]

SCRIPT = """
from qemu_vmstate import *
class Dev(Device, name="pydev"):
    n: u32 = 0x01020304
if in_vm():
    register(Dev())
assert save(Dev()) == bytes([1, 2, 3, 4])
print("QEMU", capabilities().qemu, flush=True)
"""

TESTS = """
import subprocess, sys
import qemu_vmstate
from qemu_vmstate import capabilities
def test_in_process():
    assert capabilities().qemu == "{version}"
def test_in_a_child():
    said = subprocess.run([sys.executable, "dev.py"], capture_output=True, text=True, check=True)
    assert said.stdout == "QEMU {version}\\n"
"""

IN_VM = """
def test_in_vms(qemu_vmstate_vm):
    here = qemu_vmstate_vm(script="dev.py")
    there = qemu_vmstate_vm(script="dev.py", incoming=True)
    assert here.migrate_to(there)["status"] == "completed"
    assert here.command[0].startswith("{build}/")
"""


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    """Return the newest tree, which has an emulator if scripts/setup has built one."""
    trees: list[dict[str, Any]] = environment()["trees"]
    if not trees:
        pytest.skip("no QEMU tree was set up: run scripts/setup --for test")
    return trees[-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs Python with the package as installed, without native parts.

    The user's folders are new, and nothing refers to the checkout.
    """
    folder = tmp_path_factory.mktemp("installed")
    meson = Path(sys.executable).with_name("meson")
    install = [str(meson), "install", "--no-rebuild", "--quiet", "-C", str(folders.root())]
    subprocess.run([*install, "--destdir", str(folder / "root")], check=True, timeout=120)
    (package,) = (folder / "root").rglob("site-packages/qemu_vmstate")
    for path in (package / "bindings").glob("*-[0-9]*.so"):
        path.unlink()
    variables = clean_environment() | {
        "PYTHONPATH": str(package.parent),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    (folder / "dev.py").write_text(SCRIPT)

    def call(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return call


def command(run: Run, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    return run("-m", "qemu_vmstate", *words, status=status)


@pytest.mark.timeout(1800)
def test_a_tree_is_built_once_and_used(run: Run, tree: dict[str, Any]) -> None:
    build, version = tree["build"], tree["version"]
    assert "has no native parts" in run("dev.py", status=1).stderr

    # A test project builds what is missing, before xdist's processes start.
    folder = Path(run("-c", "import os; print(os.getcwd())").stdout.strip())
    (folder / "test_it.py").write_text(TESTS.format(version=version))
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--qemu-build={build}")
    first = run(*words, "-n", "2", "test_it.py")
    assert "2 passed" in first.stdout
    assert (first.stdout + first.stderr).count("compiling the native parts") == 1
    again = run(*words, "test_it.py")
    assert "2 passed" in again.stdout
    assert "compiling" not in again.stdout + again.stderr

    # What it has built serves without pytest too.
    listing = command(run, "build", "--list").stdout
    assert listing.startswith(f"QEMU {version} of {build}: ")
    assert listing.endswith(" (up to date)\n")
    assert run("dev.py").stdout == f"QEMU {version}\n"
    assert f"built for {build}" in command(run, "info").stdout

    # Objects that are newer than it make it outdated, and pytest builds it again.
    (record,) = folder.glob("data/qemu-vmstate/native/*/build.json")
    os.utime(record, (0, 0))
    assert command(run, "build", "--list").stdout.endswith(" (outdated)\n")
    third = run(*words, "test_it.py")
    assert (third.stdout + third.stderr).count("compiling the native parts") == 1
    assert command(run, "build", "--list").stdout.endswith(" (up to date)\n")

    emulators = [one for one in environment()["emulators"] if one["path"].startswith(f"{build}/")]
    if emulators:
        (folder / "test_vm.py").write_text(IN_VM.format(build=build))
        assert "1 passed" in run(*words, "test_vm.py").stdout

    # Those of other C sources are refused, with the command that builds them again.
    changed = json.loads(record.read_text()) | {"sources": "of another version"}
    record.write_text(json.dumps(changed))
    error = run("dev.py", status=1).stderr.splitlines()[-1]
    assert error.endswith(f"build them again with `qemu-vmstate build {build}`")
    assert f"QEMU {version} of {build}: " in command(run, "build", build).stdout
    assert run("dev.py").stdout == f"QEMU {version}\n"

    assert command(run, "build", "--remove", version).stdout.endswith(" (removed)\n")
    assert command(run, "build", "--list").stdout == ""
    assert not list(folder.glob("data/qemu-vmstate/native/*"))
    assert "nothing was built for" in command(run, "build", "--remove", version, status=1).stderr


def test_what_is_no_build_directory_is_refused(run: Run, tmp_path: Path) -> None:
    for words in (("-m", "qemu_vmstate", "build"), ("-m", "pytest", "--qemu-build")):
        done = run(*words, str(tmp_path), status=4 if "pytest" in words else 1)
        assert f"{tmp_path} is not a QEMU build directory" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_the_checkout_is_not_used(run: Run) -> None:
    said = run("-c", "from qemu_vmstate.natives.folders import *; print(source(), root())").stdout
    assert str(CHECKOUT) not in said
