# SPDX-License-Identifier: GPL-2.0-or-later
"""A dataclass with values of every form in VMs: snapshots, migrations, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.replace import replace
from qemu_vmstate.vm.vm import VMError

from .conftest import SCRIPTS, StartVM, error_text

EVERY_FORM = SCRIPTS / "python_state.py"
HOSTILE = SCRIPTS / "hostile.py"

# What the sender has instead of good values, and the sentence that refuses it.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a count beyond the maximum": (
        {"numbers": [1, 2, 3]},
        "num_numbers: 3 is out of range (0 to 2)",
    ),
    "a key twice": (
        {"table": [(1, 2), (3, 4), (1, 5)]},
        "pystrict.state.table: the stream has a key twice: its 3 items have 2 keys, [1, 3]",
    ),
    "a set in another order": (
        {"seen": [2, 1]},
        "pystrict.state.seen: the stream's elements [2, 1] are not in ascending order, or one is "
        "there twice",
    ),
    "no UTF-8": (
        {"text": b"ok\xff"},
        "pystrict.state.text: the stream has no UTF-8 here: invalid start byte at byte 2",
    ),
}


def test_snapshot_of_every_form_comes_back_into_the_same_collections(start: StartVM) -> None:
    vm = start(script=EVERY_FORM, disk=True)
    for step in (0, 20, 41):
        vm.python.exec(f"set_to({step})")
        vm.snapshot_save(f"s{step}")
    for step in (20, 0, 41):
        vm.python.exec("set_to(5); keep()")
        vm.snapshot_load(f"s{step}")
        assert vm.python.eval("step()") == step
        assert vm.python.eval("fault()") is None
        assert vm.python.eval("replaced()") == []


def test_live_migration_while_a_thread_changes_the_collections(start: StartVM) -> None:
    here = start("here", script=EVERY_FORM)
    there = start("there", script=EVERY_FORM, incoming=True)
    here.python.exec("thread.start()")
    here.wait_until(lambda: here.python.eval("step()") > 20 or None, "twenty steps")
    before = here.python.eval("step()")
    assert here.migrate_to(there)["status"] == "completed"
    after = here.python.eval("step()")
    assert before <= there.python.eval("step()") <= after
    assert there.python.eval("fault()") is None
    # The source goes on, and so can the destination.
    here.wait_until(lambda: here.python.eval("step()") > after or None, "more steps")
    assert here.python.eval("fault()") is None
    there.python.exec("thread.start()")
    there.wait_until(lambda: there.python.eval("step()") > after or None, "more steps")
    assert there.python.eval("fault()") is None


def test_hostile_snapshot_fails_the_load_and_changes_nothing(start: StartVM) -> None:
    vm = start(script=HOSTILE, disk=True)
    for index, (values, _) in enumerate(REFUSED.values()):
        vm.python.exec(f"fill_loose(**{values!r})")
        vm.snapshot_save(f"bad{index}")
    vm.python.exec("fill_loose()")
    vm.snapshot_save("good")
    vm.python.exec("use_strict()")
    before = vm.python.eval("as_seen()")
    for index, (_, message) in enumerate(REFUSED.values()):
        with pytest.raises(VMError):
            vm.snapshot_load(f"bad{index}")
        assert message in vm.log
        assert vm.python.eval("as_seen()") == before
    vm.snapshot_load("good")
    values, objects = vm.python.eval("as_seen()")
    assert values == {
        "before": [5],
        "numbers": [1],
        "table": {1: 2},
        "seen": {1, 2},
        "text": "ok",
    }
    same = ("before", "numbers", "table", "seen")
    assert [objects[name] for name in same] == [before[1][name] for name in same]


# The offset of a byte in the stream below, another value for it, and the sentence.
PATCHES: dict[str, tuple[int, int, str]] = {
    "a count beyond the maximum": (2, 3, "num_numbers: 3 is out of range (0 to 2)"),
    "a key twice": (8, 1, "pystrict.state.table: the stream has a key twice: its 2 items"),
}


@pytest.mark.parametrize("patch", PATCHES)
def test_hostile_file_fails_the_incoming_migration(
    start: StartVM, tmp_path: Path, patch: str
) -> None:
    here = start("here", script=HOSTILE)
    here.python.exec("fill_loose(numbers=[1, 2], table=[(4, 5), (1, 2), (6, 7)][1:])")
    file = tmp_path / "stream"
    here.migrate_to_file(file)
    payload = bytearray(read(file).payload("pystrict"))
    assert payload == b"\1\5" + b"\2\1\2" + b"\2\1\2\6\7" + b"\2\1\2" + b"\0\0\0\2ok"
    at, byte, message = PATCHES[patch]
    payload[at] = byte
    replace(file, file, {("pystrict", 0): bytes(payload)})
    there = start("there", script=HOSTILE, args=["--strict"], incoming=True)
    before = there.python.eval("as_seen()")
    with pytest.raises(VMError) as caught:
        there.load_from_file(file)
    assert message in error_text(caught.value)
    if there.version >= (9, 1, 0):  # an older QEMU exits
        assert there.python.eval("as_seen()") == before
