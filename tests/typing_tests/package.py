# SPDX-License-Identifier: GPL-2.0-or-later
"""Public names keep their types although the package imports lazily; checked by mypy, never run."""

# ruff: noqa: F405
from __future__ import annotations

from typing import assert_type

import qemu_vmstate
from qemu_vmstate import *  # noqa: F403
from qemu_vmstate import import_module  # type: ignore[attr-defined]  # noqa: F401


class Regs(VMStruct):
    count: u32 = 0


assert_type(qemu_vmstate.Mutex(Regs()), Mutex[Regs])
assert_type(qemu_vmstate.save(Regs()), bytes)
assert_type(qemu_vmstate.errors.StreamError("reason"), StreamError)
assert_type(qemu_vmstate.bindings.native.capabilities().qemu, str)
print(qemu_vmstate.nix)  # type: ignore[attr-defined]
