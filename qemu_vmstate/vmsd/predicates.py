# SPDX-License-Identifier: GPL-2.0-or-later
"""The predicates ``field_exists`` and ``needed``, which C calls while it walks a staging struct.

C passes an address and accepts no error.  An exception of a predicate is therefore
reported to the object whose staging struct has that address, and fails the object's
save or load at the end.

In a VM, C calls predicates on the small stack of the incoming coroutine.  They call the
user's function on a large stack (cdefs/bridge/python_call.c).
"""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable
from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, in_vm, lib
from ..layout.traversal import has_subsections, memory_is_value, structs_in
from ..layout.vmstruct import VMStruct, asdict
from ..state.uncaught import print_exception
from ..wire.types import FieldInfo, StructType

__all__ = ["asks", "differs", "exists_callback", "forget", "needed_callback", "watch"]

Report = Callable[[BaseException, int, "type[VMStruct] | None", str], None]
ClassRef = Callable[[], "type[VMStruct] | None"]

_watched: dict[int, tuple[int, Report]] = {}


def watch(address: int, size: int, report: Report) -> None:
    """Call ``report(exception, offset, cls, what)`` when a predicate of that memory raises.

    ``what`` is the predicate of the ``cls`` at ``offset``.
    """
    _watched[address] = (size, report)


def forget(address: int) -> None:
    """Undo :func:`watch`, before the memory is released."""
    _watched.pop(address, None)


def _failed(address: int, cls_ref: ClassRef, what: str, exc: BaseException) -> None:
    # The collector may call forget() at any allocation, but not within copy().
    for start, (size, report) in _watched.copy().items():
        if start <= address < start + size:
            report(exc, address - start, cls_ref(), what)
            return
    # Memory that is not watched is part of no save or load that could fail.
    print_exception(exc)


def _answer(
    cls_ref: ClassRef, opaque: Any, base: int, what: str, predicate: Callable[[Any], bool]
) -> bool:
    """Return what ``predicate`` returns for the struct at opaque + ``base``.

    If it raises, report the exception and return false.
    """
    address = int(ffi.cast("uintptr_t", opaque)) + base
    try:
        cls = cls_ref()
        assert cls is not None, "C walks an object whose class does not exist any more"
        # The struct exists while C walks it; the view must not outlive the call.
        struct = _state.view(cls, address, cls.__layout__.size, opaque)
        return _on_large_stack(lambda: predicate(struct))
    except BaseException as exc:
        _failed(address, cls_ref, what, exc)
        return False


def _on_error(cls_ref: ClassRef, what: str) -> Callable[..., None]:
    """Return cffi's ``onerror`` for an exception outside the ``try``, as of a signal handler."""

    def on_error(_type: object, exc: BaseException, trace: Any) -> None:
        opaque = trace.tb_frame.f_locals.get("opaque") if trace else None
        _failed(int(ffi.cast("uintptr_t", opaque)) if opaque else 0, cls_ref, what, exc)

    return on_error


class _Call:
    """A call of ``function`` through C, and its result."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.value = self.function()
        except BaseException as exc:
            self.error = exc


@ffi.def_extern(error=-errno.EINVAL)  # type: ignore[untyped-decorator]
def qv_py_call(handle: Any, _unused: int, _errmsg: Any) -> int:
    """Run a ``_Call``, for ``qv_call_on_large_stack()`` of cdefs/bridge/python_call.c."""
    ffi.from_handle(handle).run()
    return 0


def _on_large_stack(function: Callable[[], bool]) -> bool:
    """Return what ``function()`` returns, and raise what it raises, on a large stack."""
    if not in_vm():
        return bool(function())
    call = _Call(function)
    handle = ffi.new_handle(call)
    if lib().qv_call_on_large_stack(handle) != 0:
        raise MemoryError("there is no memory for a stack")
    if call.error is not None:
        raise call.error
    return bool(call.value)


def exists_callback(
    cls: type[VMStruct], base: int, function: Callable[[Any, int], bool], what: str
) -> Any:
    """Return the C function of a ``field_exists`` for the struct at opaque + ``base``."""
    cls_ref = weakref.ref(cls)  # the class keeps its description alive, and so the callback
    what = f"{what}.field_exists()"

    def ask(opaque: Any, version_id: int) -> bool:
        return _answer(cls_ref, opaque, base, what, lambda struct: function(struct, version_id))

    return ffi.callback("bool(void *, int)", ask, error=False, onerror=_on_error(cls_ref, what))


def needed_callback(
    cls: type[VMStruct], base: int, function: Callable[[Any], bool], what: str
) -> Any:
    """Return the C function of a ``needed`` for the struct at opaque + ``base``."""
    cls_ref = weakref.ref(cls)  # the class keeps its description alive, and so the callback
    what = f"{what}.needed()" if what else "needed()"

    def ask(opaque: Any) -> bool:
        return _answer(cls_ref, opaque, base, what, function)

    return ffi.callback("bool(void *)", ask, error=False, onerror=_on_error(cls_ref, what))


def asks(info: FieldInfo) -> Callable[[Any], bool] | None:
    """Return the predicate of a subsection, or ``None`` if C compares its memory with defaults."""
    needed = info.options.needed
    if callable(needed):
        return needed
    assert isinstance(info.type, StructType)
    if memory_is_value(info.type.cls):
        return None
    return lambda state: differs(getattr(state, info.attribute))


def differs(struct: VMStruct) -> bool:
    """Return whether a struct has other bytes on the wire than its class's defaults.

    Comparing memory is not enough: it also has elements beyond a count, C's pointers
    while C walks it, and subsections that are not needed.
    """
    cls = type(struct)
    if bytes(struct) == cls.__image__:
        return False
    # Compared as text, because -0.0 equals 0.0 but differs on the wire.
    return repr(_on_wire(struct)) != repr(_on_wire(cls()))


def _on_wire(struct: VMStruct) -> dict[str, Any]:
    values = asdict(struct)
    for info in struct.__layout__.fields:
        if info.type.is_subsection:
            inner = getattr(struct, info.attribute)
            needed = info.options.needed
            present = differs(inner) if needed is None else needed
            if callable(present):
                present = present(struct)
            values[info.attribute] = _on_wire(inner) if present else None
        elif any(has_subsections(cls) for cls in info.type.structs()):
            values[info.attribute] = [_on_wire(inner) for inner in structs_in(struct, info)]
    return values
