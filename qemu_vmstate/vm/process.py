# SPDX-License-Identifier: GPL-2.0-or-later
"""The process of a QEMU: waiting for its end, ending it, and describing its exit status."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess

__all__ = ["Process", "describe_status"]


class Process:
    """A process held by a file descriptor, so that a reused process id cannot be confused with it.

    *child* is its ``Popen`` if it is a child of this process, else None.
    """

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        """Its process id."""
        self._child = child
        self._fd = os.pidfd_open(pid)

    def ended(self, seconds: float = 0.0) -> bool:
        """Return whether it has ended, after waiting for that for *seconds* at most."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def status(self) -> int | None:
        """Return the exit status of an ended child, -N for signal N, or None for a daemon."""
        return None if self._child is None else self._child.wait()

    def kill(self, grace: float) -> None:
        """End it with SIGTERM, then SIGKILL, waiting *grace* seconds after each of them."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.ended():
                break
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)
            self.ended(grace)
        if self.ended():
            self.status()

    def close(self) -> None:
        """Close the file descriptor, whether the process runs or not."""
        os.close(self._fd)


def describe_status(status: int | None) -> str:
    """Return an exit status in words: ``with status -6 (SIGABRT)``; None is a daemon's."""
    if status is None:
        return "with an unknown status, as it was a daemon"
    if status >= 0:
        return f"with status {status}"
    try:
        return f"with status {status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"with status {status} (signal {-status})"
