# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of executables, beside nm and readelf."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qemu_vmstate.doctor.program import read_program

needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("strip") is None,
    reason="there is no C compiler: install gcc and binutils",
)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """Return a program that has a function and exports none."""
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text("int shown(void) { return 0; }\nint main(void) { return shown(); }\n")
    subprocess.run(["cc", "-O0", "-o", program, source], check=True, timeout=60)
    return program


@needs_cc
def test_functions_are_exported_or_internal_or_stripped(compiled: Path) -> None:
    program = read_program(compiled)
    assert program
    assert program.machine == platform.machine()
    assert (program.exports("shown"), program.has("shown")) == (False, True)
    assert not program.has("show")
    exporting = compiled.with_name("exporting")
    source = compiled.with_suffix(".c")
    subprocess.run(["cc", "-rdynamic", "-o", exporting, source], check=True, timeout=60)
    for path in (exporting, stripped(exporting)):
        program = read_program(path)
        assert program
        assert (program.exports("shown"), program.has("shown")) == (True, True)
    program = read_program(stripped(compiled))
    assert program
    assert not program.has("shown")


def stripped(path: Path) -> Path:
    without = path.with_suffix(".stripped")
    subprocess.run(["strip", "-o", without, path], check=True, timeout=60)
    return without


def test_every_function_that_nm_finds_is_found() -> None:
    if shutil.which("nm") is None:
        pytest.skip("there is no nm: install binutils")
    path = Path(sys.executable).resolve()
    said = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", path],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = [line.split()[0].partition("@")[0] for line in said.stdout.splitlines()]
    program = read_program(path)
    assert program
    assert names
    # A linker may put a name into the end of a longer one.
    assert [name for name in names if name.encode() + b"\0" not in program.exported] == []


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fEL"])
def test_what_is_not_elf_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert read_program(tmp_path / "file") is None


@pytest.mark.parametrize("length", [4, 5, 20, 63, 64, 100, 4096])
def test_a_cut_off_program_is_read_as_far_as_it_goes(tmp_path: Path, length: int) -> None:
    (tmp_path / "file").write_bytes(Path(sys.executable).read_bytes()[:length])
    program = read_program(tmp_path / "file")
    assert program is not None
    assert not program.has("main")
