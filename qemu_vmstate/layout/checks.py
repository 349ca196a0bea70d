# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused when a layout class is made, because QEMU would crash on it or worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DeclarationError
from ..wire.base import Limits
from ..wire.field_options import FieldOptions
from ..wire.types import Layout, Scalar, WireType

__all__ = ["check_neighbours", "check_subsections", "limits_of"]

# The kinds of number that count elements, and bytes or bits, by their letters in struct.
_COUNTS, _SIZES = "BHIi", "Ii"

Declared = tuple[str, Any, FieldOptions]


def limits_of(cls_name: str, fields: Sequence[Declared]) -> dict[str, Limits]:
    """Return each number's limits by attribute: as declared, and by the room of what it counts."""
    found: dict[str, Limits] = {}
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
    if not type_.is_whole:
        raise DeclarationError(f"{where}: minimum and maximum are for whole numbers")
    if not type_.low <= low <= high <= type_.high or high < 0:
        raise DeclarationError(
            f"{where}: {low} to {high}: they must lie within {type_.name} ({type_.low} to "
            f"{type_.high}), the maximum not below 0"
        )
    return low, high


def _count(
    found: dict[str, Limits],
    number: str,
    number_type: WireType,
    type_: WireType,
    options: FieldOptions,
    where: str,
) -> None:
    kinds = _COUNTS if options.size is None else _SIZES
    if not isinstance(number_type, Scalar) or number_type.kind not in kinds:
        wanted = "a u32 or i32" if kinds == _SIZES else "a u8, u16, u32 or i32"
        raise DeclarationError(f"{where}: {number!r} must be {wanted}, as in C")
    low, high = found.get(number, (0, None))
    if type_.counted_room is None:
        if high is None:
            raise DeclarationError(
                f"{where}: a stream could say {number_type.high} times; give {number!r} a maximum="
            )
        return
    most = min(type_.counted_room // options.multiply, number_type.high if high is None else high)
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
        heads = list(_heads_of(info.type)) if info.type.repeats else []
        for other in wire[index + 1 :] if ends else ():
            heads += _heads_of(other.type)
            if not other.can_be_nothing:
                break
        for end in ends:
            for head in heads:
                if head.startswith(end):
                    raise DeclarationError(
                        f"{what}: what follows {info.name!r} or its elements can begin with the "
                        f"subsection {head!r}, which QEMU takes for one of the {end!r} before it; "
                        "put a field before them in their class, or between"
                    )


def _ends_of(type_: WireType) -> Iterator[str]:
    """Yield the names of the structs whose subsections can be the last of a value."""
    if type_.inline_struct is not None:
        layout: Layout = type_.inline_struct.__layout__
        yield layout.name
        yield from _at_the_end(layout)


def _heads_of(type_: WireType) -> Iterator[str]:
    """Yield the names of the subsections that can be the first of a value."""
    if type_.inline_struct is not None:
        layout: Layout = type_.inline_struct.__layout__
        for info in layout.wire:
            yield from _heads_of(info.type)
            if not info.can_be_nothing:
                return
        yield from (info.name for info in layout.subsections)


def _at_the_end(layout: Layout) -> Iterator[str]:
    """Yield the names of the structs after which the subsections can come at once."""
    for info in reversed(layout.wire):
        yield from _ends_of(info.type)
        if not info.can_be_empty:
            return
