# SPDX-License-Identifier: GPL-2.0-or-later
"""A running QEMU as seen from outside: its process and its monitor (QMP).

QMP is spoken by the QEMU project's own asyncio client; see docs/interop/qmp-spec.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Coroutine
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from ..errors import NativeError

__all__ = ["CommandError", "Monitor", "MonitorLost", "Process"]

T = TypeVar("T")

_CLOSE_SECONDS = 5.0


class MonitorLost(Exception):
    """The connection to QEMU's monitor is gone, or was never made."""


class CommandError(Exception):
    """QEMU refused a command; ``str()`` is QEMU's own sentence."""


def _import_qmp() -> ModuleType:
    """Return ``qemu.qmp``, which only a VM that runs needs."""
    try:
        return import_module("qemu.qmp")
    except ImportError as error:
        raise NativeError(
            "running a VM needs the package qemu.qmp: pip install 'qemu-vmstate[vm]'"
        ) from error


class Monitor:
    """A QMP connection whose asyncio loop runs in a thread of its own.

    Calls raise :class:`MonitorLost` when QEMU goes away and TimeoutError after *timeout*
    seconds.
    """

    def __init__(self, name: str) -> None:
        self.events: list[dict[str, Any]] = []
        """Every event so far, oldest first, as QMP sent it."""
        self._changed = threading.Condition()
        self._qmp = _import_qmp()
        self._client = self._qmp.QMPClient(name)
        self._loop = asyncio.new_event_loop()
        self._watcher: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"qemu_vmstate monitor of {name}", daemon=True
        )
        self._thread.start()

    def connect(self, peer: socket.socket, timeout: float) -> None:
        """Greet and negotiate over *peer*, which is owned from here on."""

        async def connect() -> None:
            await self._client.connect(peer)
            self._watcher = asyncio.create_task(self._watch())

        self._run(connect(), timeout)

    def execute(self, command: str, arguments: dict[str, object], timeout: float) -> object:
        """What *command* returns; raises :class:`CommandError`."""
        return self._run(self._client.execute(command, arguments), timeout)

    def wait_for_news(self, seen: int, seconds: float) -> None:
        """Return once there are more than *seen* events, and after *seconds* at the latest."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.events) > seen, seconds)

    def read_out(self, seconds: float) -> None:
        """Hear what a QEMU that has ended had still to say, within *seconds*.

        A child of its own that lives on may hold the connection open so long.
        """

        async def read_out() -> None:
            while self._client.runstate == self._qmp.Runstate.RUNNING:
                await self._client.runstate_changed()
            while not self._client.events.empty():
                await asyncio.sleep(0)

        with contextlib.suppress(TimeoutError):
            self._run(read_out(), seconds)

    def close(self) -> None:
        """End the connection and the thread."""

        async def close() -> None:
            if self._watcher is not None:
                self._watcher.cancel()
            # What the connection died of has been told to whoever used it.
            with contextlib.suppress(self._qmp.QMPError, EOFError, OSError):
                await self._client.disconnect()

        with contextlib.suppress(MonitorLost, TimeoutError):
            self._run(close(), _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        limited = asyncio.wait_for(work, timeout)
        try:
            return asyncio.run_coroutine_threadsafe(limited, self._loop).result()
        except TimeoutError:
            raise
        except self._qmp.ExecuteError as error:
            raise CommandError(str(error)) from error
        except (self._qmp.QMPError, EOFError, OSError) as error:
            raise MonitorLost(str(error)) from error

    async def _watch(self) -> None:
        async for event in self._client.events:
            with self._changed:
                self.events.append(dict(event))
                self._changed.notify_all()


class Process:
    """A process held by a file descriptor, so that its id cannot come to mean another."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        """Its process id."""
        self._child = child
        self._fd = os.pidfd_open(pid)

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, after waiting for that for *seconds* at most."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def status(self) -> int | None:
        """The exit status of an ended child, -N for signal N; None for a daemon."""
        return None if self._child is None else self._child.wait()

    def kill(self, grace: float) -> None:
        """End it, asking first, with *grace* seconds for each of SIGTERM and SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.ended():
                break
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)
            self.ended(grace)
        if self.ended():
            self.status()

    def close(self) -> None:
        """Let go of it, running or not."""
        os.close(self._fd)
