# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors 0 to 2 are never a file of the script's, whatever QEMU closes, and print() works."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import PATIENCE
from .conftest import DEMO, Emulator, StartVM, script

Wrapped = Callable[..., str]

EXIT_REPORT = """
import atexit, json, os, subprocess, sys
def report():
    with open(FILE, "w") as file:
        print("writing the report")
        print("and a warning", file=sys.__stderr__)
        sys.__stdout__.write("by the first stdout\\n")
        os.write(1, b"by number 1\\n")
        subprocess.run(["echo", "from a child"])
        json.dump({"number": file.fileno()}, file)
atexit.register(report)
"""
OPENED = """
import ctypes, os, socket, subprocess, sys
def opened():
    files = [open(os.devnull) for _ in range(4)]
    sockets = [socket.socket() for _ in range(4)]
    pipes = [end for _ in range(2) for end in os.pipe()]
    return min([item.fileno() for item in files + sockets] + pipes)
def say():
    print("by print")
    os.write(1, b"by number 1\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"by C")
    libc.fflush(None)
    subprocess.run(["echo", "from a child"], check=True)
"""
SAID = ["by print", "by number 1", "by C", "from a child"]


@pytest.fixture
def wrapped(emulator: Emulator, tmp_path: Path) -> Wrapped:
    """Return a program that runs the test's emulator with redirections of bash."""

    def write(redirections: str, name: str = "qemu") -> str:
        path = tmp_path / f"wrapped-{name}"
        path.write_text(f'#!/bin/bash\nexec {shlex.quote(emulator["path"])} "$@" {redirections}\n')
        path.chmod(0o755)
        return str(path)

    return write


def lines_of(log: str) -> list[str]:
    return [line.strip().removeprefix("(qemu) ") for line in log.splitlines()]


@pytest.mark.parametrize("option", ["-monitor", "-qmp", "-serial"])
def test_a_file_that_an_exit_function_writes_is_whole(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, option: str
) -> None:
    report = tmp_path / "r.json"
    path = script(tmp_path, EXIT_REPORT.replace("FILE", repr(str(report))))
    vm = start(script=path, shim=shim, extra=[*emulator["args"], option, "stdio"])
    assert vm.quit() == 0
    assert report.read_text().startswith('{"number": ')
    assert int(report.read_text()[len('{"number": ') : -1]) > 2
    said = lines_of(vm.log)
    for line in ("writing the report", "and a warning", "by the first stdout", "by number 1"):
        assert said.count(line) == 1
    assert said.count("from a child") == 1


def test_a_stdio_chardev_that_is_removed_leaves_its_descriptors(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path
) -> None:
    extra = [*emulator["args"], "-chardev", "stdio,id=removed"]
    vm = start(script=script(tmp_path, OPENED), shim=shim, extra=extra)
    vm.qmp("chardev-remove", id="removed")
    assert vm.python.eval("opened()") > 2
    vm.python.exec("say()")
    assert [line for line in lines_of(vm.log) if line in SAID] == SAID
    # There can be another, since 0 and 1 are still what they were.
    vm.qmp("chardev-add", id="another", backend={"type": "stdio", "data": {}})
    vm.qmp("chardev-remove", id="another")
    assert vm.python.eval("opened()") > 2
    assert vm.quit() == 0


def test_an_incoming_migration_from_descriptor_0_leaves_its_number(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, wrapped: Wrapped
) -> None:
    source = start("source", script=DEMO, shim=shim)
    source.migrate_to_file(tmp_path / "stream")
    qemu = wrapped(f"< <(cat {shlex.quote(str(tmp_path / 'stream'))})")
    path = script(tmp_path, DEMO.read_text() + OPENED)
    extra = [*emulator["args"], "-incoming", "fd:0"]
    vm = start(script=path, shim=shim, qemu=qemu, extra=extra)
    vm.wait_until(lambda: vm.qmp("query-status")["status"] != "inmigrate", "the end of the load")
    assert vm.python.eval("opened()") > 2
    assert vm.quit() == 0


def test_a_qemu_started_without_descriptor_0_does_not_give_it_to_the_script(
    start: StartVM, shim: str, tmp_path: Path, wrapped: Wrapped
) -> None:
    vm = start(script=script(tmp_path, OPENED), shim=shim, qemu=wrapped("<&-"))
    assert vm.python.eval("opened()") > 2
    assert vm.quit() == 0


SLOW = """
import fcntl, struct, termios, threading
lines = 3000
def fill():
    try:
        for number in range(lines):
            print(f"{number:4} " + 95 * ".")
    except BaseException as error:
        failures.append(repr(error))
failures = []
filler = threading.Thread(target=fill, daemon=True)
def full():
    waiting = struct.unpack("i", fcntl.ioctl(1, termios.FIONREAD, bytes(4)))[0]
    return bool(failures) or waiting >= fcntl.fcntl(1, fcntl.F_GETPIPE_SZ) - 4096
"""


def test_print_waits_for_a_slow_reader_though_qemu_made_the_pipe_non_blocking(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, wrapped: Wrapped
) -> None:
    go, out = tmp_path / "go", tmp_path / "out"
    reader = f"until [ -e {shlex.quote(str(go))} ]; do sleep 0.05; done; cat"
    qemu = wrapped(f"> >({reader} > {shlex.quote(str(out))})")
    extra = [*emulator["args"], "-serial", "stdio"]
    vm = start(script=script(tmp_path, SLOW), shim=shim, qemu=qemu, extra=extra)
    vm.python.exec("filler.start()")
    vm.wait_until(lambda: vm.python.eval("full()"), "the pipe to be full")
    go.touch()
    vm.python.exec(f"filler.join({PATIENCE})")
    assert vm.python.eval("failures") == []

    def read() -> list[str] | None:
        written = out.read_text().splitlines() if out.exists() else []
        return written if len(written) >= 3000 else None

    written = vm.wait_until(read, "the last line")
    assert written == [f"{number:4} " + 95 * "." for number in range(3000)]


def test_daemonize_leaves_the_callers_pipe_and_logs_what_the_script_says(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path
) -> None:
    """The caller's pipe ends when the daemon has started, as `$(qemu-system-... -daemonize)`."""
    qemu = tmp_path / "piped"
    command = f'{shlex.quote(emulator["path"])} "$@" 2>&1 | cat; exit ${{PIPESTATUS[0]}}'
    qemu.write_text(f"#!/bin/bash\n{command}\n")
    qemu.chmod(0o755)
    text = "import sys, subprocess\nprint('during the start', file=sys.stderr)"
    vm = start(script=script(tmp_path, text), shim=shim, qemu=str(qemu), daemonize=True)
    vm.python.exec("print('by print', file=sys.stderr)")
    vm.python.exec("subprocess.run('echo from a child >&2', shell=True, check=True)")
    assert [line for line in vm.log.splitlines() if line in ("by print", "from a child")] == [
        "by print",
        "from a child",
    ]
    assert "during the start" in vm.log
