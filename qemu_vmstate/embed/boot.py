# SPDX-License-Identifier: GPL-2.0-or-later
"""Start of the user's script in the Python that the shim has started inside QEMU.

The shim (cdefs/shim/shim.c) calls :func:`main` after it has started Python, and :func:`at_exit`
when the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from .standard_streams import prepare, print_message

__all__ = ["at_exit", "main"]

_PREFIX = "QEMU_VMSTATE_"
_SHIM_KEYS = ("python", "libpython")


@dataclass(frozen=True)
class _Settings:
    script: str
    args: tuple[str, ...]
    control: str | None
    control_key: bytes
    attach: bool


class _Refused(Exception):
    """The script cannot be started; str() is the message for the user."""


def _read_settings(options: Sequence[str]) -> _Settings:
    """Return the settings in -plugin's *options* and in the environment.

    A preloaded shim has no options, and all its settings are in the environment.
    """
    script = os.environ.get(_PREFIX + "SCRIPT", "")
    args = _listed(os.environ.get(_PREFIX + "ARGS", "[]"))
    for entry in options:
        key, _, value = entry.partition("=")
        if key == "script" and script:
            raise _Refused(
                "script= is given twice: QEMU makes one plugin of two -plugin options for one "
                "file; start everything from one script"
            )
        if key == "script":
            script = value
        elif key == "argv":
            args.append(value)
        elif key not in _SHIM_KEYS:
            raise _Refused(
                f"the plugin option {entry!r} is unknown: script=PATH, argv=ARGUMENT (as often "
                "as there are arguments), python=PATH and libpython=PATH are known"
            )
    if not script:
        raise _Refused("no script is named: add script=PATH to -plugin, or set QEMU_VMSTATE_SCRIPT")
    key_text = os.environ.get(_PREFIX + "CONTROL_KEY", "")
    try:
        control_key = bytes.fromhex(key_text)
    except ValueError:
        raise _Refused("QEMU_VMSTATE_CONTROL_KEY is not a row of hexadecimal digits") from None
    control = os.environ.get(_PREFIX + "CONTROL") or None
    return _Settings(script, tuple(args), control, control_key, _may_attach())


def _may_attach() -> bool:
    word = os.environ.get(_PREFIX + "ATTACH", "yes")
    if word not in ("yes", "no"):
        raise _Refused(f"QEMU_VMSTATE_ATTACH is {word!r}: only yes and no are known")
    return word == "yes"


def _listed(text: str) -> list[str]:
    try:
        args = json.loads(text)
    except ValueError:
        args = None
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise _Refused(f"QEMU_VMSTATE_ARGS is {text!r}, which is not a JSON list of strings")
    return args


def _forget_environment() -> None:
    # QEMU's children (exec: migrations, helpers) must not start Python again.
    for name in [name for name in os.environ if name.startswith(_PREFIX)]:
        del os.environ[name]


def _without_vfork() -> None:
    # The shim changes a child's signal mask in the child, after a fork() only.
    import subprocess

    setattr(subprocess, "_USE_VFORK", False)  # noqa: B010 - it is Final for type checkers


def _leave_signals_to_qemu() -> None:
    # Importing `signal`, as asyncio does, installs Python's SIGINT handler if QEMU has not
    # installed its own before, even after Py_InitializeEx(0).
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _namespace() -> dict[str, Any]:
    return sys.modules["__main__"].__dict__


def _start_control(settings: _Settings) -> None:
    from qemu_vmstate.embed import attach, control

    attach.start(_namespace, settings.attach, has_control=settings.control is not None)
    if settings.control is None:
        return
    try:
        control.serve(settings.control, _namespace, settings.control_key)
    except OSError as error:
        raise _Refused(
            f"the control channel cannot listen on {settings.control}: {error}"
        ) from error


def _run(settings: _Settings) -> int:
    """Run the script as ``__main__`` and return 0, or 1 after printing why it failed."""
    path = settings.script
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise _Refused(f"the script {path} cannot be read: {error.strerror}") from error
    module = ModuleType("__main__")
    module.__file__ = path
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [path, *settings.args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    _start_control(settings)
    qemu = os.getpid()
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except SystemExit as error:
        if os.getpid() != qemu:
            _end_fork(_status(error.code))
        if error.code in (0, None):
            return 0
        return _report(path, error)
    except BaseException as error:
        if os.getpid() != qemu:
            traceback.print_exc()
            _end_fork(1)
        return _report(path, error)
    if os.getpid() != qemu:
        _end_fork(0)
    return 0


def _status(code: object) -> int:
    """Return the exit status that ``sys.exit(code)`` gives a Python process."""
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


def _end_fork(status: int) -> NoReturn:
    """End a process that the script forked, at the end of the script.

    Otherwise it would continue as a second QEMU, with the monitor and the disks of the first.
    """
    at_exit()
    os._exit(status & 0xFF)


def _report(path: str, error: BaseException) -> int:
    here = error.__traceback__
    traceback.print_exception(type(error), error, here.tb_next if here else None)
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    # A syntax error's first lines quote the source.
    raised = lines[-1] if isinstance(error, SyntaxError) else lines[0]
    print_message(f"the script {path} raised {raised}")
    return 1


def main(options: Sequence[str], version: str, plugin_id: int) -> int:
    """Bind this Python to the QEMU around it and run the script that *options* name.

    *options* are the ``key=value`` strings of ``-plugin``, empty for a preloaded shim, and
    *version* is QEMU's own, ``"10.0.2"``, or empty if QEMU shows no functions; *plugin_id* is the
    plugin's, 0 for a preloaded shim.  Returns 0, or 1 after a message on stderr; the shim then ends
    QEMU.  Raises nothing.
    """
    # Imported here, so that a failing import is reported and ends QEMU.
    from qemu_vmstate.errors import VMStateError
    from qemu_vmstate.natives.choice import for_running_qemu

    try:
        prepare()
        _without_vfork()
        _leave_signals_to_qemu()
        settings = _read_settings(options)
        if version:
            for_running_qemu(version, os.readlink("/proc/self/exe"))
        # Import all of the package, which the first use of a public name does: C calls back into
        # much of it, and a hook in a VM must not import.
        from qemu_vmstate import Device, derive_to_migration_state  # noqa: F401
        from qemu_vmstate.bindings import native

        native.enter_vm(plugin_id)
        _forget_environment()
        return _run(settings)
    except (_Refused, VMStateError) as error:
        print_message(str(error))
    except BaseException as error:
        traceback.print_exc()
        print_message(f"Python could not start in this QEMU: {error!r}")
    return 1


def _keep_bql() -> None:
    """Hold the BQL from now on.

    The shim keeps the GIL until the process ends, so a thread with the BQL that waits for the
    GIL would never release it.  QEMU's exit notifiers, which run later, need the BQL.
    """
    with contextlib.suppress(Exception):
        from qemu_vmstate.bindings import native
        from qemu_vmstate.bindings.loader import _state
        from qemu_vmstate.state.bql import bql_locked

        # In a fork, bql_locked() raises.
        if native.in_vm() and not bql_locked():
            _state.bql_lock()


def at_exit() -> None:
    """Run Python's exit functions and flush its files, at QEMU's end.  Raises nothing.

    Python is not finalised, because that would wait for threads which may never end.  So the
    files that the script left open are found and flushed here.
    """
    try:
        # The public API runs them only as part of finalisation.
        atexit._run_exitfuncs()  # noqa: SLF001
    except BaseException:
        traceback.print_exc()
    _keep_bql()
    # A text file flushes its buffered file; a binary file has only the latter.
    for kind in (io.TextIOBase, io.BufferedIOBase):
        for stream in [found for found in gc.get_objects() if isinstance(found, kind)]:
            # A closed or broken stream has nothing to flush.
            with contextlib.suppress(Exception):
                stream.flush()
