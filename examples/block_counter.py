# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCG plugin in Python that counts how often the guest executes each of its basic blocks.

It registers its callbacks with QEMU's plugin API (include/qemu/qemu-plugin.h) by ``ctypes``, as a
plugin in C does; so it needs TCG, and the shim ``plugin``.  The counts migrate with the guest.
A call of Python for each block takes microseconds: the guest runs far slower than without.  At most
4,096 blocks are counted, those that are executed first.
"""

import ctypes
from collections import Counter
from dataclasses import dataclass

from qemu_vmstate import (
    DerivedState,
    Device,
    Migratable,
    Mutex,
    derive_to_migration_state,
    field,
    plugin_id,
    register,
    u64,
)

MOST = 4096


@derive_to_migration_state
@dataclass
class Blocks(DerivedState):
    """How often each block was executed, by its address in the guest."""

    counts: Counter[u64] = field(default_factory=Counter, max_length=MOST)


class BlockCounter(Device, name="pyblocks"):
    """What has a section in the stream."""

    blocks: Migratable[Mutex[Blocks]]


def executed(_vcpu: int, address: int | None) -> None:
    """Count a block, in the thread of a virtual CPU."""
    with dev.blocks.lock() as blocks:
        if address in blocks.counts or len(blocks.counts) < MOST:
            blocks.counts[address or 0] += 1


def translated(_plugin: int, block: int) -> None:
    """Let QEMU call ``executed()`` with the block's address whenever it executes the block."""
    address = ctypes.c_void_p(qemu.qemu_plugin_tb_vaddr(ctypes.c_void_p(block)))
    qemu.qemu_plugin_register_vcpu_tb_exec_cb(ctypes.c_void_p(block), on_executed, 0, address)


on_executed = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_void_p)(executed)
on_translated = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_void_p)(translated)
qemu = ctypes.CDLL(None)
qemu.qemu_plugin_tb_vaddr.restype = ctypes.c_uint64
dev = BlockCounter()
register(dev)
qemu.qemu_plugin_register_vcpu_tb_trans_cb(ctypes.c_uint64(plugin_id()), on_translated)
