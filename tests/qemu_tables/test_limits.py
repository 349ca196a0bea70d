# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts and sizes from a stream at 0, 1, the maximum and beyond it.

QEMU trusts a count field; here a wrong count is refused before QEMU accesses an element.  The
bytes are big endian counts and elements, written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from qemu_vmstate import (
    Bitmap,
    GTree,
    OutOfRangeError,
    PointerArray,
    QList,
    QTailQ,
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

from .. import c_reference
from ..release import loads_null, release


class Point(VMStruct, name="point"):
    x: u8 = 0
    y: u16 = 0


class U8s(VMStruct, name="s"):
    n: u8 = 0
    a: VArray[u16, Literal[5]] = field(num="n")
    end: u8 = 0


class U16s(VMStruct, name="s"):
    n: u16 = 0
    a: VArray[u16, Literal[5]] = field(num="n")
    end: u8 = 0


class U32s(VMStruct, name="s"):
    n: u32 = 0
    a: VArray[u16, Literal[5]] = field(num="n")
    end: u8 = 0


class I32s(VMStruct, name="s"):
    n: i32 = 0
    a: VArray[u16, Literal[5]] = field(num="n")
    end: u8 = 0


class Doubled(VMStruct, name="s"):
    n: u32 = 0
    a: VArray[u16, Literal[10]] = field(num="n", multiply=2)
    end: u8 = 0


class Points(VMStruct, name="s"):
    n: u32 = 0
    a: VArray[Point, Literal[5]] = field(num="n")
    end: u8 = 0


class U32Bytes(VMStruct, name="s"):
    n: u32 = 0
    a: VBuffer[Literal[5]] = field(size="n")
    end: u8 = 0


class U64Bytes(VMStruct, name="s"):
    n: u64 = 0
    a: VBuffer[Literal[5]] = field(size="n")
    end: u8 = 0


class I32Bytes(VMStruct, name="s"):
    n: i32 = 0
    a: VBuffer[Literal[5]] = field(size="n")
    end: u8 = 0


class TripledBytes(VMStruct, name="s"):
    n: u32 = 0
    a: VBuffer[Literal[15]] = field(size="n", multiply=3)
    end: u8 = 0


class Bits(VMStruct, name="s"):
    n: i32 = 0
    a: Bitmap[Literal[130]] = field(size="n")
    end: u8 = 0


class Padding(VMStruct, name="s"):
    n: u32 = field(maximum=5)
    unused: Unused[Literal[3]] = field(num="n")
    end: u8 = 0


@dataclass(frozen=True)
class Kind:
    """Check ``cls``: a count of ``width`` bytes, then ``element`` so many times."""

    cls: type[VMStruct]
    width: int
    element: bytes
    maximum: int = 5
    signed: bool = False

    def wire(self, count: int, elements: int) -> bytes:
        number = (count & (1 << 8 * self.width) - 1).to_bytes(self.width, "big")
        return number + elements * self.element + b"\x7f"

    @property
    def hostile(self) -> list[int]:
        """Return counts just above, far above, and where C's arithmetic overflows."""
        found = [self.maximum + 1, 2 ** (8 * self.width) - 1, 2 ** (8 * self.width - 1)]
        more = {
            4: [2**31 - 1, 2**30, 2**16, 2**29],
            8: [2**32, 2**32 + 1, 2**31],  # C reads the lower half
        }
        return found + more.get(self.width, [])


KINDS = {
    "u8": Kind(U8s, 1, b"\1\2"),
    "u16": Kind(U16s, 2, b"\1\2"),
    "u32": Kind(U32s, 4, b"\1\2"),
    "i32": Kind(I32s, 4, b"\1\2", signed=True),
    "structs": Kind(Points, 4, b"\1\2\3"),
    "bytes, u32": Kind(U32Bytes, 4, b"\1"),
    "bytes, u64": Kind(U64Bytes, 8, b"\1"),
    "bytes, i32": Kind(I32Bytes, 4, b"\1", signed=True),
    "bytes, multiply": Kind(TripledBytes, 4, b"\1\1\1"),
    "unused": Kind(Padding, 4, bytes(3)),
}
if release() < (11, 1):  # tests/layout/test_fields.py has the refusal of later ones
    KINDS["multiply"] = Kind(Doubled, 4, b"\1\2\1\2")
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@kinds
@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_counts_up_to_the_maximum(kind: Kind, count: int) -> None:
    obj: Any = kind.cls()
    wire = kind.wire(count, count)
    load(obj, wire)
    assert (obj.n, obj.end) == (count, 0x7F)
    if hasattr(obj, "a"):
        scale = len(kind.element) // 2 if kind.cls is Doubled else 1
        assert len(obj.a) == count * (3 if kind.cls is TripledBytes else scale)
    assert save(obj) == wire


@kinds
def test_counts_beyond_the_maximum_are_refused(kind: Kind) -> None:
    obj: Any = kind.cls()
    load(obj, kind.wire(2, 2))
    before = bytes(obj)
    for count in kind.hostile:
        for elements in (0, 2, 6, 4096):
            with pytest.raises(VMStateError) as caught:
                load(obj, kind.wire(count, elements))
            assert bytes(obj) == before
        # QEMU counts with an int.
        seen = count - 2**32 if kind.signed and count >= 2**31 else count
        assert str(seen) in str(caught.value)


@kinds
def test_count_says_more_than_there_is(kind: Kind) -> None:
    obj: Any = kind.cls()
    with pytest.raises(VMStateError):
        load(obj, kind.wire(5, 4))
    assert obj.n == 0


@pytest.mark.parametrize("kind", [k for k in KINDS.values() if k.cls is not Padding])
def test_more_than_the_maximum_cannot_be_assigned(kind: Kind) -> None:
    obj: Any = kind.cls()
    load(obj, kind.wire(5, 5))
    before = bytes(obj)
    more = bytes(obj.a) + b"\1" * 9 if "Bytes" in kind.cls.__name__ else [*obj.a] * 2
    with pytest.raises(OutOfRangeError):
        obj.a = more
    with pytest.raises(OutOfRangeError):
        obj.n = kind.maximum + 1
    assert bytes(obj) == before


@pytest.mark.parametrize("kind", [KINDS["i32"], KINDS["bytes, i32"]])
def test_negative_count_cannot_be_assigned(kind: Kind) -> None:
    obj: Any = kind.cls()
    with pytest.raises(OutOfRangeError):
        obj.n = -1


def test_assigning_elements_sets_the_count_and_none_are_left_behind() -> None:
    obj = U16s(a=[1, 2, 3])
    assert obj.n == 3
    obj.a = [9]
    assert save(obj) == b"\0\1" + b"\0\x09" + b"\0"
    obj.n = 3  # the elements behind the new end must not reappear
    assert save(obj) == b"\0\3" + b"\0\x09" + bytes(4) + b"\0"


# ------------------------------------------------------------------------------- bitmaps
@pytest.mark.parametrize("bits", [0, 1, 63, 64, 65, 128, 130])
def test_bitmaps_of_each_length(bits: int) -> None:
    words = -(-bits // 64)
    wire = bits.to_bytes(4, "big") + bytes([0x80, 0, 0, 0, 0, 0, 0, 1]) * words + b"\x7f"
    obj = Bits()
    load(obj, wire)
    assert (obj.n, obj.a[:words]) == (bits, [2**63 + 1] * words)
    assert save(obj) == wire


@pytest.mark.parametrize("bits", [131, 192, 193, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 64])
def test_bitmaps_beyond_the_maximum(bits: int) -> None:
    obj = Bits(n=1, a=[1, 0, 0])
    before = bytes(obj)
    for words in (0, 3, 4, 512):
        with pytest.raises(VMStateError):
            load(obj, bits.to_bytes(4, "big") + bytes(8 * words) + b"\x7f")
        assert bytes(obj) == before


# ------------------------------------------------------------------------ lists and trees
class Tail(VMStruct, name="s"):
    a: QTailQ[Point, Literal[3]] = zeroed()
    end: u8 = 0


class Chain(VMStruct, name="s"):
    a: QList[Point, Literal[3]] = zeroed()
    end: u8 = 0


class ByNumber(VMStruct, name="s"):
    a: GTree[u64, Point, Literal[3]] = zeroed()
    end: u8 = 0


class ByPoint(VMStruct, name="s"):
    a: GTree[Point, Point, Literal[3]] = zeroed()
    end: u8 = 0


def listed(count: int) -> bytes:
    return b"".join(bytes([1, i, 0, i]) for i in range(count)) + b"\0\x7f"


def tree(cls: type[VMStruct], count: int, claimed: int | None = None) -> bytes:
    keys = [i.to_bytes(8, "big") if cls is ByNumber else bytes([i, 0, i]) for i in range(count)]
    nodes = b"".join(b"\1" + key + bytes([i, 0, i]) for i, key in enumerate(keys))
    return (count if claimed is None else claimed).to_bytes(4, "big") + nodes + b"\0\x7f"


@pytest.mark.parametrize("cls", [Tail, Chain])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_lists_up_to_the_maximum(cls: type[VMStruct], count: int) -> None:
    obj: Any = cls()
    load(obj, listed(count))
    assert [(one.x, one.y) for one in obj.a] == [(i, i) for i in range(count)]
    assert save(obj) == listed(count)


@pytest.mark.parametrize("cls", [Tail, Chain])
def test_lists_beyond_the_maximum(cls: type[VMStruct], unchanged: Any) -> None:
    obj: Any = cls()
    load(obj, listed(2))
    for count in (4, 5, 250):
        with unchanged(obj), pytest.raises(VMStateError):
            load(obj, listed(count))
    with pytest.raises(OutOfRangeError):
        obj.a = [Point()] * 4


@pytest.mark.parametrize("cls", [Tail, Chain])
def test_a_load_replaces_a_list_where_c_appends(cls: type[VMStruct]) -> None:
    obj: Any = cls()
    load(obj, listed(3))
    load(obj, listed(1))
    assert len(obj.a) == 1


@pytest.mark.parametrize("cls", [ByNumber, ByPoint])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_trees_up_to_the_maximum(cls: type[VMStruct], count: int) -> None:
    obj: Any = cls()
    load(obj, tree(cls, count))
    keys = [i if cls is ByNumber else (i, i) for i in range(count)]
    assert list(obj.a) == keys
    assert [(one.x, one.y) for one in obj.a.values()] == [(i, i) for i in range(count)]
    assert save(obj) == tree(cls, count)


@pytest.mark.parametrize("cls", [ByNumber, ByPoint])
@pytest.mark.parametrize(
    ("count", "claimed"), [(4, 4), (250, 250), (4, 3), (2, 3), (3, 2), (0, 2**32 - 1), (1, 2**31)]
)
def test_trees_beyond_the_maximum_or_of_another_count(
    cls: type[VMStruct], count: int, claimed: int, unchanged: Any
) -> None:
    obj: Any = cls()
    load(obj, tree(cls, 2))
    with unchanged(obj), pytest.raises(VMStateError):
        load(obj, tree(cls, count, claimed))


def test_tree_with_a_key_twice() -> None:
    """A later value replaces the earlier one of the same key, as in g_tree_insert()."""

    class Values(VMStruct, name="pair"):
        x: u8 = 0
        y: u32 = 0

    class Numbers(VMStruct, name="s", version_id=3):
        a: GTree[u64, Values, Literal[4]] = field(version_id=1)

    keys = [5, 7, 6, 7]
    nodes = [b"\1" + key.to_bytes(8, "big") + bytes([i, 0, 0, 0, i]) for i, key in enumerate(keys)]
    wire = b"\0\0\0\4" + b"".join(nodes) + b"\0"
    obj = Numbers()
    load(obj, wire)
    assert {key: one.x for key, one in obj.a.items()} == {5: 0, 7: 3, 6: 2}
    reference = c_reference.rows()["VMSTATE_GTREE_DIRECT_KEY_V"].reference
    c_obj = reference.make({})
    c_reference.library().reference_tree_insert(c_obj, 7, c_reference.ffi.new("Pair *")[0])
    reference.load(c_obj, wire)
    numbers, values = c_reference.ffi.new("uint64_t[4]"), c_reference.ffi.new("Pair[4]")
    n = c_reference.library().reference_tree_get(c_obj, numbers, c_reference.ffi.NULL, values, 4)
    assert [(numbers[i], values[i].x) for i in range(n)] == [(5, 0), (6, 2), (7, 3)]
    assert len(save(obj)) == len(reference.save(c_obj)[0])


def test_tree_with_a_struct_as_key_twice() -> None:
    obj = ByPoint()
    once = tree(ByPoint, 1)[4:-2]
    load(obj, b"\0\0\0\2" + once + once[:-1] + b"\x09" + b"\0\x7f")
    assert {key: one.y for key, one in obj.a.items()} == {(0, 0): 9}
    assert save(obj) == b"\0\0\0\1" + once[:-1] + b"\x09" + b"\0\x7f"


# -------------------------------------------------------------------- arrays of pointers
class Slots(VMStruct, name="s"):
    a: PointerArray[u32, Literal[3]] = zeroed()
    end: u8 = 0


class CountedSlots(VMStruct, name="s"):
    n: u32 = 0
    a: PointerArray[u32, Literal[3]] = field(num="n")
    end: u8 = 0


def slots(*values: int | None) -> bytes:
    each = [b"0" if value is None else value.to_bytes(4, "big") for value in values]
    return b"".join(each) + b"\x7f"


@pytest.mark.parametrize("pattern", [(1, 2, 3), (None, None, None), (None, 2, None), (1, None, 3)])
@loads_null
def test_pointers_with_the_same_null_ones(pattern: tuple[int | None, ...]) -> None:
    obj = Slots(a=[None if one is None else 9 for one in pattern])
    load(obj, slots(*pattern))
    assert list(obj.a) == list(pattern)
    assert save(obj) == slots(*pattern)


@pytest.mark.parametrize(
    ("live", "wire"),
    [
        ((None, 2, 3), (1, 2, 3)),
        ((1, 2, 3), (None, 2, 3)),
        ((1, 2, 3), (1, 2, None)),
        ((None, None, None), (1, 2, 3)),
        ((1, None, 3), (None, 1, 3)),
    ],
)
def test_pointers_with_other_null_ones(
    live: tuple[int | None, ...], wire: tuple[int | None, ...], unchanged: Any
) -> None:
    obj = Slots(a=list(live))
    with unchanged(obj), pytest.raises(VMStateError):
        load(obj, slots(*wire))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_counted_pointers_up_to_the_maximum(count: int) -> None:
    obj = CountedSlots(a=[7] * count)
    wire = count.to_bytes(4, "big") + slots(*range(count))
    load(obj, wire)
    assert list(obj.a) == list(range(count))
    assert save(obj) == wire


@pytest.mark.parametrize("count", [4, 2**31 - 1, 2**31, 2**32 - 1])
def test_counted_pointers_beyond_the_maximum(count: int, unchanged: Any) -> None:
    obj = CountedSlots(a=[7])
    with unchanged(obj), pytest.raises(VMStateError, match=str(count)):
        load(obj, count.to_bytes(4, "big") + slots(*range(4)))
