# SPDX-License-Identifier: GPL-2.0-or-later
"""``pip install .`` against a QEMU build directory, in a new environment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = CHECKOUT / "build" / "test-environment.json"

TRY_OUT = """
import pathlib, sys
from qemu_vmstate import *
import qemu_vmstate
class Regs(VMStruct):
    n: u32 = 0x01020304
class Dev(Device, name="pydev"):
    regs: Migratable[Mutex[Regs]]
assert save(Dev()) == bytes([1, 2, 3, 4])
assert pathlib.Path(qemu_vmstate.__file__).is_relative_to(sys.prefix)
assert pathlib.Path(qemu_vmstate.__file__).with_name("py.typed").exists()
print(capabilities().qemu)
"""

IN_VM = """
import sys
from qemu_vmstate import *
class Dev(Device, name="pydev"):
    n: u32 = 5
register(Dev())
print("prefix", sys.prefix, flush=True)
"""

WITH_FIXTURE = """
def test_a_vm(qemu_vmstate_vm):
    here = qemu_vmstate_vm(script="dev.py")
    there = qemu_vmstate_vm(script="dev.py", incoming=True)
    assert here.migrate_to(there)["status"] == "completed"
"""


def environment() -> dict[str, Any]:
    if not ENVIRONMENT.exists():
        pytest.skip("nothing was set up: run scripts/setup --for test")
    loaded: dict[str, Any] = json.loads(ENVIRONMENT.read_text())
    return loaded


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file below a folder, with its size and modification time."""
    found = {}
    for root, folders, names in os.walk(folder):
        # Another run of these tests may be configuring beside this one.
        folders[:] = [name for name in folders if not name.startswith("inside-")]
        for name in names:
            path = Path(root) / name
            status = path.lstat()
            found[str(path)] = status.st_size, status.st_mtime_ns
    return found


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables that refer to this checkout."""
    hidden = ("QEMU_VMSTATE_NATIVE", "QEMU_VMSTATE_QEMU", "QEMU_BUILD", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def run(*command: str | Path, **options: Any) -> str:
    ended = subprocess.run(
        [str(word) for word in command],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said: str = ended.stdout
    return said


def own_files() -> list[str]:
    """Return the names of all files that git tracks or would track."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT)
    return names.splitlines()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkout's own files, without anything built."""
    folder = tmp_path_factory.mktemp("source")
    for name in own_files():
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def tree() -> dict[str, str]:
    """Return the newest tree that an emulator was set up for."""
    found: list[dict[str, str]] = environment()["trees"]
    if not found:
        pytest.skip("no QEMU tree was set up: run scripts/setup --for test")
    return found[-1]


@pytest.mark.timeout(900)
def test_pip_install_against_a_tree_works_and_leaves_the_tree_alone(
    source: Path, tree: dict[str, str], tmp_path: Path
) -> None:
    build = Path(tree["build"])
    before = listing(build)
    assert before
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    option = f"-Csetup-args=-Dqemu_build={build}"
    # The -C of the option came with pip 23.1, and Debian 12 has 23.0.
    run(python, "-m", "pip", "install", "--upgrade", "pip>=23.1")
    run(python, "-m", "pip", "install", f"{source}[vm]", option, "pytest", "--retries", "5")
    assert listing(build) == before

    assert run(python, "-c", TRY_OUT, cwd=tmp_path).strip() == tree["version"]
    program = tmp_path / "venv" / "bin" / "qemu-vmstate"
    info = run(program, "info", cwd=tmp_path)
    assert tree["version"] in info
    assert str(tmp_path / "venv") in info
    assert "--qemu-vmstate-qemu=PATH" in run(python, "-m", "pytest", "--help", cwd=tmp_path)

    emulators = [e for e in environment()["emulators"] if e["native"] == tree["version"]]
    if emulators:
        # The shim contains the path of the Python that it was installed for.
        (tmp_path / "dev.py").write_text(IN_VM)
        shim = next((tmp_path / "venv").rglob("qemu-vmstate-shim.so"))
        plugin = f"file={shim},script={tmp_path / 'dev.py'}"
        command = ["-M", "none", "-display", "none", "-nodefaults", "-monitor", "stdio"]
        said = run(emulators[0]["path"], *command, "-plugin", plugin, input="quit\n")
        assert f"prefix {tmp_path / 'venv'}" in said
        (tmp_path / "test_it.py").write_text(WITH_FIXTURE)
        option = f"--qemu-vmstate-qemu={emulators[0]['path']}"
        assert "1 passed" in run(python, "-m", "pytest", "-q", option, cwd=tmp_path)
        words = ("bench", "--tiny", "--json", "--qemu", emulators[0]["path"])
        figures = json.loads(run(program, *words, cwd=tmp_path))
        assert {row["path"] for row in figures["vm"]} >= {"reference", "native"}


def test_the_repository_holds_nothing_compiled() -> None:
    names = own_files()
    assert {"pyproject.toml", "meson.build", "README.md", "LICENSE"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".o", ".a", ".pyc", ".whl"))]


@pytest.mark.parametrize("how", ["none", "missing", "missing-by-variable", "not-a-build"])
def test_without_a_tree_that_serves_meson_says_what_to_do(
    source: Path, tmp_path: Path, how: str
) -> None:
    (tmp_path / "empty").mkdir()
    option = {
        "none": [],
        "missing": [f"-Dqemu_build={tmp_path / 'nowhere'}"],
        "missing-by-variable": [],
        "not-a-build": [f"-Dqemu_build={tmp_path / 'empty'}"],
    }[how]
    variables = {"QEMU_BUILD": str(tmp_path / "elsewhere")} if how.endswith("variable") else {}
    ended = subprocess.run(
        [Path(sys.executable).with_name("meson"), "setup", tmp_path / "out", source, *option],
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode != 0
    output = ended.stdout + ended.stderr
    wanted = {
        "none": "no QEMU build directory: name one or more with -Dqemu_build=PATH",
        "missing": "nowhere is not a directory",
        "missing-by-variable": "elsewhere is not a directory",
        "not-a-build": "is not a QEMU build directory",
    }[how]
    assert wanted in output
    assert "Traceback" not in output


def configured_again(build: Path, folder: Path) -> None:
    """Run the configure of a build directory again, for another directory."""
    (command,) = [
        line
        for line in (build / "config.status").read_text().splitlines()
        if line.startswith("exec ")
    ]
    words = [word for word in shlex.split(command)[1:] if word != "$@"]
    tools = [str(Path(word.partition("=")[2]).parent) for word in words if "=/" in word]
    path = os.pathsep.join([*tools, os.environ["PATH"]])
    ended = subprocess.run(
        words,
        cwd=folder,
        env=clean_environment() | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.timeout(600)
def test_a_tree_that_is_only_configured_inside_its_source_serves_and_is_left_alone(
    tmp_path: Path,
) -> None:
    """QEMU's own instructions use a build folder in the source."""
    trees = environment()["trees"]
    if not trees:
        pytest.skip("no QEMU tree was set up: run scripts/setup --for test")
    tool = CHECKOUT / "qemu_vmstate" / "natives" / "qemu_tree.py"
    output = run(sys.executable, tool, "info", "--build", trees[0]["build"])
    info = dict(line.split("=", 1) for line in output.splitlines())
    if os.environ.get("QEMU_BUILD"):
        build = Path(info["build"])
        made = None
    else:
        made = build = Path(tempfile.mkdtemp(prefix="inside-", dir=info["source"]))
        configured_again(Path(info["build"]), build)
    try:
        watched = Path(info["source"])
        before = listing(watched) | listing(build)
        scratch = tmp_path / "scratch"
        flags = run(
            sys.executable, tool, "headers", "--build", build, "--scratch", scratch
        ).splitlines()
        # From anywhere, our C compiles with these flags, and a warning is an error.
        cdefs = CHECKOUT / "cdefs"
        sources = sorted([*(cdefs / "bridge").glob("*.c"), cdefs / "bench/reference_device.c"])
        assert len(sources) > 10
        for file in sources:
            compiler: list[str | Path] = ["cc", *flags, "-Werror", "-I", cdefs]
            run(*compiler, "-c", file, "-o", tmp_path / f"{file.stem}.o", cwd=tmp_path)
        assert listing(watched) | listing(build) == before
    finally:
        if made:
            shutil.rmtree(made)
