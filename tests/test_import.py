# SPDX-License-Identifier: GPL-2.0-or-later
"""What importing the package costs: the modules that it does not import."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

from qemu_vmstate import field

DECLARE = """
import sys
before = set(sys.modules)
from qemu_vmstate import Device, Migratable, Mutex, VMStruct, field, load, save, u32
class Regs(VMStruct):
    count: u32 = field(default=1, maximum=7)
class Counter(Device, name="counter"):
    regs: Migratable[Mutex[Regs]]
    level: u32 = 2
dev = Counter()
load(dev, save(dev))
print(*(set(sys.modules) - before))
"""


def test_a_device_is_declared_and_saved_without_modules_that_take_long_to_import(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECLARE],
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},  # no native parts of the user's
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "qemu_vmstate.inprocess" in loaded
    slow = {"ast", "asyncio", "dataclasses", "hashlib", "inspect", "json", "tempfile", "traceback"}
    assert not loaded & slow


def test_field_shows_its_options() -> None:
    signature = inspect.signature(field)
    assert signature.return_annotation == "Any"
    first, *others = signature.parameters.values()
    assert (first.name, first.kind) == ("annotation", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert {parameter.kind for parameter in others} == {inspect.Parameter.KEYWORD_ONLY}
    assert [parameter.name for parameter in others[:3]] == ["default", "default_factory", "name"]
    assert signature.parameters["multiply"].default == 1
    assert signature.parameters["multiply"].annotation == "int"
