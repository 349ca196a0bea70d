# SPDX-License-Identifier: GPL-2.0-or-later
"""``Packed`` between releases of a device whose classes have changed, in both directions.

A class without a number is as of the first release of the device, one with 2 as of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any, Literal

import msgspec
import pytest

from qemu_vmstate import (
    DeclarationError,
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    Packed,
    VersionError,
    derive_to_migration_state,
    field,
    load,
    save,
    u8,
)


@dataclass
class Packet:
    length: int
    port: int = 0


@dataclass
class Packet2:
    """Without ``port``, and with a new field that has a default."""

    length: int
    queue: str = "first"


@dataclass
class Strict2:
    length: int
    queue: str


class Forbids(msgspec.Struct, forbid_unknown_fields=True):
    length: int


def state_of(packet: Any) -> Any:
    @derive_to_migration_state(name="state")
    @dataclass
    class State(DerivedState):
        packets: Packed[list[packet], Literal[4096]] = field(default_factory=list)

    return State


def moved(old: Any, new: Any) -> list[Any]:
    """Return the packets of ``old`` after a load into a state of the class ``new``."""
    source, target = state_of(type(old))([old]), state_of(new)()
    load(target, save(source))
    packets: list[Any] = target.packets
    return packets


def test_a_new_field_gets_its_default_and_a_removed_one_is_ignored() -> None:
    assert moved(Packet(1, 80), Packet2) == [Packet2(1, "first")]


def test_and_the_other_way_round() -> None:
    assert moved(Packet2(1, "second"), Packet) == [Packet(1, 0)]


def test_a_new_field_without_a_default_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"missing required field `queue` - at `\$\[0\]`"):
        moved(Packet(1), Strict2)
    assert moved(Strict2(1, "a"), Packet) == [Packet(1)]


def test_a_struct_can_forbid_what_it_does_not_know() -> None:
    with pytest.raises(InvalidError, match=r"unknown field `port` - at `\$\[0\]`"):
        moved(Packet(1), Forbids)


def test_a_union_takes_what_its_older_form_was() -> None:
    @derive_to_migration_state(name="state")
    @dataclass
    class Old(DerivedState):
        peer: Packed[str, Literal[64]] = field(default="")

    @derive_to_migration_state(name="state")
    @dataclass
    class New(DerivedState):
        peer: Packed[str | list[str] | None, Literal[64]] = field(default=None)

    old, new = Old("a"), New()
    load(new, save(old))
    assert new.peer == "a"
    load(old, save(New("b")))
    with pytest.raises(InvalidError, match=r"^state\.peer: .*Expected `str`, got `array`"):
        load(old, save(New(["a", "b"])))
    assert old.peer == "b"


# ------------------------------------- a Packed attribute that is new, as any other field's


@derive_to_migration_state(name="state")
@dataclass
class State(DerivedState):
    count: u8 = 1


@derive_to_migration_state(name="state", version_id=2, minimum_version_id=1)
@dataclass
class State2(DerivedState):
    count: u8 = 1
    packets: Packed[list[Packet2], Literal[4096]] = field(
        default_factory=lambda: [Packet2(3)], version_id=2
    )
    names: Packed[dict[str, str], Literal[4096]] = field(
        default_factory=dict, version_id=2, keep=True
    )


@derive_to_migration_state
@dataclass
class Log(DerivedState):
    lines: Packed[list[str], Literal[4096]] = field(default_factory=lambda: ["none"])


class Dev(Device, name="dev"):
    state: Migratable[Mutex[State]]


class Dev2(Device, name="dev", version_id=2, minimum_version_id=1):
    state: Migratable[Mutex[State]]
    log: Migratable[Mutex[Log]] = field(version_id=2)


def test_an_older_stream_gives_the_default_or_keeps_the_value() -> None:
    state = State2(9, [Packet2(4)], {"a": "b"})
    names = state.names
    load(state, save(State(7)), version_id=1)
    assert state == State2(7, [Packet2(3)], {"a": "b"})
    assert state.names is names
    # Each load makes a default of its own.
    state.packets.append(Packet2(5))
    load(state, save(State(7)), version_id=1)
    assert state.packets == [Packet2(3)]


def test_a_new_part_of_a_device() -> None:
    old, new = Dev(), Dev2(log=Log(["booted"]))
    load(new, save(old), version_id=1)
    assert new.log.into_inner().lines == ["none"]
    with pytest.raises(VersionError):
        load(old, save(new), version_id=2)


def test_an_older_release_can_be_written_by_field_exists() -> None:
    """Save as a device of an older machine type does; field_exists gets the staged struct."""

    @derive_to_migration_state(name="state")
    @dataclass
    class Compatible(DerivedState):
        count: u8 = 1
        has_packets: bool = True
        packets: Packed[list[Packet], Literal[4096]] = field(
            default_factory=list, field_exists=lambda staged, _version_id: staged.has_packets
        )

    with_packets, without = Compatible(1, True, [Packet(1)]), Compatible(2, False, [Packet(1)])
    assert save(without) == b"\2\0"
    load(with_packets, save(without))
    assert with_packets == Compatible(2, False, [])
    load(without, save(Compatible(1, True, [Packet(5)])))
    assert without.packets == [Packet(5)]


def test_a_new_field_without_a_default_is_refused_when_an_older_stream_comes() -> None:
    @derive_to_migration_state(name="state", version_id=2)
    @dataclass
    class Late(DerivedState):
        count: u8
        packets: Packed[list[Packet], Literal[4096]] = field(version_id=2)

    late = Late(1, [])
    with pytest.raises(InvalidError, match=r"has nothing of this object, and it has no default"):
        load(late, b"\1", version_id=1)
    assert (late.count, late.packets) == (1, [])


def test_a_default_that_cannot_be_packed_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a: an older stream .* packed into 9 bytes"):

        @derive_to_migration_state(version_id=2)
        @dataclass
        class Bad:
            a: Packed[int, Literal[4]] = field(default=2**40, version_id=2)


def test_a_maximum_that_is_less_than_before_refuses_what_is_larger_only() -> None:
    @derive_to_migration_state(name="state")
    @dataclass
    class Small(DerivedState):
        packets: Packed[list[Packet], Literal[64]] = field(default_factory=list)

    small, large = Small(), state_of(Packet)([Packet(1)])
    load(small, save(large))
    assert small.packets == [Packet(1)]
    large.packets *= 10
    with pytest.raises(InvalidError, match=r"size_packets: \d+ is out of range \(0 to 64\)"):
        load(small, save(large))
    assert small.packets == [Packet(1)]


def test_an_order_of_fields_does_not_matter() -> None:
    @dataclass
    class Swapped:
        port: int = plain_field(default=0, kw_only=True)
        length: int = 0

    assert moved(Packet(3, 4), Swapped) == [Swapped(3, port=4)]
