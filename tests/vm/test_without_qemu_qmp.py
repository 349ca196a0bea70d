# SPDX-License-Identifier: GPL-2.0-or-later
"""Without the package qemu.qmp everything works but running a VM, which names the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..stream.streams import GOOD

ROOT = Path(__file__).absolute().parents[2]
ERROR = "running a VM needs the package qemu.qmp: pip install 'qemu-vmstate[vm]'"

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "qemu":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that has no package qemu."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``qemu-vmstate`` there."""
    return run("from qemu_vmstate.cli import main; sys.exit(main())", *arguments)


def test_a_vm_that_starts_names_the_package_to_install() -> None:
    program = """
from qemu_vmstate import NativeError
from qemu_vmstate.vm import VM
vm = VM(qemu="/no/such/emulator")
try:
    vm.__enter__()
except NativeError as error:
    print(error)
print(vm.folder.exists())
"""
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ERROR, "False"]


def test_without_site_packages_the_error_is_the_same() -> None:
    program = "from qemu_vmstate.vm import VM; VM(qemu='/no/such/emulator').__enter__()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"qemu_vmstate.errors.NativeError: {ERROR}"


STARTS = """
import sys
import qemu_vmstate.vm.vm
from qemu_vmstate import NativeError
try:
    qemu_vmstate.vm.VM(qemu="/no/such/emulator").__enter__()
except ImportError as error:
    assert type(error) is NativeError
    print(error)
"""


@pytest.mark.parametrize("arguments", [[], ["-S"]], ids=["installed", "not-installed"])
def test_a_foreign_package_that_hides_it_is_named(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, *arguments, "-c", STARTS],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(
        f"running a VM needs the package qemu.qmp, and the package qemu in {tmp_path}/qemu hides it"
    ), done.stderr


def test_one_that_cannot_be_imported_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "qemu" / "qmp").mkdir(parents=True)
    (tmp_path / "qemu" / "qmp" / "__init__.py").write_text("import no_such_module")
    done = subprocess.run(
        [sys.executable, "-c", STARTS],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == (
        f"running a VM needs the package qemu.qmp, and the one in {tmp_path}/qemu/qmp cannot be "
        "imported: No module named 'no_such_module'; install another: "
        "pip install 'qemu-vmstate[vm]'\n"
    ), done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["describe", "--help"], ["inspect", "--help"]]
)
def test_the_commands_help_needs_none(arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: qemu-vmstate" in done.stdout


def test_inspect_needs_none(tmp_path: Path) -> None:
    (tmp_path / "good.mig").write_bytes(GOOD)
    done = command("inspect", str(tmp_path / "good.mig"))
    assert (done.returncode, done.stderr) == (0, "")
    assert " dev " in done.stdout


def test_run_starts_its_program_without_it(tmp_path: Path) -> None:
    (tmp_path / "qemu-vmstate-shim.so").touch()
    program = """
import os
os.environ["QEMU_VMSTATE_NATIVE"] = sys.argv.pop(1)
from qemu_vmstate.cli import main
sys.exit(main())
"""
    done = run(program, str(tmp_path), "run", "dev.py", "--", "echo", "QEMU")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"QEMU -plugin file={tmp_path}/qemu-vmstate-shim.so,script=")


def test_describe_names_the_package_to_install(tmp_path: Path) -> None:
    (tmp_path / "qemu-vmstate-shim.so").touch()
    program = """
import os
os.environ["QEMU_VMSTATE_NATIVE"] = sys.argv.pop(1)
from qemu_vmstate.cli import main
sys.exit(main())
"""
    done = run(program, str(tmp_path), "describe", "dev.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"qemu-vmstate: {ERROR}\n"


def test_the_pytest_plugin_needs_none() -> None:
    done = run("import qemu_vmstate.pytest_plugin; print('qemu' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")
