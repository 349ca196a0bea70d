# SPDX-License-Identifier: GPL-2.0-or-later
"""Python objects whose locked state QEMU's own C vmstate code saves and loads.

Declare state with :mod:`~qemu_vmstate.wire` types in ``VMStruct`` and ``Device``
classes, guard it with ``Mutex`` or ``BqlRefCell`` and mark it ``Migratable``.
``save``, ``load`` and ``describe`` work in process; in a VM ``register`` puts an
object into the savevm list.  :mod:`qemu_vmstate.vm` starts VMs.

The first use of a name from here, but of an exception, imports all that has to do with
state, and raises ``NativeError`` where the compiled parts are missing.
:mod:`qemu_vmstate.stream` and :mod:`qemu_vmstate.vm` need none.
"""

# ruff: noqa: F403, F405 - each package has the list of its own names
from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.version_info < (3, 11):  # noqa: UP036 - pip checks it, but not whoever sets PYTHONPATH
    # With this package's name, `python -m qemu_vmstate` prints the message without a traceback.
    raise ImportError(
        f"qemu_vmstate needs Python 3.11 or later, and {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: run it with a later one",
        name=__name__,
    )

from .errors import *
from .natives.choice import *

if TYPE_CHECKING:
    from .bindings.native import *
    from .derive import *
    from .device import *
    from .inprocess import *
    from .layout import *
    from .registration import *
    from .state import *
    from .vmsd import *
    from .wire import *

__all__ = [
    "Arc",
    "Array",
    "Bitmap",
    "BorrowError",
    "BqlCell",
    "BqlError",
    "BqlRefCell",
    "Buffer",
    "DeclarationError",
    "DerivedState",
    "Device",
    "Equal",
    "GTree",
    "InvalidError",
    "LockError",
    "Migratable",
    "MigrationPriority",
    "Mutex",
    "MutexGuard",
    "NativeError",
    "OutOfRangeError",
    "Packed",
    "PointerArray",
    "PoisonError",
    "QEMUClockType",
    "QEMUTimer",
    "QList",
    "QTailQ",
    "Registration",
    "RegistrationError",
    "StreamError",
    "Subsection",
    "Tmp",
    "ToMigrationState",
    "ToMigrationStateShared",
    "Unused",
    "VArray",
    "VBuffer",
    "VMStateError",
    "VMStruct",
    "VersionError",
    "asdict",
    "bql_lock_guard",
    "bql_locked",
    "capabilities",
    "check_lock_order",
    "clock_get_ns",
    "cpudouble",
    "derive_to_migration_state",
    "describe",
    "f32",
    "f64",
    "field",
    "i8",
    "i16",
    "i32",
    "i32_positive_le",
    "i64",
    "in_vm",
    "load",
    "migrates",
    "plugin_id",
    "register",
    "register_converter",
    "save",
    "timer",
    "u8",
    "u16",
    "u32",
    "u64",
    "unregister",
    "use_qemu",
    "validate",
    "zeroed",
]

# What the names above are defined in, but for the exceptions and what derive has, which takes
# longer to import than anything else and which no hook needs.
_MODULES = (
    "bindings.native",
    "device",
    "inprocess",
    "layout",
    "registration",
    "state",
    "vmsd",
    "wire",
)


def _import_all() -> None:
    """Put every public name here; raises ``NativeError`` where nothing was compiled.

    All at once, because C calls back into most of it, and hooks in a VM must not import.
    """
    for name in _MODULES:
        module = import_module(f".{name}", __name__)
        public = set(__all__).intersection(module.__all__)
        globals().update({name: getattr(module, name) for name in public})


if not TYPE_CHECKING:  # who checks types is to see the names themselves

    def __getattr__(name: str) -> object:  # PEP 562
        if name in __all__:
            _import_all()
            if name not in globals():
                globals()[name] = getattr(import_module(".derive", __name__), name)
            return globals()[name]
        if name in (*_MODULES, "derive"):
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
