# SPDX-License-Identifier: GPL-2.0-or-later
"""Import of ``_state``, the compiled module without QEMU, from the folder of the native parts."""

from __future__ import annotations

from ..errors import NativeError
from . import __path__ as package_path
from .folder import BUILD_COMMAND, native_folder

__all__ = ["_state", "not_loaded"]

if native_folder() not in package_path:
    package_path.append(native_folder())

try:
    from . import _state
except ImportError as exc:
    raise NativeError(
        f"qemu_vmstate's native parts are not in {native_folder()} ({exc}); "
        f"build them with `{BUILD_COMMAND}`, or name the folder in QEMU_VMSTATE_NATIVE"
    ) from exc


def not_loaded(module: str, error: ImportError) -> NativeError:
    """Return the error of another compiled module that could not be imported."""
    return NativeError(
        f"qemu_vmstate.bindings.{module} is not in {native_folder()} or cannot be loaded "
        f"({error}); build it with `{BUILD_COMMAND}`, or name the folder in QEMU_VMSTATE_NATIVE"
    )
