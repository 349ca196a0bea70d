# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring saves and loads beside those of C devices with the same fields."""
