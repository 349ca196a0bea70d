# SPDX-License-Identifier: GPL-2.0-or-later
"""register() and unregister() outside a VM are refused, with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from qemu_vmstate import (
    Device,
    Migratable,
    Mutex,
    NativeError,
    RegistrationError,
    VMStruct,
    in_vm,
    plugin_id,
    register,
    save,
    u8,
    unregister,
)


class Regs(VMStruct):
    a: u8 = 1


class Timer(Device, name="timer"):
    regs: Migratable[Mutex[Regs]]


def test_this_process_is_no_vm() -> None:
    assert in_vm() is False
    with pytest.raises(NativeError, match=r"this Python is no TCG plugin: .* --shim plugin"):
        plugin_id()


@pytest.mark.parametrize("obj", [Timer(), Migratable(Mutex(Regs()))])
def test_register_outside_a_vm_says_what_to_do(obj: Any) -> None:
    with pytest.raises(
        RegistrationError, match=r"use save\(\) and load\(\) here, or run .* in a VM"
    ):
        register(obj)
    with pytest.raises(RuntimeError):
        register(obj, 5)


def test_refused_registration_leaves_the_device_as_it_was() -> None:
    dev = Timer()
    with pytest.raises(RegistrationError):
        register(dev)
    dev.regs = Mutex(Regs(a=7))
    assert save(dev) == b"\7"


@pytest.mark.parametrize("obj", [Timer(), Migratable(Mutex(Regs())), 3, None])
def test_unregister_of_an_object_that_is_not_registered_is_refused(obj: Any) -> None:
    with pytest.raises(RegistrationError, match="is not registered"):
        unregister(obj)
