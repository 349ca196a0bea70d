# SPDX-License-Identifier: GPL-2.0-or-later
"""Options and environment that start a QEMU with Python in it.

The shim is loaded into QEMU in one of two ways, and then runs :mod:`qemu_vmstate.embed.boot`:

* ``plugin``: ``-plugin qemu-vmstate-shim.so,script=...`` (docs/devel/tcg-plugins.rst);
* ``preload``: ``LD_PRELOAD`` and ``QEMU_VMSTATE_*`` variables, for KVM and for builds
  without plugins.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import VMStateError
from ..natives.folders import root

__all__ = [
    "SHIM_NAME",
    "Script",
    "Shim",
    "VMError",
    "VMLaunchError",
    "libpython_of",
    "option",
    "shim_path",
    "without_python",
]

Shim = Literal["plugin", "preload"]
"""How the shim is loaded into QEMU."""

SHIM_NAME = "qemu-vmstate-shim.so"
"""The file name of the shim, one for all QEMU versions."""

_PREFIX = "QEMU_VMSTATE_"
_NATIVE = "QEMU_VMSTATE_NATIVE"
# Not imported from state/lock_order.py, because that loads the compiled parts.
_OF_THE_USER = ("QEMU_VMSTATE_CHECK_LOCK_ORDER", "QEMU_VMSTATE_ATTACH")
_ASK_LIBPYTHON = """\
import json, os, sys, sysconfig
v = sysconfig.get_config_vars()
names = [v.get("INSTSONAME"), v.get("LDLIBRARY"),
         "libpython%d.%d%s.so.1.0" % (*sys.version_info[:2], sys.abiflags)]
folders = [v.get("LIBDIR"), os.path.join(v.get("LIBDIR") or "", v.get("MULTIARCH") or ""),
           os.path.join(sys.base_prefix, "lib"), v.get("LIBPL")]
print(json.dumps([os.path.join(f, n) for f in folders if f
                  for n in names if n and ".so" in n]))
"""


class VMError(VMStateError, RuntimeError):
    """A command to a VM failed; the message names the VM and the command."""


class VMLaunchError(VMError):
    """A QEMU could not be started, or ended before its monitor answered."""


def option(*bare: str, **values: str | os.PathLike[str]) -> str:
    """Return one QEMU option argument, ``bare,key=value``, with the commas in it doubled.

    Mirrors the syntax of ``QemuOpts`` (docs/system/invocation.rst).
    """
    parts = [*bare, *(f"{key}={os.fspath(value)}" for key, value in values.items())]
    return ",".join(part.replace(",", ",,") for part in parts)


@functools.cache
def libpython_of(python: str) -> str:
    """Return the path of the shared libpython of the interpreter *python*.

    Raises :class:`VMLaunchError` when *python* cannot be run or has none.
    """
    try:
        answer = subprocess.run(
            [python, "-c", _ASK_LIBPYTHON],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise VMLaunchError(
            f"the Python {python} cannot be asked for its libpython: {error}; "
            "name a working interpreter with python="
        ) from error
    candidates: list[str] = json.loads(answer.stdout)
    for candidate in candidates:
        if os.path.isfile(candidate):
            return candidate
    raise VMLaunchError(
        f"the Python {python} has no shared libpython (looked for {', '.join(candidates)}); "
        "QEMU can only load one that was built with --enable-shared, or on Debian the package "
        "libpython3.x; name another interpreter with python="
    )


def shim_path() -> Path:
    """Return the path of the shim.

    Raises :class:`VMLaunchError` when it is not there.
    """
    path = root() / SHIM_NAME
    if not path.is_file():
        raise VMLaunchError(
            f"there is no {SHIM_NAME} in {root()}: install a wheel of qemu_vmstate, or, in a "
            "checkout, run scripts/setup"
        )
    return path


@dataclass(frozen=True)
class Script:
    """A Python script to run inside a QEMU, and how the shim that runs it is loaded.

    *python* is the interpreter whose libpython and packages the script gets.
    """

    path: str | os.PathLike[str]
    args: Sequence[str] = ()
    shim: Shim = "plugin"
    python: str = sys.executable

    def qemu_arguments(self) -> list[str]:
        """Return the arguments to add to QEMU's command line: none if the shim is preloaded.

        Raises :class:`VMLaunchError` for an argument that QEMU would interpret itself.
        """
        if self.shim == "preload":
            return []
        for value in self.args:
            if value in ("help", "?"):
                raise VMLaunchError(
                    f"the script argument {value!r} cannot be passed with -plugin: QEMU 9 and "
                    "later print their own help and exit; use shim='preload' for it"
                )
        plugin = option(
            file=shim_path(),
            script=Path(self.path).absolute(),
            python=self.python,
            libpython=libpython_of(self.python),
        )
        # Not the key arg=: QEMU rewrites arg=a to a=on and calls it deprecated.
        return ["-plugin", ",".join([plugin, *(option(argv=value) for value in self.args)])]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return *inherited* with the shim's variables, which replace those of an outer shim.

        Raises :class:`VMLaunchError` if the shim's path does not allow to preload it.
        """
        env = without_python(inherited)
        library = shim_path()
        package = str(Path(__file__).absolute().parents[2])
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [package, env.get("PYTHONPATH")]))
        if _NATIVE in inherited:
            env[_NATIVE] = inherited[_NATIVE]
        if self.shim == "plugin":
            return env
        if any(separator in str(library) for separator in ": "):
            raise VMLaunchError(
                f"the shim {library} cannot be preloaded: LD_PRELOAD takes no path with a space or "
                "a colon; move it, or use shim='plugin'"
            )
        env["LD_PRELOAD"] = ":".join(filter(None, [str(library), env.get("LD_PRELOAD")]))
        env[_PREFIX + "SCRIPT"] = str(Path(self.path).absolute())
        env[_PREFIX + "PYTHON"] = self.python
        env[_PREFIX + "LIBPYTHON"] = libpython_of(self.python)
        env[_PREFIX + "ARGS"] = json.dumps(list(self.args))
        return env


def without_python(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return *inherited* without the variables that would start Python in a QEMU."""
    return {
        name: value
        for name, value in inherited.items()
        if not name.startswith(_PREFIX) or name in _OF_THE_USER
    }
