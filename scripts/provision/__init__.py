# SPDX-License-Identifier: GPL-2.0-or-later
"""Install, fetch and build what the commands beside this package need.

This file and ``python_gate`` must run on every Python 3, so this one imports nothing.
"""
