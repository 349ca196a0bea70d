# SPDX-License-Identifier: GPL-2.0-or-later
"""The start of Python in QEMU, the errors of one that cannot start, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qemu_vmstate.natives.folders import root
from qemu_vmstate.vm.launch import SHIM_NAME, shim_path, without_python

from .conftest import (
    CHECKOUT,
    DEMO,
    SCRIPTS,
    Emulator,
    LaunchError,
    StartVM,
    busy,
    emulators,
    script,
)

FRAGILE = SCRIPTS / "fragile.py"


def test_the_script_runs_as_main_with_its_arguments_in_the_virtual_environment(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    text = "import sys, rich\nimport threading\nseen = sys.argv, sys.prefix, __name__"
    vm = start(script=script(tmp_path, text), args=["one two", "a,b=c", "on", ""], shim=shim)
    argv, prefix, name = vm.python.eval("seen")
    assert argv[1:] == ["one two", "a,b=c", "on", ""]
    assert argv[0].endswith("a script, with spaces.py")
    assert prefix == sys.prefix
    assert name == "__main__"


def test_the_boot_takes_its_settings_out_of_the_environment(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    text = "import os, subprocess\nchild = subprocess.run(['env'], capture_output=True, text=True)"
    vm = start(script=script(tmp_path, text), shim=shim)
    child: str = vm.python.eval("child.stdout")
    assert "PATH=" in child
    assert "LD_PRELOAD" not in child
    assert "QEMU_VMSTATE_SCRIPT" not in child


def test_a_script_that_raises_ends_qemu_with_its_traceback(
    launch_error: LaunchError, shim: str, tmp_path: Path
) -> None:
    text = "def broken():\n    raise RuntimeError('no such board')\nbroken()\n"
    error = launch_error(script=script(tmp_path, text), shim=shim)
    assert "RuntimeError: no such board" in error
    assert "in broken" in error
    assert "status 1" in error


def test_a_script_that_exits_with_a_status_ends_qemu_and_with_0_does_not(
    launch_error: LaunchError, start: StartVM, shim: str, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, "import sys\nkept = 5\nsys.exit(0)"), shim=shim)
    assert vm.python.eval("kept") == 5
    text = "import sys\nsys.exit(7)"
    assert "status 1" in launch_error(script=script(tmp_path, text), shim=shim)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("x = = 1", "raised SyntaxError: invalid syntax"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)
def test_the_last_line_says_what_the_script_raised(
    launch_error: LaunchError, tmp_path: Path, source: str, message: str
) -> None:
    path = script(tmp_path, source)
    error = launch_error(script=path)
    assert f"qemu_vmstate: the script {path} {message}" in error
    assert "boot.py" not in error


@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        ("", {}, "no script is named"),
        (",script=none.py", {}, "the script none.py cannot be read: No such file"),
        (",script=dev.py,other=7", {}, "the plugin option 'other=7' is unknown"),
        (",script=dev.py", {"QEMU_VMSTATE_ARGS": "{}"}, "not a JSON list of strings"),
        (",script=dev.py", {"QEMU_VMSTATE_CONTROL_KEY": "x"}, "not a row of hexadecimal"),
        (",script=dev.py", {"QEMU_VMSTATE_CONTROL": "/no/such/c"}, "cannot listen on /no/such/c"),
        (",script=dev.py,libpython=/no.so", {}, "libpython cannot be loaded"),
    ],
)
def test_what_boot_refuses_by_hand(
    emulator: Emulator, tmp_path: Path, options: str, env: dict[str, str], message: str
) -> None:
    (tmp_path / "dev.py").write_text("print('ran')")
    library = shim_path()
    named = f"file={library},python={sys.executable}{options}"
    command = [emulator["path"], "-M", "none", "-display", "none", "-nodefaults", "-plugin", named]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=without_python(os.environ) | {"PYTHONPATH": str(CHECKOUT)} | emulator["env"] | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "ran" not in ended.stdout
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("qemu_vmstate: ")]
    assert message in line
    assert "Traceback" not in ended.stderr


def test_a_script_that_is_missing_is_named(
    launch_error: LaunchError, shim: str, tmp_path: Path
) -> None:
    assert "nowhere.py cannot be read" in launch_error(script=tmp_path / "nowhere.py", shim=shim)


@pytest.mark.one_emulator
def test_files_beside_the_script_that_are_named_as_packages_hide_nothing(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    for name in ("qemu.py", "qemu_vmstate.py"):
        (tmp_path / name).write_text("raise RuntimeError('imported')\n")
    vm = start(script=script(tmp_path, "from qemu_vmstate import Device"), shim=shim)
    assert vm.python.eval("Device.__module__") == "qemu_vmstate.device.device"


@pytest.mark.one_emulator
def test_a_script_that_cannot_be_read_is_named(
    launch_error: LaunchError, shim: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.py").mkdir()
    error = launch_error(script=tmp_path / "folder.py", shim=shim)
    assert f"the script {tmp_path / 'folder.py'} cannot be read: Is a directory" in error
    assert "Traceback" not in error


@pytest.mark.one_emulator
def test_a_python_without_cffi_is_told_how_to_install_it(
    launch_error: LaunchError, shim: str, tmp_path: Path
) -> None:
    (tmp_path / "_cffi_backend.py").write_text(
        "raise ModuleNotFoundError(\"No module named '_cffi_backend'\", name='_cffi_backend')\n"
    )
    variables = {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    error = launch_error(script=FRAGILE, shim=shim, env=variables)
    assert f"`{sys.executable} -m pip install cffi`" in error
    assert "Traceback" not in error


ROOT = root()


def root_with(folder: Path, *patterns: str) -> dict[str, str]:
    """Make a root of native parts with those files of ours, and return its variable."""
    folder.mkdir()
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            (folder / path.name).symlink_to(path)
    return {"QEMU_VMSTATE_NATIVE": str(folder), "XDG_DATA_HOME": str(folder)}


def test_a_qemu_without_native_parts_is_refused_with_those_that_are_there(
    emulator: Emulator,
    launch_error: LaunchError,
    shim: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [other for other in emulators() if other["version"] != emulator["version"]]
    if not others:
        pytest.skip("only one version was set up: run scripts/setup without QEMU_BUILD")
    for other in others:
        if other["version"].split(".")[:2] == emulator["version"].split(".")[:2]:
            continue
        marker = tmp_path / f"registered-{other['name']}"
        text = f"open({str(marker)!r}, 'w')\n"
        folder = tmp_path / f"only-{other['name']}"
        variables = root_with(folder, "_state*", SHIM_NAME, f"*-{other['native']}.*")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        error = launch_error(script=script(tmp_path, text), shim=shim)
        assert (
            f"qemu_vmstate has no native parts for QEMU {emulator['version']}, only for "
            f"{other['native']}: add them by `qemu-vmstate build /path/to/qemu/build`"
        ) in error
        assert "Traceback" not in error
        assert not marker.exists(), "the script ran all the same"


def test_a_qemu_without_the_compiled_modules_is_refused_with_the_remedy(
    launch_error: LaunchError, shim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in root_with(tmp_path / "native", SHIM_NAME).items():
        monkeypatch.setenv(name, value)
    text = "print('the script', 'runs')\n"
    error = launch_error(script=script(tmp_path, text), shim=shim)
    assert f"qemu_vmstate: qemu_vmstate has no native parts in {tmp_path / 'native'}: " in error
    assert "run scripts/setup" in error
    assert "Traceback" not in error
    assert "the script runs" not in error


ALL_IMPORTED = """
import sys
def ours():
    return {name for name in sys.modules if name.startswith("qemu_vmstate")}
at_start = ours()
from qemu_vmstate import *
class Regs(VMStruct):
    n: u64 = 0
class Dev(Device, name="pydev"):
    regs: Migratable[Mutex[Regs]]
    def pre_save(self):
        global in_hook
        in_hook = ours()
dev = Dev()
register(dev)
"""


@pytest.mark.one_emulator
def test_a_hook_imports_nothing_for_all_is_there_before_the_script(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, ALL_IMPORTED), shim=shim)
    vm.migrate_to_file(tmp_path / "file")
    at_start, in_hook = vm.python.eval("at_start"), vm.python.eval("in_hook")
    assert {"qemu_vmstate.staging", "qemu_vmstate.vmsd.predicates", "qemu_vmstate.wire"} <= at_start
    assert in_hook == at_start


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon-threads", "plain-threads"])
def test_qemu_that_quits_while_python_threads_run_ends_cleanly(
    start: StartVM, shim: str, tmp_path: Path, daemon: bool
) -> None:
    log = tmp_path / "log"
    for number in range(3):
        vm = start(f"vm{number}", script=busy(tmp_path, daemon), shim=shim)
        assert vm.python.eval("dev.regs.lock().value.n") >= 0
        assert vm.quit() == 0
        assert log.read_text() == "written, not flushed; atexit ran"


def test_sigterm_ends_qemu_as_ever(start: StartVM, shim: str, tmp_path: Path) -> None:
    vm = start(script=busy(tmp_path), shim=shim)
    os.kill(vm.pid, signal.SIGTERM)
    assert vm.wait() == 0
    assert (tmp_path / "log").read_text().endswith("atexit ran")


def test_sigint_is_qemus_also_after_asyncio(start: StartVM, shim: str, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, "import asyncio, signal"), shim=shim)
    os.kill(vm.pid, signal.SIGINT)
    assert vm.wait() == 0
    assert "terminating on signal 2" in vm.log


def test_daemonize_keeps_pythons_threads(start: StartVM, shim: str) -> None:
    there = start("there", script=DEMO, shim=shim, incoming=True, daemonize=True)
    here = start("here", script=DEMO, shim=shim, daemonize=True)
    here.python.exec("dev.start()")
    first = here.python.eval("dev.steps()[0]")
    here.wait_until(lambda: here.python.eval("dev.steps()[0]") > first + 100 or None, "steps")
    here.migrate_to(there)
    assert there.python.eval("fault(save(dev), dev.steps())") is None
    assert there.python.eval("dev.steps()[0]") > first


def test_a_preloaded_shim_does_nothing_in_other_programs(emulator: Emulator) -> None:
    library = shim_path()
    settings = {"LD_PRELOAD": str(library), "QEMU_VMSTATE_SCRIPT": "/nonexistent.py"}
    for command in (["/bin/sh", "-c", "echo fine"], ["qemu-img", "--version"]):
        ended = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, timeout=30
        )
        assert ended.returncode == 0
        assert ended.stderr == ""
        assert ended.stdout


def test_a_qemu_that_shows_no_functions_is_refused(
    emulator: Emulator, launch_error: LaunchError, shim: str, tmp_path: Path
) -> None:
    """A QEMU built without modules exports only the plugin API; stripped, it has no .symtab."""
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", emulator["path"]], capture_output=True, text=True, check=True
    ).stdout
    if "vmstate_register_with_alias_id" in shown:
        # A distribution's QEMU is stripped, and the tests above use it.
        sections = subprocess.run(
            ["readelf", "-SW", emulator["path"]], capture_output=True, text=True, check=True
        ).stdout
        assert ".symtab" not in sections
        return
    stripped = tmp_path / "qemu-system-stripped"
    subprocess.run(["strip", "-o", stripped, emulator["path"]], check=True)
    error = launch_error(script=FRAGILE, shim=shim, qemu=str(stripped))
    assert "relink it with -Wl,--export-dynamic" in error
    assert "Traceback" not in error


def test_two_scripts_in_one_qemu_are_refused(emulator: Emulator, launch_error: LaunchError) -> None:
    library = shim_path()
    python = sys.executable.replace(",", ",,")
    twice = ["-plugin", f"{library},script={FRAGILE},python={python}"]
    error = launch_error(script=FRAGILE, extra=[*emulator["args"], *twice])
    assert "script= is given twice" in error
