# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that runs inside QEMU: it starts the script and serves the control channel."""
