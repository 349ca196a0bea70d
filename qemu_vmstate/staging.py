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
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from . import native
from .cells import Arc, BqlRefCell, Mutex
from .description import VMStateDescription
from .errors import InvalidError, to_errno
from .layout import VMStruct
from .layout_memory import FieldInfo
from .loader import _state
from .native import ffi, lib
from .predicates import differs, forget, watch
from .short_way import short_way
from .staged import (
    always_whole,
    check_struct,
    has_predicates,
    kept,
    memory_is_value,
    pointer_arrays,
    structs,
)
from .to_migration_state import ToMigrationState, restore_or_undo
from .wire_types import StructType

__all__ = ["Hooks", "Part", "Staging", "StatePart"]


@dataclass(frozen=True)
class Hooks:
    """What an object does before and after; ``None``: nothing.

    ``validate`` is given the staging struct.
    """

    pre_save: Callable[[], object] | None = None
    post_save: Callable[[], object] | None = None
    pre_load: Callable[[], object] | None = None
    post_load: Callable[[int], object] | None = None
    validate: Callable[[Any], object] | None = None


_NO_HOOKS = Hooks()


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
    """A ``ToMigrationState``: a field of the staging struct, or (``None``) all of it.

    ``index`` is that of its element, if the field is an array of them; of a counted
    one only elements below the count are loaded.
    """

    def __init__(
        self,
        path: str,
        attribute: str | None,
        value: ToMigrationState[Any],
        index: int | None = None,
    ) -> None:
        self.path = path
        self.attribute = attribute
        self.value = value
        self.index = index

    def count_of(self, cls: type[VMStruct]) -> tuple[str, int] | None:
        """The attribute of ``cls`` that counts, and what it exceeds if it has this element."""
        for info in cls.__layout__.fields if self.index is not None else ():
            if info.attribute == self.attribute and info.num is not None:
                return info.num.attribute, (self.index or 0) // info.options.multiply
        return None

    def _of(self, struct: Any) -> Any:
        if self.attribute is None:
            return struct
        if self.index is None:
            return getattr(struct, self.attribute)
        elements: Any = type(struct).__elements__[self.attribute]
        return elements.__get__(struct, type(struct))[self.index]

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

    # There may be ten thousand.
    __slots__ = (
        "__weakref__",
        "_current",
        "_hooks",
        "_keep",
        "_needed",
        "_parts",
        "_raised",
        "_trampoline",
        "_validated",
        "_view_or_none",
        "cdata",
        "cls",
        "description",
        "registered",
    )

    def __init__(
        self,
        description: VMStateDescription,
        cls: type[VMStruct],
        parts: list[Part],
        hooks: Hooks | None = None,
    ) -> None:
        self.description = description
        self.cls = cls
        self.registered = False
        self._raised: dict[int, BaseException] | None = None  # by thread: each gets its own
        self._current = description.name
        self._hooks = hooks or _NO_HOOKS
        self._needed: tuple[tuple[int, str, Callable[[Any], bool]], ...] = ()
        self._validated = cls.__validated__ or self._hooks.validate is not None
        self._view_or_none: Any = None
        plan = _plan(cls)
        by_c, self._parts = self._divided(parts)
        hook_flags = self._needed_hooks(plan)
        # A weak reference: the handle would keep this object alive for ever.
        handle = ffi.new_handle(weakref.ref(self)) if hook_flags else ffi.NULL
        library = lib()
        made = library.qv_object_new(description.cdata, plan.image, handle, hook_flags)
        if made == ffi.NULL:
            size = cls.__layout__.size
            raise MemoryError(f"{description.name}: no memory for a staging struct of {size} bytes")
        self.cdata = ffi.gc(made, library.qv_object_free)
        keep: list[Any] = [plan, handle]
        for part, cell, inner in by_c:
            keep += self._add_part(plan, part, cell, inner)
        self._keep = tuple(keep)
        if plan.whole:
            library.qv_object_set_whole(made)
        for offset, length in plan.kept:
            library.qv_object_keep(made, offset, length)
        for array in plan.pointer_arrays:
            library.qv_object_add_pointers(made, *array)
        if description.numbered:
            self._add_subsections()
        if self._parts:
            self._set_short_way()
        if plan.has_predicates:
            address = int(ffi.cast("uintptr_t", library.qv_object_staging(made)))
            tell = weakref.WeakMethod(self._predicate_failed)
            watch(
                address,
                cls.__layout__.size,
                lambda exc, path: (tell() or _nobody)(exc, path),
            )
            weakref.finalize(self, forget, address)

    def _divided(
        self, parts: list[Part]
    ) -> tuple[list[tuple[StatePart, Any, VMStruct]], tuple[Part, ...]]:
        """What C copies by itself, and what Python does."""
        # What comes first and last is Python's: then all of it is, for one to undo the other.
        all_python = self._hooks.pre_save or self._hooks.post_load
        by_c, by_python = [], []
        for part in parts:
            found = None
            # C does not know which elements a stream has.
            if isinstance(part, StatePart) and not (all_python or part.count_of(self.cls)):
                found = _copied_by_c(part.value)
            if found and isinstance(part, StatePart):
                by_c.append((part, *found))
            else:
                by_python.append(part)
        return by_c, tuple(by_python)

    @property
    def _view(self) -> Any:
        """The staging struct, for Python; few native objects are ever looked at."""
        if self._view_or_none is None:
            address = int(ffi.cast("uintptr_t", lib().qv_object_staging(self.cdata)))
            size = self.cls.__layout__.size
            self._view_or_none = _state.view(self.cls, address, size, self.cdata)
        return self._view_or_none

    def _set_short_way(self) -> None:
        more = self._hooks.pre_save or self._hooks.post_load or self._validated
        if more or self._needed:
            return
        parts = [
            (part.value, part._of(self._view))
            for part in self._parts
            if isinstance(part, StatePart) and not part.count_of(self.cls)
        ]
        if len(parts) == len(self._parts):
            self._trampoline = short_way(self, parts)
            if self._trampoline:
                address = ffi.cast("void *", id(self._trampoline))
                lib().qv_object_set_trampoline(self.cdata, address)

    def _needed_hooks(self, plan: _Plan) -> int:
        plain = self._hooks is _NO_HOOKS and not (self._parts or self._validated)
        if plain and not (plan.has_predicates or self.description.numbered):
            return 0
        asked = any(self._asks(info) for info in self.description.numbered)
        python = bool(self._parts) or self._validated or asked
        wanted = {
            lib().QV_HOOK_SNAPSHOT: python or self._hooks.pre_save,
            lib().QV_HOOK_RESTORE: self._parts or self._validated or self._hooks.post_load,
            lib().QV_HOOK_POST_SAVE: self._hooks.post_save,
            lib().QV_HOOK_PRE_LOAD: self._hooks.pre_load,
            lib().QV_HOOK_PREDICATES: plan.has_predicates,
        }
        flags: int = sum(flag for flag, given in wanted.items() if given)
        return flags

    def _asks(self, info: FieldInfo) -> Callable[[Any], bool] | None:
        """What tells whether a subsection is needed; ``None``: C, by comparing memory."""
        needed = info.options.needed
        if callable(needed):
            return needed
        assert isinstance(info.type, StructType)
        if memory_is_value(info.type.cls):
            return None
        return lambda state: differs(getattr(state, info.attribute))

    def _add_subsections(self) -> None:
        for info in self.description.numbered:
            needed = self._asks(info)
            size = 0 if needed else info.type.size
            number = lib().qv_object_add_subsection(self.cdata, info.offset, size)
            if needed:
                path = f"{self.description.name}.{info.attribute}"
                self._needed += ((number, path, needed),)

    def _add_part(self, plan: _Plan, part: StatePart, cell: Any, inner: VMStruct) -> list[Any]:
        """Hand a part over to C; what has to live as long as this object."""
        offset = 0
        if part.attribute is not None:
            offset = plan.offsets[part.attribute] + (part.index or 0) * inner.__layout__.size
        name = plan.c_name(part.path.removeprefix(f"{self.description.name}."))
        lib().qv_object_add_part(
            self.cdata,
            name,
            ffi.cast("void *", cell._cell.address),
            isinstance(cell, BqlRefCell),
            ffi.cast("void *", _state.address(inner)),
            offset,
            inner.__layout__.size,
        )
        return [inner, cell._cell]

    @property
    def needs_python(self) -> bool:
        """Whether a save or load asks Python for anything."""
        return self._needed_hooks(_plan(self.cls)) != 0

    @property
    def staged(self) -> Any:
        """The staging struct, as the last save or load left it."""
        return self._view

    def snapshot(self, keep: bool) -> None:
        """Fill the staging struct with every part that Python copies.

        ``keep``: not to save it, but for a load to begin with.
        """
        if self._hooks.pre_save and not keep:
            self._current = f"{self.description.name}.pre_save()"
            self._hooks.pre_save()
        for part in self._parts:
            self._current = part.path
            part.save(self._view)
        if not keep:
            self._validate()
            for number, path, needed in self._needed:
                self._current = path
                lib().qv_object_set_needed(self.cdata, number, bool(needed(self._view)))

    def _validate(self) -> None:
        if self._validated:
            self._current = self.description.name
            check_struct(self._view, self.description.name)
            if self._hooks.validate:
                self._hooks.validate(self._view)

    def restore(self, version_id: int) -> None:
        """Commit the staging struct to every part that Python copies, or to none."""
        self._validate()
        source = copy.copy(self._view)
        before = copy.copy(self._view)
        own_version = self.description.version_id
        undoable = set()
        alone = len(self._parts) < 2 and not self._hooks.post_load
        for part in () if alone else self._parts:
            # A part that cannot be saved now may be what the stream repairs.
            with contextlib.suppress(Exception):
                part.remember(before)
                undoable.add(part.path)
        done: list[Part] = []
        try:
            for part in self._parts:
                self._current = part.path
                if self._has(source, part):
                    part.load(source, version_id, own_version)
                    done.append(part)
            if self._hooks.post_load:
                self._current = f"{self.description.name}.post_load()"
                self._hooks.post_load(version_id)
        except BaseException:
            for earlier in reversed(done):
                if earlier.path in undoable:
                    earlier.load(before, own_version, own_version)
            raise

    def _has(self, source: Any, part: Part) -> bool:
        """Whether a loaded staging struct has this part."""
        counter = part.count_of(self.cls) if isinstance(part, StatePart) else None
        return counter is None or bool(getattr(source, counter[0]) > counter[1])

    def run(self, hook: int) -> None:
        """The hooks that copy nothing."""
        post_save = hook == lib().QV_HOOK_POST_SAVE
        called = self._hooks.post_save if post_save else self._hooks.pre_load
        assert called is not None
        self._current = f"{self.description.name}.{'post_save' if post_save else 'pre_load'}()"
        called()

    def _predicate_failed(self, exc: BaseException, path: str) -> None:
        self._current = path
        why = ffi.new("char **")
        error = self.fail(exc, why, "field_exists or needed")
        lib().qv_object_fail(self.cdata, error, why[0])
        lib().qv_free(why[0])

    def fail(self, exc: BaseException, why: Any, hook: str) -> int:
        """Keep ``exc`` for the caller of ``save()`` or ``load()``; its errno for C."""
        if not native.in_vm():
            if self._raised is None:
                self._raised = {}
            self._raised[threading.get_ident()] = exc
        self._locate(exc)
        sentence = self._sentence(exc)
        why[0] = lib().qv_strdup(sentence.replace("\0", "\\0").encode(errors="backslashreplace"))
        if native.in_vm():
            traceback.print_exception(exc, file=sys.stderr)
        else:
            exc.add_note(f"in the {hook} hook of {self.description.name}, at {self._current}")
        return to_errno(exc)

    def fail_at(self, index: int, exc: BaseException, why: Any, hook: str) -> int:
        """As :meth:`fail`, for the part of that number which Python copies."""
        self._current = self._parts[index].path
        return self.fail(exc, why, hook)

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
            for path, cls in structs(self.cls, self.description.name)
            if cls_name in [base.__name__ for base in cls.__mro__]
        ]
        here = [path for path in found if path.startswith(self._current)]
        if len(here) == 1:
            exc.path = here[0]
        elif exc.path:
            exc.path = f"{self._current} ({exc.path})"
        else:
            exc.path = self._current

    def take_exception(self) -> BaseException | None:
        """What a hook raised in this thread since the last call, or ``None``."""
        return self._raised.pop(threading.get_ident(), None) if self._raised else None


class _Plan:
    """What the staging structs of a class have in common."""

    def __init__(self, cls: type[VMStruct]) -> None:
        data = ffi.from_buffer(cls.__image__)
        made = lib().qv_image_new(data, len(data))
        # The image points into the data, and so keeps it.
        self.image = ffi.gc(made, lambda image, _=data: lib().qv_image_free(image))
        self.whole = always_whole(cls)
        self.kept = tuple(kept(cls))
        self.pointer_arrays = tuple(pointer_arrays(cls))
        self.has_predicates = has_predicates(cls)
        self.offsets = {info.attribute: info.data for info in cls.__layout__.fields}
        self._names: dict[str, Any] = {}

    def c_name(self, name: str) -> Any:
        """As a C string, which lives as long as this plan."""
        if name not in self._names:
            self._names[name] = ffi.new("char[]", name.encode())
        return self._names[name]


_plans: weakref.WeakKeyDictionary[type[VMStruct], _Plan] = weakref.WeakKeyDictionary()


def _plan(cls: type[VMStruct]) -> _Plan:
    found = _plans.get(cls)
    if found is None:
        found = _plans[cls] = _Plan(cls)
    return found


def _nobody(exc: BaseException, path: str) -> None:
    """The object is gone, and so is whoever walked it."""


def _lost(_type: object, exc: BaseException, _trace: object) -> None:
    """An exception outside a hook's own ``try``: a signal handler's, for instance."""
    traceback.print_exception(exc, file=sys.stderr)


def _called(handle: Any, why: Any, name: str, call: Callable[[Staging], object]) -> int:
    staging: Staging = ffi.from_handle(handle)()
    try:
        call(staging)
    except BaseException as exc:
        return staging.fail(exc, why, name)
    return 0


# cffi's default for a callback that raises is 0, which is success to QEMU.
@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_snapshot(handle: Any, keep: int, why: Any) -> int:
    """``pre_save``, and what is kept before a load: see ``Staging.snapshot``."""
    name = "pre_load" if keep else "pre_save"
    return _called(handle, why, name, lambda staging: staging.snapshot(bool(keep)))


@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_restore(handle: Any, version_id: int, why: Any) -> int:
    """``post_load``: see ``Staging.restore``."""
    return _called(handle, why, "post_load", lambda staging: staging.restore(version_id))


@ffi.def_extern(error=-errno.EINVAL, onerror=_lost)  # type: ignore[untyped-decorator]
def qv_py_hook(handle: Any, hook: int, why: Any) -> int:
    """``post_save`` and ``pre_load``: see ``Staging.run``."""
    name = "post_save" if hook == lib().QV_HOOK_POST_SAVE else "pre_load"
    return _called(handle, why, name, lambda staging: staging.run(hook))
