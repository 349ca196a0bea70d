# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptors of a layout class's attributes, and its initial image."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ..bindings.loader import _state
from ..errors import OutOfRangeError
from ..wire.base import Descriptors, Limits
from ..wire.types import (
    SCALARS,
    FieldInfo,
    ListType,
    PointersType,
    Scalar,
    StructType,
    WireType,
)

__all__ = ["compact", "descriptors"]


_LARGE_IMAGE = 1 << 20
_PAGE = mmap.PAGESIZE


def compact(image: bytes) -> bytes | memoryview:
    """Return the same bytes; in a large image, pages of zeros take no memory."""
    if len(image) < _LARGE_IMAGE:
        return image
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, len(image), flags=flags)
    zeros = bytes(_PAGE)
    for at in range(0, len(image), _PAGE):
        page = image[at : at + _PAGE]
        if page != zeros[: len(page)]:
            memory[at : at + len(page)] = page
    return memoryview(memory).toreadonly()


class _MemoryDescriptors(Descriptors):
    """The maker of descriptors, which are compiled or one of the classes below."""

    def number(
        self, where: str, type_: Scalar, offset: int, limits: Limits = (None, None)
    ) -> _state.Field:
        low, high = limits
        if low is None and type_.low != SCALARS[type_.kind].low:
            low = type_.low
        if low is None and high is None:
            return _state.Field(where, type_.kind, offset, type_.size)
        return _state.Field(where, type_.kind, offset, type_.size, low=low, high=high)

    def struct(self, where: str, cls: type[Any], offset: int, size: int) -> _state.Field:
        return _state.Field(where, "s", offset, size, 0, cls)

    def row(self, where: str, element: WireType, length: int, offset: int) -> _state.Field:
        inner = element.element_descriptor(self, where, 0)
        return _state.Field(where, "a", offset, element.size * length, length, None, inner)

    def counted(
        self, where: str, row: Any, offset: int, number: tuple[int, str], multiply: int
    ) -> _state.Field:
        inner = row.element.element_descriptor(self, where, 0)
        size = row.element.size * row.length
        delta, kind = number[0] - offset, number[1]
        return _state.Field(
            *(where, "v", offset, size, row.length, None, inner, delta, kind, multiply)
        )

    def tree(self, entries: _state.Field, type_: ListType) -> Any:
        return _Tree(entries, type_)

    def pointers(self, where: str, info: FieldInfo, type_: PointersType) -> Any:
        return _Pointers(where, info, type_)


descriptors = _MemoryDescriptors()
"""The only maker of descriptors."""


class _Tree:
    """The descriptor of a gtree: in memory a list of entries, in Python a read-only mapping."""

    def __init__(self, entries: _state.Field, type_: ListType) -> None:
        self._entries = entries
        self._type = type_

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        # A key that is added to a dict would be lost.
        found = {self._key(entry.key): entry.value for entry in self.entries(instance)}
        return MappingProxyType(found)

    def entries(self, instance: Any) -> Any:
        """Return the keys and values in memory, where a key can occur twice."""
        return self._entries.__get__(instance, type(instance))

    def _key(self, key: Any) -> Any:
        if isinstance(key, int):
            return key
        return tuple(getattr(key, info.attribute) for info in key.__layout__.fields)

    def __set__(self, instance: Any, value: Mapping[Any, _state.Memory]) -> None:
        if not isinstance(value, Mapping):
            raise OutOfRangeError(f"{value!r} is no dict", self._entries.name)
        entry_cls: Any = self._type.element.cls
        entries = []
        for key in self._sorted(value):
            made: Any = key
            if isinstance(self._type.key, StructType):
                cls = self._type.key.cls
                names = [info.attribute for info in cls.__layout__.fields]
                made = cls(**dict(zip(names, key, strict=True)))
            entries.append(entry_cls(key=made, value=value[key]))
        self._entries.__set__(instance, entries)

    def _sorted(self, keys: Iterable[Any]) -> list[Any]:
        wanted = "an int"
        width = None
        if isinstance(self._type.key, StructType):
            width = len(self._type.key.cls.__layout__.fields)
            wanted = f"a tuple of the {width} values of {self._type.key.cls.__name__}"
        found = list(keys)
        for key in found:
            fits = isinstance(key, tuple) and len(key) == width if width else isinstance(key, int)
            if not fits:
                raise OutOfRangeError(f"the key {key!r} is not {wanted}", self._entries.name)
        try:
            return sorted(found)
        except TypeError as exc:
            raise OutOfRangeError(f"a key is not of numbers: {exc}", self._entries.name) from exc


class _Pointers:
    """The descriptor of an array whose elements can be ``None``."""

    def __init__(self, where: str, info: FieldInfo, type_: PointersType) -> None:
        self.name = where
        self.length = type_.length
        self.num = info.num and (info.num.attribute, info.options.multiply)
        self.elements = descriptors.row(where, type_.element, type_.length, info.data)
        self.present = descriptors.row(
            where, SCALARS["B"], type_.length, info.offset + type_.present_at
        )

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else PointersView(self, instance)

    def __set__(self, instance: Any, value: Any) -> None:
        items = list(value)
        if self.num:
            if len(items) > self.length or len(items) % self.num[1]:
                raise OutOfRangeError(
                    f"{len(items)} elements, and there is room for {self.length}", self.name
                )
        elif len(items) != self.length:
            raise OutOfRangeError(
                f"{len(items)} elements for {self.length}; an array's length is fixed", self.name
            )
        # One assignment changes all elements or none, and they may be this array's own, reordered.
        current = list(self.elements.__get__(instance, type(instance)))
        given = [current[i] if item is None else item for i, item in enumerate(items)]
        self.elements.__set__(instance, given + current[len(items) :])
        if self.num:
            setattr(instance, self.num[0], len(items) // self.num[1])
        for index, item in enumerate(items):
            self._present(instance)[index] = item is not None

    def _present(self, instance: Any) -> Any:
        return self.present.__get__(instance, type(instance))


class PointersView:
    """The value of a ``PointerArray`` attribute: the elements, ``None`` for a missing one."""

    __slots__ = ("_elements", "_field", "_instance", "_present")

    def __init__(self, field: _Pointers, instance: Any) -> None:
        self._field = field
        self._instance = instance
        self._elements: Any = field.elements.__get__(instance, type(instance))
        self._present: Any = field.present.__get__(instance, type(instance))

    def __len__(self) -> int:
        num = self._field.num
        return getattr(self._instance, num[0]) * num[1] if num else self._field.length

    def _index(self, index: int) -> int:
        count = len(self)
        found = index + count if index < 0 else index
        if not 0 <= found < count:
            raise IndexError(f"{self._field.name}: index {index} of {count} elements")
        return found

    def __getitem__(self, index: int) -> Any:
        index = self._index(index)
        return self._elements[index] if self._present[index] else None

    def __setitem__(self, index: int, value: Any) -> None:
        index = self._index(index)
        if value is not None:
            self._elements[index] = value
        self._present[index] = value is not None

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        try:
            return list(self) == list(other)  # type: ignore[call-overload, no-any-return]
        except TypeError:
            return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
