# SPDX-License-Identifier: GPL-2.0-or-later
"""``process_memory``: memory counts once it is written."""

from __future__ import annotations

import mmap
import os

from qemu_vmstate.process_memory import resident_memory

SIZE = 64 << 20


def test_memory_is_resident_once_it_is_written() -> None:
    with mmap.mmap(-1, SIZE) as memory:
        before = resident_memory()
        memory.write(bytes(SIZE // 2))
        half = resident_memory() - before
        memory.write(bytes(SIZE // 2))
        # Other threads, and the block that is written from, are far smaller than a quarter.
        assert SIZE // 4 < half < SIZE * 3 // 4
        assert resident_memory(os.getpid()) - before > SIZE * 3 // 4
