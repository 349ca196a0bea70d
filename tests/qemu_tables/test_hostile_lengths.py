# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams with arbitrary counts, marks, names and versions."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import event, given, settings
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    Bitmap,
    Device,
    GTree,
    Migratable,
    Mutex,
    PointerArray,
    QList,
    QTailQ,
    Subsection,
    Tmp,
    Unused,
    VArray,
    VBuffer,
    VMStateError,
    VMStruct,
    field,
    i32,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)


class Leaf(VMStruct, name="leaf"):
    n: u16 = 0
    words: VArray[u16, Literal[3]] = field(num="n")
    slots: PointerArray[u8, Literal[2]] = zeroed()


class Branch(VMStruct, name="branch"):
    n: u8 = 0
    leaves: VArray[Leaf, Literal[2]] = field(num="n")
    tail: QTailQ[Leaf, Literal[2]] = zeroed()
    chain: QList[Leaf, Literal[2]] = zeroed()
    size: i32 = 0
    text: VBuffer[Literal[6]] = field(size="size", multiply=2)
    long_size: u64 = 0
    long_text: VBuffer[Literal[6]] = field(size="long_size")


class Extra(VMStruct, name="all/extra"):
    branch: Branch = zeroed()


class All(VMStruct, name="all", version_id=2, minimum_version_id=1):
    branches: Array[Branch, Literal[2]] = zeroed()
    bits_n: i32 = 0
    bits: Bitmap[Literal[70]] = field(size="bits_n")
    own_bits: Bitmap[Literal[65]] = zeroed()
    tree: GTree[u64, Branch, Literal[2]] = zeroed()
    tmp: Tmp[Leaf] = zeroed()
    unused_n: u32 = field(maximum=2)
    unused: Unused[Literal[2]] = field(num="unused_n", version_id=2)
    extra: Subsection[Extra] = zeroed()


class Section(Device, name="section"):
    state: Migratable[Mutex[All]]
    n: u8 = 0
    more: VArray[Migratable[Mutex[Leaf]], Literal[2]] = field(num="n")


def leaf(n: int) -> Leaf:
    return Leaf(words=list(range(n)), slots=[n, n])


def branch(n: int) -> Branch:
    leaves = [leaf(i) for i in range(n)]
    return Branch(leaves=leaves, tail=leaves, chain=leaves, text=bytes(2 * n), long_text=bytes(n))


def section() -> Section:
    state = All(branches=[branch(1), branch(2)], tree={3: branch(1)}, unused_n=1, bits_n=70)
    state.extra.branch = branch(2)
    dev = Section(n=2)
    with dev.state.lock() as live:
        for name in ("branches", "tree", "unused_n", "bits_n", "bits", "extra"):
            setattr(live, name, getattr(state, name))
    return dev


VALID = save(section())


def changed(data: bytes, at: int, removed: int, put: bytes) -> bytes:
    return data[:at] + put + data[at + removed :]


SMALL = st.sampled_from([0, 0, 1, 1, 2, 3, 5])
PUT = st.one_of(
    st.binary(max_size=1),
    st.binary(max_size=9),
    st.sampled_from([n.to_bytes(4, "big") for n in (2**31 - 1, 2**31, 2**32 - 1, 2**30, 65536)]),
    st.sampled_from([b"\5\x0aall/extra\0\0\0\1", b"\5\5all/x", b"0", b"\1", b"\0\0\0\0"]),
)
CHANGES = st.lists(st.tuples(st.integers(0, len(VALID)), SMALL, PUT), min_size=1, max_size=4)


@settings(max_examples=400)
@given(CHANGES)
def test_what_was_changed_is_refused_or_is_a_state(changes: list[Any]) -> None:
    wire = VALID
    for change in changes:
        wire = changed(wire, *change)
    dev = section()
    before = save(dev)
    try:
        load(dev, wire)
    except VMStateError:
        event("refused")
        assert save(dev) == before
        return
    event("taken")
    again = save(dev)
    other = section()
    load(other, again)
    assert save(other) == again


def test_what_was_not_changed_is_taken() -> None:
    dev = section()
    load(dev, VALID)
    assert save(dev) == VALID
