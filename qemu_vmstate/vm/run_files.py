# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of one run of a VM: its folder, its logs, its sockets and its disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .launch import VMLaunchError

__all__ = ["LOG_TAIL_LINES", "RunFiles"]

LOG_TAIL_LINES = 60
"""The number of lines of QEMU's log that a report has."""

_SOCKET_PATH_BYTES = 100  # sun_path holds 108, with a final NUL


class RunFiles:
    """The files of the VM *name*, in *folder* or else in a temporary folder."""

    def __init__(self, name: str, folder: str | os.PathLike[str] | None) -> None:
        self._name = name
        self._temporary = folder is None
        self.folder = Path() if folder is None else Path(folder).absolute()
        """The folder; it exists from :meth:`open` on."""
        self._sockets: Path | None = None
        self._last_log = ""

    def open(self) -> None:
        """Create the folder, and remove the files of an earlier run in it."""
        if self._temporary:
            self.folder = Path(tempfile.mkdtemp(prefix="qemu-vmstate-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        # The process id of an earlier run may belong to another process now.
        for path in (self.pid_path, self.log_path, self.daemon_log_path):
            path.unlink(missing_ok=True)

    def close(self, keep: bool) -> None:
        """Remove the sockets and, unless *keep*, a temporary folder; :attr:`log` is preserved."""
        self._last_log = self.log
        if self._sockets not in (None, self.folder):
            shutil.rmtree(str(self._sockets), ignore_errors=True)
        self._sockets = None
        # Without open() it is the current folder.
        if self._temporary and not keep and self.folder.is_absolute():
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log_path(self) -> Path:
        """The file of QEMU's stdout and stderr."""
        return self._path("log")

    @property
    def daemon_log_path(self) -> Path:
        """The file of a daemon's own log (``-D``)."""
        return self._path("daemon.log")

    @property
    def pid_path(self) -> Path:
        """The file of a daemon's process id."""
        return self._path("pid")

    def _path(self, kind: str) -> Path:
        return self.folder / f"{self._name}.{kind}"

    def socket_path(self, kind: str) -> str:
        """Return an unused path for the Unix socket *kind*, short enough for a socket address."""
        if self._sockets is None:
            longest = os.fsencode(self.folder / f"{self._name}.incoming")
            if len(longest) <= _SOCKET_PATH_BYTES and b"," not in longest:
                self._sockets = self.folder
            else:
                self._sockets = Path(tempfile.mkdtemp(prefix="qv-", dir="/tmp"))
        path = self._sockets / f"{self._name}.{kind}"
        path.unlink(missing_ok=True)
        return str(path)

    @property
    def log(self) -> str:
        """Everything that QEMU and its script have written to stdout and stderr so far."""
        texts = []
        for path in (self.log_path, self.daemon_log_path):
            with contextlib.suppress(OSError):
                texts.append(path.read_text(errors="replace"))
        return "".join(texts) if texts else self._last_log

    @property
    def log_tail(self) -> str:
        """The last lines of :attr:`log`."""
        return "\n".join(self.log.splitlines()[-LOG_TAIL_LINES:])

    def disk(self, disk: bool | str | os.PathLike[str], qemu: str, timeout: float) -> Path:
        """Return the path of the qcow2 *disk*, created if missing; True is one in the run's folder.

        It is created within *timeout* seconds by the qemu-img beside the program *qemu*, else by
        the one in PATH.  Raises :class:`VMLaunchError` if that fails.
        """
        path = self._path("qcow2") if disk is True else Path(str(disk)).absolute()
        if path.exists():
            return path
        beside = Path(shutil.which(qemu) or qemu).with_name("qemu-img")
        tool = str(beside) if beside.exists() else "qemu-img"
        try:
            subprocess.run(
                [tool, "create", "-q", "-f", "qcow2", str(path), "16M"],
                check=True,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or error
            raise VMLaunchError(
                f"VM {self._name!r}: {tool} cannot make the disk {path}: {reason}"
            ) from error
        return path
