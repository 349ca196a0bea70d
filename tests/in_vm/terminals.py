# SPDX-License-Identifier: GPL-2.0-or-later
"""A user at a terminal, who attaches to the script of a running QEMU."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect

from ..conftest import PATIENCE, sleeps, until

__all__ = ["Terminal"]

# pdb writes its prompt by itself, and the line editor writes it again over it.
_PROMPT = r"(?:^|\r\n)(>>> |\.\.\. |\(Pdb\) \r\(Pdb\) )$"


class Terminal:
    """A terminal with ``python`` and *arguments* on it, until the end of its ``with``."""

    def __init__(self, *arguments: str, home: Path, env: Mapping[str, str] | None = None) -> None:
        surroundings = {**os.environ, "TERM": "dumb", "XDG_STATE_HOME": str(home), **(env or {})}
        self.process = pexpect.spawn(
            sys.executable,
            list(arguments),
            encoding="utf-8",
            timeout=PATIENCE,
            env=surroundings,
            dimensions=(24, 200),
        )
        """The process on the terminal."""
        self.rest = ""
        """What appeared after the last prompt, once the process has ended."""

    @classmethod
    def attached(cls, target: int | str, home: Path) -> Self:
        """Return a terminal with ``qemu-vmstate attach TARGET`` on it."""
        return cls("-m", "qemu_vmstate", "attach", str(target), home=home)

    def read(self) -> str:
        """Return what appears up to the next prompt, without the prompt."""
        self.process.expect(_PROMPT)
        return str(self.process.before).replace("\r\n", "\n")

    def enter(self, line: str) -> str:
        """Type a line, and return what appears between it and the next prompt."""
        self.process.sendline(line)
        echoed, _, shown = self.read().partition("\n")
        assert echoed == line
        return shown

    def interrupt(self) -> None:
        """Press Ctrl-C when the process waits for what is typed.

        Before that readline does not notice a signal until the next key is pressed.
        """
        for _ in until(lambda: sleeps(f"/proc/{self.process.pid}"), "it waits for input", 0):
            time.sleep(0.001)
        self.process.sendintr()

    def detach(self) -> int:
        """Press Ctrl-D and return the exit status."""
        self.process.sendeof()
        return self.end()

    def end(self) -> int:
        """Wait for the end of the process and return its exit status; :attr:`rest` is set."""
        self.process.expect(pexpect.EOF)
        self.rest = str(self.process.before)
        self.process.close()
        assert self.process.exitstatus is not None
        return self.process.exitstatus

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # close(force=True) gives the process a tenth of a second to end, whatever the load.
        if self.process.isalive():
            self.process.kill(signal.SIGKILL)
            self.process.wait()
        self.process.close()
