# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark in VMs: migrations with many devices and busy Python threads."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..vm.vm import VM
from . import vm_script
from .process import REFERENCE
from .samples import Samples, rounds

__all__ = ["VM_PATHS", "in_vms"]

VM_PATHS = (REFERENCE, "native", "fast path")

_Rows = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def in_vms(
    qemu: str,
    counts: Sequence[int],
    threads: Sequence[int],
    turns: int,
    seconds: float,
    load_counts: Sequence[int] = (),
    extra: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> _Rows:
    """Return the rows of ``vm``, and those of ``microbenchmarks`` (registration, memory).

    ``qemu`` is the program, ``extra`` its further arguments.  Each of ``counts``, the
    numbers of devices in ascending order, is combined with each of ``threads``, the
    numbers of busy threads.  A combination has ``turns`` migrations, or fewer if they
    take ``seconds``.  With ``load_counts`` devices, snapshots and incoming migrations are
    loaded too.  ``say`` is called with each step that begins.  Raises ``VMError``.
    """
    rows: list[dict[str, Any]] = []
    registrations: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qemu-vmstate-")))
        sink = stack.enter_context(_sink(folder / "sink"))

        def incoming(path: str) -> VM:
            script, name = vm_script.__file__, f"{path.replace(' ', '-')}-incoming"
            return VM(script=script, qemu=qemu, extra=extra, name=name, incoming=True)

        vms = {
            path: stack.enter_context(
                VM(
                    script=vm_script.__file__,
                    qemu=qemu,
                    extra=extra,
                    name=path.replace(" ", "-"),
                    disk=bool(load_counts),
                )
            )
            for path in VM_PATHS
        }
        for devices in counts:
            say(f"in VMs: making {devices} devices")
            grown = {path: vm.python.call("grow", path, devices) for path, vm in vms.items()}
            if devices >= 1000:
                registrations += _registration(devices, grown)
            for busy in threads:
                say(f"in VMs: {devices} devices beside {busy} busy threads")
                measured = _Measured(vms, busy)
                calls = {path: measured.migration(path, sink) for path in VM_PATHS}
                rounds(calls, turns, seconds)
                if devices in load_counts:
                    rounds({path: measured.snapshot(path) for path in VM_PATHS}, turns, seconds)
                    calls = {
                        path: measured.incoming(path, devices, folder, incoming)
                        for path in VM_PATHS
                    }
                    rounds(calls, turns, seconds)
                rows += measured.rows(devices)
        if counts[-1] >= 1000:
            say("in VMs: registering C devices that QEMU numbers")
            registrations.append(_numbered_by_qemu(counts[-1], vms[REFERENCE], grown))
    return rows, registrations


@contextlib.contextmanager
def _sink(path: Path) -> Iterator[str]:
    """Give the URI of a socket at ``path`` that reads everything and keeps nothing.

    QEMU forks for ``exec:``, and then copies each page that the save writes to: no live migration
    does.
    """

    def drain() -> None:
        memory = bytearray(1 << 20)
        with contextlib.suppress(OSError):  # the listening socket was shut down
            while True:
                connection, _ = listening.accept()
                with connection:
                    while connection.recv_into(memory):
                        pass

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=drain)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _numbered_by_qemu(
    devices: int, references: VM, grown: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Return the row of reference devices whose instance ids QEMU chooses."""
    us, reference = references.python.call("register_again"), grown[REFERENCE]["register_us"]
    return {
        "what": f"register one device, up to {devices}",
        "with": f"{REFERENCE}, numbered by QEMU",
        "us": us,
        "ratio": us / reference,
        "to": REFERENCE,
    }


class _Measured:
    """The samples of one combination of devices and busy threads."""

    def __init__(self, vms: dict[str, VM], busy: int) -> None:
        self._vms, self._busy = vms, busy
        self._samples: dict[str, Samples] = {}

    @contextlib.contextmanager
    def _with_threads(self, vm: VM) -> Iterator[None]:
        # Busy threads in the VMs that wait would take a share of the machine.
        vm.python.call("busy", self._busy)
        try:
            yield
        finally:
            vm.python.call("busy", 0)

    def _add(self, path: str, **values: float) -> None:
        for name, value in values.items():
            self._samples.setdefault(name, Samples()).add(path, value)

    def migration(self, path: str, uri: str) -> Any:
        """Return a function that migrates the VM of ``path`` to ``uri``."""
        vm = self._vms[path]

        def call() -> float:
            with self._with_threads(vm):
                vm.migrate(uri)
                info = vm.wait_migration()
            span = vm.python.call("span_ms")
            vm.cont()
            self._add(
                path,
                downtime_ms=info["downtime"],
                total_ms=info["total-time"],
                hooks_ms=span,
            )
            return float(span)

        return call

    def snapshot(self, path: str) -> Any:
        """Save a snapshot of the VM of ``path``, and return a function that loads it."""
        vm = self._vms[path]
        tag = f"with-{len(self._samples)}-{self._busy}-{id(self)}"
        vm.snapshot_save(tag)

        def call() -> float:
            with self._with_threads(vm):
                vm.snapshot_load(tag)
            span = vm.python.call("span_ms", True)
            vm.cont()
            self._add(path, load_hooks_ms=span)
            return float(span)

        return call

    def incoming(
        self, path: str, devices: int, folder: Path, start: Callable[[str], VM]
    ) -> Callable[[], float]:
        """Save the VM of ``path`` as a stream, and return a function that loads it.

        It is loaded by a VM of ``start(path)``, a new one each time because a VM takes only
        one.  A file is read faster than a source saves, which would be measured, too.
        """
        stream = folder / f"{devices} of {path}"
        self._vms[path].migrate_to_file(stream)
        self._vms[path].cont()

        def call() -> float:
            with start(path) as vm:
                vm.python.call("grow", path, devices)
                with self._with_threads(vm):
                    vm.load_from_file(stream)
                    resumed = vm.wait_event("RESUME")["timestamp"]
                span = vm.python.call("span_ms", True)
                running = vm.python.call("resumed_ms", resumed["seconds"], resumed["microseconds"])
            self._add(path, incoming_ms=span, incoming_running_ms=running)
            return float(span)

        return call

    def rows(self, devices: int) -> Iterator[dict[str, Any]]:
        """Yield the row of each path."""
        # QEMU reports whole milliseconds, too coarse for a short downtime; the marks have ns.
        downtime = self._samples["downtime_ms"]
        basis = "downtime_ms" if downtime.median(REFERENCE) >= 20 else "hooks_ms"
        for path in VM_PATHS:
            row: dict[str, Any] = {
                "devices": devices,
                "path": path,
                "busy_threads": self._busy,
            }
            for name, samples in self._samples.items():
                row[name] = samples.median(path)
            row["ratio_to_reference"] = self._samples[basis].ratio(path, REFERENCE)
            row["ratio_of"] = basis
            row["noise"] = self._samples[basis].noise(path)
            if incoming := self._samples.get("incoming_ms"):
                row["incoming_ratio_to_reference"] = incoming.ratio(path, REFERENCE)
            yield row


def _registration(devices: int, grown: dict[str, dict[str, float]]) -> Iterator[dict[str, Any]]:
    reference = grown[REFERENCE]
    for path, values in grown.items():
        for what, key, unit in (
            ("register one device", "register_us", "us"),
            ("memory of one device", "bytes", "bytes"),
        ):
            yield {
                "what": f"{what}, up to {devices}",
                "with": path,
                unit: values[key],
                "ratio": values[key] / reference[key],
                "to": REFERENCE,
            }
