# SPDX-License-Identifier: GPL-2.0-or-later
"""A program whose threads save and load devices of new classes for the first time, all at once."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from qemu_vmstate import Array, Device, Migratable, Mutex, VMStruct, load, save, u16, u32, zeroed

THREADS, ROUNDS = 4, 60


def new_class() -> type[Any]:
    class Inner(VMStruct):
        a: u32 = 5
        b: u16 = 1

    class Outer(VMStruct):
        words: Array[u32, Literal[16]] = zeroed()
        inner: Inner

    class Own(Device, name="own"):
        outer: Migratable[Mutex[Outer]]
        inner: Migratable[Mutex[Inner]]

    return Own


def work(cls: type[Any], together: threading.Barrier) -> bytes:
    device = cls()
    together.wait(60)
    for _ in range(20):
        data = save(device)
        load(device, data)
    return data


if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    expected = bytes(64) + 2 * bytes([0, 0, 0, 5, 0, 1])
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(ROUNDS):
            cls, together = new_class(), threading.Barrier(THREADS)
            calls = [pool.submit(work, cls, together) for _ in range(THREADS)]
            assert {call.result() for call in calls} == {expected}
