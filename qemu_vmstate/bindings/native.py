# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled bridge, bound once: to the library of QEMU's code, or to the VM that it is in."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from ..errors import BqlError, NativeError
from ..natives.choice import chosen
from .loader import _state, load_chosen

if TYPE_CHECKING:
    from ._native import CData, Lib

__all__ = [
    "Capabilities",
    "capabilities",
    "enter_vm",
    "ffi",
    "in_vm",
    "lib",
    "plugin_id",
    "take_text",
]

load_chosen("_native")

from ._native import ffi  # noqa: E402
from ._native import lib as _lib  # noqa: E402


class Capabilities(NamedTuple):
    """Properties of the QEMU that the native parts are for; ``qemu`` is its version, ``"10.2.2"``.

    *errp_hooks*: hooks can report an ``Error **errp``; *early_setup*: VMStateDescription has
    ``early_setup``; *in_vm*: this Python runs inside a ``qemu-system-*``.
    """

    qemu: str
    errp_hooks: bool
    early_setup: bool
    in_vm: bool


def _decode(pointer: CData) -> str:
    text = ffi.string(pointer)
    assert isinstance(text, bytes)
    return text.decode(errors="backslashreplace")


def take_text(pointer: CData) -> str:
    """Return a string that the bridge allocated as ``str``, and release it."""
    text = _decode(pointer)
    _lib.qv_free(pointer)
    return text


def _bind(library: CData) -> None:
    errmsg = ffi.new("char **")
    ret = _lib.qv_init(library, errmsg)
    if ret != 0:
        raise NativeError(take_text(errmsg[0]))
    _lib.qv_set_python(ffi.cast("void *", _state.python()))
    _state.set_bql(int(ffi.cast("uintptr_t", _lib.qv_bql_functions())))
    _state.set_object_functions(int(ffi.cast("uintptr_t", _lib.qv_object_functions())))


_bound = False
_qemu_process = 0
_plugin_id = 0
_binding = threading.Lock()


def _in_a_fork() -> None:
    global _bound
    _bound = False
    _state.forbid_object_calls()


def lib() -> Lib:
    """Return the bridge's functions (cdefs/decl/bridge.h), bound to QEMU's code.

    The first call binds them to the library of migration code, unless :func:`enter_vm` was
    called before.  Raises ``NativeError`` if that library cannot be loaded, and ``BqlError`` in a
    process that was forked from a QEMU.
    """
    global _bound
    if not _bound:
        if _qemu_process:
            raise BqlError(
                f"this process was forked by the script in QEMU (process {_qemu_process}): the BQL "
                "and the savevm list are that one's; do what needs them there, or start a program "
                "with subprocess"
            )
        with _binding:
            # Another thread may have done it meanwhile; QEMU ends if it is done twice.
            if not _bound:
                _bind(ffi.new("char[]", os.fsencode(chosen().library)))
                _bound = True
    return _lib


def enter_vm(plugin_id: int) -> None:
    """Bind the bridge to the QEMU of this process; embed.boot calls it.

    ``plugin_id`` is the id that QEMU gave the shim as a TCG plugin, 0 if it was preloaded.
    Raises ``NativeError`` if the native parts are for another version, with both versions,
    or if QEMU's functions cannot be found.
    """
    global _bound, _qemu_process, _plugin_id
    _bind(ffi.NULL)
    _bound = True
    _qemu_process = os.getpid()
    _plugin_id = plugin_id
    # A fork has only one of QEMU's threads, and locks that the other threads may have held.
    os.register_at_fork(after_in_child=_in_a_fork)


def in_vm() -> bool:
    """Return whether this Python runs inside a ``qemu-system-*``."""
    return _qemu_process != 0


def plugin_id() -> int:
    """Return the ``qemu_plugin_id_t`` of the shim, which is a TCG plugin of the running QEMU.

    QEMU's functions that register a plugin's callbacks take it as their first argument
    (include/qemu/qemu-plugin.h).  A script can call them by ``ctypes.CDLL(None)``; a callback runs
    in the thread of a virtual CPU, without the BQL.  Raises ``NativeError`` in a process that is no
    QEMU, and in a QEMU with a preloaded shim.
    """
    if not _plugin_id:
        raise NativeError(
            "this Python is no TCG plugin: start a QEMU that has plugins and TCG with the shim "
            "'plugin', as VM(shim='plugin') and `qemu-vmstate run --shim plugin` do"
        )
    return _plugin_id


def capabilities() -> Capabilities:
    """Return the properties of the QEMU that the native parts in use are for."""
    flags = _lib.qv_capabilities()
    return Capabilities(
        qemu=_decode(_lib.qv_built_for()),
        errp_hooks=bool(flags & _lib.QV_CAP_ERRP_HOOKS),
        early_setup=bool(flags & _lib.QV_CAP_EARLY_SETUP),
        in_vm=in_vm(),
    )
