# SPDX-License-Identifier: GPL-2.0-or-later
"""``Packed`` in streams that mean harm: each is refused, and the state is as it was."""

from __future__ import annotations

import copy
import resource
import struct
import time
from dataclasses import dataclass
from dataclasses import field as plain_field
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemu_vmstate import (
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    Packed,
    StreamError,
    VMStateError,
    derive_to_migration_state,
    field,
    load,
    save,
    u8,
)

ROOM = 1 << 16


@dataclass
class Packet:
    length: int
    flags: int = 0


class Get(msgspec.Struct, tag="get"):
    key: str


class Put(msgspec.Struct, tag="put"):
    key: str


@dataclass
class Session:
    rx: list[Packet]
    request: Get | Put = plain_field(default_factory=lambda: Get("a"))
    table: dict[str, int] = plain_field(default_factory=dict)


@dataclass
class Tree:
    left: Tree | None = None


@derive_to_migration_state
@dataclass
class State(DerivedState):
    before: u8 = 1
    session: Packed[Session, Literal[65536]] = field(default_factory=lambda: Session([Packet(7)]))
    items: Packed[list[int], Literal[65536]] = field(default_factory=lambda: [1, 2])
    tree: Packed[Tree, Literal[65536]] = field(default_factory=Tree)
    free: Packed[Any, Literal[65536]] = field(default=None)
    after: u8 = 2


class Dev(Device, name="hostile"):
    state: Migratable[Mutex[State]]


FIELDS = ("session", "items", "tree", "free")


def stream(**contents: bytes) -> bytes:
    """Return a stream of ``State()`` with other bytes for some fields."""
    state = State()
    wire = b"\1"
    for name in FIELDS:
        content = contents.get(name, msgspec.msgpack.encode(getattr(state, name)))
        wire += struct.pack(">I", len(content)) + content
    return wire + b"\2"


def encoded(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def test_the_streams_below_are_valid_but_for_their_contents() -> None:
    assert stream() == save(State())
    dev = Dev()
    load(dev, stream(items=encoded([5])))
    assert dev.state.into_inner().items == [5]


DEEP = 30_000
HUGE = {
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "string": b"\xdb\xff\xff\xff\xff",
    "bytes": b"\xc6\xff\xff\xff\xff",
    "extension": b"\xc9\xff\xff\xff\xff\5",
}
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("items", b"", "the stream has nothing of this object"),
    "truncated": ("items", b"\x92\1", "Input data was truncated"),
    "trailing": ("items", b"\x91\1\0", r"trailing characters \(byte 2\)"),
    "two values": ("free", b"\1\2", r"trailing characters \(byte 1\)"),
    "reserved byte": ("free", b"\xc1", r"invalid opcode '\\xc1'"),
    "no UTF-8": ("free", b"\xa2\xff\xff", "'utf-8' codec can't decode"),
    "wrong type": ("items", encoded(["1"]), r"Expected `int`, got `str` - at `\$\[0\]`"),
    "no coercion": ("items", encoded([1, True]), r"Expected `int`, got `bool` - at `\$\[1\]`"),
    "wrong type deep inside": (
        *("session", encoded({"rx": [{"length": 1}, {"length": "x"}]})),
        r"Expected `int`, got `str` - at `\$\.rx\[1\]\.length`",
    ),
    "missing field": (
        *("session", encoded({"rx": [{"flags": 1}]})),
        r"missing required field `length` - at `\$\.rx\[0\]`",
    ),
    "unknown tag": (
        *("session", encoded({"rx": [], "request": {"type": "del", "key": "a"}})),
        r"Invalid value 'del' - at `\$\.request\.type`",
    ),
    "missing tag": (
        *("session", encoded({"rx": [], "request": {"key": "a"}})),
        r"missing required field `type` - at `\$\.request`",
    ),
    "null": ("session", b"\xc0", "Expected `object`, got `None`"),
    "deep arrays": ("free", b"\x91" * DEEP + b"\xc0", "maximum recursion depth exceeded"),
    "deep maps": ("free", b"\x81\xa0" * DEEP + b"\xc0", "maximum recursion depth exceeded"),
    "deep objects": (
        *("tree", b"\x81\xa4left" * 10_000 + b"\xc0"),
        "maximum recursion depth exceeded",
    ),
    "deep unknown field": (
        *("session", b"\x82\xa1x" + b"\x91" * DEEP + b"\xc0\xa2rx\x90"),
        "maximum recursion depth exceeded",
    ),
    "key without hash": (
        "free",
        encoded({1: 2})[:1] + encoded({"a": 1}) + b"\1",
        "hashable",
    ),
    **{
        f"huge {what} {where}": (where, head, "Input data was truncated")
        for what, head in HUGE.items()
        for where in ("free", "items")
        if where == "free" or what == "array"
    },
}


def objects(dev: Dev) -> list[Any]:
    state = dev.state.into_inner()
    return [getattr(state, name) for name in FIELDS]


@pytest.mark.parametrize("name", REFUSED)
def test_each_is_refused_with_its_path_and_changes_nothing(name: str) -> None:
    where, content, reason = REFUSED[name]
    dev = Dev()
    kept, before = objects(dev), copy.deepcopy(dev.state.into_inner())
    with pytest.raises(InvalidError, match=rf"(?s)^hostile\.state\.{where}: .*{reason}"):
        load(dev, stream(**{where: content}))
    assert dev.state.into_inner() == before
    assert all(one is other for one, other in zip(kept, objects(dev), strict=True))


def test_a_size_beyond_the_maximum_is_refused_before_its_bytes_are_read() -> None:
    dev = Dev()
    wire = b"\1" + struct.pack(">I", ROOM + 1) + bytes(2 * ROOM)
    with pytest.raises(
        InvalidError, match=r"^hostile: StateMigration\.size_session: 65537 is out of"
    ):
        load(dev, wire)
    for size in (2**31, 2**32 - 1):
        with pytest.raises(InvalidError, match="out of range"):
            load(dev, b"\1" + struct.pack(">I", size) + bytes(2 * ROOM))
    assert save(dev) == stream()


def test_a_size_beyond_the_stream_is_refused() -> None:
    dev = Dev()
    with pytest.raises(StreamError, match=r"hostile\.state\.session"):
        load(dev, b"\1" + struct.pack(">I", ROOM) + bytes(10))
    assert save(dev) == stream()


def test_of_duplicates_the_last_counts_as_in_qemus_gtree() -> None:
    dev = Dev()
    twice = b"\x82" + b"\xa2rx" + encoded([{"length": 1}]) + b"\xa2rx" + encoded([{"length": 2}])
    load(dev, stream(session=twice, free=b"\x82\xa1a\1\xa1a\2"))
    state = dev.state.into_inner()
    assert state.session.rx == [Packet(2)]
    assert state.free == {"a": 2}
    assert save(dev) != stream(session=twice)


@pytest.mark.measured
def test_the_largest_contents_take_no_more_time_and_memory_than_their_bytes() -> None:
    dev = Dev()
    contents = [
        b"\xdc\xff\xfc" + b"\xc0" * (ROOM - 4),
        b"\xdc\xff\xfc" + b"\x90" * (ROOM - 4),
        b"\xde\x10\x00" + b"".join(struct.pack(">BQB", 0xCF, i * (2**61 - 1), 0) for i in range(8))
        + b"".join(struct.pack(">BQB", 0xCF, i << 32, 0) for i in range(4088)),
    ]  # fmt: skip
    begin = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in contents:
        load(dev, stream(free=content))
    assert time.process_time() - begin < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_altered_contents_are_refused_or_give_a_state_of_the_type(data: st.DataObject) -> None:
    session = Session([Packet(1), Packet(2**40, 3)], Put("k"), {"a": 1, "b": -1})
    content = bytearray(encoded(session))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    dev = Dev()
    kept, before = objects(dev), copy.deepcopy(dev.state.into_inner())
    try:
        load(dev, stream(session=bytes(content[:cut]), items=encoded([9])))
    except VMStateError:
        assert dev.state.into_inner() == before
        assert all(one is other for one, other in zip(kept, objects(dev), strict=True))
        return
    found = dev.state.into_inner().session
    assert type(found) is Session
    assert msgspec.convert(msgspec.to_builtins(found), Session) == found
    assert dev.state.into_inner().items == [9]
