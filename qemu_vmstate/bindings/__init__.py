# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled modules: their place, their import, and their binding to QEMU."""

from .folder import BUILD_COMMAND, native_folder

__all__ = ["BUILD_COMMAND", "native_folder"]
