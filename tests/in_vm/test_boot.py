# SPDX-License-Identifier: GPL-2.0-or-later
"""How Python gets into QEMU, and how it ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qemu_vmstate.vm.launch import SHIM_NAME, without_door
from qemu_vmstate.vm.vm import VM, VMError, VMLaunchError

from .conftest import CHECKOUT, SCRIPTS, Emulator, StartVM, defaults, emulators

FRAGILE = SCRIPTS / "fragile.py"


def script(folder: Path, text: str) -> Path:
    path = folder / "a script, with spaces.py"
    path.write_text(text)
    return path


def test_the_script_runs_as_main_with_its_arguments_in_the_virtual_environment(
    start: StartVM, door: str, tmp_path: Path
) -> None:
    text = "import sys, rich\nimport threading\nseen = sys.argv, sys.prefix, __name__"
    vm = start(script=script(tmp_path, text), args=["one two", "a,b=c", "on", ""], door=door)
    argv, prefix, name = vm.python.eval("seen")
    assert argv[1:] == ["one two", "a,b=c", "on", ""]
    assert argv[0].endswith("a script, with spaces.py")
    assert prefix == sys.prefix
    assert name == "__main__"


def test_the_boot_takes_its_settings_out_of_the_environment(
    start: StartVM, door: str, tmp_path: Path
) -> None:
    text = "import os, subprocess\nchild = subprocess.run(['env'], capture_output=True, text=True)"
    vm = start(script=script(tmp_path, text), door=door)
    child: str = vm.python.eval("child.stdout")
    assert "PATH=" in child
    assert "LD_PRELOAD" not in child
    assert "QEMU_VMSTATE_SCRIPT" not in child


def test_a_script_that_raises_ends_qemu_with_its_traceback(
    emulator: Emulator, door: str, tmp_path: Path
) -> None:
    text = "def broken():\n    raise RuntimeError('no such board')\nbroken()\n"
    options = defaults(emulator, tmp_path, {"script": script(tmp_path, text), "door": door})
    with pytest.raises(VMLaunchError) as caught, VM(**options):
        pytest.fail("QEMU went on without its script")
    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert "RuntimeError: no such board" in told
    assert "in broken" in told
    assert "status 1" in told


def test_a_script_that_exits_with_a_status_ends_qemu_and_with_0_does_not(
    emulator: Emulator, start: StartVM, door: str, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, "import sys\nkept = 5\nsys.exit(0)"), door=door)
    assert vm.python.eval("kept") == 5
    options = defaults(
        emulator, tmp_path, {"script": script(tmp_path, "import sys\nsys.exit(7)"), "door": door}
    )
    with pytest.raises(VMLaunchError, match="status 1"), VM(**options):
        pytest.fail("QEMU went on")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("x = = 1", "raised SyntaxError: invalid syntax"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)
def test_the_last_line_says_what_the_script_raised(
    emulator: Emulator, tmp_path: Path, source: str, said: str
) -> None:
    path = script(tmp_path, source)
    with (
        pytest.raises(VMLaunchError) as caught,
        VM(**defaults(emulator, tmp_path, {"script": path})),
    ):
        pytest.fail("QEMU went on")
    told = "\n".join(caught.value.__notes__)
    assert f"qemu_vmstate: the script {path} {said}" in told
    assert "boot.py" not in told


@pytest.mark.parametrize(
    ("options", "env", "said"),
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
    emulator: Emulator, tmp_path: Path, options: str, env: dict[str, str], said: str
) -> None:
    (tmp_path / "dev.py").write_text("print('ran')")
    shim = Path(emulator["native"]) / "qemu-vmstate-shim.so"
    named = f"file={shim},python={sys.executable}{options}"
    command = [emulator["path"], "-M", "none", "-display", "none", "-nodefaults", "-plugin", named]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=without_door(os.environ)
        | {"PYTHONPATH": str(CHECKOUT), "QEMU_VMSTATE_NATIVE": emulator["native"]}
        | emulator["env"]
        | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "ran" not in ended.stdout
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("qemu_vmstate: ")]
    assert said in line
    assert "Traceback" not in ended.stderr


def test_a_script_that_is_missing_is_named(emulator: Emulator, door: str, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.py"
    options = defaults(emulator, tmp_path, {"script": missing, "door": door})
    with pytest.raises((VMLaunchError, VMError, OSError)) as caught, VM(**options):
        pytest.fail("QEMU went on")
    assert "nowhere.py" in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_a_qemu_that_it_was_not_built_for_is_refused_with_both_versions(
    emulator: Emulator, door: str, tmp_path: Path
) -> None:
    others = [other for other in emulators() if other["version"] != emulator["version"]]
    if not others:
        pytest.skip("only one version was set up: run scripts/setup without QEMU_BUILD")
    for other in others:
        if other["version"].split(".")[:2] == emulator["version"].split(".")[:2]:
            continue
        marker = tmp_path / f"registered-{other['name']}"
        text = f"open({str(marker)!r}, 'w')\n"
        options = defaults(emulator, tmp_path, {"script": script(tmp_path, text), "door": door})
        options["native"] = other["native"]
        with pytest.raises(VMLaunchError) as caught, VM(**options):
            pytest.fail("a QEMU of another version went on")
        told = "\n".join([str(caught.value), *caught.value.__notes__])
        assert f"this QEMU is {emulator['version']}" in told
        major_minor = ".".join(other["version"].split(".")[:2])
        assert f"built for QEMU {major_minor}" in told
        assert "`QEMU_BUILD=/path/to/qemu/build pip install .`" in told
        assert "Traceback" not in told
        assert not marker.exists(), "the script ran all the same"


def test_a_qemu_without_the_compiled_modules_is_refused_in_a_sentence(
    emulator: Emulator, door: str, tmp_path: Path
) -> None:
    native = tmp_path / "native"
    native.mkdir()
    shutil.copy(Path(emulator["native"]) / SHIM_NAME, native)
    text = "print('the script', 'runs')\n"
    options = defaults(emulator, tmp_path, {"script": script(tmp_path, text), "door": door})
    options["native"] = native
    with pytest.raises(VMLaunchError) as caught, VM(**options):
        pytest.fail("a QEMU without its bridge went on")
    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert f"qemu_vmstate: qemu_vmstate's native parts are not in {native} (" in told
    assert "`QEMU_BUILD=/path/to/qemu/build pip install .`" in told
    assert "Traceback" not in told
    assert "the script runs" not in told


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
    start: StartVM, door: str, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, ALL_IMPORTED), door=door)
    vm.migrate_to_file(tmp_path / "file")
    at_start, in_hook = vm.python.eval("at_start"), vm.python.eval("in_hook")
    assert {"qemu_vmstate.staging", "qemu_vmstate.vmsd.predicates", "qemu_vmstate.wire"} <= at_start
    assert in_hook == at_start


BUSY = """
import threading
import atexit
from qemu_vmstate import *
class Regs(VMStruct):
    n: u64 = 0
class Busy(Device, name="pybusy"):
    regs: Migratable[Mutex[Regs]]
dev = Busy()
register(dev)
log = open(LOG, "w")
log.write("written, not flushed; ")
atexit.register(lambda: log.write("atexit ran"))
def work():
    while True:
        with dev.regs.lock() as regs:
            regs.n = (regs.n + 1) % 2**64
        with bql_lock_guard():
            [0] * 1000
for _ in range(4):
    threading.Thread(target=work, daemon=DAEMON).start()
"""


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon-threads", "plain-threads"])
def test_qemu_that_quits_while_python_threads_run_ends_cleanly(
    start: StartVM, door: str, tmp_path: Path, daemon: bool
) -> None:
    log = tmp_path / "log"
    text = BUSY.replace("LOG", repr(str(log))).replace("DAEMON", str(daemon))
    for number in range(3):
        vm = start(f"vm{number}", script=script(tmp_path, text), door=door)
        assert vm.python.eval("dev.regs.lock().value.n") >= 0
        assert vm.quit() == 0
        assert log.read_text() == "written, not flushed; atexit ran"


def test_sigterm_ends_qemu_as_ever(start: StartVM, door: str, tmp_path: Path) -> None:
    text = BUSY.replace("LOG", repr(str(tmp_path / "log"))).replace("DAEMON", "True")
    vm = start(script=script(tmp_path, text), door=door)
    os.kill(vm.pid, signal.SIGTERM)
    assert vm.wait() == 0
    assert (tmp_path / "log").read_text().endswith("atexit ran")


def test_sigint_stays_qemus_also_after_asyncio(start: StartVM, door: str, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, "import asyncio, signal"), door=door)
    os.kill(vm.pid, signal.SIGINT)
    assert vm.wait() == 0
    assert "terminating on signal 2" in vm.log


def test_daemonize_keeps_pythons_threads(start: StartVM, door: str) -> None:
    demo = CHECKOUT / "examples" / "demo_device.py"
    there = start("there", script=demo, door=door, incoming=True, daemonize=True)
    here = start("here", script=demo, door=door, daemonize=True)
    here.python.exec("dev.start()")
    first = here.python.eval("dev.steps()[0]")
    here.wait_until(lambda: here.python.eval("dev.steps()[0]") > first + 100 or None, "steps")
    here.migrate_to(there)
    assert there.python.eval("fault(save(dev), dev.steps())") is None
    assert there.python.eval("dev.steps()[0]") > first


def test_a_preloaded_shim_does_nothing_in_other_programs(emulator: Emulator) -> None:
    shim = Path(emulator["native"]) / "qemu-vmstate-shim.so"
    settings = {"LD_PRELOAD": str(shim), "QEMU_VMSTATE_SCRIPT": "/nonexistent.py"}
    for command in (["/bin/sh", "-c", "echo fine"], ["qemu-img", "--version"]):
        ended = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, timeout=30
        )
        assert ended.returncode == 0
        assert ended.stderr == ""
        assert ended.stdout


def test_a_qemu_that_shows_no_functions_is_refused(
    emulator: Emulator, door: str, tmp_path: Path
) -> None:
    """One built without modules exports the plugin API only; stripped, it has no .symtab."""
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", emulator["path"]], capture_output=True, text=True, check=True
    ).stdout
    if "vmstate_register_with_alias_id" in shown:
        # A distribution's: stripped already, and the tests above run in it.
        sections = subprocess.run(
            ["readelf", "-SW", emulator["path"]], capture_output=True, text=True, check=True
        ).stdout
        assert ".symtab" not in sections
        return
    stripped = tmp_path / "qemu-system-stripped"
    subprocess.run(["strip", "-o", stripped, emulator["path"]], check=True)
    options = defaults(emulator, tmp_path, {"script": FRAGILE, "door": door, "qemu": str(stripped)})
    with pytest.raises(VMLaunchError) as caught, VM(**options):
        pytest.fail("QEMU went on without its script")
    told = "\n".join(caught.value.__notes__)
    assert "relink it with -Wl,--export-dynamic" in told
    assert "Traceback" not in told


def test_two_scripts_in_one_qemu_are_refused(emulator: Emulator, tmp_path: Path) -> None:
    shim = Path(emulator["native"]) / "qemu-vmstate-shim.so"
    python = sys.executable.replace(",", ",,")
    twice = ["-plugin", f"{shim},script={FRAGILE},python={python}"]
    options = defaults(emulator, tmp_path, {"script": FRAGILE})
    options["extra"] = [*options["extra"], *twice]
    with pytest.raises(VMLaunchError) as caught, VM(**options):
        pytest.fail("two scripts went on")
    told = "\n".join(caught.value.__notes__)
    assert "script= is given twice" in told
