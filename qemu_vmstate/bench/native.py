# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's C functions (cdefs/bench), which call QEMU through the bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bindings import native
from ..bindings.loader import load_chosen

if TYPE_CHECKING:
    from ..bindings._bench import Lib

__all__ = ["ffi", "lib"]

load_chosen("_bench")

from ..bindings._bench import ffi  # noqa: E402
from ..bindings._bench import lib as _lib  # noqa: E402


def lib() -> Lib:
    """Return the functions of cdefs/bench/reference_device.h; raise as the bridge's ``lib()``."""
    _lib.qv_bench_bind(native.lib().qv_bridge_functions())
    return _lib
