# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor of a running QEMU: a QMP connection.

It uses the QEMU project's asyncio client, ``qemu.qmp``; see docs/interop/qmp-spec.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Coroutine
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from ..errors import NativeError
from .exchanges import Exchanges

__all__ = ["CommandError", "Monitor", "MonitorLost", "import_qmp"]

T = TypeVar("T")

_CLOSE_SECONDS = 5.0


class MonitorLost(Exception):
    """The connection to QEMU's monitor is closed, or was never made."""


class CommandError(Exception):
    """QEMU refused a command; ``str()`` is QEMU's own message."""


_NEEDED = "running a VM needs the package qemu.qmp"
_INSTALL = "pip install 'qemu-vmstate[vm]'"


def import_qmp() -> ModuleType:
    """Import ``qemu.qmp``, which is needed only to run a VM; raises ``NativeError`` without it."""
    try:
        return import_module("qemu.qmp")
    except ImportError as error:
        missing = error.name in ("qemu", "qemu.qmp")
        raise NativeError(f"{_NEEDED}{_why_not(error)}") from (None if missing else error)


def _why_not(error: ImportError) -> str:
    """Return the end of a sentence: why ``qemu.qmp`` cannot be imported, and the remedy."""
    parent = getattr(sys.modules.get("qemu"), "__file__", None)
    if error.name == "qemu.qmp" and parent:
        # qemu.qmp belongs to a namespace package, which any package or file of that name hides.
        if os.path.basename(parent) != "__init__.py":
            return (
                f", and {parent} hides it: give that file another name; if qemu.qmp is not "
                f"installed, {_INSTALL}"
            )
        return (
            f", and the package qemu in {os.path.dirname(parent)} hides it: take the folder of "
            f"that one out of PYTHONPATH or sys.path; if qemu.qmp is not installed, {_INSTALL}"
        )
    if isinstance(error, ModuleNotFoundError) and error.name in ("qemu", "qemu.qmp"):
        return f": {_INSTALL}"
    found = importlib.util.find_spec("qemu.qmp")
    place = f" in {os.path.dirname(found.origin)}" if found and found.origin else ""
    return f", and the one{place} cannot be imported: {error}; install another: {_INSTALL}"


class Monitor:
    """A QMP connection whose asyncio loop runs in a thread of its own.

    Calls raise :class:`MonitorLost` when QEMU goes away and TimeoutError after *timeout*
    seconds.  *exchanges* gets every command, reply and event.  Raises ``NativeError`` where
    ``qemu.qmp`` is missing or too old.
    """

    def __init__(self, name: str, exchanges: Exchanges) -> None:
        self.events: list[dict[str, Any]] = []
        """Every event so far, oldest first, as QMP sent it."""
        self._exchanges = exchanges
        self._changed = threading.Condition()
        self._qmp = import_qmp()
        self._client = self._qmp.QMPClient(name)
        self._loop = asyncio.new_event_loop()
        self._watcher: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"qemu_vmstate monitor of {name}", daemon=True
        )
        self._thread.start()

    def connect(self, peer: socket.socket, timeout: float) -> None:
        """Greet and negotiate over *peer*, and become its owner."""

        async def connect() -> None:
            await self._client.connect(peer)
            self._watcher = asyncio.create_task(self._watch())

        try:
            self._run(connect(), timeout)
        except MonitorLost as lost:
            # Before version 0.0.3 it accepts an address only.
            if isinstance(getattr(lost.__cause__, "exc", None), TypeError):
                raise NativeError(
                    f"{_NEEDED}, and the one in {os.path.dirname(str(self._qmp.__file__))} is too "
                    f"old to use a socket: take its folder out of PYTHONPATH, or {_INSTALL}"
                ) from lost
            raise

    def execute(self, command: str, arguments: dict[str, object], timeout: float) -> object:
        """Run *command* and return its result; raises :class:`CommandError`."""
        exchange = self._exchanges.add_command(command, arguments)
        try:
            result = self._run(self._client.execute(command, arguments), timeout)
        except CommandError as error:
            exchange.set_answer("error", {"desc": str(error)})
            raise
        exchange.set_answer("return", result)
        return result

    def wait_for_event(self, seen: int, seconds: float) -> None:
        """Wait until there are more than *seen* events, at most *seconds* long."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.events) > seen, seconds)

    def read_out(self, seconds: float) -> None:
        """Receive the last events of a QEMU that has ended, within *seconds*.

        Without the limit, a child of QEMU that still runs could keep the connection open.
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
            # An error of the connection was raised before, by the call that used it.
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
            self._exchanges.add_event(dict(event))
            with self._changed:
                self.events.append(dict(event))
                self._changed.notify_all()
