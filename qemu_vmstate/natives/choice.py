# SPDX-License-Identifier: GPL-2.0-or-later
"""The choice of the native parts: by the running QEMU in a VM, by the user or the newest else."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import NativeError
from .folders import (
    Native,
    all_natives,
    packaged_natives,
    release_of,
    root,
    user_natives,
    version_numbers,
)

# The package has the names of this list as its own.
__all__ = ["use_qemu"]

QEMU_VARIABLE = "QEMU_VMSTATE_QEMU"
"""The variable that names the QEMU of :func:`chosen`, as the argument of :func:`use_qemu`."""

_chosen: Native | None = None


def use_qemu(qemu: str | os.PathLike[str]) -> None:
    """Use the C code of one QEMU in process, in place of the newest.

    *qemu* is a version, ``"7.2"`` or ``"7.2.22"``, or the path of a QEMU build directory for which
    ``qemu-vmstate build`` was run.  It must be called before any other name is imported
    from ``qemu_vmstate``, since that loads the native parts; the variable ``QEMU_VMSTATE_QEMU`` has
    the same effect at any time.  Raises ``NativeError`` if the native parts for it are not there,
    or if those of another QEMU are loaded.
    """
    global _chosen
    native = choose(os.fspath(qemu))
    if _chosen not in (None, native):
        assert _chosen is not None
        raise NativeError(
            f"use_qemu({os.fspath(qemu)!r}): the native parts for QEMU {_chosen.qemu} in "
            f"{_chosen.folder} are in use already; call it before other names are imported from "
            f"qemu_vmstate, or set {QEMU_VARIABLE}"
        )
    _chosen = native


def chosen() -> Native:
    """Return the native parts that this process uses, and use them from now on.

    They are those of :func:`use_qemu` or of the running QEMU, else of ``QEMU_VMSTATE_QEMU``, else
    the package's newest.  Raises ``NativeError`` if there are none.
    """
    global _chosen
    if _chosen is None:
        _chosen = choose(os.environ.get(QEMU_VARIABLE) or None)
    return _chosen


def for_running_qemu(version: str, executable: str | os.PathLike[str]) -> Native:
    """Use the native parts for the QEMU that this process runs in, and return them.

    *version* is what it says of itself, and *executable* its path; those that were built for the
    build directory in which it lies are preferred.  Raises ``NativeError`` if there are none.
    """
    global _chosen
    _chosen = fitting(version, executable)
    return _chosen


def fitting(version: str, executable: str | os.PathLike[str]) -> Native:
    """Return the native parts that :func:`for_running_qemu` would use; raises as it does."""
    program = Path(executable)
    # Those of the package come first, and the user's serve a release that it lacks.
    same = [one for one in all_natives() if release_of(one.qemu) == release_of(version)]
    exact = [native for native in same if native.qemu == version]
    own = [native for native in same if native.build and native.build in program.parents]
    found = _usable(own) or _usable([*exact, *same])
    if found is None:
        raise no_native(version)
    return found


def choose(qemu: str | None) -> Native:
    """Return the native parts for a version or a build directory; of None the newest.

    Raises ``NativeError`` if they are not there.
    """
    if qemu is None:
        native = next(iter(packaged_natives()), None) or _usable(user_natives())
    elif version_numbers(qemu) and os.sep not in qemu:
        native = _usable([one for one in all_natives() if _is_asked_for(one, qemu)])
    else:
        build = Path(os.path.realpath(qemu))
        native = _usable([one for one in user_natives() if one.build == build])
    if native is None:
        raise no_native(qemu)
    return native


def no_native(qemu: str | None) -> NativeError:
    """Return the error of native parts that are not there."""
    there = list(dict.fromkeys(native.qemu for native in all_natives()))
    build = qemu if qemu and os.sep in qemu else "/path/to/qemu/build"
    command = f"`qemu-vmstate build {build}` with a build directory of that QEMU"
    if qemu is None or not there:
        return NativeError(
            f"qemu_vmstate has no native parts in {root()}: install a wheel of it, or, in a "
            "checkout, run scripts/setup"
        )
    return NativeError(
        f"qemu_vmstate has no native parts for QEMU {qemu}, only for {', '.join(there)}: "
        f"add them by {command}"
    )


def _is_asked_for(native: Native, version: str) -> bool:
    numbers = version_numbers(version)
    if len(numbers) > 2:
        return version_numbers(native.qemu) == numbers
    return release_of(native.qemu) == release_of(version)


def _usable(natives: list[Native]) -> Native | None:
    """Return the first that can be used; raise if there are some, and all are outdated."""
    for native in natives:
        if native.usable:
            return native
    for native in natives:
        raise NativeError(
            f"the native parts for QEMU {native.qemu} in {native.folder} were built by another "
            f"qemu_vmstate: build them again with `qemu-vmstate build {native.build}`"
        )
    return None
