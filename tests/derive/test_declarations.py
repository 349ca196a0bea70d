# SPDX-License-Identifier: GPL-2.0-or-later
"""Declarations that ``derive_to_migration_state`` refuses, with the remedy."""

from __future__ import annotations

import dataclasses
import enum
from collections import defaultdict
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, cast

import pytest

from qemu_vmstate import (
    DeclarationError,
    Mutex,
    derive_to_migration_state,
    field,
    i8,
    save,
    u8,
    u16,
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


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Huge(enum.Enum):
    A = 2**64


Short = Annotated[list[u8], field(max_length=2)]
Long = Annotated[str, field(max_length=1024)]
Optioned = Annotated[u8, field(minimum=1)]

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (u8, {"omit": True, "into": u8}, "Bad.a: omit stands alone, and into would have no meaning"),
    (u8, {"omit": True, "try_into": u8}, "Bad.a: omit stands alone, and try_into would have"),
    (u8, {"omit": True, "clone": True}, "Bad.a: omit stands alone, and clone would have"),
    (u8, {"omit": True, "none": 0}, "Bad.a: omit stands alone, and none would have"),
    (u8, {"omit": True, "length": 3}, "Bad.a: omit stands alone, and length would have"),
    (u8, {"omit": True, "name": "b"}, "Bad.a: omit stands alone, and name would have"),
    (u8, {"into": u8, "try_into": u8}, "Bad.a: into and try_into together; take into if the"),
    (int, {}, "Bad.a: int has no width on the wire; annotate it u8 to u64 or i8 to i64"),
    (complex, {}, "Bad.a: complex has no form on the wire; add field(try_into=...) with a wire"),
    (Mixed, {}, "Bad.a: the values of Mixed are 1, 'two'; give its members numbers of at most 64"),
    (Huge, {}, "Bad.a: the values of Huge are 18446744073709551616; give its members numbers"),
    (
        str,
        {},
        "Bad.a: str has no length on the wire; add field(max_length=64) for at most 64 bytes",
    ),
    (
        list[u8],
        {},
        "Bad.a: list has no length on the wire; add field(max_length=64) for at most 64 "
        "elements, length=16 for always 16, or max_length= to the decorator",
    ),
    (
        bytes,
        {},
        "Bad.a: bytes has no length on the wire; add field(max_length=64) for at most 64 "
        "bytes, length=16 for always 16, or max_length= to the decorator",
    ),
    (list[u8], {"max_length": 0}, "Bad.a: 0 is no length; write a number of elements"),
    (
        list,
        {"max_length": 3},
        "Bad.a: nothing says what is in the list; annotate it as in list[u32]",
    ),
    (dict[str, Any], {"max_length": 3}, "Bad.a: str has no length on the wire"),
    (dict[u8, Any], {"max_length": 3}, "Bad.a: Any has no form on the wire"),
    (
        dict,
        {"max_length": 3},
        "Bad.a: nothing says what is in the dict; annotate it as in dict[str",
    ),
    (
        set[u8],
        {"length": 3},
        "Bad.a: length=3 is for list, tuple, bytes and bytearray, not for set",
    ),
    (set[list[u8]], {"max_length": 3}, "Bad.a: list has no length on the wire"),
    (set[Short], {"max_length": 3}, "Bad.a: a list[u8] has no hash, so it is no key of a dict"),
    (dict[Timer, u8], {"max_length": 3}, "Bad.a: a Timer has no hash, so it is no key of a dict"),
    (u8 | str, {}, "Bad.a: u8 | str can be of several classes; take Packed["),
    (list[u8 | str], {"max_length": 3}, "Bad.a: u8 | str can be of several classes"),
    (list[Undecorated], {"max_length": 3}, "Bad.a: Undecorated is no ToMigrationState; write"),
    (list[Mutex[Timer]], {"max_length": 3}, "Bad.a: a Mutex[Timer] in a collection would be made"),
    (
        list[u8],
        {"max_length": 300, "count_type": u8},
        "Bad.a: count_type=u8 cannot count to 300 as C's VARRAY does; take one of u16, u32, i32",
    ),
    (
        bytes,
        {"max_length": 3, "count_type": u16},
        "Bad.a: count_type=u16 cannot count to 3 as C's VBUFFER does; take one of u32, u64, i32",
    ),
    (
        list[Long],
        {"max_length": 2**20},
        "Bad.a: its memory would take 1077936128 bytes, 1048576 "
        "elements of at most 1028 each; the limit is 268435456",
    ),
    (list[Optioned], {"max_length": 3}, "Bad.a: minimum in an annotation has no meaning"),
    (
        list[Annotated[defaultdict[u8, u8], field(max_length=2)]],
        {"max_length": 3},
        "Bad.a: a load would make a new defaultdict, and does not know its default_factory",
    ),
    (list[u8], {"max_length": 3, "clone": True}, "Bad.a: clone is for wire types and layout"),
    (list[u8] | None, {"max_length": 3, "none": 0}, "Bad.a: none=0 cannot stand for None"),
    (list[int], {"length": 3}, "Bad.a: int has no width on the wire"),
    (list[u8], {"length": 0}, "Bad.a: 0 is no length; write a number of elements"),
    (u8, {"length": 3}, "Bad.a: length=3 is for list, bytes and bytearray, not for "),
    (u8, {"length": 3, "into": u8}, "Bad.a: length beside into; say it in the type"),
    (Undecorated, {}, "Bad.a: Undecorated is no ToMigrationState; write @derive_to_migration_"),
    (Holder, {}, "Bad.a: Holder has no form on the wire"),
    (Timer, {"clone": True}, "Bad.a: clone copies wire types and layout classes; Timer has a"),
    (list[Timer], {"clone": True, "length": 1}, "Bad.a: clone copies wire types and layout"),
    (u8, {"none": 3}, "Bad.a: none=3 is for a field that can be None; annotate it as in u16 |"),
    (u8 | None, {"none": 256}, "Bad.a: none=256 is no u8 (0 to 255) that could stand for None"),
    (u8 | None, {"none": True}, "Bad.a: none=True is no u8 (0 to 255) that could stand for None"),
    (bool | None, {"none": 1}, "Bad.a: none=1 is no bool (0 to 1) that could stand for None"),
    (bytes | None, {"none": 0, "length": 2}, "Bad.a: none=0 cannot stand for None in a value"),
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

    @derive_to_migration_state
    @dataclass(frozen=True)
    class Frozen:
        a: u8 = 1

    with pytest.raises(DeclarationError, match=r"Frozen is frozen, so it cannot be restored; le"):
        save(cast("Any", Frozen()))

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
