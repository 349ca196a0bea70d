# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds, imports and binds the compiled modules."""

from .folder import BUILD_COMMAND, native_folder

__all__ = ["BUILD_COMMAND", "native_folder"]
