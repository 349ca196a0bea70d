# SPDX-License-Identifier: GPL-2.0-or-later
"""What cdefs/state.c and its kin define."""

from collections.abc import Callable
from typing import Any, TypeVar

class Memory:
    def __init__(self, **fields: Any) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __eq__(self, other: object) -> bool: ...
    def __ne__(self, other: object) -> bool: ...

class Field:
    name: str
    kind: str
    offset: int
    size: int
    count: int
    cls: type[Memory] | None
    inner: Field | None
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
    def __get__(self, instance: Memory | None, owner: type) -> Any: ...
    def __set__(self, instance: Memory, value: object) -> None: ...

class ArrayView: ...

class Cell:
    _value: Any
    _poisoned: bool
    _borrows: int
    @property
    def _address(self) -> int: ...
    @property
    def _lent(self) -> bool: ...
    def _acquire(self, timeout: float = -1, /) -> int: ...
    def _release(self) -> int: ...

class Guard:
    _mutex: Any
    def __init__(self, mutex: Cell, /) -> None: ...

mutex_lock: Any
memory_snapshot: Any
memory_restore: Any

def set_guard(cls: type[Guard], /) -> None: ...
def see_locks(on: bool, /) -> None: ...

_M = TypeVar("_M", bound=Memory)

def view(cls: type[_M], address: int, size: int, owner: object, /) -> _M: ...
def address(memory: Memory, /) -> int: ...
def raw(memory: Memory, /) -> memoryview: ...
def fill(memory: Memory, data: bytes, /) -> None: ...
def assign(target: Memory, source: Memory, /) -> None: ...
def lock_cells(cells: tuple[Cell, ...], /) -> int: ...
def unlock_cells(cells: tuple[Cell, ...], /) -> None: ...
def add_formers(entry: tuple[Any, Any], /) -> None: ...
def take_formers(n: int, /) -> list[tuple[Any, Any]]: ...
def set_error_factory(factory: Callable[[Field, int, object, str], Exception], /) -> None: ...

class Trampoline:
    def __init__(
        self,
        whose: Any,
        failed: Callable[[Any, int, int, BaseException, int], int],
        undo: Callable[[Any, int, Any, BaseException], object],
        steps: tuple[tuple[Any, Memory, int, bool], ...],
        cells: tuple[Cell, ...],
        /,
    ) -> None: ...

def python() -> int: ...
