# SPDX-License-Identifier: GPL-2.0-or-later
"""``field_exists`` and ``needed``: what C asks while it walks a staging struct.

C hands over an address and takes no error back.  So what a predicate raises is
told to the object whose staging struct the address lies in, and fails its save or
load at the end.

C calls these itself, and in a VM on the small stack of the incoming coroutine (cdefs/stack.h):
a user's function is called back from there, on a large one.
"""

from __future__ import annotations

import errno
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from ..bindings.loader import _state
from ..bindings.native import ffi, in_vm, lib
from ..layout.traversal import has_subsections, memory_is_value, structs_in
from ..layout.vmstruct import VMStruct, asdict
from ..wire.types import FieldInfo, StructType

__all__ = ["asks", "differs", "exists_callback", "forget", "needed_callback", "watch"]

Tell = Callable[[BaseException, int, "type[VMStruct] | None", str], None]
ClassRef = Callable[[], "type[VMStruct] | None"]

_watched: dict[int, tuple[int, Tell]] = {}


def watch(address: int, size: int, tell: Tell) -> None:
    """Let ``tell(exception, offset, cls, what)`` know what a predicate raises in that memory.

    ``what`` of a ``cls`` that lies ``offset`` bytes after its start.
    """
    _watched[address] = (size, tell)


def forget(address: int) -> None:
    """End :func:`watch`: the memory is going to be released."""
    _watched.pop(address, None)


def _failed(address: int, of: ClassRef, what: str, exc: BaseException) -> None:
    # list(items()) may begin a garbage collection half-way, and that may forget() some.
    for start, (size, tell) in _watched.copy().items():
        if start <= address < start + size:
            tell(exc, address - start, of(), what)
            return
    # Nobody walks what is not watched: no load or save to fail.
    traceback.print_exception(exc, file=sys.stderr)


def _answer(of: ClassRef, opaque: Any, base: int, what: str, ask: Callable[[Any], bool]) -> bool:
    """Ask about the struct ``base`` bytes after opaque; a failure is reported, and means no."""
    address = int(ffi.cast("uintptr_t", opaque)) + base
    try:
        cls = of()
        assert cls is not None, "C walks an object of a class that is gone"
        # C walks it now, so it is there; the view must not outlive the call.
        struct = _state.view(cls, address, cls.__layout__.size, opaque)
        return _on_large_stack(lambda: ask(struct))
    except BaseException as exc:
        _failed(address, of, what, exc)
        return False


def _late(of: ClassRef, what: str) -> Callable[..., None]:
    """Print an exception from outside the ``try`` above, of a signal handler for instance."""

    def tell(_type: object, exc: BaseException, trace: Any) -> None:
        opaque = trace.tb_frame.f_locals.get("opaque") if trace else None
        _failed(int(ffi.cast("uintptr_t", opaque)) if opaque else 0, of, what, exc)

    return tell


class _Call:
    """A call on its way through C, and what came of it."""

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
def qv_py_call(handle: Any, _unused: int, _why: Any) -> int:
    """See ``qv_call_on_large_stack()`` of cdefs/bridge.h."""
    ffi.from_handle(handle).run()
    return 0


def _on_large_stack(function: Callable[[], bool]) -> bool:
    """Call ``function()`` with enough stack for whatever it does."""
    if not in_vm():
        return bool(function())
    call = _Call(function)
    handle = ffi.new_handle(call)
    if lib().qv_call_on_large_stack(handle) != 0:
        raise MemoryError("there is no room for a stack")
    if call.error is not None:
        raise call.error
    return bool(call.value)


def exists_callback(
    cls: type[VMStruct], base: int, function: Callable[[Any, int], bool], what: str
) -> Any:
    """Return a ``field_exists`` that calls ``function`` with the struct at opaque + ``base``."""
    of = weakref.ref(cls)  # the class keeps its description, and so this
    what = f"{what}.field_exists()"

    def ask(opaque: Any, version_id: int) -> bool:
        return _answer(of, opaque, base, what, lambda struct: function(struct, version_id))

    return ffi.callback("bool(void *, int)", ask, error=False, onerror=_late(of, what))


def needed_callback(
    cls: type[VMStruct], base: int, function: Callable[[Any], bool], what: str
) -> Any:
    """Return a ``needed`` that asks ``function`` with the struct ``base`` bytes after opaque."""
    of = weakref.ref(cls)  # the class keeps its description, and so this
    what = f"{what}.needed()" if what else "needed()"

    def ask(opaque: Any) -> bool:
        return _answer(of, opaque, base, what, function)

    return ffi.callback("bool(void *)", ask, error=False, onerror=_late(of, what))


def asks(info: FieldInfo) -> Callable[[Any], bool] | None:
    """Return what decides if a subsection is needed; ``None``: C, by comparing memory."""
    needed = info.options.needed
    if callable(needed):
        return needed
    assert isinstance(info.type, StructType)
    if memory_is_value(info.type.cls):
        return None
    return lambda state: differs(getattr(state, info.attribute))


def differs(struct: VMStruct) -> bool:
    """Whether a struct would have other bytes on the wire than its class's defaults.

    Its memory can differ without: it also has what lies behind a count, C's
    pointers while it walks, and subsections that are not needed.
    """
    cls = type(struct)
    if bytes(struct) == cls.__image__:
        return False
    # As text, for -0.0 is equal to 0.0 and not the same.
    return repr(_on_wire(struct)) != repr(_on_wire(cls()))


def _on_wire(struct: VMStruct) -> dict[str, Any]:
    values = asdict(struct)
    for info in struct.__layout__.fields:
        if info.type.is_subsection:
            inner = getattr(struct, info.attribute)
            needed = info.options.needed
            there = differs(inner) if needed is None else needed
            if callable(there):
                there = there(struct)
            values[info.attribute] = _on_wire(inner) if there else None
        elif any(has_subsections(cls) for cls in info.type.structs()):
            values[info.attribute] = [_on_wire(inner) for inner in structs_in(struct, info)]
    return values


def differs_callback(cls: type[VMStruct], base: int) -> Any:
    """Return a ``needed`` that is true if the struct differs from its defaults."""
    return needed_callback(cls, base, differs, "")
