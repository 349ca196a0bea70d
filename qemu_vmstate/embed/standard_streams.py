# SPDX-License-Identifier: GPL-2.0-or-later
"""Python's stdout and stderr inside QEMU."""

from __future__ import annotations

import io
import select
import sys
from typing import Any

__all__ = ["prepare", "print_message"]


class _StandardFile(io.FileIO):
    """A descriptor that write() waits for, if it is non-blocking.

    QEMU makes 0 and 1 non-blocking for a stdio chardev, and with them all that share their pipe
    or terminal.  Python's text streams lose what such a one does not take at once.
    """

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        rest = memoryview(data).cast("B")
        while rest:
            written: int | None = super().write(rest)
            if written is None:
                self._wait()
            else:
                rest = rest[written:]
        return size

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        poll.poll()


def _standard_stream(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = _StandardFile(stream.fileno(), "w", closefd=False)
    raw.name = stream.name
    # With PYTHONUNBUFFERED there is no buffer.
    unbuffered = isinstance(stream.buffer, io.RawIOBase)
    made = io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=stream.write_through,
    )
    made.mode = "w"  # type: ignore[misc]
    return made


def prepare() -> None:
    """Let stdout and stderr write each line at once and completely, whatever is in it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            made = _standard_stream(stream)
            setattr(sys, name, made)
            setattr(sys, f"__{name}__", made)


def print_message(message: str) -> None:
    """Write *message* to stderr as one of this project."""
    # With PYTHONUNBUFFERED an end= would be a write of its own, and other output could precede it.
    print(f"qemu_vmstate: {message}\n", end="", file=sys.stderr, flush=True)
