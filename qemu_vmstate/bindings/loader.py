# SPDX-License-Identifier: GPL-2.0-or-later
"""Import of ``_state``, the compiled module without QEMU, from the folder of the native parts."""

from __future__ import annotations

from ..errors import NativeError
from . import __path__ as package_path
from .folder import BUILD_COMMAND, native_folder

__all__ = ["_state"]

if str(native_folder()) not in package_path:
    package_path.append(str(native_folder()))

try:
    from . import _state
except ImportError as exc:
    raise NativeError(
        f"qemu_vmstate's native parts are not in {native_folder()} ({exc}); "
        f"build them with `{BUILD_COMMAND}`, or name the folder in QEMU_VMSTATE_NATIVE"
    ) from exc
