# SPDX-License-Identifier: GPL-2.0-or-later
"""The staging struct of an object whose save or load calls Python.

A save takes these steps, and a load the reverse ones::

    save() or QEMU's migration          C: vmstate_save_state()
      └─ pre_save (hooks.c)             C: staging struct = its defaults
           ├─ native parts              C: lock all, copy, unlock; no GIL
           └─ qv_py_snapshot            Python: every other part, under all the locks
      └─ the fields                     C: big endian bytes out of the staging struct

C gets a message and an errno for an exception in Python.  ``save()`` raises the exception
itself; in a VM QEMU shows the message.
"""

from __future__ import annotations

import contextlib
import copy
import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, lib
from ..errors import InvalidError, to_errno
from ..layout.traversal import check_struct, path_at, structs
from ..layout.vmstruct import VMStruct
from ..state.cells import Mutex, lock_all, pointee
from ..state.uncaught import print_exception
from ..state.undo import Undo, roll_back_all
from ..vmsd.description import VMStateDescription
from ..vmsd.predicates import asks, forget, watch
from .bridge_object import make_bridge_object
from .object_class import ClassData, NativePart, class_data_of
from .parts import Hooks, Part, StatePart, forgets_source
from .staging import Staging

__all__ = ["PythonStaging"]


_NO_MUTEXES: dict[Mutex[Any], str] = {}


class PythonStaging(Staging):
    """A staging struct with Python parts, hooks or validation.

    ``native_parts`` are the parts that C copies, ``python_parts`` the others.
    """

    __slots__ = (
        "__weakref__",
        "_current",
        "_handle",
        "_hooks",
        "_locks",
        "_native_memory",
        "_needed",
        "_validated",
        "_view",
        "fast_path",
        "mutexes",
        "needs_python",
        "python_parts",
    )

    def __init__(
        self,
        description: VMStateDescription,
        parts: list[Part],
        native_parts: list[NativePart],
        python_parts: tuple[Part, ...],
        hooks: Hooks,
    ) -> None:
        cls = description.cls
        self._current = description.name
        self._hooks = hooks
        self._needed = tuple(self._needs(description))
        self._validated = cls.__validated__ or hooks.validate is not None
        self.python_parts = python_parts
        # An object with parts of both kinds: Python undoes both.
        self._native_memory = (
            {part.path: inner for part, _, inner in native_parts} if python_parts else {}
        )
        self.mutexes = self._locks = _NO_MUTEXES
        self.fast_path: _state.FastPath | None = None
        if python_parts:
            self._set_locks(parts)
        class_data = class_data_of(cls)
        hook_flags = self._needed_hooks(class_data)
        # A weak reference, because this object owns the handle and would never be freed.
        self._handle = ffi.new_handle(weakref.ref(self)) if hook_flags else ffi.NULL
        handle = int(ffi.cast("uintptr_t", self._handle))
        made = make_bridge_object(description, native_parts, handle, hook_flags)
        super().__init__(description, *made)
        self.needs_python = hook_flags != 0
        # Views of the struct keep it alive, so that they may outlive the object.
        self._view = self.view(self.bridge_object)
        if class_data.has_predicates:
            failed = weakref.WeakMethod(self._predicate_failed)
            watch(
                self.address,
                cls.__layout__.size,
                lambda *failure: (failed() or _ignore)(*failure),
            )
            weakref.finalize(self, forget, self.address)

    def _set_locks(self, parts: list[Part]) -> None:
        """Set the Mutexes that Python locks together; a single one is locked by its own part."""
        for part in parts:
            shared = pointee(getattr(part, "value", None))
            if isinstance(shared, Mutex):
                self.mutexes = {shared: part.path} | self.mutexes
        self._locks = self.mutexes if self._native_memory or len(self.mutexes) > 1 else _NO_MUTEXES

    @property
    def only_converts(self) -> bool:
        """Whether a save and a load do nothing but the conversions of Python parts."""
        more = self._hooks.pre_save or self._hooks.post_load or self._validated
        return bool(self.python_parts) and not more and not self._needed

    def _needed_hooks(self, class_data: ClassData) -> int:
        python = self.python_parts or self._validated or self._needed
        wanted = {
            lib().QV_HOOK_SNAPSHOT: python or self._hooks.pre_save,
            lib().QV_HOOK_RESTORE: self.python_parts or self._validated or self._hooks.post_load,
            lib().QV_HOOK_POST_SAVE: self._hooks.post_save,
            lib().QV_HOOK_PRE_LOAD: self._hooks.pre_load,
            lib().QV_HOOK_PREDICATES: class_data.has_predicates,
            lib().QV_HOOK_LOCK_ALL: self._native_memory,
            lib().QV_HOOK_NEEDED: self._hooks.needed,
            lib().QV_HOOK_LOAD_COMPLETE: self._hooks.load_complete,
            lib().QV_HOOK_LOAD_ROLLED_BACK: self._hooks.load_rolled_back,
        }
        flags: int = sum(flag for flag, given in wanted.items() if given)
        return flags

    def _needs(
        self, description: VMStateDescription
    ) -> Iterator[tuple[int, str, Callable[[Any], bool]]]:
        """Yield the number, path and ``needed`` of each subsection that C does not compare."""
        for number, info in enumerate(description.numbered):
            needed = asks(info)
            if needed:
                yield number, f"{description.name}.{info.attribute}.needed()", needed

    @property
    def migration_state(self) -> Any:
        """The staging struct, as the last save or load left it."""
        return self._view

    def snapshot(self, preserve: bool) -> None:
        """Fill the staging struct with every part that Python copies.

        ``preserve``: for a load that preserves fields, not for a save.
        """
        if self._hooks.pre_save and not preserve:
            self._current = f"{self.description.name}.pre_save()"
            self._hooks.pre_save()
        with self._lock_all():
            for part in self.python_parts:
                self._current = part.path
                part.save(self._view)
            if self._native_memory:
                lib().qv_object_copy_parts(self.cdata, True)
        if not preserve:
            self._validate()
            for number, path, needed in self._needed:
                self._current = path
                lib().qv_object_set_needed(self.cdata, number, bool(needed(self._view)))

    @contextlib.contextmanager
    def _lock_all(self) -> Iterator[None]:
        """Hold all Mutexes, so that no other thread sees a part change without the others."""
        self._current = self.description.name
        with lock_all(self._locks):
            for mutex, path in self._locks.items():
                if mutex.is_poisoned():
                    self._current = path
                    raise mutex.poison()
            yield

    def _validate(self) -> None:
        if self._validated:
            self._current = self.description.name
            check_struct(self._view, self.description.name)
            if self._hooks.validate:
                self._hooks.validate(self._view)

    def restore(self, version_id: int) -> None:
        """Restore every part that Python copies from the staging struct, or none if one fails."""
        self._validate()
        forgotten = all(forgets_source(part) for part in self.python_parts)
        source = self._view if forgotten else copy.copy(self._view)
        undos: list[Undo | None] = []
        with self._lock_all():
            try:
                for part in self.python_parts:
                    self._current = part.path
                    if self._has(source, part):
                        undos.append(part.undo(self.description.version_id))
                        part.load(source, version_id)
                    else:
                        undos.append(None)
            except BaseException as exc:
                self.roll_back_parts(undos, exc)
                raise
            if self._native_memory:
                undos += [
                    partial(_state.assign, inner, copy.copy(inner))
                    for inner in self._native_memory.values()
                ]
                lib().qv_object_copy_parts(self.cdata, False)
        if self._hooks.post_load:
            self._current = f"{self.description.name}.post_load()"
            try:
                self._hooks.post_load(version_id)
            except BaseException as exc:
                self.roll_back(undos, exc)
                self._tell_rolled_back(exc)
                raise
        if lib().qv_object_undoes(self.cdata):
            address = ffi.cast("void *", _state.hand_over((weakref.ref(self), undos)))
            lib().qv_object_set_undo(self.cdata, address)

    def roll_back(self, undos: Iterable[Undo | None], exc: BaseException) -> None:
        """Undo a complete restore; add notes to ``exc`` for what fails."""
        with lock_all(self.mutexes):
            self.roll_back_parts(undos, exc)

    def roll_back_parts(self, undos: Iterable[Undo | None], exc: BaseException) -> None:
        """Undo the restores of the first parts, where the locks are held already."""
        paths = [part.path for part in self.python_parts]
        roll_back_all(zip((*paths, *self._native_memory), undos, strict=False), exc)

    def _tell_rolled_back(self, exc: BaseException) -> None:
        """Run ``load_rolled_back`` because of ``exc``; add a note to ``exc`` if that fails."""
        if self._hooks.load_rolled_back:
            try:
                self._hooks.load_rolled_back()
            except BaseException as second:
                name = self.description.name
                exc.add_note(
                    f"and then {name}.load_rolled_back() raised {type(second).__name__}: {second}"
                )

    def _has(self, source: Any, part: Part) -> bool:
        """Return whether a loaded staging struct has this part."""
        counter = part.count_of(self.cls) if isinstance(part, StatePart) else None
        return counter is None or bool(getattr(source, counter[0]) > counter[1])

    def run(self, name: str, *arguments: object) -> None:
        """Run the hook ``name``, which copies nothing."""
        self._current = f"{self.description.name}.{name}()"
        answer = getattr(self._hooks, name)(*arguments)
        if name == "needed":
            lib().qv_object_set_left_out(self.cdata, not answer)

    def _predicate_failed(
        self, exc: BaseException, offset: int, cls: type[VMStruct] | None, what: str
    ) -> None:
        path = path_at(self.cls, offset, cls, self.description.name)
        self._current = f"{path or self.description.name}.{what}"
        errmsg = ffi.new("char **")
        error = self.fail(exc, errmsg, what.rpartition(".")[2].removesuffix("()"))
        lib().qv_object_fail(self.cdata, error, errmsg[0])
        lib().qv_free(errmsg[0])

    def fail(self, exc: BaseException, errmsg: Any, hook: str) -> int:
        """Keep ``exc`` for the caller of ``save()`` or ``load()``, or log it; return its errno."""
        self._locate(exc)
        message = self._message(exc)
        errmsg[0] = lib().qv_strdup(message.replace("\0", "\\0").encode(errors="backslashreplace"))
        raised = self.bridge_object.raised()
        if raised is None:
            print_exception(exc)
        elif not any(exc is earlier for earlier in raised):
            place = f"in the {hook} hook of {self.description.name}, at {self._current}"
            if raised:
                raised[0].add_note(f"and then, {place}, there was {type(exc).__name__}")
            else:
                exc.add_note(place)
            raised.append(exc)
        return to_errno(exc)

    def fail_at(self, index: int, exc: BaseException, errmsg: Any, hook: str) -> int:
        """Do what :meth:`fail` does, for a failure in the Python part ``index``."""
        self._current = self.python_parts[index].path
        return self.fail(exc, errmsg, hook)

    def _message(self, exc: BaseException) -> str:
        if isinstance(exc, InvalidError):
            return str(exc)
        try:
            return f"{self._current}: {type(exc).__name__}: {exc}"
        except Exception:  # its own __str__ raises
            return f"{self._current}: {type(exc).__name__}"

    def _locate(self, exc: BaseException) -> None:
        """Replace the path of an error, which begins at a class, by the path in this object."""
        if not isinstance(exc, InvalidError) or exc.path.startswith(self._current):
            return
        cls_name, _, rest = exc.path.partition(".")
        found = [
            f"{path}.{rest}"
            for path, cls in structs(self.cls, self.description.name)
            if cls_name in [base.__name__ for base in cls.__mro__]
        ]
        element = re.sub(r"\[\d+\]", "[]", self._current)  # as structs() has it
        here = [
            self._current + path.removeprefix(element) for path in found if path.startswith(element)
        ]
        if len(here) == 1:
            exc.path = here[0]
        elif exc.path:
            exc.path = f"{self._current} ({exc.path})"
        else:
            exc.path = self._current


def _ignore(*_failure: object) -> None:
    """Do nothing: the object was freed, so nobody reads its failure."""
