# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine of a benchmark, and its load."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from ..bindings.native import capabilities
from .serializers import msgspec_version

__all__ = ["describe_machine"]


def describe_machine(qemu: str) -> dict[str, Any]:
    """Return the machine's ``cpu``, ``cores``, memory, kernel, software and ``load``."""
    return {
        "cpu": _first(r"model name\s*:\s*(.*)", "/proc/cpuinfo") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0) / 2**20),
        "kernel": platform.release(),
        "huge_pages": _first(r"\[(\w+)\]", "/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": platform.python_version(),
        "msgspec": msgspec_version() or "",
        "built_for": capabilities().qemu,
        "qemu": _version(qemu),
        "load": round(os.getloadavg()[0], 2),
    }


def _first(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _version(qemu: str) -> str:
    try:
        text = subprocess.run(
            [qemu, "--version"], capture_output=True, text=True, timeout=30
        ).stdout
    except OSError:
        return ""
    return text.partition("\n")[0]
