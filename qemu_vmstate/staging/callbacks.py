# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of cdefs/decl/callbacks.h that the bridge calls for staging structs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..errors import VMStateError
from ..state.uncaught import print_exception
from .python_staging import PythonStaging

__all__ = [
    "qv_py_hook",
    "qv_py_load_complete",
    "qv_py_restore",
    "qv_py_roll_back",
    "qv_py_snapshot",
]


def _plain_hooks() -> dict[int, str]:
    """Return the names of the hooks that copy nothing, by their ``QvHook``."""
    return {
        lib().QV_HOOK_POST_SAVE: "post_save",
        lib().QV_HOOK_PRE_LOAD: "pre_load",
        lib().QV_HOOK_NEEDED: "needed",
        lib().QV_HOOK_LOAD_ROLLED_BACK: "load_rolled_back",
    }


def _print_exception(_type: object, exc: BaseException, _trace: object) -> None:
    """Print an exception raised outside the ``try`` of a callback, as by a signal handler."""
    print_exception(exc)


def _run_hook(handle: Any, errmsg: Any, name: str, call: Callable[[PythonStaging], object]) -> int:
    staging: PythonStaging = ffi.from_handle(handle)()
    try:
        call(staging)
    except BaseException as exc:
        return staging.fail(exc, errmsg, name)
    return 0


# cffi's default for a callback that raises is 0, which is success to QEMU.
@ffi.def_extern(error=-errno.EINVAL, onerror=_print_exception)  # type: ignore[untyped-decorator]
def qv_py_snapshot(handle: Any, preserve: int, errmsg: Any) -> int:
    """Run ``PythonStaging.snapshot`` in ``pre_save``, or before a load that preserves fields."""
    name = "pre_load" if preserve else "pre_save"
    return _run_hook(handle, errmsg, name, lambda staging: staging.snapshot(bool(preserve)))


@ffi.def_extern(error=-errno.EINVAL, onerror=_print_exception)  # type: ignore[untyped-decorator]
def qv_py_restore(handle: Any, version_id: int, errmsg: Any) -> int:
    """Run ``PythonStaging.restore`` in ``post_load``."""
    return _run_hook(handle, errmsg, "post_load", lambda staging: staging.restore(version_id))


@ffi.def_extern(error=-errno.EINVAL, onerror=_print_exception)  # type: ignore[untyped-decorator]
def qv_py_hook(handle: Any, hook: int, errmsg: Any) -> int:
    """Run the object's ``post_save``, ``pre_load``, ``needed`` or ``load_rolled_back``."""
    name = _plain_hooks()[hook]
    return _run_hook(handle, errmsg, name, lambda staging: staging.run(name))


@ffi.def_extern(error=-errno.EINVAL, onerror=_print_exception)  # type: ignore[untyped-decorator]
def qv_py_load_complete(handle: Any, loaded: int, errmsg: Any) -> int:
    """Run the object's ``load_complete``."""
    name = "load_complete"
    return _run_hook(handle, errmsg, name, lambda staging: staging.run(name, bool(loaded)))


@ffi.def_extern(error=-errno.EINVAL, onerror=_print_exception)  # type: ignore[untyped-decorator]
def qv_py_roll_back(undo: Any, _unused: int, _errmsg: Any) -> int:
    """Roll back one restore of a failed load; ``undo`` is the record that the restore made."""
    failed = VMStateError("the load failed")
    reference, undos = _state.take_over(int(ffi.cast("uintptr_t", undo)))
    staging: PythonStaging | None = reference()
    if staging is not None:
        staging.roll_back(undos, failed)
    if not hasattr(failed, "__notes__"):
        return 0
    print_exception(failed)
    return -errno.EINVAL
