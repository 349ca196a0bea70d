# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of a shim that cannot be loaded name the cause and the remedy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm.launch import libpython_of, shim_path
from qemu_vmstate.vm.vm import VMLaunchError

from .conftest import SCRIPTS, Emulator, LaunchError, StartVM

FRAGILE = SCRIPTS / "fragile.py"


@pytest.fixture
def refusal(launch_error: LaunchError) -> LaunchError:
    """Return the error of a VM that does not start, which has no traceback."""

    def begin(**options: Any) -> str:
        error = launch_error(**{"script": FRAGILE, **options})
        assert "Traceback" not in error
        return error

    return begin


# ------------------------------------------------------------- other QEMUs


@pytest.fixture
def without_plugins(emulator: Emulator) -> str:
    """Return an emulator built without TCG, plugins and modules: Debian's for microvm."""
    found = shutil.which("qemu-system-x86_64-microvm")
    if not found:
        pytest.skip("no QEMU without plugins is there: install Debian's qemu-system-x86")
    return found


@pytest.mark.one_emulator
def test_a_qemu_without_tcg_plugins_has_an_error_that_names_preload(
    refusal: LaunchError, without_plugins: str
) -> None:
    error = refusal(qemu=without_plugins)
    assert "plugin interface not enabled in this build" in error
    assert "built without TCG plugins: use shim='preload', or another QEMU" in error


@pytest.mark.one_emulator
def test_a_qemu_with_neither_functions_nor_plugins_has_an_error(
    refusal: LaunchError, without_plugins: str
) -> None:
    error = refusal(qemu=without_plugins, shim="preload")
    assert "this QEMU shows no vmstate functions: take one that is not stripped" in error


@pytest.mark.guest
def test_live_migration_of_a_guest_under_kvm_with_a_preloaded_shim(
    start: StartVM, emulator: Emulator, rom: Path
) -> None:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/kvm: run on one with hardware virtualisation")
    options = {"script": FRAGILE, "shim": "preload", "machine": "pc,accel=kvm"}
    options["extra"] = [*emulator["args"], "-bios", str(rom), "-m", "16"]
    here = start("here", **options)
    there = start("there", **options, incoming=True)
    assert here.qmp("query-kvm") == {"enabled": True, "present": True}
    here.python.exec("change(77, 3)")
    here.migrate_to(there)
    assert there.python.eval("as_seen()") == here.python.eval("as_seen()")


# ----------------------------------------------------------- other Pythons


def test_a_libpython_that_is_no_library_is_named(
    emulator: Emulator, refusal: LaunchError, shim: str, tmp_path: Path
) -> None:
    """This covers the archive of a static build, and another library than Python's."""
    archive = tmp_path / "libpython3.11.a"
    archive.write_bytes(b"!<arch>\n" + 100 * b" ")
    for library, message in ((archive, "invalid ELF header"), ("libc.so.6", "without ")):
        env = {**emulator["env"], "QEMU_VMSTATE_LIBPYTHON": str(library)}
        extra = [*emulator["args"]]
        if shim == "plugin":
            file = shim_path()
            extra += ["-plugin", f"{file},libpython={library},script={FRAGILE}"]
            error = refusal(script=None, extra=extra)
        else:
            error = refusal(env=env, shim=shim)
        assert str(library) in error
        assert message in error
        assert "libpython" in error


STATIC = """#!{python}
import sys, sysconfig
# As a Python that was configured without --enable-shared has them.
sysconfig.get_config_vars().update(LDLIBRARY="libpython3.99.a", INSTSONAME="libpython3.99.a",
                                   LIBDIR="{folder}", LIBPL="{folder}")
sys.base_prefix = "{folder}"
sys.version_info = (3, 99, 0)
exec(sys.argv[2])
"""


def test_a_static_python_is_distinguished_from_a_shared_one(tmp_path: Path) -> None:
    static = tmp_path / "python3.99"
    static.write_text(STATIC.format(python=sys.executable, folder=tmp_path))
    static.chmod(0o755)
    with pytest.raises(VMLaunchError) as caught:
        libpython_of(str(static))
    assert f"the Python {static} has no shared libpython (looked for " in str(caught.value)
    assert "built with --enable-shared" in str(caught.value)


@pytest.fixture
def old_python() -> str:
    for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python")):
        asked = [str(path), "-c", "import sys; print(*sys.version_info[:2])"]
        ended = subprocess.run(asked, capture_output=True, text=True)
        if ended.returncode == 0 and (3, 8) <= tuple(map(int, ended.stdout.split())) < (3, 11):
            return str(path)
    pytest.skip("no Python older than 3.11 with a shared libpython is there (pyenv install 3.10)")


def test_a_python_that_is_too_old_is_refused_by_its_libpython(
    refusal: LaunchError, shim: str, old_python: str
) -> None:
    error = refusal(shim=shim, python=old_python)
    assert f"{libpython_of(old_python)}: is a libpython without Py_Version" in error
    assert "CPython 3.11 to 3.14 is supported" in error
