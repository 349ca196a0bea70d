# SPDX-License-Identifier: GPL-2.0-or-later
"""The release of QEMU that the native parts in use were built for."""

from __future__ import annotations

from functools import cache

import pytest

from qemu_vmstate import capabilities
from qemu_vmstate.natives.folders import release_of, version_numbers

__all__ = ["loads_null", "release"]


@cache
def release() -> tuple[int, ...]:
    """Return the release, such as ``(10, 2)``; a tree under development counts as the next one."""
    qemu = capabilities().qemu
    major, minor, *_ = version_numbers(qemu)
    if release_of(qemu).endswith("-dev"):
        return (major, minor + 1) if minor < 2 else (major + 1, 0)
    return major, minor


loads_null = pytest.mark.skipif(
    release() >= (11, 1),
    reason="needs a QEMU up to 11.0: with a later one a load into an array with None is refused",
)
