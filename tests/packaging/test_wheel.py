# SPDX-License-Identifier: GPL-2.0-or-later
"""The wheel works where nothing else of this project is in reach, with every QEMU version.

It is installed twice: in a virtual environment of this machine, and in a root of Debian 13.
There, neither the checkout, the cache folder, a compiler nor a network is in reach.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..pages import README, blocks
from .test_install import CHECKOUT, ENVIRONMENT, environment

sys.path.insert(0, str(CHECKOUT / "scripts"))
from commands import wheel_build
from provision import cache, pythons

Emulator = dict[str, Any]

IN_REACH = """
import os, shutil, socket, sys
import qemu_vmstate
folders = {folders!r}
print("found:", [folder for folder in folders if os.path.isdir(folder) and os.listdir(folder)])
print("compilers:", [name for name in ("cc", "gcc", "clang", "ninja") if shutil.which(name)])
print("interfaces:", [name for _, name in socket.if_nameindex()])
print("installed:", qemu_vmstate.__file__.startswith(sys.prefix))
"""

PRINT_QEMU = "from qemu_vmstate import capabilities\nprint('QEMU', capabilities().qemu)\n"

PRINT_PREFIX = "import sys\nprint('prefix', sys.prefix, flush=True)\n"

# So that the page's own line `from qemu_vmstate.vm import VM` gets the emulator of the test.
WITH_OPTIONS = """
import functools, qemu_vmstate.vm
qemu_vmstate.vm.VM = functools.partial(qemu_vmstate.vm.VM, **{options!r})
"""

WITH_FIXTURE = """
def test_a_vm(qemu_vmstate_vm):
    here = qemu_vmstate_vm(script="dev.py", **{options!r})
    there = qemu_vmstate_vm(script="dev.py", incoming=True, **{options!r})
    here.python.exec("with dev.regs.lock() as regs: regs.count = 7")
    assert here.migrate_to(there)["status"] == "completed"
    assert there.python.eval("dev.regs.lock().value.count") == 7
"""

QUIET = ("-M", "none", "-display", "none", "-nodefaults", "-monitor", "stdio")


@dataclass
class Place:
    """A place where the wheel is installed, in the virtual environment ``venv``.

    ``folder`` is a folder of this machine, and ``inside`` its path there. ``enter`` is a shell
    script that hides the rest and runs its arguments there; ``python`` makes the environment.
    """

    folder: Path
    inside: Path
    enter: str
    python: str

    @property
    def venv(self) -> Path:
        return self.inside / "venv"

    def call(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment, with few variables and those of ``env``."""
        words = [str(word) for word in command]
        variables = {
            "PATH": str(self.venv / "bin"),
            "HOME": str(self.inside / "home"),
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        inner = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(
            ["unshare", "--mount", "--net", "sh", "-e", "-c", self.enter, "sh", *inner, *words],
            cwd=self.folder,
            input=text,
            capture_output=True,
            text=True,
            timeout=280,
        )

    def run(self, *command: str | Path, **options: Any) -> str:
        ended = self.call(*command, **options)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def write(self, name: str, text: str) -> Path:
        """Write a file, and return its path in the place."""
        (self.folder / name).write_text(text)
        return self.inside / name


def require_namespaces() -> None:
    """Skip the test where what surrounds the wheel cannot be hidden."""
    if os.geteuid() != 0:
        pytest.skip("the checkout can only be hidden by root: run scripts/test as root")
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if tried.returncode:
        pytest.skip(
            "the checkout cannot be hidden, because this machine allows no namespaces "
            f"(in a container, add CAP_SYS_ADMIN): {tried.stderr.strip()}"
        )


# ----------------------------------------------------------------- the wheel


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the wheel and the sdist, which the function of scripts/wheel builds."""
    trees = environment()["trees"]
    if not trees:
        pytest.skip("no QEMU tree was set up: run scripts/setup --for test")
    builds = [tree["build"] for tree in trees]
    return wheel_build.build(builds, tmp_path_factory.mktemp("dist"))


def test_the_wheel_has_what_is_needed_and_nothing_of_this_machine(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, _ = built
    assert wheel.name.startswith("qemu_vmstate-0.1.0-cp311-abi3-manylinux_2_")
    shutil.unpack_archive(wheel, tmp_path, "zip")
    package = tmp_path / "qemu_vmstate"
    for name in ("py.typed", "bindings/_native.pyi", "natives/source/meson.build"):
        assert (package / name).is_file(), name
    for tree in environment()["trees"]:
        for name in ("_native-{}.abi3.so", "_bench-{}.abi3.so", "libqemu-vmstate-{}.so"):
            assert (package / "bindings" / name.format(tree["version"])).is_file()
    sources = {path.relative_to(CHECKOUT) for path in (CHECKOUT / "cdefs").rglob("*.[ch]")}
    assert all((package / "natives/source" / path).is_file() for path in sources)
    (about,) = tmp_path.glob("*.dist-info")
    assert (about / "licenses/LICENSE").is_file()
    entries = (about / "entry_points.txt").read_text()
    assert "qemu-vmstate = qemu_vmstate.cli:main" in entries
    assert "qemu_vmstate = qemu_vmstate.pytest_plugin" in entries
    folders = [CHECKOUT, cache.folder(), Path.home(), Path(sys.base_prefix), built[0].parent]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found = [str(folder) for folder in folders if os.fsencode(f"{folder}/") in content]
        assert not found, path.relative_to(tmp_path)


@pytest.mark.timeout(600)
def test_the_sdist_builds_the_same(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    settings = wheel_build.settings([tree["build"] for tree in environment()["trees"]])
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    ended = subprocess.run(
        [*pip, *settings, "--wheel-dir", tmp_path, sdist],
        env=os.environ | wheel_build.with_tools(),
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (again,) = tmp_path.glob("*.whl")
    assert wheel_build.contents(again) == wheel_build.contents(wheel), (
        "the sdist is of the latest commit, and the wheel of the checkout: is all committed?"
    )


# ---------------------------------------------------------------- the places


def _hidden() -> list[Path]:
    """Return the checkout, the cache folder, and QEMU build directories outside of them."""
    folders = [CHECKOUT, cache.folder()]
    for tree in environment()["trees"]:
        build = Path(tree["build"])
        if not any(build.is_relative_to(folder) for folder in folders):
            folders.append(build)
    return folders


def _needs(emulator: Emulator) -> Path | None:
    """Return what an emulator needs of the hidden folders: its root, or itself; None if nothing."""
    path = Path(emulator["path"])
    for folder in _hidden():
        if path.is_relative_to(folder):
            below = [parent for parent in path.parents if parent.is_relative_to(folder)]
            return next((parent for parent in below if parent.name == "root"), path)
    return None


def on_this_machine(folder: Path) -> Place:
    """Return a place on this machine, where only the emulators can be seen of what is hidden."""
    lines, again = [], []
    for number, emulator in enumerate(environment()["emulators"]):
        needed = _needs(emulator)
        if needed is None:
            continue
        stash = folder / f"emulator-{number}"
        if needed.is_dir():
            stash.mkdir()
            again.append(["mkdir", "-p", needed])
        else:
            stash.touch()
            again += [["mkdir", "-p", needed.parent], ["touch", needed]]
        lines.append(["mount", "--bind", needed, stash])
        again.append(["mount", "--bind", stash, needed])
    lines += [["mount", "-t", "tmpfs", "tmpfs", place] for place in _hidden()]
    commands = [shlex.join(map(str, words)) for words in [*lines, *again]]
    found = pythons.ask(sys.executable)
    assert found
    return Place(folder, folder, "\n".join([*commands, 'exec env -i "$@"']), found.executable)


def in_debian_13(folder: Path) -> Place:
    """Return a place in the root of Debian 13; ``folder`` is /tmp there."""
    root = environment()["debian_13"]
    if not root:
        reasons = [reason for reason in environment()["missing"] if "Debian 13" in reason]
        pytest.skip(" ".join(reasons) or "no Debian 13 was set up: run scripts/setup --for test")
    binds = {"/dev": "/dev", "/proc": "/proc", "/sys": "/sys", str(folder): "/tmp"}
    lines = [shlex.join(["mount", "--rbind", there, root + here]) for there, here in binds.items()]
    enter = "\n".join([*lines, f'exec chroot {shlex.quote(root)} /usr/bin/env -i -C /tmp "$@"'])
    return Place(folder, Path("/tmp"), enter, "/usr/bin/python3")


PLACES = {"this-machine": on_this_machine, "debian-13": in_debian_13}


def emulators() -> Iterator[Any]:
    """Return the emulators with the names of their places."""
    if not ENVIRONMENT.exists():
        return
    for emulator in environment()["emulators"]:
        if emulator["native"]:
            yield pytest.param("this-machine", emulator, id=emulator["name"])
    known = any(tree["name"] == "10.0" for tree in environment()["trees"])
    missing = pytest.mark.skip(reason="no native parts for QEMU 10.0 were set up")
    yield pytest.param(
        *("debian-13", {"path": "/usr/bin/qemu-system-x86_64", "args": [], "env": {}}),
        id="debian-13",
        marks=() if known else missing,
    )


in_each_place = pytest.mark.parametrize("where", PLACES)
in_each_emulator = pytest.mark.parametrize(("where", "emulator"), list(emulators()))


@pytest.fixture(scope="session")
def installed(
    built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Place]:
    """Return the function ``installed(where)``, which installs the wheel at its first call."""

    @functools.cache
    def install(where: str) -> Place:
        require_namespaces()
        wheelhouse = environment()["wheelhouse"]
        if not wheelhouse:
            pytest.skip("no wheels were downloaded: run scripts/setup --for test")
        place = PLACES[where](tmp_path_factory.mktemp(where))
        shutil.copytree(wheelhouse, place.folder / "wheels")
        shutil.copy(built[0], place.folder / "wheels")
        place.run(place.python, "-m", "venv", place.venv)
        wheels = place.inside / "wheels"
        pip = ["python", "-m", "pip", "install", "--no-index", f"--find-links={wheels}"]
        place.run(*pip, f"{wheels / built[0].name}[vm]", "pytest")
        # The script that README.md shows.
        place.write("dev.py", "".join(blocks(README, "python vm-script")))
        return place

    return install


@in_each_place
def test_nothing_else_is_in_reach(installed: Callable[[str], Place], where: str) -> None:
    place = installed(where)
    folders = [str(CHECKOUT), *(tree["build"] + "/meson-info" for tree in environment()["trees"])]
    said = place.run("python", "-c", IN_REACH.format(folders=folders))
    assert said.splitlines() == [
        *("found: []", "compilers: []", "interfaces: ['lo']", "installed: True"),
    ]


@in_each_place
def test_the_device_of_the_readme_runs_in_process_on_each_version(
    installed: Callable[[str], Place], where: str
) -> None:
    place = installed(where)
    codes = blocks(README, "python", "python continued")
    program = place.write("readme.py", "\n".join([*codes, PRINT_QEMU]))
    for tree in environment()["trees"]:
        said = place.run("python", program, env={"QEMU_VMSTATE_QEMU": tree["name"]})
        assert said == f"QEMU {tree['version']}\n"


@in_each_place
def test_info_lists_every_version(installed: Callable[[str], Place], where: str) -> None:
    place = installed(where)
    said = place.run("qemu-vmstate", "info")
    assert str(place.venv) in said
    for tree in environment()["trees"]:
        assert f"QEMU {tree['version']}" in said


@in_each_emulator
@pytest.mark.parametrize("shim", ["plugin", "preload"])
def test_run_starts_the_script_of_the_readme(
    installed: Callable[[str], Place], where: str, emulator: Emulator, shim: str
) -> None:
    place = installed(where)
    stream = place.inside / "stream"
    said = place.run(
        *("qemu-vmstate", "run", "--shim", shim, "dev.py", "--", emulator["path"]),
        *(*emulator["args"], *QUIET),
        env=emulator["env"],
        text=f'migrate "exec:/bin/cat > {stream}"\nquit\n',
    )
    assert "rror" not in said
    shown = place.run("qemu-vmstate", "inspect", stream)
    assert "pycounter" in shown
    (place.folder / "stream").unlink()


@in_each_emulator
def test_the_shim_alone_finds_its_python(
    installed: Callable[[str], Place], where: str, emulator: Emulator
) -> None:
    place = installed(where)
    (shim,) = place.folder.glob("venv/lib/python3.*/site-packages/**/qemu-vmstate-shim.so")
    script = place.write("prefix.py", PRINT_PREFIX)
    plugin = f"file={place.inside / shim.relative_to(place.folder)},script={script}"
    command = [emulator["path"], *emulator["args"], *QUIET, "-plugin", plugin]
    said = place.run(*command, env={**emulator["env"], "PATH": "/nowhere"}, text="quit\n")
    assert f"prefix {place.venv}" in said


@in_each_emulator
@pytest.mark.parametrize("shim", ["plugin", "preload"])
def test_a_vm_migrates(
    installed: Callable[[str], Place], where: str, emulator: Emulator, shim: str
) -> None:
    place = installed(where)
    options = WITH_OPTIONS.format(options=vm_options(emulator) | {"shim": shim})
    (host,) = blocks(README, "python vm-host")
    program = place.write("host.py", f"{options}\n{host}\nprint('migrated')\n")
    assert place.run("python", program) == "migrated\n"


@in_each_emulator
def test_the_fixture_for_pytest_starts_vms(
    installed: Callable[[str], Place], where: str, emulator: Emulator
) -> None:
    place = installed(where)
    options = vm_options(emulator)
    qemu = options.pop("qemu")
    place.write("test_it.py", WITH_FIXTURE.format(options=options))
    said = place.run(
        *("python", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(f"--qemu-vmstate-qemu={qemu}", "test_it.py"),
    )
    assert "1 passed" in said


def vm_options(emulator: Emulator) -> dict[str, Any]:
    """Return the options of ``VM`` for an emulator."""
    return {"qemu": emulator["path"], "extra": emulator["args"], "env": emulator["env"]}
