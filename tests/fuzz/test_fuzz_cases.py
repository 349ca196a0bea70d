# SPDX-License-Identifier: GPL-2.0-or-later
"""Former findings of `qemu-vmstate fuzz`, each reduced to a minimal case."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Array,
    DeclarationError,
    Device,
    Migratable,
    Mutex,
    OutOfRangeError,
    PointerArray,
    QTailQ,
    StreamError,
    Subsection,
    Tmp,
    VArray,
    VMStruct,
    field,
    i32_positive_le,
    load,
    save,
    u8,
    u16,
    u32,
    zeroed,
)


class Pointed(VMStruct, name="pointed"):
    n: u32 = 0
    some: PointerArray[u8, Literal[2]] = field(num="n")


@pytest.mark.parametrize("tail", [b"\xff", b"\0\0\1", b"\x80"])
def test_count_cut_short_beyond_its_limit_is_a_stream_that_ends(
    tail: bytes, unchanged: Any
) -> None:
    """The refused count was in the staging struct, and was used to find the end of the stream."""
    state = Pointed()
    with unchanged(state), pytest.raises(StreamError, match=r"ends inside pointed\.n, "):
        load(state, tail)


def test_level_that_could_not_be_loaded_again_cannot_be_stored() -> None:
    """VMSTATE_INT32_POSITIVE_LE accepts no value from 0 on if the current value is negative."""

    class Levels(VMStruct):
        level: i32_positive_le = 0
        levels: Array[i32_positive_le, Literal[2]] = zeroed()

    state = Levels(level=2**31 - 1)
    for value in (-1, -(2**31)):
        with pytest.raises(OutOfRangeError, match=r"^Levels\.level: .* \(0 to 2147483647\)$"):
            state.level = value
        with pytest.raises(OutOfRangeError, match=r"^Levels\.levels\[1\]: "):
            state.levels[1] = value
    load(state, save(state))
    assert state.level == 2**31 - 1


def test_level_with_a_minimum_is_refused() -> None:
    """C would load any value from 0 on."""
    with pytest.raises(DeclarationError, match=r"^Level\.level: .*minimum"):

        class Level(VMStruct):
            level: i32_positive_le = field(minimum=1, default=1)


class Newer(VMStruct, name="newer", version_id=2, minimum_version_id=1):
    a: u8 = 0
    b: u8 = field(version_id=2)


@pytest.mark.parametrize("hint", [QTailQ[Newer, Literal[2]], Tmp[Newer]])
def test_struct_saved_as_of_another_version_than_it_is_loaded_is_refused(hint: Any) -> None:
    """QEMU loads the struct of such a field with the field's version, and saves the newest."""
    make: Any = type(VMStruct)
    namespace = {"__module__": __name__, "__annotations__": {"field": hint}}
    with pytest.raises(DeclarationError, match="version"):
        make("Outer", (VMStruct,), {**namespace, "field": field(version_id=1)}, version_id=2)
    outer = make("Outer", (VMStruct,), {**namespace, "field": field(version_id=2)}, version_id=2)
    load(outer(), save(outer()))


class Extra(VMStruct, name="only/extra"):
    value: u16 = 0


class Only(VMStruct, name="only"):
    extra: Subsection[Extra] = field(needed=True)


class Counted(VMStruct, name="only"):
    n: u8 = 0
    values: VArray[u8, Literal[2]] = field(num="n")
    extra: Subsection[Extra] = field(needed=True)


def test_struct_of_subsections_only_may_be_the_last_of_its_kind() -> None:
    class One(VMStruct):
        head: u8 = 0
        only: Only = zeroed()

    state = One()
    state.only.extra.value = 7
    copy = One()
    load(copy, save(state))
    assert copy == state


def test_structs_of_subsections_only_in_a_row_are_refused() -> None:
    """QEMU would read all subsections as those of the first."""
    message = r"'only/extra'.*'only'"
    with pytest.raises(DeclarationError, match=message):

        class Rows(VMStruct):
            only: Array[Only, Literal[2]] = zeroed()

    with pytest.raises(DeclarationError, match=message):

        class Two(VMStruct):
            first: Only = zeroed()
            second: Only = zeroed()

    with pytest.raises(DeclarationError, match=message):

        class Dev(Device, name="dev"):
            parts: Array[Migratable[Mutex[Only]], Literal[2]]

    class Apart(VMStruct):
        first: Only = zeroed()
        between: u8 = 0
        second: Array[Counted, Literal[2]] = zeroed()

    state = Apart()
    state.first.extra.value, state.second[1].extra.value = 1, 2
    copy = Apart()
    load(copy, save(state))
    assert copy == state
