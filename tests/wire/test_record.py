# SPDX-License-Identifier: GPL-2.0-or-later
"""Record classes do what a frozen dataclass with the same fields does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from qemu_vmstate.wire.record import record, replace


@record()
class Point:
    x: int
    y: int = 2
    kept: ClassVar[int] = 3


@record()
class Named(Point):
    name: str = "n"


@record(called="options")
class Options:
    leading: int = 0
    _: dataclasses.KW_ONLY
    first: int = 1


@dataclasses.dataclass(frozen=True)
class DataPoint:
    x: int
    y: int = 2
    kept: ClassVar[int] = 3


@dataclasses.dataclass(frozen=True)
class DataNamed(DataPoint):
    name: str = "n"


PAIRS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (Point, DataPoint),
    (Named, DataNamed),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize(
    ("values", "named"), [((1,), {}), ((1, 5), {}), ((), {"x": 1}), ((1,), {"y": 7})]
)
def test_an_object_is_as_a_dataclasss(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    values: tuple[int, ...],
    named: dict[str, int],
) -> None:
    made, expected = ours(*values, **named), theirs(*values, **named)
    assert vars(made) == vars(expected)
    assert repr(made) == repr(expected).removeprefix("Data")
    assert hash(made) == hash(expected)
    assert made == ours(*values, **named)
    assert made != ours(100)
    assert made != expected


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, 2, 3, 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
)
def test_wrong_arguments_are_type_errors_as_a_dataclasss(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    values: tuple[int, ...],
    named: dict[str, int],
) -> None:
    for make in (ours, theirs):
        with pytest.raises(TypeError):
            make(*values, **named)


def test_keywords_only_and_the_name_in_errors() -> None:
    assert Options(5, first=3) == Options(leading=5, first=3)
    make: Any = Options
    with pytest.raises(TypeError, match=r"^options\(\) takes 1 positional arguments, but 2 were"):
        make(5, 3)
    with pytest.raises(TypeError, match=r"^options\(\) got an unexpected keyword argument 'other'"):
        make(other=3)


def test_no_field_can_be_changed_or_deleted() -> None:
    made: Any = Point(1)
    with pytest.raises(AttributeError, match=r"^Point\.x cannot be changed"):
        made.x = 2
    with pytest.raises(AttributeError, match=r"^Point\.y cannot be changed"):
        del made.y
    assert made == Point(1)


def test_copies_and_replacements() -> None:
    made = Named(1, name="m")
    assert copy.copy(made) == copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made
    assert replace(made, y=9) == Named(1, 9, "m")
    assert made == Named(1, 2, "m")
