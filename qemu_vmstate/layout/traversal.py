# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding structs, kept values and pointers in the memory of a layout class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..wire.types import FieldInfo, HasLayout, PointersType

__all__ = [
    "check_struct",
    "has_nested_subsections",
    "has_predicates",
    "has_subsections",
    "kept",
    "memory_is_value",
    "nested",
    "path_at",
    "pointer_arrays",
    "structs",
    "structs_in",
]


def nested(cls: type[HasLayout]) -> Iterator[type[HasLayout]]:
    """Yield ``cls`` and every class inside it."""
    yield cls
    for info in cls.__layout__.fields:
        for inner in info.type.structs():
            yield from nested(inner)


def has_predicates(cls: type[HasLayout]) -> bool:
    """Return whether C calls predicates in Python while it walks the struct."""
    return any(
        info.options.field_exists or info.type.is_subsection
        for inner in nested(cls)
        for info in inner.__layout__.fields
    )


def has_nested_subsections(cls: type[HasLayout]) -> bool:
    """Return whether a struct inside ``cls`` has subsections, between the fields of ``cls``."""
    return any(
        has_subsections(inner) for info in cls.__layout__.wire for inner in info.type.structs()
    )


def has_subsections(cls: type[HasLayout]) -> bool:
    """Return whether ``cls`` or a struct inside it has subsections."""
    return any(inner.__layout__.subsections for inner in nested(cls))


def memory_is_value(cls: type[HasLayout]) -> bool:
    """Return whether structs of different memory always differ on the wire too."""
    return not has_subsections(cls) and all(
        info.type.memory_is_value for inner in nested(cls) for info in inner.__layout__.fields
    )


def _under(path: str, info: FieldInfo) -> str:
    """Return the path of a field; a subsection's name would repeat the name of the struct."""
    return f"{path}.{info.attribute if info.type.is_subsection else info.name}"


def check_struct(struct: HasLayout, path: str) -> None:
    """Call every validator of a staged struct and of the structs inside; raise their errors."""
    for validator in type(struct).__validators__:
        validator.check(struct, path)
    for info in struct.__layout__.fields:
        if any(cls.__validated__ for cls in info.type.structs()):
            for index, inner in enumerate(structs_in(struct, info)):
                check_struct(inner, _under(path, info) + info.type.index_suffix(index))


def _places(cls: type[HasLayout], base: int) -> Iterator[tuple[FieldInfo, int]]:
    """Yield every field of ``cls`` and of all structs inside, with the offset of its struct."""
    for info in cls.__layout__.fields:
        yield info, base
        for inner in info.type.structs():
            if _has_places(inner):
                for place in info.type.struct_places(base + info.data):
                    yield from _places(inner, place)


def _has_places(cls: type[HasLayout]) -> bool:
    return any(
        _is_kept(info) or isinstance(info.type, PointersType)
        for inner in nested(cls)
        for info in inner.__layout__.fields
    )


def _is_kept(info: FieldInfo) -> bool:
    return info.options.keep or bool(info.type.live)


def kept(cls: type[HasLayout]) -> Iterator[tuple[int, int]]:
    """Yield the offset and size of each value that a load first copies from the object."""
    if not _has_places(cls):
        return
    for info, base in _places(cls, 0):
        if isinstance(info.type, PointersType):
            yield base + info.offset + info.type.present_at, info.type.length
        if _is_kept(info):
            yield base + info.offset, info.type.size


def pointer_arrays(cls: type[HasLayout]) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the slots, elements, marks, size and number of elements of each ``PointerArray``."""
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
    """Yield ``cls`` and every class inside it, with the path; an array's elements count once."""
    yield path, cls
    for info in cls.__layout__.fields:
        for inner in info.type.structs():
            yield from structs(inner, _under(path, info) + info.type.index_suffix(None))


def path_at(
    cls: type[HasLayout], offset: int, wanted: type[HasLayout] | None, path: str
) -> str | None:
    """Return the path of the ``wanted`` struct at ``offset`` in a ``cls``, or ``None``."""
    if offset == 0 and cls is wanted:
        return path
    for info in cls.__layout__.fields:
        for inner in info.type.structs():
            for index, place in enumerate(info.type.struct_places(info.data)):
                if place <= offset < place + inner.__layout__.size:
                    name = _under(path, info) + info.type.index_suffix(index)
                    return path_at(inner, offset - place, wanted, name)
    return None


def structs_in(struct: HasLayout, info: FieldInfo) -> Iterator[Any]:
    """Yield the structs that a field of ``struct`` has now."""
    if next(info.type.structs(), None) is None:
        return iter(())
    return info.type.structs_in(getattr(struct, info.attribute))
