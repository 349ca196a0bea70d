# SPDX-License-Identifier: GPL-2.0-or-later
"""``register`` and ``unregister``, which put an object into a VM's savevm list and take it out.

Live migration, savevm/loadvm and snapshots carry every object of that list;
``vmstate_register_with_alias_id()`` (migration/savevm.c) adds to it.
"""

from __future__ import annotations

import sys
import threading
from array import array
from bisect import bisect_left
from collections import defaultdict
from types import TracebackType
from typing import Any

from .bindings.native import in_vm, lib
from .device.device import staging_of
from .errors import RegistrationError
from .staging.staging import Staging
from .state import lock_order
from .state.bql import check_bql_order
from .vmsd.description import VMStateDescription
from .vmsd.dump import dump_device

__all__ = ["Registration", "dump_registered", "register", "registered", "unregister"]

_SWITCH_INTERVAL = 0.0005

_lock = threading.Lock()


class _Section:
    """The registered objects of one name, sorted by instance id.

    Not a dict, because that takes 65 bytes for each object, mostly for the numbers, and a VM may
    have ten thousand objects.
    """

    __slots__ = ("ids", "stagings")

    def __init__(self) -> None:
        self.ids = array("I")
        self.stagings: list[Staging] = []

    def get(self, instance_id: int) -> Staging | None:
        at = bisect_left(self.ids, instance_id)
        found = at < len(self.ids) and self.ids[at] == instance_id
        return self.stagings[at] if found else None

    def add(self, instance_id: int, staging: Staging, owner: Any) -> bool:
        """Add an object, or return ``False`` if there is one of this id."""
        ids = self.ids
        # Most are registered in the order of their ids.
        if not ids or instance_id > ids[-1]:
            ids.append(instance_id)
            self.stagings.append(staging)
        else:
            at = bisect_left(ids, instance_id)
            if ids[at] == instance_id:
                return False
            ids.insert(at, instance_id)
            self.stagings.insert(at, staging)
        staging.owner = owner
        return True

    def remove(self, instance_id: int) -> None:
        at = bisect_left(self.ids, instance_id)
        del self.ids[at]
        self.stagings.pop(at).owner = None


_registered: defaultdict[str, _Section] = defaultdict(_Section)


class Registration:
    """The entry of ``obj`` in the savevm list; as a context manager it unregisters at the end.

    ``name`` and ``instance_id`` are those of its section.  The object, its description and its
    staging struct stay alive while the object is registered, even if the ``Registration`` is
    dropped.
    """

    __slots__ = ("_staging", "instance_id", "name", "obj")

    def __init__(self, obj: Any, staging: Staging, instance_id: int) -> None:
        self.obj = obj
        self.name = staging.description.name
        self.instance_id = instance_id
        self._staging = staging

    @property
    def description(self) -> VMStateDescription:
        """The description of the section."""
        return self._staging.description

    def unregister(self) -> None:
        """Take the object out of the list; see :func:`unregister`."""
        check_bql_order()
        with _lock:
            section = _registered[self.name]
            if section.get(self.instance_id) is not self._staging:
                raise RegistrationError(
                    f"{self.name} (instance {self.instance_id}) is not registered, or not any more"
                )
            section.remove(self.instance_id)
        failure = self._staging.bridge_object.unregister()
        if failure is not None:
            with _lock:
                section.add(self.instance_id, self._staging, self.obj)
            raise RegistrationError(
                f"{self.name} cannot be unregistered: {_reason(failure)}; try again after it"
            )

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unregister()


def register(obj: Any, instance_id: int = 0, *, name: str | None = None) -> Registration:
    """Put ``obj`` into the VM's savevm list and return its :class:`Registration`.

    ``obj`` is a ``Device``, or a ``Migratable``, whose section has the name ``name``, by default
    that of its ``Migrated``.  ``instance_id``, 0 to 4294967294, distinguishes objects of
    the same name; source and destination must use the same.  Takes the BQL if this thread
    does not hold it.

    If the snapshot or restore of the object needs Python, this reduces the interpreter's switch
    interval (``sys.setswitchinterval()``) to half a millisecond: so long can a busy Python thread
    delay a migration.  While an incoming migration is loaded, it is a tenth of a millisecond.

    Raises ``RegistrationError`` outside a VM, for a name and instance that are
    registered already, while a migration runs, and from inside a snapshot or restore.

    In C: ``migration/vmstate.h: vmstate_register_with_alias_id()``.
    """
    if not in_vm():
        raise RegistrationError(
            "there is no savevm list in this process: use save() and load() here, or run the "
            "script in a VM, with qemu_vmstate.vm.VM(script=...) or QEMU's -plugin option"
        )
    if not 0 <= instance_id < 2**32 - 1:
        raise RegistrationError(f"instance_id {instance_id}: it must be from 0 to 4294967294")
    if lock_order.state.on:
        check_bql_order()
    staging = staging_of(obj, name)
    name = staging.description.name
    with _lock:
        section = _registered[name]
        added = staging.owner is None and section.add(instance_id, staging, obj)
        taken = not added and section.get(instance_id) is not None
    if taken:
        raise RegistrationError(
            f"{name} (instance {instance_id}) is registered already, and QEMU "
            "ends on a duplicate; give another instance_id"
        )
    if not added:
        raise RegistrationError(f"this {name} is registered already, as another instance")
    failure = staging.bridge_object.register(instance_id)
    if failure is not None:
        with _lock:
            section.remove(instance_id)
        raise RegistrationError(
            f"{name} cannot be registered: {_reason(failure)}; try again after it"
        )
    if staging.needs_python:
        # Beside a busy thread a hook waits this long for the GIL, while the VM is stopped.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
    return Registration(obj, staging, instance_id)


def _reason(failure: tuple[int, str, list[BaseException]]) -> str:
    lib()  # raises what forbids all calls in a fork
    return failure[1]


def unregister(obj: Any) -> None:
    """Take ``obj``, a registered object or its :class:`Registration`, out of the savevm list.

    Takes the BQL if this thread does not hold it.  Raises ``RegistrationError`` if it is not
    registered, while a migration runs, and from inside a snapshot or restore.

    In C: ``migration/vmstate.h: vmstate_unregister()``.
    """
    if isinstance(obj, Registration):
        obj.unregister()
        return
    found = [registration for registration in registered() if registration.obj is obj]
    if not found:
        raise RegistrationError(f"{obj!r} is not registered")
    for registration in found:
        registration.unregister()


def registered() -> list[Registration]:
    """Return all that :func:`register` has put into the savevm list, by name and instance id."""
    with _lock:
        return [
            Registration(staging.owner, staging, instance_id)
            for _, section in sorted(_registered.items())
            for instance_id, staging in zip(section.ids, section.stagings, strict=True)
        ]


def dump_registered() -> dict[str, Any]:
    """Return the objects that ``-dump-vmstate`` would have for what is registered, by name.

    QEMU has one for each QOM class.  So objects of one name share theirs, but if their
    descriptions differ, those of the later instances are called ``name/instance_id``.
    """
    dumps: dict[str, Any] = {}
    for registration in registered():
        name, dump = registration.name, dump_device(registration.description)
        if dumps.setdefault(name, dump) != dump:
            dumps[f"{name}/{registration.instance_id}"] = dump
    return dumps
