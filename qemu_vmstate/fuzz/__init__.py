# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads malformed streams into devices and checks the results."""

from .command import Finding, Report, add_arguments, fuzz, run

__all__ = ["Finding", "Report", "add_arguments", "fuzz", "run"]
