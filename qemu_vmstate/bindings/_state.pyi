# SPDX-License-Identifier: GPL-2.0-or-later
"""The extension module of cdefs/state, which does not depend on QEMU.

tests/bindings/test_stubs.py compares this file with the compiled module.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from typing_extensions import Buffer

_Failure: TypeAlias = tuple[int, str, list[BaseException]]
"""The errno, 0 if nothing was called, the message, and the exceptions of hooks."""

class Memory:
    """Memory with the layout that QEMU's C code saves; the base of layout classes."""

    def __init__(self, **fields: Any) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __eq__(self, other: object) -> bool: ...
    def __ne__(self, other: object) -> bool: ...

class Field:
    """One field of a layout class, a data descriptor; offset and size are in bytes."""

    name: str
    kind: str
    offset: int
    size: int
    count: int
    cls: type[Memory] | None
    inner: Any  # a Field or None, which type checkers would take for a descriptor of this class
    multiply: int
    low: int
    high: int
    checked: bool
    def __init__(
        self,
        name: str,
        kind: str,
        offset: int,
        size: int,
        count: int = 0,
        cls: type[Memory] | None = None,
        inner: Field | None = None,
        num_delta: int = 0,
        num_kind: str = ...,
        multiply: int = 1,
        low: int | None = None,
        high: int | None = None,
    ) -> None: ...
    def counted_by(self, number: Field, /) -> None:
        """Set the Field of the number that counts this array."""

    def __get__(self, instance: Memory | None, owner: type) -> Any: ...
    def __set__(self, instance: Memory, value: object) -> None: ...

class ArrayView:
    """An array inside a layout class: a view, not a copy."""

class NumberRun:
    """Several numbers of a layout class, which one call stores or loads."""

    def __init__(self, fields: dict[str, Field], /) -> None: ...
    def pack(self, memory: Memory, /, *values: object) -> None:
        """Store each value as an assignment to its field would."""

    def unpack(self, memory: Memory, /) -> tuple[Any, ...]:
        """Return the values."""

    def pack_states(
        self, states: tuple[Any, ...], memory: Memory, offset: int, size: int, /
    ) -> None:
        """Store the attributes of states into an array of structs of *size* bytes."""

    def unpack_states(
        self, memory: Memory, offset: int, size: int, count: int, /
    ) -> tuple[Any, ...]:
        """Return all values of such an array of *count* structs, as one tuple."""

    def __setitem__(self, states: tuple[Any, ...], values: tuple[Any, ...], /) -> None:
        """Set the attributes of states to the values of ``unpack_states()``."""

class Conversion:
    """The conversion of a Python value to the memory of a layout class, and back."""

    end: int
    def __init__(
        self,
        kind: str,
        path: str = "",
        *,
        field: Field | None = None,
        data: int = 0,
        room: int = 0,
        stride: int = 0,
        parts: tuple[tuple[str | None, Conversion, int], ...] = ...,
        cls: type | None = None,
        to: Callable[..., Any] | None = None,
        back: Callable[..., Any] | None = None,
        table: dict[Any, Any] | None = None,
        errors: object = None,
        initial: bytes | None = None,
    ) -> None: ...
    def pack(self, value: object, memory: Memory, /) -> None:
        """Store a value in an instance of the conversion's layout class."""

    def unpack(self, memory: Memory, version_id: int, /) -> Any:
        """Return a new object with the value in the instance, as of a version."""

class Cell:
    """The lock in a Mutex or BqlRefCell, shared with the bridge."""

    _value: Any
    _poisoned: bool
    _borrows: int
    @property
    def _held_by_group(self) -> bool: ...
    def _acquire(self, timeout: float = -1, /) -> int: ...
    def _release(self) -> int: ...

class Guard:
    """A locked Mutex; leaving it by an exception poisons the Mutex."""

    _mutex: Any
    def __init__(self, mutex: Cell, /) -> None: ...

class BridgeObject:
    """An object in the bridge, which QEMU's code saves, loads and registers."""

    @property
    def address(self) -> int: ...
    @property
    def staging(self) -> int: ...
    def __init__(
        self, object_class: int, handle: int, hooks: int, cells: tuple[Cell, ...], /
    ) -> None: ...
    @classmethod
    def of_types(
        cls, types: tuple[type, ...], cells: tuple[Cell, ...], object_class: int, /
    ) -> BridgeObject | None: ...
    def save(self) -> bytes | _Failure: ...
    def describe(self) -> str | _Failure: ...
    def load(self, data: Buffer, version_id: int, /) -> _Failure | None: ...
    def register(self, instance_id: int, /) -> _Failure | None: ...
    def unregister(self) -> _Failure | None: ...
    def raised(self) -> list[BaseException] | None: ...
    def stands_for(self, state: object, /) -> None: ...

mutex_lock: Any
memory_snapshot: Any
memory_restore: Any

def set_bql(address: int, /) -> None:
    """Set the QvBql that the ``bql_*()`` functions use, by its address."""

def bql_lock() -> None:
    """Take the BQL, waiting without the GIL."""

def bql_unlock() -> None:
    """Release the BQL."""

def bql_locked() -> bool:
    """Return whether this thread has the BQL."""

def set_object_functions(address: int, /) -> None:
    """Set the QvObjectFunctions that BridgeObjects use, by its address."""

def forbid_object_calls() -> None:
    """Let BridgeObjects refuse each call from now on."""

def set_guard(cls: type[Guard], /) -> None:
    """Set the class of the guards that ``mutex_lock()`` returns, derived from Guard."""

def track_locks(on: bool, /) -> None:
    """Set whether ``mutex_lock()`` and the release of a Guard go through Python."""

_M = TypeVar("_M", bound=Memory)

def view(cls: type[_M], address: int, size: int, owner: object, /) -> _M:
    """Return an instance over *size* bytes of memory at *address*, which *owner* keeps alive."""


def fill(memory: Memory, data: bytes, /) -> None:
    """Copy raw bytes into an instance, without checks."""

def assign(target: Memory, source: Memory, /) -> None:
    """Copy one layout class instance to another of the same class."""

def lock_cells(cells: tuple[Cell, ...], /) -> int:
    """Lock distinct cells, waiting without the GIL, and return -1.

    If this thread has locked a cell already, lock none and return the index of that cell.
    """

def unlock_cells(cells: tuple[Cell, ...], /) -> None:
    """Unlock the cells that ``lock_cells()`` locked."""

def hand_over(obj: object, /) -> int:
    """Return the address of *obj* with a reference to it, which C owns from then on."""

def take_over(address: int, /) -> Any:
    """Return the object of ``hand_over()``, whose reference C gives back."""

def states_of(states: object, cls: type, count: int, /) -> tuple[Any, ...] | None:
    """Return the elements of a list of *count* objects of *cls* itself, else ``None``."""

def set_conversion_errors(
    invalid_error: type[Exception], factory: Callable[..., Exception], /
) -> None:
    """Let a conversion raise what ``factory(reason, value, detail, limit)`` returns."""

def set_error_factory(factory: Callable[[Field, int, object, str], Exception], /) -> None:
    """Set the function that makes the exception of a refused store.

    It is called with the Field, an index, the value and a reason, such as ``"range"``.
    """

class FastPath:
    """The snapshot and the restore of an object's states in C, with a callback for failures."""

    def __init__(
        self,
        owner_ref: Any,
        failed: Callable[[Any, int, str, BaseException, int], int],
        roll_back: Callable[[Any, tuple[Any, ...], BaseException], object],
        undo_of_memory: Callable[[Any, bytes, int], Callable[[], object]],
        own_version: int,
        conversions: tuple[tuple[Any, Memory, int, int], ...],
        cells: tuple[Cell, ...],
        /,
    ) -> None: ...

def python() -> int:
    """Return the address of the table of functions that the bridge calls."""

