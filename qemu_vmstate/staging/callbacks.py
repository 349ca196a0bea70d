# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of cdefs/decl/callbacks.h that the bridge calls for staging structs."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..errors import VMStateError
from .python_staging import PythonStaging

__all__ = ["qv_py_hook", "qv_py_restore", "qv_py_roll_back", "qv_py_snapshot"]


def _plain_hooks() -> dict[int, str]:
    """Return the names of those that copy nothing."""
    return {
        lib().QV_HOOK_POST_SAVE: "post_save",
        lib().QV_HOOK_PRE_LOAD: "pre_load",
        lib().QV_HOOK_NEEDED: "needed",
    }


def _lost(_type: object, exc: BaseException, _trace: object) -> None:
    """Print an exception from outside a hook's own ``try``, of a signal handler for instance."""
    traceback.print_exception(exc, file=sys.stderr)


def _called(handle: Any, errmsg: Any, name: str, call: Callable[[PythonStaging], object]) -> int:
    staging: PythonStaging = ffi.from_handle(handle)()
    try:
        call(staging)
    except BaseException as exc:
        return staging.fail(exc, errmsg, name)
    return 0


# cffi's default for a callback that raises is 0, which is success to QEMU.
@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_snapshot(handle: Any, keep: int, errmsg: Any) -> int:
    """``pre_save``, and what is kept before a load: see ``PythonStaging.snapshot``."""
    name = "pre_load" if keep else "pre_save"
    return _called(handle, errmsg, name, lambda staging: staging.snapshot(bool(keep)))


@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_restore(handle: Any, version_id: int, errmsg: Any) -> int:
    """``post_load``: see ``PythonStaging.restore``."""
    return _called(handle, errmsg, "post_load", lambda staging: staging.restore(version_id))


@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_hook(handle: Any, hook: int, errmsg: Any) -> int:
    """``post_save``, ``pre_load`` and ``needed``: see ``PythonStaging.run``."""
    name = _plain_hooks()[hook]
    return _called(handle, errmsg, name, lambda staging: staging.run(name))


@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_roll_back(undo: Any, _unused: int, _errmsg: Any) -> int:
    """Roll one restore of a failed load back; ``undo``: what the restore left for that."""
    failed = VMStateError("the load failed")
    reference, undos = _state.take_over(int(ffi.cast("uintptr_t", undo)))
    staging: PythonStaging | None = reference()
    if staging is not None:
        staging.roll_back(undos, failed)
    if not hasattr(failed, "__notes__"):
        return 0
    traceback.print_exception(failed, file=sys.stderr)
    return -errno.EINVAL
