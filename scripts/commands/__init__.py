# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of ``scripts/demo``, ``scripts/fuzz`` and ``scripts/test`` that need Python 3.11."""
