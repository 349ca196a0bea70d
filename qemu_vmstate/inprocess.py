# SPDX-License-Identifier: GPL-2.0-or-later
"""``save``, ``load`` and ``describe``, which run QEMU's code on a QEMUFile in memory.

They call ``vmstate_save_state()`` and ``vmstate_load_state()`` (migration/vmstate.c) under the
BQL, as a migration does, and need no VM.  They work inside a VM too, beside its migrations.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NoReturn

from .bindings.native import lib
from .device.device import staging_of
from .errors import InvalidError, StreamError, VersionError, VMStateError, from_errno
from .layout.traversal import has_nested_subsections
from .staging.staging import Staging
from .state import lock_order
from .state.bql import check_bql_order

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .vmsd.description import VMStateDescription

__all__ = ["describe", "load", "save"]


def save(obj: Any) -> bytes:
    """Return the bytes of ``obj``'s section, without header and footer.

    ``obj`` is a ``Device``, a ``Migratable`` or any ``ToMigrationState``.  Takes the BQL if this
    thread does not hold it.  Raises the exception of a snapshot or hook that fails,
    ``OutOfRangeError`` for a value that its field cannot hold, and ``PoisonError``,
    ``BorrowError`` or ``LockError`` from the locks.

    In C: ``migration/vmstate.h: vmstate_save_state()``.
    """
    staging = staging_of(obj)
    if lock_order.state.on:
        check_bql_order()
    saved = staging.bridge_object.save()
    if isinstance(saved, tuple):
        _raise(staging, saved, None)
    return saved


def describe(obj: Any) -> dict[str, Any]:
    """Return the description that QEMU's JSONWriter emits while it saves ``obj``.

    A migration stream has this object at its end for the section: ``vmsd_name``,
    ``version``, and ``fields`` with name, type and size in bytes on the wire
    (docs/devel/migration/main.rst).  QEMU writes the keys of all elements of a list into the
    object of its field; ``pairs`` of that object has each of them.  Raises as :func:`save`.

    In C: ``migration/vmstate.h: vmstate_save_state()`` with a ``JSONWriter``.
    """
    # Imported here, because they take a tenth of the package's import time and few programs need
    # them.
    import json

    from .stream.vmdesc import json_object

    description: dict[str, Any] = json.loads(description_text(obj), object_pairs_hook=json_object)
    return description


def description_text(obj: Any) -> str:
    """Return what :func:`describe` parses, as QEMU's JSONWriter has written it."""
    staging = staging_of(obj)
    check_bql_order()
    text = staging.bridge_object.describe()
    if isinstance(text, tuple):
        _raise(staging, text, None)
    return text


def load(obj: Any, data: Buffer, version_id: int | None = None) -> None:
    """Load the bytes of a section of ``version_id`` (default: the newest) into ``obj``.

    Takes the BQL if this thread does not hold it.  Either all of ``obj`` is loaded, or it is
    unchanged and an exception is raised: ``StreamError`` for bytes that end early or go on after
    the last field, ``VersionError`` for a version that ``obj`` does not read, ``InvalidError`` for
    a value that a field or a ``@validate`` refuses, else the exception of a restore or hook that
    fails; ``PoisonError``, ``BorrowError`` or ``LockError`` from the locks.

    In C: ``migration/vmstate.h: vmstate_load_state()``.
    """
    staging = staging_of(obj)
    if version_id is None:
        version = -1  # the newest
    else:
        version = version_id
        _check_version(staging.description, version)
    if lock_order.state.on:
        check_bql_order()
    failure = staging.bridge_object.load(data, version)
    if failure is None:
        return
    try:
        size = memoryview(data).nbytes
        _raise(staging, failure, (size, staging.description.version_id if version < 0 else version))
    finally:
        # QEMU has filled a large staging struct in part, and the error has named the field.  If
        # nothing was called, an outer call may use the struct.
        if failure[0]:
            lib().qv_object_release_pages(staging.cdata)


def _check_version(description: VMStateDescription, version: int) -> None:
    if not description.minimum_version_id <= version <= description.version_id:
        raise VersionError(
            f"the stream has version_id {version}, and this device reads "
            f"{description.minimum_version_id} to {description.version_id}; load it with the "
            "release that wrote it, or raise version_id with the fields it added",
            description.name,
        )


def _raise(
    staging: Staging, failure: tuple[int, str, list[BaseException]], stream: tuple[int, int] | None
) -> NoReturn:
    """Raise the hook's own exception, else the one for C's errno and error message."""
    lib()  # raises what forbids all calls in a fork
    ret, message, raised = failure
    if ret == 0:
        raise VMStateError(
            f"{staging.description.name}: save() or load() was called from its own snapshot or "
            "restore; a snapshot only copies"
        )
    if raised:
        try:
            raise raised[0]
        finally:
            raised.clear()  # the traceback refers to this frame, which refers to the exception
    if stream is not None and -ret in (errno.EIO, errno.ENODATA, errno.E2BIG):
        raise _stream_error(staging, *stream, ends=-ret != errno.E2BIG)
    if stream is not None and -ret == errno.ENOENT:
        raise StreamError(
            "the stream has a subsection that this device does not", staging.description.name
        )
    error = from_errno(ret, message)
    if isinstance(error, InvalidError) and not message.startswith(staging.description.name):
        error.path = staging.description.name
    raise error


def _stream_error(staging: Staging, size: int, version_id: int, *, ends: bool) -> StreamError:
    """Return the error for a stream of ``size`` bytes that is too short or too long."""
    name = staging.description.name
    own, nested = bool(staging.cls.__layout__.subsections), has_nested_subsections(staging.cls)
    offset = 0
    cut = ""
    # The length of some fields depends on the data, so the walk needs what was loaded.
    for path, width in staging.cls.__layout__.walk(staging.migration_state, name, version_id):
        if not cut and size < offset + width:
            cut = f"inside {path}, whose {width} byte(s) begin at {offset}"
        offset += width
    complete = f"; a whole one has {offset}" + (" without its subsections" if own or nested else "")
    if not ends:
        return StreamError(
            f"the stream of {size} bytes goes on after the last field{complete}", name
        )
    if nested:  # the offsets do not count nested subsections, which the stream may have
        cut = "inside a field or a subsection"
    cut = cut or ("inside a subsection" if own else "early")
    return StreamError(f"the stream of {size} bytes ends {cut}{complete}", name)
