# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that a process holds, for whatever watches that it does not grow."""

from __future__ import annotations

from pathlib import Path

__all__ = ["resident_memory"]


def resident_memory(pid: int | None = None) -> int:
    """Return the bytes of a process's memory that are in RAM; of this one without *pid*."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
