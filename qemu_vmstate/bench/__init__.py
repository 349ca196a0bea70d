# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures what saving and loading costs beside C devices of the same fields."""
