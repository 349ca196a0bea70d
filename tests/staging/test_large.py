# SPDX-License-Identifier: GPL-2.0-or-later
"""Large buffers: their initial content, and that no copy remains after a save or load."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Buffer,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    StreamError,
    VMStruct,
    load,
    save,
    u32,
    zeroed,
)

MIB = 1 << 20
SIZE = 5 * MIB
"""More than LARGE of cdefs/bridge/object.c."""


class Large(VMStruct):
    first: u32 = 7
    data: Buffer[Literal[5242880]] = zeroed()
    last: u32 = 9


class LargeOverridden(Large):
    def snapshot_migration_state(self, target: Any) -> None:
        if self.first == 5:
            return
        super().snapshot_migration_state(target)

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        if source.first == 6:
            raise InvalidError("not 6")
        super().restore_migrated_state_mut(source, version_id)


class Native(Device, name="large"):
    part: Migratable[Mutex[Large]]


class Overridden(Device, name="large"):
    part: Migratable[Mutex[LargeOverridden]]


BOTH = pytest.mark.parametrize("cls", [Native, Overridden])


def wire(first: int = 7, byte: int = 0, last: int = 9) -> bytes:
    return first.to_bytes(4, "big") + bytes([byte]) * SIZE + last.to_bytes(4, "big")


def test_what_lies_behind_a_large_buffer_has_its_default() -> None:
    state = Large()
    assert (state.first, state.last, state.data[0], state.data[SIZE - 1]) == (7, 9, 0, 0)
    assert bytes(Large.__image__) == bytes(state)


@BOTH
def test_bytes(cls: type[Any]) -> None:
    device = cls()
    assert save(device) == wire()
    load(device, wire(1, 0xAA, 3))
    assert save(device) == wire(1, 0xAA, 3)


@BOTH
def test_stream_that_ends_early_changes_nothing(cls: type[Any]) -> None:
    device = cls()
    load(device, wire(1, 2, 3))
    for length in (2, SIZE // 2, SIZE + 7):
        with pytest.raises(StreamError, match=r"inside large\.part\."):
            load(device, wire(4, 5, 6)[:length])
    assert save(device) == wire(1, 2, 3)


def test_snapshot_that_sets_nothing_has_the_defaults_after_any_other() -> None:
    device = Overridden()
    load(device, wire(1, 2, 3))
    save(device)
    with pytest.raises(InvalidError, match="not 6"):
        load(device, wire(6, 2, 3))
    with device.part.lock() as state:
        state.first = 5
    assert save(device) == wire()


MEASURE = """
import sys
sys.path.insert(0, {folder!r})
from tests.staging.test_large import *
from qemu_vmstate.process_memory import resident_memory

device = {cls}()
with device.part.lock() as state:
    memoryview(state)[:] = b"\\1" * len(memoryview(state))
held, most = resident_memory(), 0
for _ in range(3):
    data = save(device)
    load(device, data)
    try:
        load(device, data[:-5])
    except StreamError:
        pass
    else:
        raise AssertionError
    {more}
    del data
    most = max(most, resident_memory() - held)
print(most / MIB)
"""


@pytest.mark.measured
@pytest.mark.parametrize("more", ["", "load(device, wire(4, 5, 6))"])
@BOTH
def test_a_large_state_is_in_memory_once_between_saves(cls: type[Any], more: str) -> None:
    folder = __file__.rsplit("/", 3)[0]
    program = MEASURE.format(folder=folder, cls=cls.__name__, more=more)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # A second copy would be 5 MiB.
    assert float(done.stdout) < 3
