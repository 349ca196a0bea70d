# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's C functions (cdefs/bench), which call QEMU through the bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bindings import native
from ..bindings.loader import not_loaded

if TYPE_CHECKING:
    from ..bindings._bench import Lib

__all__ = ["ffi", "lib"]

try:
    from ..bindings._bench import ffi
    from ..bindings._bench import lib as _lib
except ImportError as exc:
    raise not_loaded("_bench", exc) from exc


def lib() -> Lib:
    """Return the functions of cdefs/bench/reference_device.h; raise as the bridge's ``lib()``."""
    _lib.qv_bench_bind(native.lib().qv_bridge_functions())
    return _lib
