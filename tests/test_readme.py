# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md: every block of code runs when it is pasted."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(kind: str) -> list[str]:
    found: list[str] = re.findall(
        rf"^```{re.escape(kind)}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE
    )
    return found


def test_the_device_and_what_follows_it_work_when_pasted() -> None:
    (device,) = blocks("python")
    continued = blocks("python continued")
    assert len(continued) == 2
    assert len([line for line in device.splitlines() if line and "import" not in line]) <= 15
    # Annotations are looked up in the module, so it must be in sys.modules.
    pasted = ModuleType("pasted")
    sys.modules["pasted"] = pasted
    try:
        for block in [device, *continued]:
            exec(compile(block, "README.md", "exec"), pasted.__dict__)
    finally:
        del sys.modules["pasted"]
    assert "Tracer" in pasted.__dict__


def test_every_block_is_one_that_a_test_runs() -> None:
    kinds = re.findall(r"^```(.+)$", README.read_text(), re.MULTILINE)
    assert set(kinds) == {"python", "python continued", "python vm-script", "python vm-host"}
