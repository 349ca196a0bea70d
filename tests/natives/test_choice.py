# SPDX-License-Identifier: GPL-2.0-or-later
"""The native parts are chosen by version, by build directory, or by the running QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qemu_vmstate.errors import NativeError
from qemu_vmstate.natives import folders
from qemu_vmstate.natives.choice import choose, for_running_qemu

ROOT = Path(__file__).absolute().parents[2]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which the package has 7.2.22, 10.0.2 and 10.0.13."""
    (tmp_path / "root").mkdir()
    for version in ("7.2.22", "10.0.13", "10.0.2"):
        (tmp_path / "root" / f"_native-{version}.abi3.so").touch()
    monkeypatch.setenv("QEMU_VMSTATE_NATIVE", str(tmp_path / "root"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    # for_running_qemu() keeps its choice.
    monkeypatch.setattr("qemu_vmstate.natives.choice._chosen", None)
    return tmp_path


def add_user(version: str, build: Path, *, sources: str | None = None) -> None:
    folder = folders.data_folder() / f"{version}-{build.name}"
    folder.mkdir(parents=True)
    (folder / f"_native-{version}.abi3.so").touch()
    record = {"build": str(build), "sources": sources or folders.source_digest()}
    (folder / "build.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("qemu", "wanted"),
    [(None, "10.0.13"), ("7.2", "7.2.22"), ("10.0", "10.0.13"), ("10.0.2", "10.0.2")],
)
def test_a_version_names_its_newest(places: Path, qemu: str | None, wanted: str) -> None:
    assert choose(qemu).qemu == wanted


@pytest.mark.parametrize("qemu", ["8.0", "10", "7.2.21", "10.0.50"])
def test_a_version_that_is_not_there_names_those_that_are(places: Path, qemu: str) -> None:
    with pytest.raises(NativeError) as caught:
        choose(qemu)
    assert str(caught.value) == (
        f"qemu_vmstate has no native parts for QEMU {qemu}, only for 10.0.13, 10.0.2, 7.2.22: "
        "add them by `qemu-vmstate build /path/to/qemu/build` with a build directory of that QEMU"
    )


def test_those_of_a_build_directory_are_named_by_it(places: Path) -> None:
    build = places / "qemu" / "build"
    with pytest.raises(NativeError, match=f"`qemu-vmstate build {build}`"):
        choose(str(build))
    add_user("10.0.13", build)
    assert choose(str(build)).build == build
    assert choose("10.0").build is None


@pytest.mark.parametrize(
    ("running", "wanted"),
    [("7.2.99", "7.2.22"), ("10.0.2", "10.0.2"), ("10.0.5", "10.0.13"), ("7.2.1", "7.2.22")],
)
def test_the_running_qemu_gets_those_of_its_release(
    places: Path, running: str, wanted: str
) -> None:
    if running == "7.2.99":  # a tree under development is of the next release
        with pytest.raises(NativeError, match=r"no native parts for QEMU 7\.2\.99, only for"):
            for_running_qemu(running, "/usr/bin/qemu-system-x86_64")
        return
    assert for_running_qemu(running, "/usr/bin/qemu-system-x86_64").qemu == wanted


def test_the_running_qemu_of_a_build_directory_gets_its_own(places: Path) -> None:
    build = places / "qemu" / "build"
    add_user("10.0.13", build)
    assert for_running_qemu("10.0.13", build / "qemu-system-x86_64").build == build
    assert for_running_qemu("10.0.13", "/usr/bin/qemu-system-x86_64").build is None


def test_those_of_the_user_serve_a_release_that_the_package_lacks(places: Path) -> None:
    build = places / "qemu" / "build"
    add_user("9.1.0", build)
    assert for_running_qemu("9.1.2", "/usr/bin/qemu-system-x86_64").build == build
    assert choose("9.1").build == build
    assert choose(None).qemu == "10.0.13"


def test_those_of_other_c_sources_are_refused(places: Path) -> None:
    build = places / "qemu" / "build"
    add_user("9.1.0", build, sources="older")
    for asked in ("9.1", str(build)):
        with pytest.raises(
            NativeError, match=f"build them again with `qemu-vmstate build {build}`"
        ):
            choose(asked)
    # Not silently those of another build of the same release.
    add_user("10.0.13", build.with_name("other"), sources="older")
    with pytest.raises(NativeError, match="build them again"):
        for_running_qemu("10.0.13", build.with_name("other") / "qemu-system-x86_64")


# -------------------------------------------------------------- in a process


def in_python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "QEMU_VMSTATE_QEMU"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=env | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


VERSION = "from qemu_vmstate import *\nprint(capabilities().qemu)\nsave\n"


@pytest.mark.parametrize("native", folders.packaged_natives(), ids=lambda native: native.qemu)
def test_each_version_is_used_where_it_is_asked_for(native: folders.Native) -> None:
    """Here the native parts are real, and say for which QEMU they were built."""
    release = ".".join(native.qemu.split(".")[:2])
    for done in (
        in_python(VERSION, QEMU_VMSTATE_QEMU=release),
        in_python(f"import qemu_vmstate\nqemu_vmstate.use_qemu({native.qemu!r})\n{VERSION}"),
        in_python(f"import qemu_vmstate\nqemu_vmstate.use_qemu({release!r})\n{VERSION}"),
    ):
        assert (done.stdout, done.stderr) == (f"{native.qemu}\n", "")


def test_the_newest_is_used_where_none_is_asked_for() -> None:
    assert in_python(VERSION).stdout == f"{folders.packaged_natives()[0].qemu}\n"


def test_another_version_after_the_first_use_is_refused() -> None:
    natives = folders.packaged_natives()
    newest, oldest = natives[0].qemu, natives[-1].qemu
    program = f"from qemu_vmstate import *\nuse_qemu({newest!r})\nuse_qemu({oldest!r})"
    error = in_python(program).stderr.splitlines()[-1]
    if newest == oldest:
        assert error == ""
        return
    assert error.startswith(
        f"qemu_vmstate.errors.NativeError: use_qemu({oldest!r}): the native parts for QEMU {newest}"
    )
    assert error.endswith("or set QEMU_VMSTATE_QEMU")
