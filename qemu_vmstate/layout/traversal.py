# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies where in a staging struct, and what of it is on the wire now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..wire.types import (
    ArrayType,
    BitmapType,
    CountedType,
    FieldInfo,
    HasLayout,
    Layout,
    ListType,
    PointersType,
    Scalar,
    StructType,
    SubsectionType,
    UnusedType,
    WireType,
    structs_of,
)

__all__ = [
    "always_whole",
    "check_struct",
    "has_nested_subsections",
    "has_predicates",
    "has_subsections",
    "kept",
    "memory_is_value",
    "path_at",
    "pointer_arrays",
    "structs",
    "structs_in",
    "wire_fields",
]


_PARTLY = (
    *("version_id", "field_exists", "keep", "num", "size", "start", "struct_version_id", "needed"),
)


def _nested(cls: type[HasLayout]) -> Iterator[type[HasLayout]]:
    """``cls`` and every class inside it."""
    yield cls
    for info in cls.__layout__.fields:
        for inner in structs_of(info.type):
            yield from _nested(inner)


def has_predicates(cls: type[HasLayout]) -> bool:
    """Whether C asks Python while it walks the struct."""
    return any(
        info.options.field_exists or isinstance(info.type, SubsectionType)
        for inner in _nested(cls)
        for info in inner.__layout__.fields
    )


def has_nested_subsections(cls: type[HasLayout]) -> bool:
    """Whether a struct inside ``cls`` has subsections, so that they come between its fields."""
    return any(
        has_subsections(inner) for info in cls.__layout__.wire for inner in structs_of(info.type)
    )


def has_subsections(cls: type[HasLayout]) -> bool:
    """Whether ``cls`` or a struct inside it has subsections."""
    return any(inner.__layout__.subsections for inner in _nested(cls))


def memory_is_value(cls: type[HasLayout]) -> bool:
    """Whether two structs of different memory always have different bytes on the wire."""
    return not has_subsections(cls) and not any(
        isinstance(info.type, CountedType | ListType | PointersType)
        for inner in _nested(cls)
        for info in inner.__layout__.fields
    )


def always_whole(cls: type[HasLayout]) -> bool:
    """Whether every stream has every byte of every field, so that no default is ever needed."""
    for info in cls.__layout__.fields:
        options, type_ = info.options, info.type
        while isinstance(type_, ArrayType):
            type_ = type_.element
        if options.given(*_PARTLY) or not isinstance(type_, Scalar | StructType):
            return False
        if isinstance(type_, Scalar) and type_.live:
            return False
        if isinstance(type_, StructType) and not always_whole(type_.cls):
            return False
    return True


def _under(path: str, info: FieldInfo) -> str:
    """Return the path of a field in a struct; a subsection's own name has the struct's in it."""
    return f"{path}.{info.attribute if isinstance(info.type, SubsectionType) else info.name}"


def check_struct(struct: HasLayout, path: str) -> None:
    """Call every validator of a staged struct and of what is inside; raises what they raise."""
    for validator in type(struct).__validators__:
        validator.check(struct, path)
    for info in struct.__layout__.fields:
        if any(cls.__validated__ for cls in structs_of(info.type)):
            alone = isinstance(info.type, StructType)
            for index, inner in enumerate(structs_in(struct, info)):
                check_struct(inner, _under(path, info) + ("" if alone else f"[{index}]"))


def _places(cls: type[HasLayout], base: int) -> Iterator[tuple[FieldInfo, int]]:
    """Every field of ``cls`` and of all structs inside, with where the struct around it lies."""
    for info in cls.__layout__.fields:
        yield info, base
        for inner in structs_of(info.type):
            if _has_places(inner):
                for place in _struct_places(info.type, base + info.data):
                    yield from _places(inner, place)


def _has_places(cls: type[HasLayout]) -> bool:
    return any(
        _is_kept(info) or isinstance(info.type, PointersType)
        for inner in _nested(cls)
        for info in inner.__layout__.fields
    )


def _struct_places(type_: WireType, base: int) -> Iterator[int]:
    if isinstance(type_, StructType):
        yield base
    elif isinstance(type_, ArrayType | CountedType | ListType | PointersType):
        for index in range(type_.length):
            yield from _struct_places(type_.element, base + index * type_.element.size)


def _is_kept(info: FieldInfo) -> bool:
    return info.options.keep or _is_live(info.type)


def _is_live(type_: WireType) -> bool:
    """Whether C compares its numbers with those of the live object."""
    while isinstance(type_, ArrayType | CountedType | PointersType):
        type_ = type_.element
    return isinstance(type_, Scalar) and type_.live


def kept(cls: type[HasLayout]) -> Iterator[tuple[int, int]]:
    """Offset and size of what a load begins with as it is in the live object."""
    if not _has_places(cls):
        return
    for info, base in _places(cls, 0):
        if isinstance(info.type, PointersType):
            yield base + info.offset + info.type.present_at, info.type.length
        if _is_kept(info):
            yield base + info.offset, info.type.size


def pointer_arrays(cls: type[HasLayout]) -> Iterator[tuple[int, int, int, int, int]]:
    """Of every ``PointerArray``: slots, elements and marks, an element's size, how many."""
    if not _has_places(cls):
        return
    for info, base in _places(cls, 0):
        if isinstance(info.type, PointersType):
            at = base + info.offset
            type_ = info.type
            yield (
                *(at, at + type_.data_at, at + type_.present_at),
                *(type_.element.size, type_.length),
            )


def structs(cls: type[HasLayout], path: str) -> Iterator[tuple[str, type[HasLayout]]]:
    """Every struct under this one, with its path; of an array its elements as one."""
    yield path, cls
    for info in cls.__layout__.fields:
        for inner in structs_of(info.type):
            suffix = "" if isinstance(info.type, StructType) else "[]"
            yield from structs(inner, _under(path, info) + suffix)


def path_at(
    cls: type[HasLayout], offset: int, wanted: type[HasLayout] | None, path: str
) -> str | None:
    """Return the path of the ``wanted`` that lies at ``offset`` in a ``cls``."""
    if offset == 0 and cls is wanted:
        return path
    for info in cls.__layout__.fields:
        for inner in structs_of(info.type):
            alone = isinstance(info.type, StructType)
            for index, place in enumerate(_struct_places(info.type, info.data)):
                if place <= offset < place + inner.__layout__.size:
                    name = _under(path, info) + ("" if alone else f"[{index}]")
                    return path_at(inner, offset - place, wanted, name)
    return None


def structs_in(struct: HasLayout, info: FieldInfo) -> Iterator[Any]:
    """Yield the structs inside a field of ``struct``, as many as it has now."""

    def flat(value: Any, type_: WireType) -> Iterator[Any]:
        if isinstance(type_, StructType):
            yield value
        elif isinstance(type_, ArrayType | CountedType | PointersType | ListType):
            for item in value:
                if item is not None:
                    yield from flat(item, type_.element)

    if next(structs_of(info.type), None) is None:
        return iter(())
    if isinstance(info.type, ListType) and info.type.key:
        entries: dict[Any, Any] = getattr(struct, info.attribute)
        return iter(entries.values())
    return flat(getattr(struct, info.attribute), info.type)


def wire_fields(struct: HasLayout, path: str, version_id: int) -> Iterator[tuple[str, int]]:
    """Every scalar and buffer of a staged struct in wire order: its path, its bytes on the wire.

    Subsections are left out: a stream decides which of them it has.
    """
    layout: Layout = struct.__layout__
    for info in layout.wire:
        exists = info.options.field_exists
        there = exists(struct, version_id) if exists else info.options.version_id <= version_id
        if there:
            yield from _field(struct, info, f"{path}.{info.name}")


def _number(struct: HasLayout, info: FieldInfo) -> int:
    assert info.num is not None
    number: int = getattr(struct, info.num.attribute)
    return max(0, number) * info.options.multiply


def _field(struct: HasLayout, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
    options = info.options
    match info.type:
        case UnusedType():
            times = _number(struct, info) if info.num else 1
            yield path, info.type.length * times
        case ArrayType(is_buffer=True):
            rest = info.type.length - options.start
            yield path, options.size if isinstance(options.size, int) else rest
        case CountedType(is_buffer=True):
            yield path, _number(struct, info)
        case BitmapType():
            bits = _number(struct, info) if info.num else info.type.bits
            yield path, -(-bits // 64) * 8
        case ListType():
            yield from _list(struct, info, info.type, path)
        case ArrayType():
            value = getattr(struct, info.attribute)
            count = options.num if isinstance(options.num, int) else len(value) - options.start
            for index in range(options.start, options.start + count):
                yield from _value(value[index], info.type.element, f"{path}[{index}]")
        case CountedType() | PointersType():
            for index, item in enumerate(getattr(struct, info.attribute)):
                yield from _value(item, info.type.element, f"{path}[{index}]")
        case StructType() if options.struct_version_id is not None:
            value = getattr(struct, info.attribute)
            yield from wire_fields(value, path, options.struct_version_id)
        case _:
            yield from _value(getattr(struct, info.attribute), info.type, path)


def _value(value: Any, type_: WireType, path: str) -> Iterator[tuple[str, int]]:
    if value is None:
        yield path, 1
    elif isinstance(type_, StructType):
        yield from wire_fields(value, path, type_.cls.__layout__.version_id)
    elif isinstance(type_, ArrayType):
        for index, item in enumerate(value):
            yield from _value(item, type_.element, f"{path}[{index}]")
    else:
        yield path, type_.size


def _list(
    struct: HasLayout, info: FieldInfo, type_: ListType, path: str
) -> Iterator[tuple[str, int]]:
    value = getattr(struct, info.attribute)
    if type_.key:
        yield path, 4
        value = getattr(type(struct), info.attribute).entries(struct)
    for index, item in enumerate(value):
        yield f"{path}[{index}]", 1
        if type_.key:
            item = item.value
            width = 8
            if isinstance(type_.key, StructType):
                width = sum(size for _, size in _value(type_.key.cls(), type_.key, ""))
            yield f"{path}[{index}].key", width
        version = item.__layout__.version_id
        yield from wire_fields(item, f"{path}[{index}]", version)
    yield path, 1
