# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused when a layout class is made, because QEMU would crash on it or worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DeclarationError
from ..wire.field_options import FieldOptions
from ..wire.types import (
    ArrayType,
    BitmapType,
    CountedType,
    FieldInfo,
    Layout,
    ListType,
    PointersType,
    Scalar,
    StructType,
    SubsectionType,
    TmpType,
    UnusedType,
    WireType,
)

__all__ = ["check_neighbours", "check_options", "check_subsections", "limits_of"]

_COUNTS = "BHIi"
_SIZES = "Ii"

Declared = tuple[str, Any, FieldOptions]


def check_options(type_: WireType, options: FieldOptions, where: str) -> None:
    """Refuse options of ``field()`` that have no meaning for a type, or lack one that it needs."""
    allowed = {"minimum", "maximum", "err_hint"} if isinstance(type_, Scalar) else set()
    match type_:
        case CountedType(is_buffer=True):
            allowed |= {"size", "multiply"}
            _need(options.size, "size", "VBuffer", where)
        case CountedType():
            allowed |= {"num", "multiply"}
            _need(options.num, "num", "VArray", where)
        case BitmapType():
            allowed |= {"size"}
        case UnusedType() | PointersType():
            allowed |= {"num", "multiply"}
        case ArrayType(is_buffer=True):
            allowed |= {"start", "size"}
            _check_part(type_.length, options.start, options.size, "size", where)
        case ArrayType():
            allowed |= {"start", "num"}
            _check_part(type_.length, options.start, options.num, "num", where)
        case SubsectionType():
            allowed |= {"needed"}
        case StructType():
            allowed |= {"struct_version_id"}
        case _:
            pass
    every = ("minimum", "maximum", "err_hint", "num", "size", "multiply", "start", "needed")
    for name in options.given(*every, "struct_version_id"):
        if name not in allowed:
            raise DeclarationError(f"{where}: {name} has no meaning for this type; leave it out")
    if isinstance(type_, SubsectionType) and options.given("version_id", "field_exists"):
        raise DeclarationError(
            f"{where}: a subsection is there or not by needed=; it has a version_id of its own"
        )
    if isinstance(type_, UnusedType) and options.has_default:
        raise DeclarationError(f"{where}: unused bytes have no value")
    _check_struct_version(type_, options, where)
    if options.multiply < 1 or options.version_id < 0:
        raise DeclarationError(f"{where}: multiply is 1 or more, version_id 0 or more")


def _check_struct_version(type_: WireType, options: FieldOptions, where: str) -> None:
    """Refuse a struct as of a version that could be saved and never be loaded."""
    for struct, version in _loaded_as(type_, options):
        layout = struct.cls.__layout__
        lowest = layout.minimum_version_id
        if isinstance(type_, ListType | TmpType):
            # QEMU saves such a one as of its own version all the same.
            lowest = layout.version_id
        if not lowest <= version <= layout.version_id:
            raise DeclarationError(
                f"{where}: {struct.cls.__name__} as of version {version} could not be loaded: it "
                f"reads {layout.minimum_version_id} to {layout.version_id}"
                + ("" if lowest == layout.minimum_version_id else ", and is saved as the newest")
            )


def _loaded_as(type_: WireType, options: FieldOptions) -> Iterator[tuple[StructType, int]]:
    """Yield the structs that a field loads as of a version that it says."""
    if isinstance(type_, ListType | TmpType):
        # QEMU has one number for both.
        version = options.version_id or None
    else:
        version = options.struct_version_id
    structs: list[WireType | None] = [type_]
    if isinstance(type_, ListType):
        structs = [type_.element, type_.key]
    for struct in structs:
        if version is not None and isinstance(struct, StructType):
            yield struct, version


def _need(given: object, option: str, what: str, where: str) -> None:
    if not isinstance(given, str):
        raise DeclarationError(
            f"{where}: a {what} needs the name of the field that says how long it is: "
            f"field({option}='...')"
        )


def _check_part(length: int, start: int, count: object, option: str, where: str) -> None:
    if isinstance(count, str):
        raise DeclarationError(
            f"{where}: {option}={count!r}: this one's length is fixed; take a VArray or VBuffer, "
            "or give a number"
        )
    end = start + (count if isinstance(count, int) else length - start)
    if start < 0 or not start < end <= length:
        raise DeclarationError(
            f"{where}: elements {start} to {end} of {length}: they do not lie inside it"
        )


def limits_of(
    cls_name: str, fields: Sequence[Declared]
) -> dict[str, tuple[int | None, int | None]]:
    """Return each number's limits by attribute: as declared, and by the room of what it counts."""
    found: dict[str, tuple[int | None, int | None]] = {}
    types: dict[str, tuple[WireType, FieldOptions]] = {}
    for attribute, type_, options in fields:
        where = f"{cls_name}.{attribute}"
        if options.given("minimum", "maximum"):
            found[attribute] = _declared_limits(type_, options, where)
        number = options.num if isinstance(options.num, str) else options.size
        if isinstance(number, str):
            if number not in types:
                raise DeclarationError(
                    f"{where}: {number!r} is no field that is declared before it in {cls_name}, "
                    "and C reads the number first"
                )
            _count(found, number, types[number][0], type_, options, where)
        types[attribute] = (type_, options)
    for attribute, (low, high) in found.items():
        type_, options = types[attribute]
        if not options.has_default and ((low or 0) > 0 or (high is not None and high < 0)):
            raise DeclarationError(
                f"{cls_name}.{attribute}: 0 is not within {low} to {high}; give a default that is"
            )
    return found


def _declared_limits(type_: Any, options: FieldOptions, where: str) -> tuple[int, int]:
    low = type_.low if options.minimum is None else options.minimum
    high = type_.high if options.maximum is None else options.maximum
    if type_.info == "int32_le" and low > 0:
        raise DeclarationError(
            f"{where}: minimum: QEMU takes any i32_positive_le from 0 on; leave it out"
        )
    if type_.kind == "d" or type_.kind == "?":
        raise DeclarationError(f"{where}: minimum and maximum are for whole numbers")
    if not type_.low <= low <= high <= type_.high or high < 0:
        raise DeclarationError(
            f"{where}: {low} to {high}: they must lie within {type_.name} ({type_.low} to "
            f"{type_.high}), the maximum not below 0"
        )
    return low, high


def _count(
    found: dict[str, tuple[int | None, int | None]],
    number: str,
    number_type: WireType,
    type_: WireType,
    options: FieldOptions,
    where: str,
) -> None:
    kinds = _SIZES if isinstance(type_, BitmapType) or options.size is not None else _COUNTS
    if not isinstance(number_type, Scalar) or number_type.kind not in kinds:
        wanted = "a u32 or i32" if kinds == _SIZES else "a u8, u16, u32 or i32"
        raise DeclarationError(f"{where}: {number!r} must be {wanted}, as in C")
    low, high = found.get(number, (0, None))
    if isinstance(type_, UnusedType):
        if high is None:
            raise DeclarationError(
                f"{where}: a stream could say {number_type.high} times; give {number!r} a maximum="
            )
        return
    room = type_.bits if isinstance(type_, BitmapType) else type_.length  # type: ignore[union-attr]
    most = min(room // options.multiply, number_type.high if high is None else high)
    found[number] = (max(low or 0, 0), most)


def check_subsections(layout: Layout, name: str, what: str) -> None:
    """Refuse names that make QEMU take a subsection for another's; ``name`` is the section's."""
    subsections = layout.subsections
    for index, info in enumerate(subsections):
        one = info.name
        if not one.startswith(name) or one == name:
            raise DeclarationError(
                f"{what}: the subsection {one!r} must be called '{name}/...', or begin like that "
                "at least, or QEMU does not find it; give it a name=, or the layout class"
            )
        for follower in subsections[index + 1 :]:
            if follower.name.startswith(one):
                raise DeclarationError(
                    f"{what}: the subsection names {one!r} and {follower.name!r} begin alike, and "
                    "QEMU takes the second for a part of the first that it follows; rename one, "
                    "or declare the longer one first"
                )
            if follower.options.needed is True:
                break
        for nested in _at_the_end(layout):
            if one.startswith(nested):
                raise DeclarationError(
                    f"{what}: its last field is a struct named {nested!r}, which QEMU takes the "
                    f"subsection {one!r} for a part of; rename one"
                )


def check_neighbours(layout: Layout, what: str) -> None:
    """Refuse structs of which one would take the subsections of the next for its own."""
    wire = layout.wire
    for index, info in enumerate(wire):
        ends = list(_ends_of(info.type))
        heads = list(_heads_between(info.type))
        for other in wire[index + 1 :] if ends else ():
            heads += _heads_of(other.type)
            if not _can_be_nothing(other):
                break
        for end in ends:
            for head in heads:
                if head.startswith(end):
                    raise DeclarationError(
                        f"{what}: what follows {info.name!r} or its elements can begin with the "
                        f"subsection {head!r}, which QEMU takes for one of the {end!r} before it; "
                        "put a field before them in their class, or between"
                    )


def _ends_of(type_: Any) -> Iterator[str]:
    """Yield the names of the structs whose subsections can be the last of a value."""
    while isinstance(type_, ArrayType | CountedType | PointersType):
        type_ = type_.element
    if isinstance(type_, StructType):
        yield type_.cls.__layout__.name
        yield from _at_the_end(type_.cls.__layout__)


def _heads_of(type_: Any) -> Iterator[str]:
    """Yield the names of the subsections that can be the first of a value."""
    while isinstance(type_, ArrayType | CountedType | PointersType):
        type_ = type_.element
    if isinstance(type_, StructType):
        layout = type_.cls.__layout__
        for info in layout.wire:
            yield from _heads_of(info.type)
            if not _can_be_nothing(info):
                return
        yield from (info.name for info in layout.subsections)


def _heads_between(type_: Any) -> Iterator[str]:
    """Yield the same of every element but the first."""
    if isinstance(type_, ArrayType | CountedType | PointersType):
        if type_.length > 1:
            yield from _heads_of(type_.element)
        else:
            yield from _heads_between(type_.element)


def _can_be_nothing(info: FieldInfo) -> bool:
    """Whether a field can have no bytes on the wire."""
    type_: Any = info.type
    if isinstance(type_, ListType):
        return False
    if info.num is not None or info.options.given("version_id", "field_exists"):
        return True
    while isinstance(type_, ArrayType | PointersType):
        type_ = type_.element
    return isinstance(type_, StructType) and all(
        _can_be_nothing(inner) for inner in type_.cls.__layout__.wire
    )


def _at_the_end(layout: Layout) -> Iterator[str]:
    """Yield the names of the structs after which the subsections can come at once."""
    for info in reversed(layout.wire):
        type_: Any = info.type
        while isinstance(type_, ArrayType | CountedType | PointersType):
            type_ = type_.element
        if isinstance(type_, StructType):
            yield type_.cls.__layout__.name
            yield from _at_the_end(type_.cls.__layout__)
        if not _can_be_absent(info):
            return


def _can_be_absent(info: FieldInfo) -> bool:
    counted = info.num is not None or isinstance(info.type, ListType)
    return counted or bool(info.options.given("version_id", "field_exists"))
