# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptions of a script's devices in the form of QEMU's ``-dump-vmstate``.

``-dump-vmstate`` has the QOM classes of a QEMU and ends it before a script runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TextIO

from .launch import Shim, VMError
from .vm import VM

__all__ = ["dump_vmstate", "write_dump"]

_DUMP = "__import__('importlib').import_module('qemu_vmstate.registration').dump_registered"
_MACHINE_TYPE_SUFFIX = "-machine"


def dump_vmstate(
    script: str, args: Sequence[str], shim: Shim, command: Sequence[str], out: TextIO
) -> dict[str, Any]:
    """Run *script* in the QEMU *command*, and return the descriptions of what it has registered.

    The machine stays paused and without default devices; without *command* it is the machine
    ``none``.  What QEMU and the script print is written to *out*.  Raises :class:`VMError` if QEMU
    or the script fails, or if nothing is registered.
    """
    qemu, *extra = command or ["qemu-system-x86_64", "-M", "none"]
    vm = VM(
        *(script, args),
        shim=shim,
        qemu=qemu,
        machine=None,
        extra=extra,
        name="describe",
        paused=True,
    )
    try:
        with vm:
            # QEMU's monitor answers when the machine is ready, and so after the script.
            machine = vm.qmp("qom-get", path="/machine", property="type")
            devices: dict[str, Any] = vm.python.call(_DUMP)
    finally:
        out.write(vm.log)
    if not devices:
        raise VMError(
            f"the script {script} has registered no device: it has to call register() for each "
            "before it ends"
        )
    name = machine.removesuffix(_MACHINE_TYPE_SUFFIX)
    return {"vmschkmachine": {"Name": name}, **devices}


def write_dump(dump: dict[str, Any], out: TextIO) -> None:
    """Write *dump* as QEMU does."""
    json.dump(dump, out, indent=2)
    out.write("\n")
