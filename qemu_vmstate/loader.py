# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the compiled modules: beside this file, or where ``QEMU_VMSTATE_NATIVE`` says.

One checkout can serve several QEMU versions that way, each built into a folder
of its own by ``meson setup FOLDER -Dqemu_build=...``.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import __path__ as package_path
from .errors import NativeError

__all__ = ["BUILD_COMMAND", "_state", "native_folder"]

BUILD_COMMAND = "QEMU_BUILD=/path/to/qemu/build pip install ."


def native_folder() -> Path:
    """The folder with ``_native``, ``libqemu-vmstate.so`` and the shim."""
    return Path(os.environ.get("QEMU_VMSTATE_NATIVE") or Path(__file__).parent).absolute()


if str(native_folder()) not in package_path:
    package_path.append(str(native_folder()))

try:
    from . import _state
except ImportError as exc:
    raise NativeError(
        f"qemu_vmstate's native parts are not in {native_folder()} ({exc}); "
        f"build them with `{BUILD_COMMAND}`, or name the folder in QEMU_VMSTATE_NATIVE"
    ) from exc
