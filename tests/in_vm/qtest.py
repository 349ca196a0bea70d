# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of QEMU's qtest protocol: the registers of a running machine's devices.

The commands are those of system/qtest.c (softmmu/qtest.c before QEMU 9).  The protocol
reads and writes as a CPU does; the machine may be paused and have any accelerator.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType

from ..conftest import PATIENCE


class QTest:
    """A connection to a QEMU that was started with ``options(path)``."""

    def __init__(self, path: Path, timeout: float = PATIENCE) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw", newline="\n")

    @staticmethod
    def options(path: Path) -> list[str]:
        """Return the QEMU options for listening on that path."""
        return ["-qtest", f"unix:{path},server=on,wait=off", "-qtest-log", "none"]

    def __enter__(self) -> QTest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

    def _ask(self, *words: str | int) -> str:
        line = " ".join(word if isinstance(word, str) else f"{word:#x}" for word in words)
        self._file.write(line + "\n")
        self._file.flush()
        # Lines about interrupts may come first.
        while (answer := self._file.readline()).startswith("IRQ "):
            pass
        assert answer.startswith("OK"), f"{line}: QEMU answers {answer!r}"
        return answer[2:].strip()

    def inb(self, port: int) -> int:
        """Read a byte from that port."""
        return int(self._ask("inb", port), 16)

    def outb(self, port: int, value: int) -> None:
        """Write a byte to that port."""
        self._ask("outb", port, value)

    def readl(self, address: int) -> int:
        """Read 32 bits of physical memory, or of a device that is mapped there."""
        return int(self._ask("readl", address), 16)

    def writel(self, address: int, value: int) -> None:
        """Write 32 bits."""
        self._ask("writel", address, value)

    def readq(self, address: int) -> int:
        """Read 64 bits, the lower half first: some devices allow only 32 bits per access."""
        return self.readl(address) | self.readl(address + 4) << 32

    def writeq(self, address: int, value: int) -> None:
        """Write 64 bits, the lower half first."""
        self.writel(address, value & 0xFFFF_FFFF)
        self.writel(address + 4, value >> 32)
