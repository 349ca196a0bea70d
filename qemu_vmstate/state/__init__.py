# SPDX-License-Identifier: GPL-2.0-or-later
"""Runtime state: locks and cells, what migrates, timers and the BQL."""

from .bql import bql_lock_guard, bql_locked
from .cells import Arc, BqlCell, BqlRefCell, Mutex, MutexGuard
from .lock_order import check_lock_order
from .migratable import Migratable
from .qemu_timer import QEMUClockType, QEMUTimer, clock_get_ns
from .to_migration_state import ToMigrationState, ToMigrationStateShared

__all__ = [
    "Arc",
    "BqlCell",
    "BqlRefCell",
    "Migratable",
    "Mutex",
    "MutexGuard",
    "QEMUClockType",
    "QEMUTimer",
    "ToMigrationState",
    "ToMigrationStateShared",
    "bql_lock_guard",
    "bql_locked",
    "check_lock_order",
    "clock_get_ns",
]
