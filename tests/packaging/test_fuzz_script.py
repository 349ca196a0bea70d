# SPDX-License-Identifier: GPL-2.0-or-later
"""``scripts/fuzz``: QEMU's code and this project's, compiled with sanitizers."""

from __future__ import annotations

import os
import subprocess

import pytest

from .test_install import CHECKOUT, environment

MINUTES = 15
OF_THIS_RUN = ("QEMU_VMSTATE_NATIVE", "QEMU_VMSTATE_QEMU", "PYTHONPATH")


@pytest.mark.timeout(60 * MINUTES)
def test_sanitized_code_is_built_and_has_no_findings() -> None:
    if not environment()["trees"]:
        pytest.skip("no QEMU tree was set up: run scripts/setup --for test")
    done = subprocess.run(
        [CHECKOUT / "scripts" / "fuzz", "--sanitize", "--seed", "fixed", "--inputs", "4000"],
        capture_output=True,
        text=True,
        timeout=60 * MINUTES - 30,
        env={name: value for name, value in os.environ.items() if name not in OF_THIS_RUN},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", seed fixed: 4" in done.stdout
    assert "0 finding(s)" in done.stdout
    for library in (CHECKOUT / "build" / "sanitized").glob("*.so"):
        assert b"__asan_init" in library.read_bytes(), library.name
