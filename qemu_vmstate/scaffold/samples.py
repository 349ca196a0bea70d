# SPDX-License-Identifier: GPL-2.0-or-later
"""Structs of one class, side by side: which of their fields correspond, and what counts what.

The description of a stream has no counts.  What counts the elements or bytes of a field is guessed:
a number before it of the same struct that has the same value in each struct of the stream.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from ..stream.decoder import Field

__all__ = ["Column", "Numbers", "UnlikeError", "columns", "elements_of"]


class UnlikeError(Exception):
    """Structs for which there is no common class."""


@dataclass(frozen=True)
class Column:
    """A field of several structs: one for each of them, ``None`` where the stream has none."""

    name: str
    found: tuple[Field | None, ...]

    @property
    def present(self) -> list[Field]:
        """The fields that the stream has."""
        return [one for one in self.found if one is not None]

    @property
    def type(self) -> str:
        """The type of all of them, or an empty string if they have several."""
        types = {one.type for one in self.present}
        return types.pop() if len(types) == 1 else ""

    def counts(self, count_of: Callable[[Field], int]) -> tuple[int, ...]:
        """Return ``count_of`` of each field, 0 for one that the stream does not have."""
        return tuple(0 if one is None else count_of(one) for one in self.found)


def elements_of(field: Field) -> list[Field]:
    """Return the elements of an array; QEMU describes an array of one element as the element."""
    if field.children and field.children[0].name == "[0]":
        return list(field.children)
    return [field]


def columns(structs: Sequence[Sequence[Field]]) -> Iterator[Column]:
    """Yield the columns of structs, each given by its fields, in an order that all of them have.

    Raises ``UnlikeError`` if there is none.
    """
    if len(structs) == 1:
        yield from (Column(field.name, (field,)) for field in structs[0])
        return
    named = [{field.name: field for field in fields} for fields in structs]
    if any(len(names) < len(fields) for names, fields in zip(named, structs, strict=True)):
        raise UnlikeError("a name occurs twice in a struct")
    order = TopologicalSorter(dict.fromkeys((name for names in named for name in names), ()))
    # Not a set, whose order differs from one process to the next.
    for before, after in dict.fromkeys(pair for names in named for pair in pairwise(names)):
        order.add(after, before)
    try:
        names = list(order.static_order())
    except CycleError:
        raise UnlikeError("the fields have another order in another struct") from None
    for name in names:
        yield Column(name, tuple(one.get(name) for one in named))


class Numbers:
    """The numbers and bools that precede a field, with their values in each struct."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, tuple[int, ...]]] = {}

    def add(self, column: Column) -> None:
        """Add a column, if it is a number of each struct."""
        values = tuple(one.value for one in column.present if isinstance(one.value, int))
        if len(values) == len(column.found):
            self._values[column.name] = column.type, values

    def counter(
        self,
        name: str,
        counts: Sequence[int],
        types: Sequence[str],
        fits: Callable[[int, int], bool] = operator.eq,
        *,
        varies: bool = False,
    ) -> str:
        """Return the name of what counts the field ``name``; an empty string if there is nothing.

        ``counts`` are those of the structs, and ``fits(value, count)`` compares them with a
        number's value.  Counts that are all the same are no evidence without the names
        ``num_x`` and ``size_x`` that a derived dataclass has, or ``varies``: the type says it.
        """
        found = [
            number
            for number, (type_, values) in self._values.items()
            if type_ in types and all(map(fits, values, counts))
        ]
        usual = [number for number in (f"num_{name}", f"size_{name}") if number in found]
        if varies or len(set(counts)) > 1:
            usual += reversed(found)
        return usual[0] if usual else ""

    def flag(self, present: Sequence[bool]) -> str:
        """Return the name of the bool that is true where ``present`` is; or an empty string."""
        found = [
            name
            for name, (type_, values) in self._values.items()
            if type_ == "bool" and all(map(operator.eq, values, present))
        ]
        return found[-1] if found else ""
