# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzzer's dataclasses and classes for migrates(): what it draws, and what it finds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from qemu_vmstate import (
    InvalidError,
    Migratable,
    Mutex,
    derive_to_migration_state,
    field,
    migrates,
    register_converter,
    save,
    u8,
    u16,
)
from qemu_vmstate.fuzz.command import fuzz
from qemu_vmstate.fuzz.devices import draw
from qemu_vmstate.fuzz.places import places
from qemu_vmstate.fuzz.python_values import PythonValues
from qemu_vmstate.fuzz.states import reordered, seen

HERE = __name__


class Even:
    """A class whose converter loses a bit."""

    def __init__(self, number: int) -> None:
        self.number = number & ~1


class Uneven:
    """A class whose converter refuses what it saves."""

    def __init__(self, number: int) -> None:
        if number % 2 == 0:
            raise ValueError("it is even")


register_converter(Even, u8, lambda even: even.number, Even)
register_converter(Uneven, u8, lambda _: 0, Uneven)


@derive_to_migration_state(max_length=4)
@dataclass
class Evens:
    numbers: list[Even] = field(default_factory=lambda: [Even(1)])


@derive_to_migration_state
@dataclass
class Unevens:
    number: Uneven = field(default_factory=lambda: Uneven(1))


class Journal:
    """Somebody else's class, which records each value that it was given."""

    def __init__(self) -> None:
        self._number = 0
        self.all: list[int] = []

    @property
    def number(self) -> int:
        return self._number

    @number.setter
    def number(self, value: int) -> None:
        self.all.append(value)
        self._number = value


migrates(Journal, fields={"number": u8, "all": field(list[u8], max_length=3)})


@derive_to_migration_state(int_type=u16, max_length=3)
@dataclass
class Sound:
    names: dict[str, list[int]] = field(default_factory=lambda: {"ab": [1, 2]})
    seen: set[tuple[u8, str]] = field(default_factory=lambda: {(1, "a"), (2, "")})
    raw: bytearray = field(default_factory=lambda: bytearray(b"ab"))
    ratio: float | None = None


def evens() -> Any:
    return Migratable(Mutex(Evens()))


def unevens() -> Any:
    return Migratable(Mutex(Unevens()))


def journal() -> Any:
    return Migratable(Mutex(Journal()))


def sound() -> Any:
    return Migratable(Mutex(Sound()))


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (evens, "lossy", "was loaded, and"),
        (unevens, "unloadable", "its own stream 00 is refused"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_state_that_breaks_the_rules_is_found(make: Any, kind: str, words: str) -> None:
    report = fuzz(seed="1", batch=0, targets=[f"{HERE}:{make.__name__}"])
    (found,) = report.findings
    assert (found.kind, words in found.text) == (kind, True), found.text


@pytest.mark.parametrize("make", [sound, journal])
def test_state_that_follows_the_rules_is_not_reported(make: Any) -> None:
    report = fuzz(seed="1", inputs=2000, targets=[f"{HERE}:{make.__name__}"])
    assert not report.findings, report.text()
    assert min(report.accepted, report.rejected) > 200


FORMS = (
    *("int", "bool", "u8", "float", "f32", "str", "bytes", "bytearray", "Buffer", "Array"),
    *("list", "tuple", "collections.deque", "set", "frozenset", "dict", "collections.Counter"),
    *("collections.OrderedDict", "collections.defaultdict", "enum.Enum", "enum.Flag", "Packed"),
    *("datetime.datetime", "datetime.timedelta", "decimal.Decimal", "pathlib.Path", "uuid.UUID"),
    *("register_converter", "migrates", "frozen=True", "int_type=", "count_type=", "length="),
    *("| None", ", ...]", "attribute=", "__post_init__"),
)


def test_every_form_is_drawn() -> None:
    sources = [draw(f"forms/{index}").source for index in range(400)]
    missing = [form for form in FORMS if not any(form in source for source in sources)]
    assert missing == []


def values_of(cls: type, seed: int) -> PythonValues:
    return PythonValues(cls, random.Random(seed))


def test_valid_values_are_saved_and_others_are_refused() -> None:
    names, *_ = places(Sound)
    assert (names.name, names.is_ordinary) == ("names", True)
    for seed in range(200):
        state = Sound()
        for place in places(Sound):
            place.set(state, values_of(Sound, seed).valid(place.hint, place.options))
        save(state)
        for place in places(Sound):
            state = Sound()
            place.set(state, values_of(Sound, seed).beyond(place.hint, place.options))
            with pytest.raises(InvalidError) as caught:
                save(state)
            assert f".{place.name}" in caught.value.path


def test_longest_values_are_drawn_too() -> None:
    hint = Annotated[list[Annotated[str, field(max_length=3)]], field(max_length=2)]
    drawn = [values_of(Sound, seed).valid(hint) for seed in range(300)]
    assert {len(texts) for texts in drawn} == {0, 1, 2}
    assert {len(text.encode()) for texts in drawn for text in texts} == {0, 1, 2, 3}
    assert any(not text.isascii() for texts in drawn for text in texts)


def test_values_are_compared_by_all_that_a_program_sees() -> None:
    for one, other in ((0.0, -0.0), (1, True), ([1], (1,)), ({1: 2, 3: 4}, {3: 4, 1: 2})):
        assert repr(seen(one)) != repr(seen(other))
    nan = float("nan")
    assert repr(seen({nan})) == repr(seen({nan}))
    values: dict[str, set[Any]] = {"b": {3, 1, 2}, "a": {8, 0}}
    again = reordered(values)
    assert again == values
    assert list(again) == ["b", "a"]
    # Both have the same place in a small set, which the first one of them gets.
    assert (list(values["a"]), list(again["a"])) == ([8, 0], [0, 8])
