# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/debugging.md: its two files, and what it shows on terminals, work as shown."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import PATIENCE
from ..pages import blocks
from .conftest import CHECKOUT, Emulator
from .terminals import Terminal

PAGE = CHECKOUT / "docs" / "debugging.md"
PID, HOME = "4711", "/home/jane"
ATTACH = f"qemu-vmstate attach {PID}"


def shown_blocks() -> list[list[str]]:
    """Return what the page shows on terminals, as lines."""
    return [block.splitlines() for block in blocks(PAGE, "")]


def steps(lines: list[str]) -> list[tuple[str, str, str]]:
    """Return a terminal's prompts, what is typed after each, and what is shown then."""
    taken: list[tuple[str, str, str]] = []
    for line in lines:
        prompted = re.fullmatch(r"(>>>|\.\.\.|\(Pdb\)|\$)(?: (.*))?", line)
        if prompted:
            taken.append((prompted[1], prompted[2] or "", ""))
        else:
            prompt, typed, shown = taken[-1]
            taken[-1] = (prompt, typed, f"{shown}{line}\n")
    return taken


class Reader:
    """Someone who does what the page says with a QEMU that runs."""

    def __init__(self, folder: Path, qemu: subprocess.Popen[str], log: Path) -> None:
        self.folder, self.qemu, self.log = folder, qemu, log
        self.terminals = contextlib.ExitStack()
        self.terminal: Terminal | None = None

    def as_here(self, text: str) -> str:
        version = re.sub(r"Python 3\.[\d.]+", f"Python {sys.version.split()[0]}", text)
        return version.replace(PID, str(self.qemu.pid)).replace(HOME, str(self.folder))

    def check(self, shown: str, wanted: str) -> None:
        wanted = self.as_here(wanted)
        same = doctest.OutputChecker().check_output(wanted, f"{shown}\n", doctest.ELLIPSIS)
        assert same or shown == wanted == "", f"shown:\n{shown}\nwanted:\n{wanted}"

    def attach(self) -> str:
        self.terminal = self.terminals.enter_context(
            Terminal.attached(self.qemu.pid, self.folder / "state")
        )
        return self.terminal.read()

    def run(self, command: str) -> str:
        """Run a command of the shell, and return its output."""
        ended = subprocess.run(
            ["bash", "-c", self.as_here(command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout.removesuffix("\n")

    def do(self, lines: list[str]) -> None:
        """Do what a block shows, and compare."""
        for prompt, typed, wanted in steps(lines):
            if typed == ATTACH:
                shown = self.attach()
                if "Python" in wanted or sys.version_info < (3, 13):  # which stops a line earlier
                    self.check(shown, wanted)
            elif prompt == "$":
                self.check(self.run(typed), wanted)
            else:
                self.check(self.type(typed), wanted)

    def type(self, line: str) -> str:
        assert self.terminal is not None
        if "reload" in line:
            self.edit()
        if line != "continue":
            return self.terminal.enter(line)
        self.terminal.process.sendline(line)  # no prompt follows
        self.terminal.process.expect("The script.*")
        return str(self.terminal.process.after).rstrip()

    def edit(self) -> None:
        file = self.folder / "wear.py"
        before, after = re.findall(r"`(count > \d+)`", PAGE.read_text())
        assert before in file.read_text()
        file.write_text(file.read_text().replace(before, after))
        # Python compares the second and the size.
        os.utime(file, (time.time() + 10, time.time() + 10))

    def wait_logged(self, text: str) -> None:
        self.wait(lambda: self.as_here(text) in self.log.read_text())

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.log.read_text()
            assert self.qemu.poll() is None, self.log.read_text()
            time.sleep(0.01)


@pytest.fixture
def reader(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Return a reader of the page, in a folder with its files, who has started its QEMU."""
    for name, kind in (("wear.py", "python"), ("dev.py", "python attach-script")):
        (code,) = blocks(PAGE, kind)
        (tmp_path / name).write_text(code)
    with open(tmp_path / "dev.py", "a") as file:
        file.write("print('the script', 'has ended')\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "qemu-system-x86_64").symlink_to(emulator["path"])
    command = tools / "qemu-vmstate"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m qemu_vmstate "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    for name, value in emulator["env"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    start = shown_blocks()[0][0].removeprefix("$ ")
    log = tmp_path / "log"
    with open(log, "w") as out:
        qemu = subprocess.Popen(
            ["bash", "-c", f"exec {start} {' '.join(emulator['args'])}"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
        )
    made = Reader(tmp_path, qemu, log)
    try:
        made.wait_logged("the script has ended")
        yield made
    finally:
        made.terminals.close()
        qemu.kill()
        qemu.wait(PATIENCE)


def test_the_page_works_as_shown(reader: Reader) -> None:
    _, *shown, pdb, stacks, kill, gdb, reload, fresh = shown_blocks()
    for lines in shown:
        if lines[0].startswith("qemu_vmstate: "):
            reader.wait_logged(lines[0])
        else:
            reader.do(lines)
    prompt = reader.terminal
    reader.do(pdb)
    reader.wait_logged("stepper: counter: the count is 3")
    reader.terminal = prompt
    for lines in (stacks, kill, reload, fresh):
        reader.do(lines)
    reader.wait_logged("(most recent call first)")
    if gdb_works(reader.qemu.pid):
        (command,) = gdb
        assert "qemu-system" in reader.run(command.removeprefix("$ "))
    assert reader.qemu.poll() is None


def gdb_works(pid: int) -> bool:
    """Return whether gdb is there and may look into other processes."""
    if not shutil.which("gdb"):
        return False
    asked = ["gdb", "-batch", "-p", str(pid), "-ex", "info threads"]
    return "Thread" in subprocess.run(asked, capture_output=True, text=True).stdout
