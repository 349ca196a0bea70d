# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU of one's own: started in a folder of its own, asked, watched and ended.

Every wait has a deadline.  Every error of a QEMU that failed or ended carries the tail of its
log as a note.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ..embed.control import Control
from .launch import Door, Script, VMError, VMLaunchError, option, without_door
from .monitor import CommandError, Monitor, MonitorLost, Process

__all__ = ["DISK_NODE", "LOG_TAIL_LINES", "Machine"]

T = TypeVar("T")

LOG_TAIL_LINES = 60
"""How many lines of a QEMU's log go into an error."""

DISK_NODE = "qv-disk"
"""The block node of ``disk=``."""

_NO_PLUGINS = "plugin interface not enabled in this build"
_SOCKET_PATH_BYTES = 100  # sun_path holds 108, with a final NUL
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 5.0


class Machine:
    """A QEMU process, started by ``with`` and ended with it.

    * *script*, *args*: the Python script to run inside QEMU and its arguments; without a
      script it is a plain QEMU.
    * *door*: "plugin" or "preload", see :mod:`qemu_vmstate.launch`.
    * *qemu*: the program; *machine*: its ``-M``; *extra*: more of its arguments.
    * *native*: the folder of the shim (else $QEMU_VMSTATE_NATIVE, else the package's own);
      *python*: the interpreter to run in QEMU, a virtual environment's as well.
    * *name*: how errors and files call this VM.
    * *incoming*: wait for a migration (``-incoming defer``); *paused*: ``-S``.
    * *disk*: True for a qcow2 of the run's own to keep snapshots in, or the path of one, which
      is made if missing.
    * *daemonize*: ``-daemonize``; the exit status is then not known, and stdout is lost.
    * *folder*: for logs and sockets (kept); otherwise a temporary one, kept after a failure.
    * *timeout*: seconds, for every single wait.
    * *env*: variables to add to the process's environment.

    Entering raises :class:`VMLaunchError` when QEMU ends before its monitor answers.
    Leaving ends QEMU, and raises :class:`VMError` when its exit status is not 0 and no one was
    told yet; an exception on its way out gets the log as a note instead.
    """

    def __init__(
        self,
        script: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        *,
        door: Door = "plugin",
        qemu: str = "qemu-system-x86_64",
        native: str | os.PathLike[str] | None = None,
        python: str = sys.executable,
        machine: str = "none",
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
        if door not in ("plugin", "preload"):
            raise ValueError(f"VM {name!r}: the door {door!r} is neither 'plugin' nor 'preload'")
        self.name = name
        """How errors and files call this VM."""
        self.incoming = incoming
        """Whether it was started to wait for a migration."""
        self.timeout = timeout
        """Seconds that any single wait may take."""
        self.command: list[str] = []
        """QEMU's command line, once started."""
        self.version: tuple[int, int, int] = (0, 0, 0)
        """The version of the running QEMU: major, minor, micro."""
        self._script = None if script is None else Script(script, tuple(args), door, native, python)
        self._qemu, self._machine, self._extra = qemu, machine, list(extra)
        self._paused, self._daemonize, self._disk = paused, daemonize, disk
        self._env = dict(env or {})
        self._door: list[str] = []
        self._own_folder = folder is None
        self._folder = Path() if folder is None else Path(folder).absolute()
        self._sockets: Path | None = None
        self._monitor: Monitor | None = None
        self._process: Process | None = None
        self._control: Control | None = None
        self._last_log = ""
        self._end_told = False

    # ------------------------------------------------------ start and end

    def __enter__(self) -> Self:
        if self._process is not None:
            raise VMError(f"VM {self.name!r} runs already: make another VM object")
        self._end_told = False
        if self._own_folder:
            self._folder = Path(tempfile.mkdtemp(prefix="qemu-vmstate-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        # An earlier run's process id would be another process by now.
        for kind in ("pid", "log", "daemon.log"):
            self._file(kind).unlink(missing_ok=True)
        try:
            self._launch()
        except BaseException as error:
            if self._process is not None:
                self._process.kill(_GRACE_SECONDS)
            self._add_log(error)
            self._clean_up(keep=self._log_path.exists())
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
        told = self._end_told
        try:
            # The body's own exception is the news, if there is one: no long wait, no other error.
            status = self._quit(self.timeout if error is None else _GRACE_SECONDS)
            if error is None and status and not told:
                raise VMError(
                    f"VM {self.name!r}: QEMU ended {_manner(status)}; its log is {self._log_path}"
                )
        except VMError as late:
            if error is None:
                error = late
                raise
        finally:
            self._process.kill(_GRACE_SECONDS)
            if error is not None:
                self._add_log(error)
            self._clean_up(keep=error is not None)

    def _launch(self) -> None:
        environment = without_door(os.environ)
        if self._script is not None:
            try:
                environment = self._script.environment(os.environ)
                self._door = self._script.qemu_arguments()
            except VMLaunchError as error:
                raise VMLaunchError(f"VM {self.name!r} cannot be started: {error}") from error
            path, key = self._socket("control"), secrets.token_bytes(16)
            environment["QEMU_VMSTATE_CONTROL"] = path
            environment["QEMU_VMSTATE_CONTROL_KEY"] = key.hex()
            self._control = Control(path, key, self.timeout)
        environment.update(self._env)
        self._monitor = Monitor(self.name)
        # A pair, not a path: nothing to wait for, and its end is QEMU's end.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            self.command = self._command_line(theirs.fileno())
            self._spawn(theirs, environment)
            theirs.close()
            self._greet(socket.socket(fileno=ours.detach()))
        known = self.qmp("query-version")["qemu"]
        self.version = (known["major"], known["minor"], known["micro"])
        # Is not in the stream, and without it a wait could only poll.
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    def _command_line(self, monitor: int) -> list[str]:
        command = [
            self._qemu,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-M",
            self._machine,
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
            settings = {"node-name": DISK_NODE, "file.filename": self._disk_file()}
            command += ["-blockdev", option("qcow2", **{"file.driver": "file"}, **settings)]
        if self._daemonize:
            # A daemon's stderr is kept in QEMU's own log only, which needs a mask.
            command += [
                "-daemonize",
                "-pidfile",
                str(self._file("pid")),
                "-d",
                "guest_errors",
                "-D",
                str(self._file("daemon.log")),
            ]
        return command + self._door + self._extra

    def _spawn(self, monitor: socket.socket, environment: Mapping[str, str]) -> None:
        with open(self._log_path, "wb") as log:
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
            raise self._launch_error(f"ended {_manner(status)} before it became a daemon")
        self._adopt_daemon()

    def _adopt_daemon(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            daemon = Process(int(self._file("pid").read_text()), None)
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
                manner = _manner(self._process.status())
                raise self._launch_error(f"ended {manner} before its monitor answered") from None
            raise self._launch_error(f"runs, but its monitor hung up: {error}") from error
        except TimeoutError:
            raise self._launch_error(
                f"runs, but its monitor did not answer within {self.timeout:g} s"
                + ("; does the script end?" if self._script else "")
            ) from None

    def _launch_error(self, what: str) -> VMLaunchError:
        if _NO_PLUGINS in self.log:
            what += "; it was built without TCG plugins: use door='preload', or another QEMU"
        return VMLaunchError(
            f"VM {self.name!r}: QEMU {what}; its log is {self._log_path}, its command line: "
            f"{shlex.join(self.command)}"
        )

    def _clean_up(self, keep: bool) -> None:
        self._last_log = self.log
        if self._control is not None:
            self._control.close()
        if self._monitor is not None:
            self._monitor.close()
        if self._process is not None:
            self._process.close()
        self._control = self._monitor = self._process = None
        if self._sockets not in (None, self._folder):
            shutil.rmtree(str(self._sockets), ignore_errors=True)
        self._sockets = None
        if self._own_folder and not keep:
            shutil.rmtree(self._folder, ignore_errors=True)

    def quit(self) -> int | None:
        """End QEMU and return its exit status, -N for signal N, None for a daemon.

        It is no error when QEMU has ended before.  Raises :class:`VMError` when it does not.
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
            # QEMU may be gone before its answer is out; the process tells the truth.
            with contextlib.suppress(MonitorLost, TimeoutError, CommandError):
                self._monitor.execute("quit", {}, timeout)
        return self._wait(max(0.1, deadline - time.monotonic()))

    def _wait(self, timeout: float) -> int | None:
        process = self._running("wait")
        if not process.ended(timeout):
            error = VMError(f"VM {self.name!r}: QEMU did not end within {timeout:g} s")
            self._add_log(error)
            raise error
        self._read_out()
        self._end_told = True
        return process.status()

    def _read_out(self) -> None:
        """The process has ended, and what it said last may not have been read yet."""
        if self._monitor is not None:
            self._monitor.read_out(_GRACE_SECONDS)

    # ------------------------------------------------------------ looking

    @property
    def pid(self) -> int:
        """QEMU's process id; raises :class:`VMError` when this VM has not been entered."""
        return self._running("pid").pid

    @property
    def folder(self) -> Path:
        """Where this run keeps its logs."""
        return self._folder

    @property
    def log(self) -> str:
        """What QEMU and its script have written to stdout and stderr so far."""
        texts = []
        for path in (self._log_path, self._file("daemon.log")):
            with contextlib.suppress(OSError):
                texts.append(path.read_text(errors="replace"))
        return "".join(texts) if texts else self._last_log

    @property
    def python(self) -> Control:
        """Python in the script's ``__main__``; raises :class:`VMError` without a script."""
        if self._control is None:
            raise VMError(
                f"VM {self.name!r} has no Python to talk to: it was started without script=, "
                "or does not run"
            )
        return self._control

    @property
    def events(self) -> list[dict[str, Any]]:
        """QMP's events so far, oldest first: STOP, RESUME, MIGRATION, JOB_STATUS_CHANGE, ..."""
        return [] if self._monitor is None else list(self._monitor.events)

    def wait_event(self, name: str, after: int = 0) -> dict[str, Any]:
        """The first event *name* that is not among the first *after* of :attr:`events`.

        Take ``len(vm.events)`` before what shall cause it.  Raises :class:`VMError`.
        """
        return self.wait_until(
            lambda: next((e for e in self.events[after:] if e["event"] == name), None),
            f"the event {name}",
        )

    def wait_until(self, condition: Callable[[], T | None], what: str) -> T:
        """Ask *condition* again, at each event and every 20 ms, until it is true; its value.

        Raises :class:`VMError`, which calls the condition *what*, after the timeout, and when
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
                self._add_log(error)
                raise error
            if self._monitor is not None:
                self._monitor.wait_for_news(seen, _POLL_SECONDS)

    # ------------------------------------------------------------ control

    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None, /, **named: Any) -> Any:
        """Run the QMP *command* and return what it returns.

        Arguments come as a mapping, by keyword (``job_id=`` is QMP's ``job-id``), or both.
        Raises :class:`VMError` with QEMU's error, or when QEMU ends or does not answer.
        """
        whole = dict(arguments or {})
        whole.update((key.replace("_", "-"), value) for key, value in named.items())
        self._running(command)
        assert self._monitor is not None
        try:
            return self._monitor.execute(command, whole, self.timeout)
        except CommandError as error:
            raise VMError(
                f"VM {self.name!r}: QEMU refuses {_spelt(command, whole)}: {error}"
            ) from error
        except TimeoutError:
            late = VMError(
                f"VM {self.name!r}: QEMU did not answer {_spelt(command, whole)} within "
                f"{self.timeout:g} s; does a hook or a script hold its lock?"
            )
            self._add_log(late)
            raise late from None
        except MonitorLost as error:
            raise self._end_error(_spelt(command, whole)) from error

    def stop(self) -> None:
        """Pause the machine; raises :class:`VMError`."""
        self.qmp("stop")

    def cont(self) -> None:
        """Let the machine run (again); raises :class:`VMError`."""
        self.qmp("cont")

    def _disk_file(self) -> str:
        path = self._file("qcow2") if self._disk is True else Path(str(self._disk)).absolute()
        if path.exists():
            return str(path)
        beside = Path(shutil.which(self._qemu) or self._qemu).with_name("qemu-img")
        tool = str(beside) if beside.exists() else "qemu-img"
        try:
            subprocess.run(
                [tool, "create", "-q", "-f", "qcow2", str(path), "16M"],
                check=True,
                capture_output=True,
                text=True,
                timeout=self.timeout,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or error
            raise VMLaunchError(
                f"VM {self.name!r}: {tool} cannot make the disk {path}: {said}"
            ) from error
        return str(path)

    # -------------------------------------------------------------- words

    @property
    def _log_path(self) -> Path:
        return self._file("log")

    def _file(self, kind: str) -> Path:
        return self._folder / f"{self.name}.{kind}"

    def _socket(self, kind: str) -> str:
        if self._sockets is None:
            longest = os.fsencode(self._folder / f"{self.name}.incoming")
            if len(longest) <= _SOCKET_PATH_BYTES and b"," not in longest:
                self._sockets = self._folder
            else:
                self._sockets = Path(tempfile.mkdtemp(prefix="qv-", dir="/tmp"))
        path = self._sockets / f"{self.name}.{kind}"
        path.unlink(missing_ok=True)
        return str(path)

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
            self._end_told = True
            manner = f"QEMU ended {_manner(process.status())}"
        else:
            manner = f"QEMU (process {process.pid}) runs, but its monitor hung up"
        error = VMError(f"VM {self.name!r}: {manner} during {what}; its log is {self._log_path}")
        self._add_log(error)
        return error

    def _add_log(self, error: BaseException) -> None:
        """Add the log's tail as a note, once for each VM however many errors pass by."""
        title = f"The log of VM {self.name!r} ({self._log_path}):\n"
        log = self.log
        if not log or any(n.startswith(title) for n in getattr(error, "__notes__", ())):
            return
        error.add_note(title + "\n".join(log.splitlines()[-LOG_TAIL_LINES:]))


def _spelt(command: str, arguments: Mapping[str, Any]) -> str:
    return f"'{command}'" + (f" with {dict(arguments)}" if arguments else "")


def _manner(status: int | None) -> str:
    if status is None:
        return "with a status that a daemon does not tell"
    if status >= 0:
        return f"with status {status}"
    try:
        return f"with status {status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"with status {status} (signal {-status})"
