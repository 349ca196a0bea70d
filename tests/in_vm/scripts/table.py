# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with a table whose entries vary in size, and a number behind it."""

from __future__ import annotations

from typing import Literal

from qemu_vmstate import Device, Migratable, Mutex, VArray, VBuffer, VMStruct, field, register, u32


class Entry(VMStruct, name="entry"):
    size_key: u32 = field(maximum=64)
    key: VBuffer[Literal[64]] = field(size="size_key")


class State(VMStruct, name="state"):
    num_table: u32 = 0
    table: VArray[Entry, Literal[1024]] = field(num="num_table")


class Table(Device, name="table"):
    state: Migratable[Mutex[State]]
    after: u32 = 0xAABBCCDD


if __name__ == "__main__":
    dev = Table()
    with dev.state.lock() as state:
        state.table = [Entry(key=b"k" * (index % 60)) for index in range(1000)]
    register(dev)
