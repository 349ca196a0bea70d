# SPDX-License-Identifier: GPL-2.0-or-later
"""A pytest plugin: the ``qemu_vm`` fixture starts VMs that end with the test.

pytest loads it wherever this package is installed.  ``--qemu PATH`` names the emulator,
``qemu-system-x86_64`` by default.  It imports nothing compiled, and ``qemu.qmp`` only when a test
uses the fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .vm.vm import VM

__all__ = ["pytest_addoption", "qemu_vm"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--qemu``."""
    parser.getgroup("qemu_vmstate").addoption(
        "--qemu", default="qemu-system-x86_64", metavar="PATH", help="the emulator to test with"
    )


@pytest.fixture
def qemu_vm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., VM]]:
    """Return a function that starts a VM: ``qemu_vm(script="dev.py", ...)``.

    It takes the arguments of :class:`qemu_vmstate.vm.VM` and returns the running VM, whose
    folder is in the test's ``tmp_path``.  The VM ends with the test, and a failing test shows
    its log.
    """
    from .vm.vm import VM

    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> VM:
            options.setdefault("qemu", request.config.getoption("--qemu"))
            name = options.setdefault("name", f"vm{len(list(tmp_path.iterdir()))}")
            options.setdefault("folder", tmp_path / name)
            return stack.enter_context(VM(**options))

        yield start
