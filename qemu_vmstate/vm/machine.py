# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process: starting it, controlling it over its monitor, observing it, ending it.

Every wait has a deadline.  Every error of a QEMU that failed or ended has the tail of its log
and the last exchanges with its monitor as notes.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ..embed.control import Control
from .exchanges import Exchanges
from .launch import Script, Shim, VMError, VMLaunchError, option, without_python
from .monitor import CommandError, Monitor, MonitorLost
from .process import Process, describe_status
from .run_files import RunFiles

__all__ = ["DISK_NODE", "Machine"]

T = TypeVar("T")

DISK_NODE = "qv-disk"
"""The block node of ``disk=``."""

_NO_PLUGINS = "plugin interface not enabled in this build"
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 5.0


class Machine:
    """A QEMU process, started by ``with`` and ended with it.

    :class:`~qemu_vmstate.vm.VM` documents the arguments.
    """

    def __init__(
        self,
        script: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        *,
        shim: Shim = "plugin",
        qemu: str = "qemu-system-x86_64",
        python: str = sys.executable,
        machine: str | None = "none",
        extra: Sequence[str] = (),
        name: str = "vm",
        incoming: bool = False,
        paused: bool = False,
        disk: bool | str | os.PathLike[str] = False,
        daemonize: bool = False,
        folder: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
            raise ValueError(
                f"{name!r} cannot name a VM: take up to 40 letters, digits, dots, underscores "
                "and hyphens, for there are files of that name"
            )
        if shim not in ("plugin", "preload"):
            raise ValueError(f"VM {name!r}: shim={shim!r} is neither 'plugin' nor 'preload'")
        self.name = name
        """The VM's name in errors and in the names of files."""
        self.incoming = incoming
        """Whether it was started to wait for a migration."""
        self.timeout = timeout
        """Seconds that any single wait may take."""
        self.command: list[str] = []
        """QEMU's command line, once started."""
        self.version: tuple[int, int, int] = (0, 0, 0)
        """The version of the running QEMU: major, minor, micro."""
        self._script = None if script is None else Script(script, tuple(args), shim, python)
        self._qemu, self._machine, self._extra = qemu, machine, list(extra)
        self._paused, self._daemonize, self._disk = paused, daemonize, disk
        self._env = dict(env or {})
        self._shim_arguments: list[str] = []
        self._files = RunFiles(name, folder)
        self._exchanges = Exchanges()
        self._monitor: Monitor | None = None
        self._process: Process | None = None
        self._control: Control | None = None
        self._end_reported = False

    # ------------------------------------------------------ start and end

    def __enter__(self) -> Self:
        if self._process is not None:
            raise VMError(f"VM {self.name!r} runs already: make another VM object")
        self._end_reported = False
        self._exchanges = Exchanges()
        self._files.open()
        try:
            self._launch()
        except BaseException as error:
            if self._process is not None:
                self._process.kill(_GRACE_SECONDS)
            self.add_report(error)
            self._clean_up(keep=self._files.log_path.exists())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        reported = self._end_reported
        try:
            # After an exception of the block, wait only briefly and report no other error.
            status = self._quit(self.timeout if error is None else _GRACE_SECONDS)
            if error is None and status and not reported:
                raise VMError(
                    f"VM {self.name!r}: QEMU ended {describe_status(status)}; "
                    f"its log is {self._files.log_path}"
                )
        except VMError as late:
            if error is None:
                error = late
                raise
        finally:
            self._process.kill(_GRACE_SECONDS)
            if error is not None:
                self.add_report(error)
            self._clean_up(keep=error is not None)

    def _launch(self) -> None:
        environment = without_python(os.environ)
        if self._script is not None:
            try:
                environment = self._script.environment(os.environ)
                self._shim_arguments = self._script.qemu_arguments()
            except VMLaunchError as error:
                raise VMLaunchError(f"VM {self.name!r} cannot be started: {error}") from error
            path, key = self._files.socket_path("control"), secrets.token_bytes(16)
            environment["QEMU_VMSTATE_CONTROL"] = path
            environment["QEMU_VMSTATE_CONTROL_KEY"] = key.hex()
            self._control = Control(path, key, self.timeout)
        environment.update(self._env)
        self._monitor = Monitor(self.name, self._exchanges)
        # A socket pair needs no wait for a path, and is closed exactly when QEMU ends.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            self.command = self._command_line(theirs.fileno())
            self._spawn(theirs, environment)
            theirs.close()
            self._greet(socket.socket(fileno=ours.detach()))
        known = self.qmp("query-version")["qemu"]
        self.version = (known["major"], known["minor"], known["micro"])
        # The capability does not change the stream; without its events, waits could only poll.
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    def _command_line(self, monitor: int) -> list[str]:
        command = [
            self._qemu,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            *(() if self._machine is None else ("-M", self._machine)),
            "-name",
            self.name,
            "-chardev",
            option("socket", id="qv-monitor", fd=str(monitor)),
            "-mon",
            option(chardev="qv-monitor", mode="control"),
        ]
        if self.incoming:
            command += ["-incoming", "defer"]
        if self._paused:
            command += ["-S"]
        if self._disk is not False:
            disk = self._files.disk(self._disk, self._qemu, self.timeout)
            settings = {"node-name": DISK_NODE, "file.filename": str(disk)}
            command += ["-blockdev", option("qcow2", **{"file.driver": "file"}, **settings)]
        if self._daemonize:
            # A daemon's stderr goes only to QEMU's own log, which needs a mask to be on.
            command += [
                "-daemonize",
                "-pidfile",
                str(self._files.pid_path),
                "-d",
                "guest_errors",
                "-D",
                str(self._files.daemon_log_path),
            ]
        return command + self._shim_arguments + self._extra

    def _spawn(self, monitor: socket.socket, environment: Mapping[str, str]) -> None:
        with open(self._files.log_path, "wb") as log:
            try:
                child = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=[monitor.fileno()],
                )
            except OSError as error:
                raise VMLaunchError(
                    f"VM {self.name!r} cannot be started: {self._qemu} cannot be run: "
                    f"{error.strerror}; name a qemu-system program with qemu="
                ) from error
        self._process = Process(child.pid, child)
        if not self._daemonize:
            return
        if not self._process.ended(self.timeout):
            self._process.kill(_GRACE_SECONDS)
            self._adopt_daemon()
            raise self._launch_error(f"did not become a daemon within {self.timeout:g} s")
        if status := self._process.status():
            raise self._launch_error(f"ended {describe_status(status)} before it became a daemon")
        self._adopt_daemon()

    def _adopt_daemon(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            daemon = Process(int(self._files.pid_path.read_text()), None)
            if self._process is not None:
                self._process.close()
            self._process = daemon

    def _greet(self, peer: socket.socket) -> None:
        assert self._monitor is not None
        assert self._process is not None
        try:
            self._monitor.connect(peer, self.timeout)
        except MonitorLost as error:
            if self._process.ended(_GRACE_SECONDS):
                manner = describe_status(self._process.status())
                raise self._launch_error(f"ended {manner} before its monitor answered") from None
            raise self._launch_error(f"runs, but its monitor hung up: {error}") from error
        except TimeoutError:
            raise self._launch_error(
                f"runs, but its monitor did not answer within {self.timeout:g} s"
                + ("; does the script end?" if self._script else "")
            ) from None

    def _launch_error(self, what: str) -> VMLaunchError:
        if _NO_PLUGINS in self.log:
            what += "; it was built without TCG plugins: use shim='preload', or another QEMU"
        return VMLaunchError(
            f"VM {self.name!r}: QEMU {what}; its log is {self._files.log_path}, its command line: "
            f"{shlex.join(self.command)}"
        )

    def _clean_up(self, keep: bool) -> None:
        if self._control is not None:
            self._control.close()
        if self._monitor is not None:
            self._monitor.close()
        if self._process is not None:
            self._process.close()
        self._control = self._monitor = self._process = None
        self._files.close(keep)

    def quit(self) -> int | None:
        """End QEMU and return its exit status, -N for signal N, None for a daemon.

        It is no error if QEMU has ended before.  Raises :class:`VMError` if it does not end.
        """
        return self._quit(self.timeout)

    def wait(self) -> int | None:
        """Wait until QEMU has ended and return its exit status, as :meth:`quit` does.

        Raises :class:`VMError` when it still runs after the timeout.
        """
        return self._wait(self.timeout)

    def _quit(self, timeout: float) -> int | None:
        deadline = time.monotonic() + timeout
        if self._monitor is not None and not self._running("quit").ended():
            # QEMU may end before it sends its answer; only the process shows whether it ended.
            with contextlib.suppress(MonitorLost, TimeoutError, CommandError):
                self._monitor.execute("quit", {}, timeout)
        return self._wait(max(0.1, deadline - time.monotonic()))

    def _wait(self, timeout: float) -> int | None:
        process = self._running("wait")
        if not process.ended(timeout):
            error = VMError(f"VM {self.name!r}: QEMU did not end within {timeout:g} s")
            self.add_report(error)
            raise error
        self._read_out()
        self._end_reported = True
        return process.status()

    def _read_out(self) -> None:
        """Receive the last events of a process that has ended."""
        if self._monitor is not None:
            self._monitor.read_out(_GRACE_SECONDS)

    # -------------------------------------------------------- observation

    @property
    def pid(self) -> int:
        """QEMU's process id; raises :class:`VMError` when this VM has not been entered."""
        return self._running("pid").pid

    @property
    def folder(self) -> Path:
        """The folder of this run's logs."""
        return self._files.folder

    @property
    def log(self) -> str:
        """Everything that QEMU and its script have written to stdout and stderr so far."""
        return self._files.log

    @property
    def python(self) -> Control:
        """Python in the script's ``__main__``; raises :class:`VMError` without a script."""
        if self._control is None:
            raise VMError(
                f"VM {self.name!r} has no Python to evaluate in: it was started without script=, "
                "or does not run"
            )
        return self._control

    @property
    def events(self) -> list[dict[str, Any]]:
        """QMP's events so far, oldest first: STOP, RESUME, MIGRATION, JOB_STATUS_CHANGE, ..."""
        return [] if self._monitor is None else list(self._monitor.events)

    def wait_event(self, name: str, after: int = 0) -> dict[str, Any]:
        """Wait for an event *name* after the first *after* of :attr:`events`, and return it.

        Take ``len(vm.events)`` before the action that causes the event.  Raises :class:`VMError`.
        """
        return self.wait_until(
            lambda: next((e for e in self.events[after:] if e["event"] == name), None),
            f"the event {name}",
        )

    def wait_until(self, condition: Callable[[], T | None], what: str) -> T:
        """Call *condition* at each event and every 20 ms until it is true, and return its value.

        Raises :class:`VMError`, which names the condition *what*, after the timeout, and when
        QEMU ends.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            seen = len(self.events)
            if value := condition():
                return value
            if self._running(what).ended():
                self._read_out()
                if len(self.events) > seen:
                    continue
                raise self._end_error(what)
            if time.monotonic() > deadline:
                error = VMError(f"VM {self.name!r}: waited {self.timeout:g} s for {what}, in vain")
                self.add_report(error)
                raise error
            if self._monitor is not None:
                self._monitor.wait_for_event(seen, _POLL_SECONDS)

    # ------------------------------------------------------------ control

    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None, /, **named: Any) -> Any:
        """Run the QMP *command* and return its result.

        Arguments come as a mapping, by keyword (``job_id=`` is QMP's ``job-id``), or both.
        Raises :class:`VMError` with QEMU's error, or when QEMU ends or does not answer.
        """
        arguments = dict(arguments or {})
        arguments.update((key.replace("_", "-"), value) for key, value in named.items())
        self._running(command)
        assert self._monitor is not None
        try:
            return self._monitor.execute(command, arguments, self.timeout)
        except CommandError as error:
            raise VMError(
                f"VM {self.name!r}: QEMU refuses {_spell_command(command, arguments)}: {error}"
            ) from error
        except TimeoutError:
            late = VMError(
                f"VM {self.name!r}: QEMU did not answer {_spell_command(command, arguments)} "
                f"within {self.timeout:g} s; does a hook or a script hold its lock?"
            )
            self.add_report(late)
            raise late from None
        except MonitorLost as error:
            raise self._end_error(_spell_command(command, arguments)) from error

    def stop(self) -> None:
        """Pause the machine; raises :class:`VMError`."""
        self.qmp("stop")

    def cont(self) -> None:
        """Let the machine run (again); raises :class:`VMError`."""
        self.qmp("cont")

    # -------------------------------------------------------------- errors

    def report(self) -> list[tuple[str, str]]:
        """Return what shows why this run failed, each with a title: the log's end, QMP's exchanges.

        The exchanges are the last commands, replies and events.  What is empty is left out.
        """
        return [
            (title, text)
            for title, text in (
                (f"The log of VM {self.name!r} ({self._files.log_path})", self._files.log_tail),
                (
                    f"The last QMP exchanges of VM {self.name!r} ({self.folder})",
                    str(self._exchanges),
                ),
            )
            if text
        ]

    def add_report(self, error: BaseException) -> None:
        """Add :meth:`report` to *error* as notes, unless it has those of this VM already."""
        for title, text in self.report():
            if not any(note.startswith(title) for note in getattr(error, "__notes__", ())):
                error.add_note(f"{title}:\n{text}")

    def _running(self, purpose: str) -> Process:
        if self._process is None:
            raise VMError(
                f"VM {self.name!r} does not run, and cannot do {purpose!r}: "
                "use it within its 'with' block"
            )
        return self._process

    def _end_error(self, what: str) -> VMError:
        process = self._running(what)
        if process.ended(_GRACE_SECONDS):
            self._end_reported = True
            manner = f"QEMU ended {describe_status(process.status())}"
        else:
            manner = f"QEMU (process {process.pid}) runs, but its monitor hung up"
        error = VMError(
            f"VM {self.name!r}: {manner} during {what}; its log is {self._files.log_path}"
        )
        self.add_report(error)
        return error


def _spell_command(command: str, arguments: Mapping[str, Any]) -> str:
    return f"'{command}'" + (f" with {dict(arguments)}" if arguments else "")
