# SPDX-License-Identifier: GPL-2.0-or-later
"""What a newcomer meets first when something is missing: one sentence with the remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qemu_vmstate.natives import chosen
from qemu_vmstate.natives.folders import packaged_natives, root

from .missing import hide
from .stream.streams import GOOD
from .vm.pytest_runs import run_pytest

ROOT = Path(__file__).absolute().parents[1]
QEMU = ("qemu-system-x86_64", "-M", "none")


def run(
    *words: str, folder: Path | None = None, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (variables or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def without(
    modules: tuple[str, ...], program: str, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that has not got these modules."""
    return run("-c", hide(*modules) + program, *words)


def command_without(modules: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    return without(modules, "from qemu_vmstate.cli import main; sys.exit(main())", *words)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a command that must end with one line and the status 1."""
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error of a program that must end with one traceback."""
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1, done.stderr
    return done.stderr.splitlines()[-1]


# ------------------------------------------------------------------ extras


def test_bench_without_its_extra_names_it_at_once() -> None:
    assert sentence(command_without(("rich",), "bench", "--tiny")) == (
        "qemu-vmstate: the tables of a benchmark need rich (No module named 'rich'): "
        "pip install 'qemu-vmstate[bench]'; without it, --json prints the figures"
    )
    assert sentence(command_without(("matplotlib",), "bench", "--tiny", "--picture", "a.svg")) == (
        "qemu-vmstate: the picture of a benchmark needs matplotlib (No module named 'matplotlib'): "
        "pip install 'qemu-vmstate[bench]'"
    )


def test_bench_without_msgspec_leaves_its_rows_out_and_says_so() -> None:
    words = ("bench", "--tiny", "--json", "--qemu", "no-such-qemu")
    done = command_without(("msgspec",), *words)
    assert done.stderr.splitlines()[0] == (
        "qemu-vmstate bench: msgspec is not installed, its rows are left out: "
        "pip install 'qemu-vmstate[bench]'"
    )
    program = (
        "import json\nfrom qemu_vmstate.bench.process import in_process\n"
        "print(json.dumps(list(in_process(3, 0.1, ['4 u32']))))"
    )
    rows = json.loads(without(("msgspec",), program).stdout)
    assert [row["path"] for row in rows if row["op"] == "load"] == [
        *("reference", "native", "fast path", "derived", "pickle")
    ]
    assert not [key for row in rows for key in row if "msgspec" in key]


def test_bench_without_qemu_qmp_names_the_extra_before_it_measures() -> None:
    done = command_without(("qemu", "matplotlib", "rich"), "bench", "--tiny", "--json")
    assert sentence(done) == (
        "qemu-vmstate: running a VM needs the package qemu.qmp: pip install 'qemu-vmstate[vm]'"
    )


@pytest.mark.parametrize(
    ("module", "missing", "what"),
    [
        ("report", "rich", "the tables of a benchmark need rich"),
        ("picture", "matplotlib", "the picture of a benchmark needs matplotlib"),
    ],
)
def test_the_report_as_a_module_names_the_extra(module: str, missing: str, what: str) -> None:
    done = without((missing,), f"import qemu_vmstate.bench.{module}")
    assert f"NativeError: {what} (No module named '{missing}')" in last_line(done)


def test_build_without_meson_names_the_extra(tmp_path: Path) -> None:
    program = "from qemu_vmstate.natives.build import require_tools; require_tools()"
    done = without(("mesonbuild",), program)
    assert last_line(done) == (
        "qemu_vmstate.errors.NativeError: qemu-vmstate build needs meson and ninja, which are not "
        f"installed in {sys.prefix}: run `{sys.executable} -m pip install 'qemu-vmstate[build]'`"
    )


def test_a_vm_without_qemu_qmp_has_one_traceback() -> None:
    done = without(("qemu",), "from qemu_vmstate.vm import VM; VM().__enter__()")
    assert last_line(done).endswith("pip install 'qemu-vmstate[vm]'")


def test_zstd_without_a_library_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "file.zst").write_bytes(b"\x28\xb5\x2f\xfd" + GOOD)
    done = command_without(("zstandard", "compression"), "inspect", str(tmp_path / "file.zst"))
    assert "`pip install 'qemu-vmstate[zstd]'` for the package zstandard" in sentence(done)


def test_the_native_parts_without_cffi_name_it(tmp_path: Path) -> None:
    done = without(("_cffi_backend",), "from qemu_vmstate import Device")
    assert last_line(done).endswith(
        "needs the package cffi, which is not installed for "
        f"{sys.executable}: `{sys.executable} -m pip install cffi`"
    )


def test_a_fixture_without_qemu_qmp_names_the_extra(tmp_path: Path) -> None:
    files = {
        "conftest.py": hide("qemu"),
        "test_it.py": "def test_it(qemu_vmstate_vm):\n    qemu_vmstate_vm()\n",
    }
    status, printed = run_pytest(tmp_path, files, *plugin())
    assert status == 1
    assert printed.count("NativeError: running a VM needs the package qemu.qmp: pip install") >= 1
    assert "ModuleNotFoundError" not in printed


def plugin() -> list[str]:
    """Return options that load the plugin where the package is not installed."""
    from importlib.metadata import entry_points

    names = [entry.name for entry in entry_points(group="pytest11")]
    return [] if "qemu_vmstate" in names else ["-p", "qemu_vmstate.pytest_plugin"]


# ------------------------------------------------------------ native parts

DEVICE = "from qemu_vmstate import Device\n"


def nothing_built(folder: Path) -> dict[str, str]:
    return {"QEMU_VMSTATE_NATIVE": str(folder), "XDG_DATA_HOME": str(folder)}


def test_no_native_parts_are_one_sentence_in_a_test(tmp_path: Path) -> None:
    files = {"test_it.py": f"{DEVICE}def test_it():\n    pass\n"}
    environment = nothing_built(tmp_path)
    status, printed = run_pytest(tmp_path, files, *plugin(), environment=environment)
    assert status == 2
    assert f"NativeError: qemu_vmstate has no native parts in {tmp_path}: install" in printed
    assert "During handling" not in printed
    assert "direct cause" not in printed


def test_no_native_parts_are_one_sentence_in_the_benchmark(tmp_path: Path) -> None:
    program = "from qemu_vmstate.bench.command import run"
    done = run("-c", program, variables=nothing_built(tmp_path))
    assert f"has no native parts in {tmp_path}: install a wheel" in last_line(done)


def test_no_native_parts_are_one_sentence_for_a_vm_and_for_run(tmp_path: Path) -> None:
    (tmp_path / "dev.py").write_text(DEVICE)
    missing = f"there is no qemu-vmstate-shim.so in {tmp_path}: install a wheel of qemu_vmstate"
    program = "from qemu_vmstate.vm import VM; VM(script='dev.py').__enter__()"
    done = run("-c", program, folder=tmp_path, variables=nothing_built(tmp_path))
    assert missing in done.stderr.splitlines()[-1]
    words = ("-m", "qemu_vmstate", "run", "dev.py", "--", *QEMU)
    assert missing in sentence(run(*words, folder=tmp_path, variables=nothing_built(tmp_path)))


def test_those_of_another_qemu_are_one_sentence(tmp_path: Path) -> None:
    done = run("-c", DEVICE, variables={"QEMU_VMSTATE_QEMU": "6.1", "XDG_DATA_HOME": str(tmp_path)})
    there = ", ".join(native.qemu for native in packaged_natives())
    assert last_line(done) == (
        f"qemu_vmstate.errors.NativeError: qemu_vmstate has no native parts for QEMU 6.1, only for "
        f"{there}: add them by `qemu-vmstate build /path/to/qemu/build` with a build directory of "
        "that QEMU"
    )


@pytest.mark.parametrize("broken", ["_state.abi3.so", f"_native-{chosen().qemu}.abi3.so"])
def test_those_of_another_machine_name_the_file_and_the_remedy(tmp_path: Path, broken: str) -> None:
    for path in root().iterdir():
        if path.is_file() and path.name != broken:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / broken).write_text("for another machine")
    done = run("-c", DEVICE, variables=nothing_built(tmp_path))
    error = last_line(done)
    assert f"{tmp_path / broken} cannot be loaded by {sys.executable} (" in error
    assert error.endswith(
        "install a wheel of qemu_vmstate for this Python and machine, or, in a checkout, run "
        "scripts/setup"
    )


# --------------------------------------------------------- Python, files


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.version_info = (3, 10, 13)\n")
    old = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    message = (
        f"qemu_vmstate needs Python 3.11 or later, and {sys.executable} is 3.10: run it with a "
        "later one"
    )
    assert message in sentence(run("-m", "qemu_vmstate", "info", variables=old))
    assert last_line(run("-c", "import qemu_vmstate", variables=old)) == f"ImportError: {message}"


def test_a_file_named_qemu_is_named(tmp_path: Path) -> None:
    (tmp_path / "qemu.py").touch()
    done = run("-c", "from qemu_vmstate.vm import VM; VM().__enter__()", folder=tmp_path)
    assert last_line(done) == (
        "qemu_vmstate.errors.NativeError: running a VM needs the package qemu.qmp, and "
        f"{tmp_path}/qemu.py hides it: give that file another name; if qemu.qmp is not installed, "
        "pip install 'qemu-vmstate[vm]'"
    )


def test_a_file_named_as_the_package_is_named_by_python(tmp_path: Path) -> None:
    (tmp_path / "qemu_vmstate.py").touch()
    (tmp_path / "dev.py").write_text(DEVICE)
    done = run("dev.py", folder=tmp_path)
    assert last_line(done).endswith(f"({tmp_path}/qemu_vmstate.py)")


# ------------------------------------------------------------------- `run`


@pytest.mark.parametrize("rest", [(), QEMU, QEMU[:1], ("--",)])
def test_run_without_a_qemu_shows_how_it_is_named(rest: tuple[str, ...]) -> None:
    done = run("-m", "qemu_vmstate", "run", "dev.py", *rest)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "qemu-vmstate: error: `run` needs a QEMU's command line after --, as in "
        "`qemu-vmstate run dev.py -- qemu-system-x86_64 -M none`"
    )


def test_run_without_a_script_names_what_is_missing() -> None:
    done = run("-m", "qemu_vmstate", "run", "--", *QEMU)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("the following arguments are required: script")


def test_help_of_run_needs_no_qemu() -> None:
    done = run("-m", "qemu_vmstate", "run", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "SCRIPT [ARG ...] -- QEMU [QEMU-ARG ...]" in done.stdout


def test_another_verb_with_a_qemu_says_which_verbs_take_one() -> None:
    done = run("-m", "qemu_vmstate", "info", "--", *QEMU)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "take a QEMU's command line after --, and `info` does not"
    )


def test_a_qemu_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "dev.py").write_text(DEVICE)
    done = run("-m", "qemu_vmstate", "run", "dev.py", "--", "qemu-system-none", folder=tmp_path)
    assert sentence(done) == (
        "qemu-vmstate: qemu-system-none cannot be started: No such file or directory; after -- "
        "comes the name or the path of an emulator, which Debian has in the package qemu-system"
    )
    program = "from qemu_vmstate.vm import VM; VM(qemu='qemu-system-none').__enter__()"
    assert "name a qemu-system program with qemu=" in run("-c", program).stderr
