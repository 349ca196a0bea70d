# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's script inside a VM: devices in the savevm list, and busy threads.

vm.py passes it to ``VM(script=...)`` and calls its functions over the VM's control channel.
``path`` is ``native``, ``fast path`` or ``reference``.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from typing import Any

from qemu_vmstate.bench.native import ffi, lib
from qemu_vmstate.bench.shapes import SHAPES, ReferenceDevice, make_device
from qemu_vmstate.process_memory import resident_memory
from qemu_vmstate.registration import register

SHAPE = SHAPES["buffer 128 B"]()

_subjects: list[Any] = []
_stop = threading.Event()
_busy: list[threading.Thread] = []


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident_memory()


def grow(path: str, devices: int) -> dict[str, float]:
    """Make and register devices until there are ``devices``, and return the cost of a new one.

    ``register_us`` and ``make_us`` are the CPU time of each step, ``bytes`` is the memory that
    both take besides the state.
    """
    first, count = len(_subjects), devices - len(_subjects)
    lib().qv_mark_unregister(1)
    memory = _resident()
    began = time.thread_time()
    if path == "reference":
        new: list[Any] = [ReferenceDevice(SHAPE) for _ in range(count)]
        array = ffi.new("QvReferenceDevice *[]", [reference.cdata for reference in new])
    else:
        new = [make_device(SHAPE, path) for _ in range(count)]
    made = time.thread_time()
    if path == "reference":
        # One call for all, because a C device is registered without Python.
        lib().qv_reference_devices_register(array, count, first, False)
    else:
        for index, device in enumerate(new, first):
            register(device, index)
    done = time.thread_time()
    _subjects.extend(new)
    del new
    lib().qv_mark_register(1)
    each = max(1, count)
    return {
        "make_us": (made - began) * 1e6 / each,
        "register_us": (done - made) * 1e6 / each,
        "bytes": (_resident() - memory) / each - SHAPE.bytes,
    }


def register_again() -> float:
    """Register the reference devices with QEMU's numbers; return the microseconds of each."""
    for subject in _subjects:
        lib().qv_reference_device_unregister(subject.cdata)
    array = ffi.new("QvReferenceDevice *[]", [reference.cdata for reference in _subjects])
    began = time.thread_time()
    lib().qv_reference_devices_register(array, len(_subjects), 0, True)
    return (time.thread_time() - began) * 1e6 / max(1, len(_subjects))


def _spin() -> None:
    count = 0
    while not _stop.is_set():
        for _ in range(1000):
            count += 1


def busy(threads: int) -> None:
    """Replace the busy threads by ``threads`` that compute and never wait."""
    _stop.set()
    for thread in _busy:
        thread.join()
    _stop.clear()
    _busy[:] = [threading.Thread(target=_spin, daemon=True) for _ in range(threads)]
    for thread in _busy:
        thread.start()


def span_ms(loaded: bool = False) -> float:
    """Return the milliseconds between the two marks in the last save, or in the last load."""
    at = lib().qv_mark_loaded if loaded else lib().qv_mark_saved
    return float(at(1) - at(0)) / 1e6


def resumed_ms(seconds: int, microseconds: int) -> float:
    """Return the milliseconds from the first mark of the last load to a QMP event's time."""
    since_boot = seconds * 10**9 + microseconds * 1000 - (time.time_ns() - time.monotonic_ns())
    return float(since_boot - lib().qv_mark_loaded(0)) / 1e6


if __name__ == "__main__":
    lib().qv_mark_register(0)
    lib().qv_mark_register(1)
