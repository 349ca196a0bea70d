# SPDX-License-Identifier: GPL-2.0-or-later
"""Declarations that ``derive_to_migration_state`` refuses, with the remedy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

from qemu_vmstate import (
    DeclarationError,
    derive_to_migration_state,
    field,
    i8,
    save,
    u8,
    u32,
    u64,
)

from .states import (
    Bits,
    Holder,
    Mode,
    Regs,
    Timer,
    dataclass_field,
)


def declare(hint: Any, **options: Any) -> Any:
    return derive_to_migration_state(
        make_dataclass("Bad", [("a", hint, dataclass_field(field(**options)))])
    )


@dataclass
class Undecorated:
    a: u8 = 1


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (u8, {"omit": True, "into": u8}, "Bad.a: omit stands alone, and into would have no meaning"),
    (u8, {"omit": True, "try_into": u8}, "Bad.a: omit stands alone, and try_into would have"),
    (u8, {"omit": True, "clone": True}, "Bad.a: omit stands alone, and clone would have"),
    (u8, {"omit": True, "none": 0}, "Bad.a: omit stands alone, and none would have"),
    (u8, {"omit": True, "length": 3}, "Bad.a: omit stands alone, and length would have"),
    (u8, {"omit": True, "name": "b"}, "Bad.a: omit stands alone, and name would have"),
    (u8, {"into": u8, "try_into": u8}, "Bad.a: into and try_into together; take into if the"),
    (int, {}, "Bad.a: int has no width on the wire; annotate it u8 to u64 or i8 to i64"),
    (str, {}, "Bad.a: str has no form on the wire; add field(try_into=...) with a wire type"),
    (Mode, {}, "Bad.a: Mode has no width on the wire; add field(try_into=u8)"),
    (list[u8], {}, "Bad.a: a list has no length on the wire; add field(length=16)"),
    (bytes, {}, "Bad.a: bytes has no length on the wire; add field(length=16)"),
    (list[int], {"length": 3}, "Bad.a: int has no width on the wire"),
    (list[u8], {"length": 0}, "Bad.a: 0 is no length; write a number of elements"),
    (u8, {"length": 3}, "Bad.a: length=3 is for list, bytes and bytearray, not for "),
    (u8, {"length": 3, "into": u8}, "Bad.a: length beside into; say it in the type"),
    (Undecorated, {}, "Bad.a: Undecorated is no ToMigrationState; write @derive_to_migration_"),
    (Holder, {}, "Bad.a: Holder has no form on the wire"),
    (Timer, {"clone": True}, "Bad.a: clone copies wire types and layout classes; Timer has a"),
    (list[Timer], {"clone": True, "length": 1}, "Bad.a: clone copies wire types and layout"),
    (u8 | None, {}, "Bad.a: nothing says how None goes on the wire; add none= and the number"),
    (u8, {"none": 3}, "Bad.a: none=3 is for a field that can be None; annotate it as in u16 |"),
    (u8 | None, {"none": 256}, "Bad.a: none=256 is no u8 (0 to 255) that could stand for None"),
    (u8 | None, {"none": True}, "Bad.a: none=True is no u8 (0 to 255) that could stand for None"),
    (bool | None, {"none": 1}, "Bad.a: none=1 is no bool (0 to 1) that could stand for None"),
    (bytes | None, {"none": 0, "length": 2}, "Bad.a: none=0 cannot stand for None in a value"),
    (Timer | None, {"none": bool}, "Bad.a: a state that can be None has no place to be restored"),
    (int | str, {"try_into": u8}, "Bad.a: int | str is no class, so there is nothing to convert"),
    (Mode, {"into": u8}, "Bad.a: not every u8 is a Mode, so into=u8 could fail; use try_into=u8"),
    (Bits, {"into": u8}, "Bad.a: not every u8 is a Bits, so into=u8 could fail; use try_into=u8"),
    (Bits, {"try_into": i8}, "Bad.a: Bits is converted to a number, so try_into takes u8 to u64"),
    (Mode, {"try_into": Regs}, "Bad.a: Mode is converted to a number, so try_into takes bool, "),
    (Mode, {"try_into": bool}, "Bad.a: Mode.HALT is 9, which is no bool (0 to 1); take a wider"),
    (u8, {"into": u32}, "Bad.a: not every u32 is a u8 and the other way round, so into=u32"),
    (float, {"try_into": u64}, "Bad.a: a float in u64 would lose its fraction; keep the number"),
    (str, {"into": int}, "Bad.a: into: int has no width on the wire"),
]


@pytest.mark.parametrize(("hint", "options", "message"), REFUSED, ids=[c[2][7:50] for c in REFUSED])
def test_declaration_is_refused_with_the_remedy(
    hint: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(hint, **options)
    assert str(caught.value).startswith(message)


def test_class_that_cannot_be_derived_is_refused() -> None:
    class NoDataclass:
        a: u8 = 1

    with pytest.raises(DeclarationError, match=r"class NoDataclass is no dataclass, whose fields"):
        derive_to_migration_state(NoDataclass)
    with pytest.raises(DeclarationError, match=r"class Late is no dataclass"):

        @derive_to_migration_state
        class Late(Timer):
            b: u8 = 1

    with pytest.raises(DeclarationError, match=r"class Frozen is frozen, so it cannot be restored"):

        @derive_to_migration_state
        @dataclass(frozen=True)
        class Frozen:
            a: u8 = 1

    with pytest.raises(DeclarationError, match=r"class Both has a snapshot_migration_state of its"):

        @derive_to_migration_state
        @dataclass
        class Both:
            a: u8 = 1

            def snapshot_migration_state(self, target: Any) -> None: ...

    with pytest.raises(DeclarationError, match=r"another field is named has_a on the wire; rename"):

        @derive_to_migration_state
        @dataclass
        class Clash:
            has_a: bool = True
            a: u8 | None = field(default=None, none=bool)

    with pytest.raises(
        DeclarationError, match=r"Reserved.*\.Migrated: the name 'Migrated' is taken"
    ):
        derive_to_migration_state(make_dataclass("Reserved", [("Migrated", u8)]))


def test_options_of_dataclasses_field_work_beside() -> None:
    @derive_to_migration_state
    @dataclass
    class Beside:
        a: u8 = dataclasses.field(default=1, repr=False)
        b: u8 = field(default=2)
        c: u8 = 3

    assert save(Beside()) == b"\1\2\3"
    assert repr(Beside()).endswith("Beside(b=2, c=3)")
