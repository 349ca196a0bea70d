# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor with real emulators: those that work, and those that lack something."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from qemu_vmstate.vm.launch import SHIM_NAME

from ..conftest import PATIENCE
from ..doctor.test_doctor import checks_of, doctor, program
from .conftest import Emulator, emulators
from .test_boot import root_with

LONG = ("--timeout", str(PATIENCE))


def test_an_emulator_is_reported_as_working_with_both_shims(emulator: Emulator) -> None:
    done = doctor("--json", *LONG, emulator["path"], **emulator["env"])
    checks = checks_of(done)
    assert done.returncode == 0
    assert emulator["version"] in checks["version"]["detail"]
    assert "tcg" in checks["accelerators"]["detail"]
    for name in ("functions", "plugin shim", "preload shim"):
        assert checks[name]["status"] == "ok", checks[name]
        assert checks[name]["emulator"] == emulator["path"]


def test_a_name_in_path_is_found_and_printed_as_a_path(emulator: Emulator) -> None:
    folder, name = os.path.split(emulator["path"])
    path = os.pathsep.join([folder, os.environ["PATH"]])
    done = doctor(*LONG, name, PATH=path, **emulator["env"])
    assert done.returncode == 0
    assert emulator["path"] in done.stdout.splitlines()
    assert done.stdout.endswith(": devices migrate here\n")


def test_without_its_native_parts_nothing_is_started(emulator: Emulator, tmp_path: Path) -> None:
    release = emulator["version"].rpartition(".")[0]
    others = [one["native"] for one in emulators() if not one["version"].startswith(f"{release}.")]
    if not others:
        pytest.skip("only one version was set up: run scripts/setup without QEMU_BUILD")
    only = root_with(tmp_path / "only", "_state*", SHIM_NAME, f"*-{others[0]}.*")
    done = doctor("--json", *LONG, emulator["path"], **emulator["env"], **only)
    checks = checks_of(done)
    assert done.returncode == 1
    assert "plugin shim" not in checks
    # The one for the machine has the same name, and comes before.
    check = checks["native parts"]
    assert check["emulator"] == emulator["path"]
    assert check["detail"] == (
        f"qemu_vmstate has no native parts for QEMU {emulator['version']}, only for {others[0]}"
    )
    assert check["remedy"].startswith("add them by `qemu-vmstate build ")


def test_one_that_shows_no_functions_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    """No distribution's emulator is like that; one is made by renaming the function."""
    path = tmp_path / "qemu-system-stripped"
    name = b"\0vmstate_register_with_alias_id\0"
    data = Path(emulator["path"]).read_bytes()
    assert name in data
    path.write_bytes(data.replace(name, name.replace(b"vmstate_r", b"hidden__r")))
    path.chmod(0o755)
    done = doctor("--json", *LONG, str(path), **emulator["env"])
    check = checks_of(done)["functions"]
    assert done.returncode == 1
    assert check["detail"] == "neither exported nor named in .symtab"
    assert "-Wl,--export-dynamic" in check["remedy"]


@pytest.mark.one_emulator
def test_one_that_answers_and_then_hangs_is_reported(emulator: Emulator, tmp_path: Path) -> None:
    real = shlex.quote(emulator["path"])
    text = f'#!/bin/sh\n[ $# -lt 3 ] && exec {real} "$@"\nexec sleep 1000\n'
    done = doctor(
        "--json", "--timeout", "5", program(tmp_path, text, "qemu-system-hangs"), **emulator["env"]
    )
    checks = checks_of(done)
    assert done.returncode == 1
    for shim in ("plugin", "preload"):
        check = checks[f"{shim} shim"]
        assert "its monitor did not answer within 5 s" in check["detail"]
        assert f"qemu-vmstate run --shim {shim} SCRIPT -- {tmp_path}" in check["remedy"]


@pytest.mark.one_emulator
def test_one_that_crashes_is_reported(emulator: Emulator, tmp_path: Path) -> None:
    real = shlex.quote(emulator["path"])
    text = f'#!/bin/sh\n[ $# -lt 3 ] && exec {real} "$@"\necho going >&2\nkill -SEGV $$\n'
    done = doctor("--json", *LONG, program(tmp_path, text), **emulator["env"])
    check = checks_of(done)["plugin shim"]
    assert done.returncode == 1
    assert "ended with status -11 (SIGSEGV)" in check["detail"]
    assert "going" in check["detail"]


@pytest.mark.one_emulator
def test_one_without_plugins_is_told_the_other_shim(emulator: Emulator, tmp_path: Path) -> None:
    """No emulator here is like that; one is made by renaming the function, which breaks it."""
    path = tmp_path / "qemu-system-plain"
    name = b"\0qemu_plugin_register_vcpu_init_cb\0"
    data = Path(emulator["path"]).read_bytes()
    assert name in data
    path.write_bytes(data.replace(name, name.replace(b"qemu_p", b"hidden")))
    path.chmod(0o755)
    check = checks_of(doctor("--json", *LONG, str(path), **emulator["env"]))["plugin shim"]
    assert check["status"] == "warning"
    assert check["detail"] == "this QEMU was built without TCG plugins"
    assert "`qemu-vmstate run --shim preload`" in check["remedy"]


@pytest.mark.one_emulator
def test_nothing_is_left_behind(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    done = doctor(*LONG, emulator["path"], TMPDIR=str(tmp_path / "temporary"), **emulator["env"])
    assert done.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []
    assert (
        shutil.which("ps") is None
        or str(tmp_path)
        not in subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, timeout=60
        ).stdout
    )
