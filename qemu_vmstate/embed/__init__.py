# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside QEMU: starts the script and serves its control channel."""
