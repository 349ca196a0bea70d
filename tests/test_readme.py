# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md is for newcomers: short, and with a small device first."""

from __future__ import annotations

from .pages import README, blocks


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 140


def test_the_device_is_small() -> None:
    (device,) = blocks(README, "python")
    assert len([line for line in device.splitlines() if line and "import" not in line]) <= 15
    assert len(blocks(README, "python continued")) == 1


def test_it_shows_a_migration() -> None:
    assert len(blocks(README, "python vm-script")) == len(blocks(README, "python vm-host")) == 1
