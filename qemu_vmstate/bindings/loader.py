# SPDX-License-Identifier: GPL-2.0-or-later
"""Import of the compiled modules: ``_state``, and those that are chosen by QEMU's version."""

from __future__ import annotations

import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from ..errors import NativeError
from ..natives.choice import chosen, no_native
from ..natives.folders import root
from . import __path__ as package_path

__all__ = ["_state", "load_chosen"]


def _not_loaded(path: Path, error: ImportError) -> NativeError:
    """Return the error of a compiled module that is there, but not for this Python."""
    reason = str(error).removeprefix(f"{path}: ")
    if error.name == "_cffi_backend":
        return NativeError(
            f"{path} needs the package cffi, which is not installed for {sys.executable}: "
            f"`{sys.executable} -m pip install cffi`"
        )
    return NativeError(
        f"{path} cannot be loaded by {sys.executable} ({reason}): install a wheel of qemu_vmstate "
        "for this Python and machine, or, in a checkout, run scripts/setup"
    )


if str(root()) not in package_path:
    package_path.append(str(root()))

try:
    from . import _state
except ImportError as exc:
    missing = no_native(None)
    if any(root().glob("_state*.so")):
        missing = _not_loaded(root() / "_state.abi3.so", exc)
    raise missing from None


def load_chosen(name: str) -> None:
    """Import ``_native`` or ``_bench`` of the chosen QEMU as a module of this package.

    Raises ``NativeError`` if it is missing or cannot be loaded.
    """
    qualified = f"{__package__}.{name}"
    if qualified in sys.modules:
        return
    path = chosen().module(name)
    try:
        module = _import_file(qualified, path)
    except ImportError as exc:
        raise _not_loaded(path, exc) from None
    sys.modules[qualified] = module
    setattr(sys.modules[__package__], name, module)


def _import_file(name: str, path: Path) -> ModuleType:
    # The name of the file has QEMU's version, and that of the module has not.
    loader = ExtensionFileLoader(name, str(path))
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module
