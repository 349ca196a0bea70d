# SPDX-License-Identifier: GPL-2.0-or-later
"""Real emulators, as scripts/setup provided them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.vm import VM

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = CHECKOUT / "build" / "test-environment.json"
SCRIPTS = Path(__file__).resolve().parent / "scripts"
DEMO = CHECKOUT / "scripts" / "demo_device.py"

Emulator = dict[str, Any]
StartVM = Callable[..., VM]


def environment() -> dict[str, Any]:
    if not ENVIRONMENT.exists():
        return {"emulators": [], "trees": []}
    loaded: dict[str, Any] = json.loads(ENVIRONMENT.read_text())
    return loaded


def emulators() -> list[Emulator]:
    return [emulator for emulator in environment()["emulators"] if emulator["native"]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "emulator" in metafunc.fixturenames:
        found = emulators()
        if metafunc.definition.get_closest_marker("one_emulator"):
            found = found[:1]
        marks = pytest.mark.skip(reason="no emulator was set up: run scripts/setup --for test")
        metafunc.parametrize(
            "emulator",
            found or [pytest.param(None, marks=marks)],
            ids=[emulator["name"] for emulator in found] or ["none"],
        )
    if "door" in metafunc.fixturenames:
        metafunc.parametrize("door", ["plugin", "preload"])


@pytest.fixture
def start(emulator: Emulator, tmp_path: Path) -> Iterator[StartVM]:
    """Start VMs of the test's emulator that end with the test and show their logs."""
    with contextlib.ExitStack() as stack:

        def begin(name: str = "vm", **options: Any) -> VM:
            return stack.enter_context(VM(name=name, **defaults(emulator, tmp_path, options)))

        yield begin


def defaults(emulator: Emulator, tmp_path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What every VM of a test gets unless it says otherwise."""
    return {
        "qemu": emulator["path"],
        "extra": emulator["args"],
        "native": emulator["native"],
        "env": emulator["env"],
        "timeout": 30,
        **options,
    }
