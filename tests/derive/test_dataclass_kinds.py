# SPDX-License-Identifier: GPL-2.0-or-later
"""Derived conversions of dataclasses with slots, base classes, and names from elsewhere."""

from __future__ import annotations

import enum
import struct
import sys
import types
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any

import pytest

from qemu_vmstate import (
    DeclarationError,
    DerivedState,
    InvalidError,
    VMStruct,
    asdict,
    derive_to_migration_state,
    field,
    load,
    save,
    u8,
    u16,
)

from .states import (
    OTHER,
    TICKS,
    Ticks,
    Timer,
)


def test_slots_keyword_only_and_initvar() -> None:
    @derive_to_migration_state
    @dataclass(slots=True)
    class Slotted:
        a: u8
        factor: InitVar[int]
        _: KW_ONLY
        b: u16 = 3
        inner: Timer = field(default_factory=Timer)

        def __post_init__(self, factor: int) -> None:
            self.a *= factor

    slotted = Slotted(2, 3)
    assert not hasattr(slotted, "__dict__")
    assert save(slotted) == struct.pack(">BHI?", 6, 3, 5, True)
    load(slotted, struct.pack(">BHI?", 1, 2, 3, False))
    assert slotted.inner == Timer(3, False)
    assert (slotted.a, slotted.b) == (1, 2)


def test_base_class_fields_go_first_and_can_be_redeclared() -> None:
    @dataclass
    class Plain:
        zero: u8 = 0

    @derive_to_migration_state
    @dataclass
    class Base(Plain):
        one: u8 = 1
        two: u8 = 2

    @derive_to_migration_state
    @dataclass
    class Child(Base):
        three: u8 = 3
        one: u16 = 0x101  # keeps its place

    child = Child()
    assert save(child) == struct.pack(">BHBB", 0, 0x101, 2, 3)
    assert save(Base()) == bytes([0, 1, 2])
    load(child, struct.pack(">BHBB", 4, 5, 6, 7))
    assert child == Child(4, 5, 6, 7)


def test_subclass_is_its_base_as_long_as_it_adds_no_field() -> None:
    class Same(Timer):
        def double(self) -> int:
            return 2 * self.expiry

    @dataclass
    class More(Timer):
        lost: u8 = 1

    same = Same(7)
    load(same, struct.pack(">I?", 8, True))
    assert same.double() == 16
    holder = Ticks(timer=Same(9))
    load(holder, struct.pack(TICKS, *OTHER))
    assert holder.timer == Same(50, False)
    with pytest.raises(
        DeclarationError, match=r"class More has other fields than Timer, from which it inherits"
    ):
        save(More())


def test_subclass_that_writes_a_conversion_itself_is_asked_wherever_it_is() -> None:
    class Careful(Timer):
        def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
            if source.expiry > 100:
                raise InvalidError(f"{source.expiry} is far away")
            self.expiry = source.expiry  # and leaves armed alone

    ticks = Ticks(timer=Careful(4))
    load(ticks, struct.pack(TICKS, *OTHER))
    assert ticks.timer == Careful(50, True)
    far = list(OTHER)
    far[11] = 101
    with pytest.raises(InvalidError, match=r"^TicksMigration\.timer: 101 is far away"):
        load(ticks, struct.pack(TICKS, *far))
    assert ticks.timer == Careful(50, True)


def test_base_class_of_another_module_has_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    lines = [
        "from __future__ import annotations",
        "from dataclasses import dataclass",
        "from qemu_vmstate import u16 as number",
        "@dataclass",
        "class Base:",
        "    far: number = 1",
    ]
    exec("\n".join(lines), vars(module))

    @derive_to_migration_state
    @dataclass
    class Child(module.Base):  # type: ignore[misc]
        near: u8 = 2

    @derive_to_migration_state
    @dataclass
    class Grandchild(Child):
        last: u8 = 3

    assert save(Grandchild()) == struct.pack(">HBB", 1, 2, 3)


def test_derived_state_is_a_base_for_type_checkers() -> None:
    @derive_to_migration_state
    @dataclass
    class Typed(DerivedState):
        a: u8 = 1

    @dataclass
    class Forgotten(DerivedState):
        a: u8 = 1

    assert issubclass(Typed.Migrated, VMStruct)
    assert asdict(Typed().to_migration_state()) == {"a": 1}
    assert save(Typed()) == b"\1"
    forgotten = Forgotten()
    remedy = r"class Forgotten has no conversions: write @derive_to_migration_state above"
    with pytest.raises(DeclarationError, match="has no Migrated"):
        save(forgotten)
    with pytest.raises(DeclarationError, match=remedy):
        forgotten.snapshot_migration_state(None)
    with pytest.raises(DeclarationError, match=remedy):
        forgotten.restore_migrated_state_mut(None, 1)


def test_local_names_and_strings_in_annotations() -> None:
    class Own(enum.IntEnum):
        A = 1

    @derive_to_migration_state
    @dataclass
    class Local:
        own: Own = field(default=Own.A, try_into=u8)
        parent: Local | None = field(default=None, omit=True)

    assert save(Local()) == b"\1"
