# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark in VMs: what a migration costs with many devices and busy Python threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
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
    """Measure migrations; the rows of ``vm``, and of ``microbenchmarks`` (registration, memory).

    ``qemu``: the program, with ``extra`` arguments; ``counts``: of devices, upwards;
    ``threads``: how many busy ones; ``turns``: migrations of each, fewer once a
    combination took ``seconds``; ``load_counts``: those of ``counts`` that are also
    loaded, from a snapshot; ``say`` hears how far it is.  Raises ``VMError``.
    """
    rows: list[dict[str, Any]] = []
    registrations: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
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
                rounds({path: measured.migration(path) for path in VM_PATHS}, turns, seconds)
                if devices in load_counts:
                    rounds({path: measured.snapshot(path) for path in VM_PATHS}, turns, seconds)
                rows += measured.rows(devices)
        if counts[-1] >= 1000:
            say("in VMs: registering C devices as most are")
            registrations.append(_as_most(counts[-1], vms[REFERENCE], grown))
    return rows, registrations


def _as_most(devices: int, references: VM, grown: dict[str, dict[str, float]]) -> dict[str, Any]:
    us, reference = references.python.call("register_again"), grown[REFERENCE]["register_us"]
    return {
        "what": f"register one device, up to {devices}",
        "with": f"{REFERENCE}, numbered by QEMU",
        "us": us,
        "ratio": us / reference,
        "to": REFERENCE,
    }


class _Measured:
    """Samples of one combination."""

    def __init__(self, vms: dict[str, VM], busy: int) -> None:
        self._vms, self._busy = vms, busy
        self._samples: dict[str, Samples] = {}

    @contextlib.contextmanager
    def _with_threads(self, vm: VM) -> Iterator[None]:
        # Only in the VM that is measured: the others would have their share of the machine.
        vm.python.call("busy", self._busy)
        try:
            yield
        finally:
            vm.python.call("busy", 0)

    def _add(self, path: str, **values: float) -> None:
        for name, value in values.items():
            self._samples.setdefault(name, Samples()).add(path, value)

    def migration(self, path: str) -> Any:
        """Return a call that migrates the VM of ``path`` to nowhere."""
        vm = self._vms[path]

        def call() -> float:
            with self._with_threads(vm):
                vm.migrate("exec:cat >/dev/null")
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
        """Return a call that loads the VM of ``path`` from a snapshot."""
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

    def rows(self, devices: int) -> Iterator[dict[str, Any]]:
        """One for each path."""
        # QEMU counts whole milliseconds; where they are few, the marks count finer.
        downtime = self._samples["downtime_ms"]
        fine = downtime.median(REFERENCE) >= 20
        basis = "downtime_ms" if fine else "hooks_ms"
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
