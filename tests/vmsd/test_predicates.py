# SPDX-License-Identifier: GPL-2.0-or-later
"""``field_exists`` called as C does, with the memory that it is called for."""

from __future__ import annotations

import gc
from typing import Any

from qemu_vmstate import VMStruct, u32
from qemu_vmstate.bindings.native import ffi
from qemu_vmstate.vmsd.predicates import exists_callback, forget, watch


class Regs(VMStruct):
    count: u32 = 0


class Garbage:
    """A cycle that the collector frees; then it is another one, until ``addresses`` is empty."""

    def __init__(self, addresses: list[int]) -> None:
        self.itself, self.addresses = self, addresses

    def __del__(self) -> None:
        if self.addresses:
            forget(self.addresses.pop())
            Garbage(self.addresses)


def test_memory_may_be_forgotten_by_the_collector_while_an_error_is_reported() -> None:
    """The collector may run at any allocation, and frees staging structs."""

    def fails(struct: Regs, version_id: int) -> bool:
        raise ValueError

    memory = ffi.new("char[]", Regs.__layout__.size)
    address = int(ffi.cast("uintptr_t", memory))
    others = list(range(1, 2001))
    told: list[tuple[Any, ...]] = []
    for other in others:
        watch(other, 1, lambda *args: told.append(args))
    watch(address, len(memory), lambda *args: told.append(args))
    exists = exists_callback(Regs, 0, fails, "regs")
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        Garbage(others)
        assert not exists(memory, 1)
    finally:
        gc.set_threshold(*threshold)
        for other in (address, *others):
            forget(other)
        others.clear()
    assert [(type(exc), *rest) for exc, *rest in told] == [
        (ValueError, 0, Regs, "regs.field_exists()")
    ]
