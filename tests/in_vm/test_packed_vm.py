# SPDX-License-Identifier: GPL-2.0-or-later
"""Packed objects cross migrations between all versions of QEMU; hostile ones are refused there."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import cli
from qemu_vmstate.stream import read, replace
from qemu_vmstate.vm.vm import VM, VMError

from .conftest import SCRIPTS, Emulator, StartVM, defaults, emulators, error_text

PACKED = SCRIPTS / "packed.py"


def test_packed_objects_cross_a_live_migration(start: StartVM, shim: str) -> None:
    here = start("here", script=PACKED, shim=shim)
    there = start("there", script=PACKED, shim=shim, incoming=True)
    here.python.exec("change(40)")
    seen = here.python.eval("as_seen()")
    assert seen.endswith(" True")
    here.migrate_to(there)
    assert there.python.eval("as_seen()") == seen


def test_a_stream_loads_in_every_other_qemu_and_is_shown(
    start: StartVM, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "packed.mig"
    extra = list(emulator["args"])
    if not emulator["version"].startswith("7."):
        extra += ["-global", "migration.send-switchover-start=off"]
    here = start("here", script=PACKED, extra=extra)
    here.python.exec("change(3)")
    seen = here.python.eval("as_seen()")
    here.migrate_to_file(file)
    assert cli.main(["inspect", "--json", str(file)]) == 0
    sections = json.loads(capsys.readouterr().out)["sections"]
    (queues,) = next(one["fields"] for one in sections if one["name"] == "pypacked")
    shown: dict[str, Any] = {one["name"]: one["value"] for one in queues["fields"]}
    assert shown["free"] == [3, "x", {"y": None}]
    assert shown["packets"]["rx"][2] == {"length": 2, "data": {"bytes": "0000"}}
    for other in emulators():
        name = f"to-{other['name']}"
        with VM(name=name, **defaults(other, script=PACKED, incoming=True)) as there:
            there.load_from_file(file)
            assert there.python.eval("as_seen()") == seen, name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x91" * 60_000 + b"\xc0", "maximum recursion depth exceeded"),
        (b"\xdd\xff\xff\xff\xff", "Input data was truncated"),
        (b"\1\2", "trailing characters (byte 1)"),
    ],
    ids=["deep", "long", "trailing"],
)
def test_a_hostile_object_is_refused_and_changes_nothing(
    start: StartVM, tmp_path: Path, content: bytes, reason: str
) -> None:
    file, hostile = tmp_path / "good.mig", tmp_path / "hostile.mig"
    here = start("here", script=PACKED)
    here.migrate_to_file(file)
    here.quit()
    section = read(file).section("pypacked")
    packets = section.field("queues.packets").value
    assert isinstance(packets, bytes)
    wire = b"".join(struct.pack(">I", len(one)) + one for one in (packets, content))
    described = {"vmsd_name": "pypacked", "version": 1, "fields": [
        {"name": "queues", "type": "buffer", "size": 4 + len(wire)}
    ]}  # fmt: skip
    replace(
        file,
        hostile,
        {("pypacked", 0): bytes(4) + wire},
        {("pypacked", 0): described},
    )
    there = start("there", script=PACKED, incoming=True)
    there.python.exec("change(5)")
    before = there.python.eval("as_seen()")
    with pytest.raises(VMError) as caught:
        there.load_from_file(hostile)
    text = error_text(caught.value)
    assert "pypacked.queues.free: its MessagePack is no " in text
    assert reason in text
    if there.version >= (9, 1, 0):  # an older QEMU exits
        assert there.python.eval("as_seen()") == before
