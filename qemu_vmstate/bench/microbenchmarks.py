# SPDX-License-Identifier: GPL-2.0-or-later
"""Microbenchmarks: attributes, locks, complete calls, memory between calls, the import."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

from ..device.device import Device
from ..inprocess import load, save
from ..layout.vmstruct import VMStruct
from ..state.cells import Mutex
from ..state.migratable import Migratable, unwrap
from ..wire.annotations import u32
from .samples import rounds
from .serializers import pickled
from .shapes import SHAPES, make_device

__all__ = ["microbenchmarks"]

_LOOPS = 2000
_CALLED = "32 u32"

_Calls = dict[str, Callable[[], float]]


class Regs(VMStruct):
    """A layout class."""

    count: u32 = 1


class Counter(Device, name="bench-counter"):
    """A device with that layout class."""

    regs: Migratable[Mutex[Regs]]


class CRegs(ctypes.Structure):
    """The same fields for ctypes."""

    _fields_ = (("count", ctypes.c_uint32),)


@dataclasses.dataclass
class PlainRegs:
    """The same fields as a dataclass."""

    count: int = 1


def _loop(statement: str, **names: Any) -> Callable[[], float]:
    """Return a function that returns a statement's nanoseconds, without those of the loop."""
    # timeit turns the garbage collector off, but users pay for it.
    timed, empty = (
        timeit.Timer(code, gc.enable, time.thread_time_ns, names) for code in (statement, "pass")
    )
    return lambda: (timed.timeit(_LOOPS) - empty.timeit(_LOOPS)) / _LOOPS


def _cases() -> dict[str, _Calls]:
    """Return the calls of each case, measured in ns; their ratios are to the first of the case."""
    return _attributes() | _locks() | _complete_calls()


def _attributes() -> dict[str, _Calls]:
    with Counter().regs.lock() as inside:
        owners = {
            "ctypes.Structure": CRegs(1),
            "dataclass": PlainRegs(),
            "layout class": Regs(),
            "layout class in a guard of a Migratable": inside,
        }

    def case(statement: str) -> _Calls:
        return {name: _loop(statement, regs=regs) for name, regs in owners.items()}

    return {
        "get an attribute": case("regs.count"),
        "set an attribute": case("regs.count = 7"),
    }


def _locks() -> dict[str, _Calls]:
    dev, lock = Counter(), threading.Lock()
    locked = "with lock:\n    regs.count += 1"
    return {
        "lock and unlock": {
            "threading.Lock": _loop("with lock:\n    pass", lock=lock),
            "Mutex": _loop("with mutex.lock():\n    pass", mutex=unwrap(dev.regs)),
            "Migratable of a Mutex": _loop("with dev.regs.lock():\n    pass", dev=dev),
        },
        "lock, add 1, unlock": {
            "threading.Lock and ctypes.Structure": _loop(locked, lock=lock, regs=CRegs(1)),
            "threading.Lock and dataclass": _loop(locked, lock=lock, regs=PlainRegs()),
            "Migratable of a Mutex": _loop(
                "with dev.regs.lock() as regs:\n    regs.count += 1", dev=dev
            ),
        },
    }


def _complete_calls() -> dict[str, _Calls]:
    shape = SHAPES[_CALLED]()
    [plain] = pickled(shape).states
    dumped = pickle.dumps(plain)
    saves = {"pickle.dumps() of a dataclass": _loop("dumps(it)", dumps=pickle.dumps, it=plain)}
    loads = {"pickle.loads() of a dataclass": _loop("loads(it)", loads=pickle.loads, it=dumped)}
    for path in ("native", "derived"):
        device = make_device(shape, path)
        what = "device" if path == "native" else f"{path} device"
        saves[f"save({what})"] = _loop("save(it)", save=save, it=device)
        loads[f"load({what})"] = _loop("load(it, wire)", load=load, it=device, wire=save(device))
    return {f"save() call, {_CALLED}": saves, f"load() call, {_CALLED}": loads}


_IMPORT = """
import time
began = time.process_time()
{program}
print(1000 * (time.process_time() - began))
"""

# `import qemu_vmstate` alone imports nothing yet.
_DEVICE_CLASS = """
from qemu_vmstate import Device, Migratable, Mutex, VMStruct, u32
class Regs(VMStruct):
    count: u32 = 0
class Counter(Device, name="counter"):
    regs: Migratable[Mutex[Regs]]
"""

_IMPORTS = {"asyncio": "import asyncio", "qemu_vmstate and a device class": _DEVICE_CLASS}


def _import_ms(program: str, compiled: str) -> Callable[[], float]:
    """Return a function that returns the CPU time of a program in a new interpreter.

    The limit is one of milliseconds, so waiting for a processor or for the disk must not count.
    Nor must the compiler: pip compiles a package's modules, here the folder ``compiled`` has them.
    """
    timed = _IMPORT.format(program=program)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def ms() -> float:
        return float(_python(timed, environment=environment))

    ms()  # compiles
    return ms


_AT_REST = """
import sys
from qemu_vmstate import load, save
from qemu_vmstate.bench.shapes import SHAPES, make_device
from qemu_vmstate.process_memory import resident_memory
before = resident_memory()
dev = make_device(SHAPES["buffer 64 MiB"](), sys.argv[1])
load(dev, save(dev))
print((resident_memory() - before) / 2**20)
"""


def _at_rest(path: str) -> float:
    """Return the MiB that a device with a buffer of 64 MiB holds after a save and a load."""
    return float(_python(_AT_REST, path))


def _python(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def microbenchmarks(turns: int, imports: int, seconds: float = 2.0) -> Iterator[dict[str, Any]]:
    """Measure, and yield the rows of the benchmark's ``microbenchmarks``.

    Each case has ``turns`` samples, but takes at most ``seconds``; the import has ``imports``
    samples, each in a new interpreter.
    """
    for what, calls in _cases().items():
        to = next(iter(calls))
        samples = rounds(calls, turns, seconds)
        for name in calls:
            yield _row(what, name, "ns", samples.median(name), samples.ratio(name, to), to)
    with tempfile.TemporaryDirectory() as compiled:
        calls = {name: _import_ms(program, compiled) for name, program in _IMPORTS.items()}
        samples = rounds(calls, imports, 10 * seconds)
    for name in _IMPORTS:
        ratio = samples.ratio(name, "asyncio")
        yield _row("import", name, "ms", samples.median(name), ratio, "asyncio")
    for path in ("native", "fast path"):
        mib = _at_rest(path)
        yield _row("64 MiB buffer part, idle", path, "mib", mib, mib / 64, "the buffer")


def _row(what: str, name: str, unit: str, value: float, ratio: float, to: str) -> dict[str, Any]:
    return {"what": what, "with": name, unit: value, "ratio": ratio, "to": to}
