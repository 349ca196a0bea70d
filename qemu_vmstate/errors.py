# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions, and their mapping to and from the errno values of C.

::

    VMStateError(Exception)
     ├── InvalidError(ValueError)         migration data that cannot be saved or loaded
     │    ├── OutOfRangeError             a value that its field cannot hold
     │    ├── StreamError                 a stream that ends early or is not this device's
     │    └── VersionError                a stream of a version this device does not read
     ├── DeclarationError(TypeError)      a class that QEMU could not walk
     ├── RegistrationError(RuntimeError)  the savevm list cannot be changed like this, or now
     ├── BqlError(RuntimeError)           the BQL is not held, or held twice
     ├── BorrowError(RuntimeError)        a BqlRefCell borrowed twice
     ├── LockError(RuntimeError)          a Mutex locked twice by one thread, or out of order
     ├── PoisonError(RuntimeError)        a Mutex that an exception left poisoned
     └── NativeError(ImportError)         the native parts or qemu.qmp are missing or do not fit

Each derives from a builtin exception too, so that code which does not know this package can
catch it.  ``InvalidError`` is named after the Rust crate's
(rust/migration/src/migratable.rs); it becomes ``-EINVAL`` for QEMU.
"""

from __future__ import annotations

import errno
from typing import Any

__all__ = [
    "BorrowError",
    "BqlError",
    "DeclarationError",
    "InvalidError",
    "LockError",
    "NativeError",
    "OutOfRangeError",
    "PoisonError",
    "RegistrationError",
    "StreamError",
    "VMStateError",
    "VersionError",
]


class VMStateError(Exception):
    """Any error of this package."""


class InvalidError(VMStateError, ValueError):
    """Migration data that cannot be saved or loaded.

    ``reason`` says what is wrong, ``path`` where (``pytimer.regs.fifo[3]``, or empty);
    ``str()`` has both.  Raise ``InvalidError("reason")`` in your own
    ``snapshot_migration_state`` or ``restore_migrated_state_mut``: the caller adds the path of
    the device and the part.

    It becomes ``-EINVAL`` for QEMU, with the message in ``query-migrate``'s ``error-desc``.  In
    Rust: ``InvalidError`` of rust/migration/src/migratable.rs.
    """

    def __init__(self, reason: str = "invalid migration data", path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def __reduce__(self) -> tuple[type[InvalidError], tuple[str, str], dict[str, Any]]:
        return type(self), (self.reason, self.path), self.__dict__

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class OutOfRangeError(InvalidError):
    """A value that its field cannot hold: too large, too long or of another type."""


class StreamError(InvalidError):
    """A stream that ends early, goes on after its last field or is not this device's."""

    partial: Any = None
    """What :func:`qemu_vmstate.stream.read` had read of the file: a :class:`~.stream.Stream` whose
    sections end before the error, or ``None`` if there is not even a header."""


class VersionError(InvalidError):
    """A stream whose ``version_id`` this device does not read."""


class DeclarationError(VMStateError, TypeError):
    """A class whose description QEMU would refuse, or crash on."""


class RegistrationError(VMStateError, RuntimeError):
    """A registration on which QEMU would abort, or at a time when it is not allowed."""


class BqlError(VMStateError, RuntimeError):
    """The big QEMU lock is not held where it must be, or is held already."""


class BorrowError(VMStateError, RuntimeError):
    """A ``BqlRefCell`` is borrowed already."""


class LockError(VMStateError, RuntimeError):
    """A ``Mutex`` is locked by this thread already, not at all, or in the wrong order."""


class PoisonError(VMStateError, RuntimeError):
    """An exception propagated out of a ``Mutex`` guard: the state may be inconsistent.

    Repair the state and call ``clear_poison()``, as in Rust's std::sync.
    """


class NativeError(VMStateError, ImportError):
    """The native parts are missing or are those of another QEMU, or ``qemu.qmp`` is missing."""


_BY_ERRNO: dict[int, type[VMStateError]] = {
    errno.EOWNERDEAD: PoisonError,
    errno.EDEADLK: LockError,
    errno.EBUSY: BorrowError,
    errno.ENODATA: StreamError,
    errno.E2BIG: StreamError,
    errno.EIO: StreamError,
    errno.ENOENT: StreamError,
}


def from_errno(ret: int, errmsg: str) -> VMStateError:
    """Return the exception for a negative errno and C's error message."""
    return _BY_ERRNO.get(-ret, InvalidError)(errmsg)


def to_errno(exc: BaseException) -> int:
    """Return the negative errno that C gets for an exception."""
    if isinstance(exc, OSError) and isinstance(exc.errno, int) and exc.errno in errno.errorcode:
        return -exc.errno
    for number, cls in _BY_ERRNO.items():
        if type(exc) is cls:
            return -number
    return -errno.EINVAL
