# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of a new layout class, for what would crash QEMU or make it load wrong values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DeclarationError
from ..wire.base import Limits
from ..wire.field_options import FieldOptions
from ..wire.types import SCALARS, Layout, Scalar, WireType

__all__ = ["check_neighbours", "check_subsections", "limits_of"]

Declared = tuple[str, Any, FieldOptions]
"""A field's attribute, type and options."""


def limits_of(cls_name: str, fields: Sequence[Declared]) -> dict[str, Limits]:
    """Return the limits of numbers by attribute: the declared ones and the room they count in."""
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
            _limit_count(found, number, types[number][0], type_, options, where)
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


def _limit_count(
    found: dict[str, Limits],
    number: str,
    number_type: WireType,
    type_: WireType,
    options: FieldOptions,
    where: str,
) -> None:
    """Check the type of a counting field, and limit it to the room of the field it counts."""
    *names, last = type_.number_types
    if (
        not isinstance(number_type, Scalar)
        or SCALARS.get(number_type.kind, number_type).name not in type_.number_types
    ):
        raise DeclarationError(
            f"{where}: {number!r} must be a {', '.join(names)} or {last}, as in C"
        )
    low, high = found.get(number, (0, None))
    if type_.counted_room is None:
        if high is None:
            raise DeclarationError(
                f"{where}: a stream can count to {number_type.high}; give {number!r} a maximum="
            )
        return
    most = min(type_.counted_room // options.multiply, number_type.high if high is None else high)
    found[number] = (max(low or 0, 0), most)


def check_subsections(layout: Layout, name: str, what: str) -> None:
    """Refuse names by which QEMU mistakes subsections; ``name`` is that of the section."""
    subsections = layout.subsections
    for index, info in enumerate(subsections):
        subsection = info.name
        if not subsection.startswith(name) or subsection == name:
            raise DeclarationError(
                f"{what}: the subsection {subsection!r} must be called '{name}/...', or have "
                f"another longer name that begins with {name!r}, or QEMU does not find it; give "
                "the field or its layout class a name="
            )
        for follower in subsections[index + 1 :]:
            if follower.name.startswith(subsection):
                raise DeclarationError(
                    f"{what}: the subsection names {subsection!r} and {follower.name!r} begin "
                    "alike, and QEMU reads the second as a subsection of the first, which it "
                    "follows; rename one, or declare the longer one first"
                )
            if follower.options.needed is True:
                break
        for nested in _at_the_end(layout):
            if subsection.startswith(nested):
                raise DeclarationError(
                    f"{what}: its last field is a struct named {nested!r}, and QEMU reads the "
                    f"subsection {subsection!r} as one of that struct; rename one"
                )


def check_neighbours(layout: Layout, what: str) -> None:
    """Refuse neighbouring structs if QEMU reads subsections of the second as the first's."""
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
                        f"subsection {head!r}, which QEMU reads as one of the {end!r} before it; "
                        "put a field before them in their class, or between"
                    )


def _ends_of(type_: WireType) -> Iterator[str]:
    """Yield the names of the structs whose subsections can be the end of a value."""
    if type_.inline_struct is not None:
        layout: Layout = type_.inline_struct.__layout__
        yield layout.name
        yield from _at_the_end(layout)


def _heads_of(type_: WireType) -> Iterator[str]:
    """Yield the names of the subsections that a value can begin with."""
    if type_.inline_struct is not None:
        layout: Layout = type_.inline_struct.__layout__
        for info in layout.wire:
            yield from _heads_of(info.type)
            if not info.can_be_nothing:
                return
        yield from (info.name for info in layout.subsections)


def _at_the_end(layout: Layout) -> Iterator[str]:
    """Yield the names of the structs that the layout's own subsections can follow directly."""
    for info in reversed(layout.wire):
        yield from _ends_of(info.type)
        if not info.can_be_empty:
            return
