# SPDX-License-Identifier: GPL-2.0-or-later
r"""VMs that migrate and are saved as snapshots.

    with VM(script="dev.py", name="source") as source, \\
         VM(script="dev.py", name="target", incoming=True) as target:
        source.python.exec("dev.regs.lock().value.config = 7")
        source.migrate_to(target)

QEMU documents the commands in docs/interop/qemu-qmp-ref, docs/devel/migration and
docs/system/invocation.rst.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from .launch import VMError, VMLaunchError
from .machine import DISK_NODE, Machine

__all__ = ["VM", "MigrationError", "VMError", "VMLaunchError"]

_FILE_TRANSPORT_SINCE = (8, 2, 0)
_EXIT_ON_ERROR_SINCE = (9, 1, 0)


class MigrationError(VMError):
    """A migration failed; the message has the error of each side."""


class VM(Machine):
    """A QEMU that migrates and takes snapshots, started by ``with`` and ended with it.

    * *script*, *args*: the Python script to run inside QEMU and its arguments; without a
      script it is a plain QEMU.
    * *shim*: how the shim is loaded: "plugin", as a TCG plugin, or "preload", by ``LD_PRELOAD``,
      which also works under KVM and in a QEMU without plugins.
    * *qemu*: the program; *machine*: its ``-M``, None for QEMU's own default or the one in *extra*;
      *extra*: further arguments of it.
      *python*: the interpreter to run in QEMU, which may belong to a virtual environment.
    * *name*: the VM's name in errors and in the names of files.
    * *incoming*: wait for a migration (``-incoming defer``); *paused*: ``-S``.
    * *disk*: the qcow2 for snapshots: True for a temporary one, or a path, where it is created if
      missing.
    * *daemonize*: ``-daemonize``; the exit status is then unknown, and stdout is lost.
    * *folder*: for logs and sockets (kept); otherwise a temporary one, kept after a failure.
    * *timeout*: seconds, for every single wait.
    * *env*: variables to add to the process's environment.

    Entering raises :class:`VMLaunchError` when QEMU ends before its monitor answers.
    Leaving ends QEMU, and raises :class:`VMError` when its exit status is not 0 and was
    not reported before; an exception that leaves the block gets :meth:`report` as notes instead.
    """

    _direction: Literal["out", "in"] = "out"
    _jobs = itertools.count()

    # ---------------------------------------------------------- migration

    def migrate(self, target: str | Mapping[str, Any]) -> None:
        """Begin to migrate to *target*, a URI or a channel's ``addr`` (QEMU 8.2 and later).

        Does not wait; see :meth:`wait_migration`.  Raises :class:`VMError`.
        """
        self._direction = "out"
        self.qmp("migrate", _destination(target))

    def migrate_incoming(self, source: str | Mapping[str, Any]) -> None:
        """Begin to accept a migration from *source*, as :meth:`migrate` names it.

        After a failure QEMU exits before 9.1; a later version continues and reports the error.
        """
        if not self.incoming:
            raise VMError(
                f"VM {self.name!r} cannot accept a migration: start it with incoming=True"
            )
        self._direction = "in"
        named = {"exit-on-error": False} if self.version >= _EXIT_ON_ERROR_SINCE else {}
        self.qmp("migrate-incoming", _destination(source) | named)

    def wait_migration(self) -> dict[str, Any]:
        """Wait for the end of this VM's migration, out or in, and return ``query-migrate``.

        Raises :class:`MigrationError` with QEMU's ``error-desc`` when it was not completed.
        """
        try:
            info = self.wait_until(self._settled_migration, "the end of its migration")
        except VMError as error:
            raise self._migration_error(str(error)) from error
        if info["status"] != "completed":
            reason = info.get("error-desc") or "QEMU reports the reason in its log only"
            raise self._migration_error(
                f"VM {self.name!r}: migration {'to it' if self._direction == 'in' else 'from it'} "
                f"has {info['status']}: {reason}"
            )
        return info

    def _settled_migration(self) -> dict[str, Any] | None:
        info: dict[str, Any] = self.qmp("query-migrate")
        if info.get("status") not in ("completed", "failed", "cancelled"):
            return None
        # The status changes before other results: in 7.2 the downtime, for example, is final only
        # after the machine has left the states of a migration.
        state = self.qmp("query-status")["status"]
        if self._direction == "in":
            settled = state != "inmigrate" or info["status"] != "completed"
        else:  # then postmigrate, or running after a failure or a background snapshot
            settled = state != "finish-migrate"
        return self.qmp("query-migrate") if settled else None

    def _migration_error(self, message: str, *others: VM) -> MigrationError:
        error = MigrationError(message)
        for vm in (self, *others):
            vm.add_report(error)
        return error

    def migrate_to(self, other: VM, via: Literal["unix", "tcp"] = "unix") -> dict[str, Any]:
        """Migrate to *other*, a VM started with ``incoming=True``, and wait for both.

        Returns the source's ``query-migrate`` (status, downtime and total-time in
        milliseconds, ...).  Raises :class:`MigrationError` with the reports and the logs of
        both; the source then continues, if it was running.
        """
        if via not in ("unix", "tcp"):
            raise ValueError(f"VM {self.name!r} migrates via 'unix' or 'tcp', not via {via!r}")
        ran = self.qmp("query-status")["running"]
        self.migrate(other._listen(via))
        done, reports = [], []
        for vm in (self, other):
            try:
                done.append(vm.wait_migration())
            except MigrationError as error:
                reports.append(str(error))
        if not reports:
            return done[0]
        # A side that has ended cannot be asked; its end is in the reports already.
        with contextlib.suppress(VMError):
            if (
                ran
                and self.qmp("query-status")["status"] == "postmigrate"
                and other._incoming_failed()
            ):
                self.cont()
                reports.append(f"VM {self.name!r} had completed its part, and runs on")
        raise self._migration_error(
            f"migration of VM {self.name!r} to VM {other.name!r} via {via} failed: "
            + "; ".join(reports),
            other,
        )

    def _listen(self, via: Literal["unix", "tcp"]) -> str:
        """Begin to accept a migration, and return the URI to migrate to."""
        if via == "unix":
            uri = f"unix:{self._files.socket_path('incoming')}"
            self.migrate_incoming(uri)
            return uri
        self.migrate_incoming("tcp:127.0.0.1:0")
        [address] = self.wait_until(
            lambda: self.qmp("query-migrate").get("socket-address"), "its listening address"
        )
        return f"tcp:{address['host']}:{address['port']}"

    def _incoming_failed(self) -> bool:
        """Return whether the migration to this VM has failed, so that its source may run."""
        if self._running("migrate-incoming").ended():
            return True
        return bool(self.qmp("query-migrate").get("status") == "failed")

    def migrate_to_file(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Migrate into the file *path*, which is replaced after all is written, and wait.

        Returns ``query-migrate``; the machine is then paused, and :meth:`cont` resumes it.
        Raises :class:`MigrationError`, and OSError when the folder of *path* is not writable.
        """
        file = Path(path).absolute()
        with tempfile.TemporaryDirectory(
            prefix=".migration-", dir=file.parent, ignore_cleanup_errors=True
        ) as folder:
            part, complete = Path(folder, "part"), Path(folder, "complete")
            if self.version >= _FILE_TRANSPORT_SINCE:
                self.migrate({"transport": "file", "filename": str(complete), "offset": 0})
                info = self.wait_migration()
            else:
                words = [shlex.quote(str(name)) for name in (part, part, complete)]
                self.migrate("exec:cat > {} && mv {} {}".format(*words))
                info = self.wait_migration()
                # QEMU does not wait for cat; the file has this name once all is written.
                self.wait_until(complete.exists, f"the last bytes of {file}")
            complete.replace(file)
        return info

    def load_from_file(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Load the machine from a file of :meth:`migrate_to_file`, and wait.

        The VM must have been started with ``incoming=True``.  Returns ``query-migrate``.
        Raises :class:`MigrationError`, and OSError when the file cannot be read.
        """
        file = Path(path).absolute()
        with open(file, "rb"):
            pass
        if self.version >= _FILE_TRANSPORT_SINCE:
            self.migrate_incoming({"transport": "file", "filename": str(file), "offset": 0})
        else:
            self.migrate_incoming(f"exec:cat {shlex.quote(str(file))}")
        return self.wait_migration()

    # ---------------------------------------------------------- snapshots

    def snapshot_save(self, tag: str) -> None:
        """Save the machine as the snapshot *tag* (``snapshot-save``, as HMP's savevm) and wait.

        Raises :class:`VMError` with the job's error.
        """
        self._snapshot_job("snapshot-save", tag=tag, vmstate=DISK_NODE, devices=[DISK_NODE])

    def snapshot_load(self, tag: str) -> None:
        """Load the snapshot *tag* (``snapshot-load``, as HMP's loadvm) and wait.

        Raises :class:`VMError` with the job's error; the machine is then paused.
        """
        self._snapshot_job("snapshot-load", tag=tag, vmstate=DISK_NODE, devices=[DISK_NODE])

    def snapshot_delete(self, tag: str) -> None:
        """Delete the snapshot *tag* (``snapshot-delete``); raises :class:`VMError`."""
        self._snapshot_job("snapshot-delete", tag=tag, devices=[DISK_NODE])

    def _snapshot_job(self, command: str, **arguments: Any) -> None:
        tag = arguments["tag"]
        if self._disk is False:
            raise VMError(
                f"VM {self.name!r} has no disk for the snapshot {tag!r}: start it with disk=True"
            )
        job = f"{command}-{next(self._jobs)}"
        self.qmp(command, arguments, job_id=job)

        def concluded() -> dict[str, Any] | None:
            jobs: list[dict[str, Any]] = self.qmp("query-jobs")
            return next((j for j in jobs if (j["id"], j["status"]) == (job, "concluded")), None)

        end = self.wait_until(concluded, f"the end of {command} {tag!r}")
        self.qmp("job-dismiss", id=job)
        if "error" in end:
            error = VMError(f"VM {self.name!r}: {command} {tag!r} failed: {end['error']}")
            self.add_report(error)
            raise error


def _destination(target: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(target, str):
        return {"uri": target}
    return {"channels": [{"channel-type": "main", "addr": dict(target)}]}
