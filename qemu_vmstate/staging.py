# SPDX-License-Identifier: GPL-2.0-or-later
"""One object's staging struct: what C walks, and how it is filled and committed.

How a save goes, and a load the other way round::

    save() or QEMU's migration          C: vmstate_save_state()
      └─ pre_save (bridge.c)            C: staging struct = its defaults
           ├─ native parts              C: lock, copy, unlock; no GIL
           └─ qv_py_snapshot            Python: every other part, under its own lock
      └─ the fields                     C: big endian bytes out of the staging struct

An exception in Python is kept here and becomes a sentence and an errno for C;
``save()`` raises it as it was, QEMU shows the sentence.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import sys
import traceback
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

from . import native
from .cells import Arc, BqlRefCell, Mutex
from .description import VMStateDescription
from .errors import InvalidError, to_errno
from .layout import VMStruct
from .loader import _state
from .native import ffi, lib
from .to_migration_state import ToMigrationState, restore_or_undo
from .wire import ArrayType, StructType

__all__ = ["Part", "Staging", "StatePart"]


class Part(Protocol):
    """A piece of an object that Python copies; ``path`` is for sentences."""

    path: str

    def save(self, staging: Any) -> None:
        """Fill this piece of the staging struct."""

    def load(self, source: Any, version_id: int, own_version: int) -> None:
        """Take this piece of ``source`` over; all of it, or nothing and raise.

        ``version_id`` is the stream's, ``own_version`` the description's.
        """

    def remember(self, memory: Any) -> None:
        """Put what a later :meth:`load` of ``memory`` needs to undo one into it."""


class StatePart:
    """A ``ToMigrationState``: a field of the staging struct, or (``None``) all of it."""

    def __init__(self, path: str, attribute: str | None, value: ToMigrationState[Any]) -> None:
        self.path = path
        self.attribute = attribute
        self.value = value

    def _of(self, struct: Any) -> Any:
        return struct if self.attribute is None else getattr(struct, self.attribute)

    def save(self, staging: Any) -> None:
        """Snapshot into the staging struct."""
        self.value.snapshot_migration_state(self._of(staging))

    def load(self, source: Any, version_id: int, own_version: int) -> None:
        """Restore under the state's own lock."""
        shared: Any = self.value
        if hasattr(shared, "restore_or_undo"):
            shared.restore_or_undo(self._of(source), version_id, own_version)
        elif hasattr(shared, "restore_migrated_state"):
            shared.restore_migrated_state(self._of(source), version_id)
        else:
            restore_or_undo(self.value, self._of(source), version_id, own_version)

    remember = save


def _copied_by_c(value: Any) -> tuple[Any, Any] | None:
    """The cell and the memory of a part that C can copy without Python, or ``None``."""
    while type(value) is Arc:
        value = value.target
    if type(value) not in (Mutex, BqlRefCell):
        return None
    inner = value._value
    if not isinstance(inner, VMStruct):
        return None
    for method in ("snapshot_migration_state", "restore_migrated_state_mut"):
        if getattr(type(inner), method) is not getattr(VMStruct, method):
            return None
    return value, inner


class Staging:
    """The staging struct of one object, its description and its hooks.

    ``cls`` is the layout class of the struct, ``parts`` what fills it.
    """

    def __init__(
        self, description: VMStateDescription, cls: type[VMStruct], parts: list[Part]
    ) -> None:
        self.description = description
        self.cls = cls
        self.exception: BaseException | None = None
        self._current = description.name
        self._keep: list[Any] = [parts, description]
        by_c = []
        self._parts: list[Part] = []
        for part in parts:
            found = _copied_by_c(part.value) if isinstance(part, StatePart) else None
            if found and isinstance(part, StatePart):
                by_c.append((part, *found))
            else:
                self._parts.append(part)
        image = ffi.new("unsigned char[]", cls.__image__)
        # A weak reference: the handle would keep this object alive for ever.
        handle = ffi.new_handle(weakref.ref(self))
        self._keep += [image, handle]
        self.cdata = ffi.gc(
            lib().qv_object_new(
                description.cdata, image, cls.__layout__.size, handle, bool(self._parts)
            ),
            lib().qv_object_free,
        )
        address = int(ffi.cast("uintptr_t", lib().qv_object_staging(self.cdata)))
        self._view: Any = _state.view(cls, address, cls.__layout__.size, self.cdata)
        for part, cell, inner in by_c:
            self._add_part(part, cell, inner)

    def _add_part(self, part: StatePart, cell: Any, inner: VMStruct) -> None:
        offset = 0
        for info in self.cls.__layout__.fields:
            if info.attribute == part.attribute:
                offset = info.offset
        name = part.path.removeprefix(f"{self.description.name}.")
        self._keep.append(inner)
        lib().qv_object_add_part(
            self.cdata,
            name.encode(),
            ffi.cast("void *", cell._cell.address),
            isinstance(cell, BqlRefCell),
            ffi.cast("void *", _state.address(inner)),
            offset,
            inner.__layout__.size,
        )

    def snapshot(self) -> None:
        """Fill the staging struct with every part that Python copies."""
        for part in self._parts:
            self._current = part.path
            part.save(self._view)

    def restore(self, version_id: int) -> None:
        """Commit the staging struct to every part that Python copies, or to none."""
        source = copy.copy(self._view)
        before = copy.copy(self._view)
        own_version = self.description.version_id
        undoable = set()
        for part in self._parts if len(self._parts) > 1 else ():
            # A part that cannot be saved now may be what the stream repairs.
            with contextlib.suppress(Exception):
                part.remember(before)
                undoable.add(part.path)
        for done, part in enumerate(self._parts):
            self._current = part.path
            try:
                part.load(source, version_id, own_version)
            except BaseException:
                for earlier in reversed(self._parts[:done]):
                    if earlier.path in undoable:
                        earlier.load(before, own_version, own_version)
                raise

    def fail(self, exc: BaseException, why: Any, hook: str) -> int:
        """Keep ``exc`` for the caller of ``save()`` or ``load()``; its errno for C."""
        if not native.in_vm():
            self.exception = exc
        self._locate(exc)
        sentence = self._sentence(exc)
        why[0] = lib().qv_strdup(sentence.replace("\0", "\\0").encode(errors="backslashreplace"))
        if native.in_vm():
            traceback.print_exception(exc, file=sys.stderr)
        else:
            exc.add_note(f"in the {hook} hook of {self.description.name}, at {self._current}")
        return to_errno(exc)

    def _sentence(self, exc: BaseException) -> str:
        if isinstance(exc, InvalidError):
            return str(exc)
        try:
            return f"{self._current}: {type(exc).__name__}: {exc}"
        except Exception:  # its own __str__ raises
            return f"{self._current}: {type(exc).__name__}"

    def _locate(self, exc: BaseException) -> None:
        """Give an error that names a class's field the field's path in this object."""
        if not isinstance(exc, InvalidError) or exc.path.startswith(self._current):
            return
        cls_name, _, rest = exc.path.partition(".")
        found = [
            f"{path}.{rest}"
            for path, cls in self._structs()
            if cls_name in [base.__name__ for base in cls.__mro__]
        ]
        here = [path for path in found if path.startswith(self._current)]
        if len(here) == 1:
            exc.path = here[0]
        elif exc.path:
            exc.path = f"{self._current} ({exc.path})"
        else:
            exc.path = self._current

    def _structs(self) -> Iterator[tuple[str, type[VMStruct]]]:
        """Every struct under this one, with its path; of an array its elements as one."""

        def walk(cls: type[VMStruct], path: str) -> Iterator[tuple[str, type[VMStruct]]]:
            yield path, cls
            for info in cls.__layout__.fields:
                inner = info.type
                while isinstance(inner, ArrayType):
                    inner = inner.element
                if isinstance(inner, StructType):
                    suffix = "[]" if isinstance(info.type, ArrayType) else ""
                    yield from walk(inner.cls, f"{path}.{info.name}{suffix}")

        return walk(self.cls, self.description.name)

    def take_exception(self) -> BaseException | None:
        """What a hook raised since the last call, or ``None``."""
        exc, self.exception = self.exception, None
        return exc


def _lost(_type: object, exc: BaseException, _trace: object) -> None:
    """An exception outside a hook's own ``try``: a signal handler's, for instance."""
    traceback.print_exception(exc, file=sys.stderr)


# cffi's default for a callback that raises is 0, which is success to QEMU.
@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_snapshot(handle: Any, why: Any) -> int:
    """``pre_save``: see ``Staging.snapshot``."""
    staging: Staging = ffi.from_handle(handle)()
    try:
        staging.snapshot()
    except BaseException as exc:
        return staging.fail(exc, why, "pre_save")
    return 0


@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_restore(handle: Any, version_id: int, why: Any) -> int:
    """``post_load``: see ``Staging.restore``."""
    staging: Staging = ffi.from_handle(handle)()
    try:
        staging.restore(version_id)
    except BaseException as exc:
        return staging.fail(exc, why, "post_load")
    return 0
