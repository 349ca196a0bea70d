# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``migrates()`` refuses, with what to write instead."""

from __future__ import annotations

import collections
import enum
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest

from qemu_vmstate import (
    DeclarationError,
    Device,
    Mutex,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    migrates,
    save,
    u8,
    u16,
)

from .foreign_classes import FIRST_MODELS, Plain
from .states import Timer

anything: Any = migrates


class Point(NamedTuple):
    x: int = 0


class Colour(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Frozen:
    x: int = 0


class UnderFrozen(Frozen):
    pass


@attrs.frozen
class FrozenAttrs:
    x: int = 0


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    x: int = 0


class Own(VMStruct):
    x: u8 = 0


class Board(Device, name="board"):
    x: u8 = 0


class UnderTimer(Timer):
    pass


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Point, r"class Point is a NamedTuple, so .*; make its values fields of the object"),
        (Frozen, r"class Frozen is a frozen dataclass, .* with attribute=\(get, set\), whose set"),
        (UnderFrozen, r"class UnderFrozen is a frozen dataclass"),
        (FrozenAttrs, r"class FrozenAttrs is a frozen class of attrs"),
        (FrozenModel, r"class FrozenModel is a frozen model of pydantic"),
        (Colour, r"class Colour is an Enum, .* with try_into=u8 or a wider type"),
        (int, r"class int is built in, .*; derive a class of your own from it .* with try_into="),
        (collections.deque, r"class deque is built in, .* or make the deque a field of another"),
        (Own, r"class Own migrates already; leave migrates\(\) out"),
        (Board, r"class Board migrates already"),
        (Plain, r"class Plain migrates already"),
        (Timer, r"class Timer migrates already"),
        (UnderTimer, r"class UnderTimer migrates already, because its base Timer does"),
        (Mutex, r"class Mutex migrates already"),
        (Timer(), r"migrates\(\) takes a class, and was given Timer\(.*; name the class"),
    ],
)
def test_classes_that_cannot_be_given_conversions(cls: Any, message: str) -> None:
    before = dict(vars(cls))
    with pytest.raises(DeclarationError, match=f"^{message}"):
        migrates(cls, fields={"x": u8})
    assert dict(vars(cls)) == before


@pytest.mark.parametrize("base", FIRST_MODELS)
@pytest.mark.parametrize("config", [{"allow_mutation": False}, {"frozen": True}])
def test_a_frozen_model_of_pydantic_1(base: Any, config: dict[str, bool]) -> None:
    frozen: Any = type("Frozen", (base,), {"Config": type("Config", (), config)})
    with pytest.raises(DeclarationError, match=r"^class Frozen is a frozen model of pydantic, so"):
        migrates(frozen, fields={"mode": u8})


class Uart:
    """A class that has one of each kind of place."""

    __slots__ = ("level", "rx")

    @property
    def computed(self) -> int:
        return 1


class Narrow(pydantic.BaseModel):
    fixed: int = pydantic.Field(default=1, frozen=True)


def get(_obj: Any) -> int:
    return 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"class Uart: fields=\{\} names no fields; give a dict"),
        ([u8], r"class Uart: fields=\[.* names no fields; give a dict"),
        ({"level-1": u8}, r"Uart\.level-1: a field's name is .*; add name='level-1' to its field"),
        ({"level": int}, r"Uart\.level: int has no width on the wire"),
        ({"level": "nowhere"}, r"Uart\.level: the annotation 'nowhere' cannot be evaluated: name"),
        ({"level": field(default=1)}, r"Uart\.level: field\(\) lacks the annotation, .* as in"),
        ({"level": field(u8, omit=True)}, r"Uart\.level: omit has no meaning here, .* leave the"),
        ({"level": field(u8, into=u8, try_into=u8)}, r"Uart\.level: into and try_into together"),
        ({"lever": u8}, r"Uart\.lever: an object of Uart cannot have the attribute lever, .* corr"),
        ({"level": field(u8, attribute="r.x")}, r"Uart\.level: an object of Uart .* attribute r,"),
        ({"level": field(u8, attribute="rx.")}, r"Uart\.level: attribute='rx\.' is no name of"),
        ({"level": field(u8, attribute="rx.if")}, r"Uart\.level: attribute='rx\.if' is no name"),
        ({"level": field(u8, attribute="rx[0]")}, r"Uart\.level: attribute='rx\[0\]' is no name"),
        ({"level": field(u8, attribute=3)}, r"Uart\.level: attribute=3 says no place of a value"),
        ({"level": field(u8, attribute=(get,))}, r"Uart\.level: attribute=\(.* says no place"),
        ({"level": field(u8, attribute=(get, 3))}, r"Uart\.level: attribute=\(.* says no place"),
        (
            {"level": field(u8, attribute=(get, None))},
            r"Uart\.level: its attribute= has no function that sets it, so it cannot be restored; ",
        ),
        (
            {"computed": u8},
            r"Uart\.computed: Uart\.computed is a property without a setter, so it cannot be rest"
            r"ored; say with attribute= where its value is stored, or give two functions",
        ),
        ({"x": field(u8, attribute="computed")}, r"Uart\.x: Uart\.computed is a property without"),
    ],
)
def test_fields_that_no_object_can_have(fields: Any, message: str) -> None:
    before = dict(vars(Uart))
    with pytest.raises(DeclarationError, match=f"^{message}"):
        migrates(Uart, fields=fields)
    assert dict(vars(Uart)) == before


def test_a_frozen_field_of_a_model() -> None:
    with pytest.raises(DeclarationError, match=r"^Narrow\.fixed: Narrow\.fixed is frozen, so it"):
        migrates(Narrow, fields={"fixed": u8})


def test_a_property_of_a_dataclass_without_a_setter() -> None:
    @dataclass
    class Mine:
        level: u8 = 1

    Mine.level = property(get)  # type: ignore[assignment]
    with pytest.raises(
        DeclarationError,
        match=r"^Mine\.level: Mine\.level is a property without a setter, so it cannot be "
        r"restored; write one, or leave the field out with field\(omit=True\)",
    ):
        derive_to_migration_state(Mine)


def test_a_state_needs_no_setter() -> None:
    class Holder:
        def __init__(self) -> None:
            self._timer = Timer(3)

        @property
        def timer(self) -> Timer:
            return self._timer

    migrates(Holder, fields={"timer": Timer})
    holder = Holder()
    load(Mutex(holder), bytes([0, 0, 0, 9, 0]))
    assert holder.timer == Timer(9, False)


def test_a_class_that_has_a_conversion_of_its_own() -> None:
    class Half:
        def snapshot_migration_state(self, target: Any) -> None: ...

    with pytest.raises(
        DeclarationError,
        match=r"^class Half has a snapshot_migration_state .* leave it to migrates\(\), or",
    ):
        migrates(Half, fields={"x": u8})


def test_names_in_strings_are_those_of_the_caller() -> None:
    class Local:
        x = 1

    class Holder:
        def __init__(self) -> None:
            self.local = [Local(), Local()]

    migrates(Local, fields={"x": "u16"})
    migrates(Holder, fields={"local": field("list[Local]", length=2)})
    assert save(Mutex(Holder())) == b"\0\1\0\1"


def test_an_annotation_and_attribute_are_for_migrates_only() -> None:
    remedy = re.escape(
        ": field() takes an annotation and attribute= in the fields of migrates(); here the "
        "annotation goes behind the colon, and the value is in the attribute"
    )
    for options in (field(u8), field(attribute="y")):
        with pytest.raises(DeclarationError, match=rf"^Struct\.x{remedy}"):
            type("Struct", (VMStruct,), {"__annotations__": {"x": u8}, "x": options})
        with pytest.raises(DeclarationError, match=rf"^Dev\.x{remedy}"):
            type("Dev", (Device,), {"__annotations__": {"x": u8}, "x": options}, name="dev")
        data = type("Data", (), {"__annotations__": {"x": u8}, "x": options})
        with pytest.raises(DeclarationError, match=rf"^Data\.x{remedy}"):
            derive_to_migration_state(dataclass(data))


def test_a_dataclass_under_a_class_of_others_would_lose_its_fields() -> None:
    class Base:
        x = 1

    migrates(Base, fields={"x": u8})

    @dataclass
    class Mine(Base):
        y: u16 = 2

    with pytest.raises(
        DeclarationError,
        match=r"^class Mine would lose the migrated fields x of Base, .* make Base a field instead "
        r"of a base, or write migrates\(Mine, fields=\.\.\.\) with all",
    ):
        derive_to_migration_state(Mine)
    migrates(Mine, fields={"x": u8, "y": u16})
    assert save(Mutex(Mine())) == b"\1\0\2"
