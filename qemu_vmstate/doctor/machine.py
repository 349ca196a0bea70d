# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the machine: Python, the C library, the native parts, the extras, KVM, sockets."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from typing import Literal

from ..errors import VMStateError
from ..natives import Native, all_natives
from ..natives.build import require_tools
from ..natives.choice import QEMU_VARIABLE, no_native
from ..natives.folders import PACKAGE, root
from ..vm.launch import VMLaunchError, libpython_of, shim_path
from ..vm.monitor import import_qmp
from ..vm.run_files import RunFiles
from .check import Check, from_message

__all__ = ["NEEDED_BY_VMS", "machine_checks", "text_of"]

NEEDED_BY_VMS = ("Python", "libpython", "platform", "native parts", "extra vm", "sockets")
"""The checks without which no VM starts."""

_NEWEST_PYTHON = (3, 14)
_MACHINES = ("x86_64", "aarch64")
_KVM_GET_API_VERSION = 0xAE00
_KVM_API_VERSION = 12


def machine_checks(timeout: float) -> Iterator[Check]:
    """Yield the checks of the machine; a program that is run may take *timeout* seconds."""
    yield _python()
    yield _libpython()
    yield _platform()
    yield _native_parts()
    for native in all_natives():
        yield _in_process(native, timeout)
    yield from _extras()
    yield _kvm()
    yield _sockets()


def text_of(output: bytes | str | None) -> str:
    """Return what a program has printed, as text without space at its ends."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output
    return (text or "").strip()


# ------------------------------------------------------- Python, C library


def _python() -> Check:
    name, detail = "Python", f"{platform.python_version()} ({sys.executable})"
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        kind = "without the GIL" if sys.implementation.name == "cpython" else "that is not CPython"
        return Check(
            name, "failed", f"{detail}, one {kind}", "take CPython 3.11 to 3.14 with the GIL"
        )
    if sys.version_info[:2] > _NEWEST_PYTHON:
        return Check(
            name, "warning", f"{detail}, which is not tested", "if it fails, take 3.11 to 3.14"
        )
    return Check(name, "ok", detail)


def _libpython() -> Check:
    try:
        return Check("libpython", "ok", libpython_of(sys.executable))
    except VMLaunchError as error:
        detail, _, _ = str(error).partition("; ")
    return Check(
        "libpython",
        "failed",
        f"{detail}, and so only saves and loads in process work",
        "take a Python that was built with --enable-shared, on Debian by `apt-get install "
        f"libpython3.{sys.version_info[1]}`",
    )


def _platform() -> Check:
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        library = None
    bits = 64 if sys.maxsize > 2**32 else 32
    detail = f"{platform.system()} {platform.machine()}, {bits} bits, {library or 'no glibc'}"
    works = library and platform.system() == "Linux" and platform.machine() in _MACHINES
    if works and bits == 64:
        return Check("platform", "ok", detail)
    return Check(
        "platform",
        "failed",
        detail,
        f"take a 64-bit Python with glibc, on Linux on {' or '.join(_MACHINES)}",
    )


# ------------------------------------------------------------ native parts


def _native_parts() -> Check:
    natives = list(dict.fromkeys(native.qemu for native in all_natives()))
    if not natives or not any(root().glob("_state*.so")):
        return from_message("native parts", "failed", str(no_native(None)))
    try:
        shim_path()
    except VMLaunchError as error:
        return from_message("native parts", "failed", str(error))
    return Check("native parts", "ok", f"for QEMU {', '.join(natives)} ({root()})")


def _in_process(native: Native, timeout: float) -> Check:
    name = f"in process {native.qemu}"
    if not native.usable:
        return Check(
            name,
            "warning",
            f"those in {native.folder} were built by another qemu_vmstate",
            f"`qemu-vmstate build {native.build}`",
        )
    # A process of its own, because a process uses the native parts of one version only.
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    chosen = {QEMU_VARIABLE: str(native.build or native.qemu), "PYTHONPATH": path}
    remedy = (
        "install a wheel of this machine and Python again, or, in a checkout, run scripts/setup"
    )
    if native.build:
        remedy = f"`qemu-vmstate build {native.build}`"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "qemu_vmstate.doctor.device"],
            env=os.environ | chosen,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return Check(name, "failed", f"no save and load within {timeout:g} s", remedy)
    except OSError as error:
        return Check(name, "failed", f"{sys.executable} cannot be run: {error.strerror}", remedy)
    if done.returncode == 0:
        built = f", with those for {native.build}" if native.build else ""
        return Check(name, "ok", f"a device is saved and loaded{built}")
    lines = text_of(done.stderr).splitlines() or [f"ended with status {done.returncode}"]
    kind, _, message = lines[-1].partition(": ")
    if kind == "qemu_vmstate.errors.NativeError":
        return from_message(name, "failed", message)
    return Check(name, "failed", lines[-1], remedy)


# ------------------------------------------------------------------ extras


def _extras() -> Iterator[Check]:
    yield _extra("vm", "qemu.qmp", "failed", import_qmp)
    yield _extra("packed", "msgspec", "warning", _find_msgspec)
    yield _extra("zstd", "zstd", "warning", _find_zstd)
    yield _extra("build", "meson, ninja and a C compiler", "warning", require_tools)
    yield _extra("bench", "matplotlib, msgspec and rich", "warning", _find_bench)


def _extra(
    extra: str, what: str, missing: Literal["warning", "failed"], require: Callable[[], object]
) -> Check:
    try:
        require()
    except VMStateError as error:
        return from_message(f"extra {extra}", missing, str(error))
    return Check(f"extra {extra}", "ok", what)


def _find_msgspec() -> None:
    if not _is_there("msgspec"):
        raise VMStateError(f"Packed attributes need msgspec: {install_line('packed')}")


def _find_zstd() -> None:
    if not any(_is_there(name) for name in ("compression.zstd", "zstandard")):
        raise VMStateError(
            f"migration files compressed by zstd need zstandard: {install_line('zstd')}"
        )


def _find_bench() -> None:
    missing = [name for name in ("matplotlib", "msgspec", "rich") if not _is_there(name)]
    if missing:
        raise VMStateError(
            f"qemu-vmstate bench needs {', '.join(missing)}: {install_line('bench')}"
        )


def install_line(extra: str) -> str:
    """Return the command that installs an extra for this Python."""
    return f"{sys.executable} -m pip install 'qemu-vmstate[{extra}]'"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


# ------------------------------------------------------------ KVM, sockets


def _kvm() -> Check:
    path, remedy = "/dev/kvm", "only -accel kvm needs it; TCG works without"
    try:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return Check(
            path, "warning", "this user may not use it", f"join its group, often kvm: {remedy}"
        )
    except OSError as error:
        return Check(path, "warning", str(error.strerror), remedy)
    try:
        version = fcntl.ioctl(device, _KVM_GET_API_VERSION)
    except OSError as error:
        return Check(path, "warning", f"it does not answer: {error.strerror}", remedy)
    finally:
        os.close(device)
    if version != _KVM_API_VERSION:
        return Check(path, "warning", f"API version {version}, not {_KVM_API_VERSION}", remedy)
    return Check(path, "ok", "usable")


def _sockets() -> Check:
    remedy = "name a folder that can be written, with a short path, in TMPDIR"
    files = RunFiles("doctor", None)
    try:
        files.open()
    except OSError as error:
        return Check("sockets", "failed", f"no folder for them can be made: {error}", remedy)
    try:
        path = files.socket_path("incoming")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
    except OSError as error:
        return Check("sockets", "failed", f"no Unix socket can be made: {error}", remedy)
    finally:
        files.close(keep=False)
    return Check("sockets", "ok", f"in {os.path.dirname(os.path.dirname(path))}")
