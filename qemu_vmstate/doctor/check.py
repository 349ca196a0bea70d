# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Status", "from_message"]

Status = Literal["ok", "warning", "failed"]
"""``warning``: some part does not work here; ``failed``: nothing that needs it does."""


@dataclass(frozen=True)
class Check:
    """What was checked, and what to do about it unless it is ``ok``.

    *emulator* is the path of the emulator that was checked, None for the machine.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    emulator: str | None = None


def from_message(name: str, status: Status, message: str) -> Check:
    """Return a check with an error of this package, whose remedy comes after a colon."""
    detail, _, remedy = message.partition(": ")
    return Check(name, status, detail, remedy)
