# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of the compiled modules: that of this file, or ``QEMU_VMSTATE_NATIVE``.

The variable lets one checkout serve several QEMU versions, each built into its own folder by
``meson setup FOLDER -Dqemu_build=...``.  Nothing compiled is imported here.
"""

from __future__ import annotations

import os

__all__ = ["BUILD_COMMAND", "native_folder"]

BUILD_COMMAND = "QEMU_BUILD=/path/to/qemu/build pip install ."
"""The command that builds the compiled modules."""


def native_folder() -> str:
    """Return the path of the folder of the compiled modules, the library and the shim."""
    return os.path.abspath(os.environ.get("QEMU_VMSTATE_NATIVE") or os.path.dirname(__file__))
