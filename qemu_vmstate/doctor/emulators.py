# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of an emulator: what it is, what it shows to the shim, and whether it migrates a device.

The cheap checks come first, and nothing is started in an emulator that cannot work.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..errors import NativeError
from ..natives.choice import fitting
from .check import Check, from_message
from .machine import text_of
from .migration import migrate
from .program import Program, read_program

__all__ = ["checks_of", "emulators_in_path"]

# What the shim looks for in a QEMU (cdefs/shim/shim.c, cdefs/bridge/symbols.c).
_VMSTATE_FUNCTION = "vmstate_register_with_alias_id"
_PLUGIN_FUNCTION = "qemu_plugin_register_vcpu_init_cb"
_NAME = re.compile(r"qemu-system-(?!.*-microvm$).+|qemu-kvm")


def emulators_in_path() -> list[str]:
    """Return the emulators in PATH, each program once, under the first of its names.

    Debian's ``*-microvm`` are left out: they are smaller builds of emulators of the list.
    """
    found: dict[str, str] = {}
    for folder in os.get_exec_path():
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                if _NAME.fullmatch(name) and os.path.isfile(path) and os.access(path, os.X_OK):
                    found.setdefault(os.path.realpath(path), path)
    return list(found.values())


class _Refused(Exception):
    """An emulator cannot be used; *check* says why."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.detail)
        self.check = check


def checks_of(qemu: str, failed: Sequence[str], timeout: float) -> Iterator[Check]:
    """Yield the checks of the emulator *qemu*, a path or a name in PATH.

    *failed* has the checks of the machine that failed and without which no VM starts, and
    *timeout* is the seconds for each wait.
    """
    path = os.path.abspath(shutil.which(qemu) or qemu)
    try:
        for check in _checks(path, failed, timeout):
            yield replace(check, emulator=path)
    except _Refused as refused:
        yield replace(refused.check, emulator=path)


def _checks(path: str, failed: Sequence[str], timeout: float) -> Iterator[Check]:
    program = _program(path)
    printed = _output(path, "--version", timeout)
    match = re.search(r"version (\d+\.\d+\.\d+)", printed)
    if not match:
        line = printed.partition("\n")[0] or "nothing"
        raise _refused("version", f"--version prints {line!r}", "name a qemu-system program")
    version = match[1]
    yield Check("version", "ok", printed.partition("\n")[0])
    try:
        native = fitting(version, path)
    except NativeError as error:
        raise _Refused(from_message("native parts", "failed", str(error))) from error
    yield Check("native parts", "ok", f"those for QEMU {native.qemu} in {native.folder}")
    yield _functions(program)
    yield _accelerators(path, timeout)
    plugins = program is None or program.exports(_PLUGIN_FUNCTION)
    for shim in ("plugin", "preload"):
        yield _shim(path, shim, plugins, failed, timeout)


def _refused(name: str, detail: str, remedy: str) -> _Refused:
    return _Refused(Check(name, "failed", detail, remedy))


def _program(path: str) -> Program | None:
    """Return what the file is, None for a script; refuse one that cannot be started."""
    install = "install one, on Debian by `apt-get install qemu-system`, or name its path"
    if not Path(path).is_file():
        raise _refused("program", "there is no such file", install)
    if not os.access(path, os.X_OK):
        raise _refused("program", "it is not executable", f"`chmod +x {path}`, or name another")
    try:
        program = read_program(path)
    except OSError as error:
        raise _refused("program", f"it cannot be read: {error.strerror}", install) from error
    if program and program.machine != platform.machine():
        raise _refused(
            "program",
            f"it is for {program.machine}, and this machine is {platform.machine()}",
            f"{install}; an emulator runs on this machine, whatever it emulates",
        )
    return program


def _output(path: str, option: str, timeout: float) -> str:
    """Return what the emulator prints for one option; refuse one that does not end well."""
    name = option.lstrip("-")
    remedy = f"`{path} {option}` has to print it: repair this emulator, or name another"
    try:
        done = subprocess.run(
            [path, *option.split()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        detail = f"{option} prints nothing within {timeout:g} s"
        raise _refused(name, detail, remedy) from error
    except OSError as error:
        raise _refused(name, f"it cannot be started: {error.strerror}", remedy) from error
    printed = text_of(done.stdout)
    if done.returncode:
        line = printed.rpartition("\n")[2] or "without a message"
        raise _refused(name, f"{option} ends with status {done.returncode}: {line}", remedy)
    return printed


def _functions(program: Program | None) -> Check:
    if program is None:
        return Check("functions", "ok", "a script; the emulator that it starts was not read")
    if program.exports(_VMSTATE_FUNCTION):
        return Check("functions", "ok", "exported")
    if program.has(_VMSTATE_FUNCTION):
        return Check("functions", "ok", "not exported, but named in .symtab")
    raise _refused(
        "functions",
        "neither exported nor named in .symtab",
        "take an emulator that is not stripped or was configured with --enable-modules, or "
        "relink it with -Wl,--export-dynamic",
    )


def _accelerators(path: str, timeout: float) -> Check:
    lines = _output(path, "-accel help", timeout).splitlines()
    found = [line.strip() for line in lines if re.fullmatch(r"\s*\w+\s*", line)]
    return Check("accelerators", "ok", ", ".join(found) or "unknown")


def _shim(
    path: str,
    shim: Literal["plugin", "preload"],
    plugins: bool,
    failed: Sequence[str],
    timeout: float,
) -> Check:
    """Migrate a device from one VM to another, each with the shim loaded in one way."""
    name = f"{shim} shim"
    if shim == "plugin" and not plugins:
        return Check(
            name,
            "warning",
            "this QEMU was built without TCG plugins",
            "use the other one: `qemu-vmstate run --shim preload`, VM(shim='preload')",
        )
    if failed:
        return Check(name, "failed", f"not tried: {', '.join(failed)} failed", "see above")
    message = migrate(path, shim, timeout)
    if not message:
        return Check(name, "ok", "a device of one field migrates")
    more = f"`qemu-vmstate run --shim {shim} SCRIPT -- {path} -M none` shows all that is printed"
    return Check(name, "failed", message, more)
