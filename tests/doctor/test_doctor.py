# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor on machines that lack something: a sentence with a remedy, and no traceback.

Here no emulator works; tests/in_vm/test_doctor_vm.py has those that do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.natives.folders import packaged_natives

from ..missing import hide

ROOT = Path(__file__).absolute().parents[2]

MAIN = "from qemu_vmstate.cli import main; sys.exit(main())"


def doctor(
    *words: str, begin: str = "import sys\n", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the doctor in a Python that has run *begin* before."""
    return subprocess.run(
        [sys.executable, "-c", begin + MAIN, "doctor", "--timeout", "60", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )


def checks_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the checks of ``--json`` by name, after a look at their form."""
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert set(report) == {"works", "checks"}
    assert done.returncode == (0 if report["works"] else 1)
    for check in report["checks"]:
        assert list(check) == ["name", "status", "detail", "remedy", "emulator"]
        assert check["status"] in ("ok", "warning", "failed")
        assert check["name"]
        assert check["detail"]
        assert bool(check["remedy"]) == (check["status"] != "ok"), check
        assert check["emulator"] is None or os.path.isabs(check["emulator"])
    return {check["name"]: check for check in report["checks"]}


def program(folder: Path, text: str, name: str = "qemu-system-x86_64") -> str:
    """Write a program that is taken for an emulator, and return its path."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_a_whole_machine_without_an_emulator(tmp_path: Path) -> None:
    checks = checks_of(doctor("--json", PATH=str(tmp_path)))
    natives = [f"in process {native.qemu}" for native in packaged_natives()]
    assert [*checks] == [
        *("Python", "libpython", "platform", "native parts", *natives),
        *("extra vm", "extra packed", "extra zstd", "extra build", "extra bench"),
        *("/dev/kvm", "sockets", "emulators"),
    ]
    for name in ("Python", "libpython", "platform", "native parts", *natives, "sockets"):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["emulators"] == {
        "name": "emulators",
        "status": "failed",
        "detail": "no qemu-system-* is in PATH",
        "remedy": "install one, on Debian by `apt-get install qemu-system`, or name its path",
        "emulator": None,
    }


def test_the_text_has_the_same_in_columns(tmp_path: Path) -> None:
    done = doctor(str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"ok        Python              {sys.version.split()[0]} (")
    place = lines.index(str(tmp_path / "none"))
    assert lines[place - 1 : place + 3] == [
        "",
        str(tmp_path / "none"),
        "failed    program             there is no such file",
        f"{'':30}-> install one, on Debian by `apt-get install qemu-system`, or name its path",
    ]
    assert lines[-1].endswith(" failed: no device could be migrated")


def test_without_qemu_qmp_no_vm_is_tried(tmp_path: Path) -> None:
    # It would print a version, and would hang if it were started.
    text = "#!/bin/sh\n[ $# = 1 ] && echo QEMU emulator version 7.2.22 || exec sleep 1000\n"
    words = ("--json", "--timeout", "5", program(tmp_path, text))
    checks = checks_of(doctor(*words, begin=hide("qemu")))
    assert checks["extra vm"]["detail"] == "running a VM needs the package qemu.qmp"
    assert checks["extra vm"]["remedy"] == "pip install 'qemu-vmstate[vm]'"
    assert checks["extra vm"]["status"] == "failed"


def test_extras_that_are_missing_are_warnings() -> None:
    begin = hide("zstandard", "compression", "mesonbuild", "matplotlib", "msgspec", "rich")
    checks = checks_of(doctor("--json", "/none", begin=begin))
    for name in ("packed", "zstd", "build", "bench"):
        check = checks[f"extra {name}"]
        assert check["status"] == "warning"
        assert f"-m pip install 'qemu-vmstate[{name}]'" in check["remedy"]
    needed = checks["extra bench"]["detail"]
    assert needed == "qemu-vmstate bench needs matplotlib, msgspec, rich"


def test_without_native_parts(tmp_path: Path) -> None:
    nothing = {"QEMU_VMSTATE_NATIVE": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    check = checks_of(doctor("--json", "/none", **nothing))["native parts"]
    assert check["detail"] == f"qemu_vmstate has no native parts in {tmp_path}"
    assert check["remedy"] == "install a wheel of it, or, in a checkout, run scripts/setup"


def test_native_parts_that_do_not_load(tmp_path: Path) -> None:
    for name in ("_state.abi3.so", "_native-10.0.13.abi3.so", "qemu-vmstate-shim.so"):
        (tmp_path / name).write_text("for another machine")
    broken = {"QEMU_VMSTATE_NATIVE": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    checks = checks_of(doctor("--json", "/none", **broken))
    assert checks["native parts"]["status"] == "ok"
    check = checks["in process 10.0.13"]
    assert check["status"] == "failed"
    assert f"{tmp_path}/_state.abi3.so cannot be loaded by {sys.executable} (" in check["detail"]
    assert "install a wheel" in check["remedy"]


def test_a_python_without_a_shared_libpython(tmp_path: Path) -> None:
    static = program(tmp_path, "#!/bin/sh\necho '[\"/none/libpython3.so\"]'\n", "python3")
    checks = checks_of(
        doctor("--json", "/none", begin=f"import sys\nsys.executable = {static!r}\n")
    )
    check = checks["libpython"]
    assert check["status"] == "failed"
    assert f"the Python {static} has no shared libpython" in check["detail"]
    assert "--enable-shared" in check["remedy"]


@pytest.mark.parametrize(
    ("begin", "name", "detail"),
    [
        ("import os; os.confstr = lambda name: None", "platform", "no glibc"),
        ("import platform; platform.machine = lambda: 'riscv64'", "platform", "Linux riscv64"),
        ("sys.maxsize = 2**31 - 1", "platform", "32 bits"),
        ("import sysconfig; sysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1", "Python", "GIL"),
    ],
)
def test_a_python_that_cannot_work(begin: str, name: str, detail: str) -> None:
    check = checks_of(doctor("--json", "/none", begin=f"import sys\n{begin}\n"))[name]
    assert check["status"] == "failed"
    assert detail in check["detail"]


def test_a_later_python_than_is_tested_is_a_warning() -> None:
    begin = "import sys\nsys.version_info = (3, 19, 0)\n"
    check = checks_of(doctor("--json", "/none", begin=begin))["Python"]
    assert check["status"] == "warning"


def test_no_folder_for_sockets() -> None:
    # Root may write anywhere, and so the folder must not exist.
    begin = "import sys, tempfile\ntempfile.tempdir = '/none'\n"
    check = checks_of(doctor("--json", "/none", begin=begin))["sockets"]
    assert check["status"] == "failed"
    assert "/none/" in check["detail"]
    assert "TMPDIR" in check["remedy"]


def test_a_long_path_of_the_folder_for_sockets_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ("x" * 120)).mkdir()
    checks = checks_of(doctor("--json", "/none", TMPDIR=str(tmp_path / ("x" * 120))))
    assert checks["sockets"]["status"] == "ok"


@pytest.mark.parametrize(
    ("text", "name", "detail"),
    [
        ("#!/bin/sh\nexec sleep 1000\n", "version", "--version prints nothing within 1 s"),
        ("#!/bin/sh\necho no; exit 3\n", "version", "--version ends with status 3: no"),
        ("#!/bin/sh\nkill -SEGV $$\n", "version", "ends with status -11"),
        ("#!/bin/sh\necho hello\n", "version", "--version prints 'hello'"),
        ("#!/none\n", "version", "it cannot be started: No such file or directory"),
        ("not a program", "version", "it cannot be started: Exec format error"),
    ],
)
def test_a_program_that_is_no_emulator(tmp_path: Path, text: str, name: str, detail: str) -> None:
    done = doctor("--json", "--timeout", "1", program(tmp_path, text))
    check = checks_of(done)[name]
    assert check["status"] == "failed"
    assert detail in check["detail"]
    assert check["emulator"] == str(tmp_path / "qemu-system-x86_64")


def test_an_emulator_that_may_not_be_run_or_is_of_another_machine(tmp_path: Path) -> None:
    path = Path(program(tmp_path, "text"))
    path.chmod(0o644)
    assert checks_of(doctor("--json", str(path)))["program"]["detail"] == "it is not executable"
    # The header of a program for ARM64, and of one with 32 bits.
    for begin in (b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf3\0", b"\x7fELF\x01\x01\x01"):
        path.write_bytes(begin.ljust(64, b"\0"))
        path.chmod(0o755)
        check = checks_of(doctor("--json", str(path)))["program"]
        assert check["detail"].startswith("it is for another machine, and this machine is ")


def test_emulators_in_path_are_found_once(tmp_path: Path) -> None:
    for name in ("qemu-system-none", "qemu-system-none-microvm", "qemu-img"):
        program(tmp_path, "#!/bin/sh\nexit 1\n", name)
    (tmp_path / "qemu-system-other").symlink_to("qemu-system-none")
    (tmp_path / "qemu-system-text").write_text("not executable")
    done = doctor("--json", PATH=str(tmp_path))
    named = [check["emulator"] for check in json.loads(done.stdout)["checks"] if check["emulator"]]
    assert named == [str(tmp_path / "qemu-system-none")]


def test_native_parts_without_cffi(tmp_path: Path) -> None:
    (tmp_path / "_cffi_backend.py").write_text(
        "raise ModuleNotFoundError(\"No module named '_cffi_backend'\", name='_cffi_backend')\n"
    )
    checks = checks_of(doctor("--json", "/none", PYTHONPATH=f"{tmp_path}:{ROOT}"))
    check = checks[f"in process {packaged_natives()[0].qemu}"]
    assert check["status"] == "failed"
    assert check["remedy"] == f"`{sys.executable} -m pip install cffi`"


@pytest.mark.parametrize(
    ("error", "detail"),
    [("PermissionError(13, 'Permission denied')", "may not use it"), ("OSError(2, 'No')", "No")],
)
def test_a_machine_without_kvm_is_a_warning(error: str, detail: str) -> None:
    # Root may use it always, and so the refusal is made here.
    begin = f"""
import os, sys
open_file = os.open
def refuse(path, *rest, **options):
    if path == "/dev/kvm":
        raise {error}
    return open_file(path, *rest, **options)
os.open = refuse
"""
    check = checks_of(doctor("--json", "/none", begin=begin))["/dev/kvm"]
    assert check["status"] == "warning"
    assert detail in check["detail"]
    assert "only -accel kvm needs it" in check["remedy"]
