# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for tests that read migration files."""

from __future__ import annotations

from ..stream.conftest import parse

__all__ = ["parse"]
