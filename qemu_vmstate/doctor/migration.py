# SPDX-License-Identifier: GPL-2.0-or-later
"""The migration of a device from one VM of an emulator to another."""

from __future__ import annotations

import tempfile

from ..errors import VMStateError
from ..natives.folders import PACKAGE
from ..vm.launch import Shim
from ..vm.vm import VM

__all__ = ["migrate"]

_SCRIPT = PACKAGE / "doctor" / "device.py"
_PREFIX = "qemu_vmstate: "


def migrate(qemu: str, shim: Shim, timeout: float) -> str:
    """Migrate a device of one field; return an empty string, or what went wrong.

    A single wait may take *timeout* seconds.
    """
    with tempfile.TemporaryDirectory(prefix="qemu-vmstate-doctor-") as folder:
        source, target = (
            VM(
                _SCRIPT,
                shim=shim,
                qemu=qemu,
                name=name,
                incoming=name == "target",
                folder=folder,
                timeout=timeout,
            )
            for name in ("source", "target")
        )
        try:
            with source, target:
                source.python.exec("set_value()")
                source.migrate_to(target)
                if not target.python.eval("has_value()"):
                    return "the device has another value after the migration"
        except (VMStateError, OSError) as error:
            return _reason(error, source.log + target.log)
    return ""


def _reason(error: Exception, log: str) -> str:
    """Return what the shim has said, else what QEMU has said last, else the error."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(_PREFIX):
            return line.removeprefix(_PREFIX)
    message = str(error).partition("; its log is ")[0]
    return f"{message} ({lines[-1]})" if lines else message
