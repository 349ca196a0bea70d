# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases of QEMU's tests/unit/test-vmstate.c, each device declared in Python.

The bytes are those in the tree's file, and the descriptions those that C emits for the tree's
tables and objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from qemu_vmstate import (
    Array,
    GTree,
    PointerArray,
    QList,
    QTailQ,
    StreamError,
    Tmp,
    ToMigrationState,
    VMStateError,
    VMStruct,
    field,
    i8,
    i16,
    i32,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)
from qemu_vmstate.inprocess import description_text

from .. import c_reference
from ..release import loads_null
from . import cases, section, wires

PORTED: set[str] = set()
# Of VMSTATE_VARRAY_OF_POINTER_TO_STRUCT_UINT32_ALLOC, which docs/vocabulary.md says is not there.
NOT_IN_PYTHON = {"/vmstate/array/ptr-nulls/str/save", "/vmstate/array/ptr-nulls/str/load"}
ITS_WIRES = {"wire_arr_ptr_with_nulls"}
F = TypeVar("F", bound=Callable[..., None])


def case(path: str) -> Callable[[F], F]:
    """Mark a test as the equivalent of QEMU's test of that path."""
    PORTED.add(path)
    return lambda test: test


def c_description(name: str) -> str:
    """Return the description that C emits for the object in QEMU's test of that table."""
    table = c_reference.device(name)
    return table.save_as_text(table.make_c())[1]


def refuses_truncated(make: Callable[[], Any], wire: bytes) -> None:
    """Load as load_vmstate() there: a wire that ends early fails, and here changes nothing."""
    complete = len(wire) + 1  # with the byte that follows a section
    cuts = [b""]
    if complete > 3:
        cuts += [wire[: complete - 2], wire[: complete // 2]]
        second_half = (wire + b"\0")[complete // 2 :][: complete // 2]
        if wire != section("wire_q"):  # its second half is valid: an empty queue
            cuts += [second_half]
    for cut in cuts:
        obj = make()
        before = save(obj)
        with pytest.raises(VMStateError):
            load(obj, cut)
        assert save(obj) == before
    for length in range(len(wire)):
        with pytest.raises(StreamError, match=f"the stream of {length} bytes ends inside"):
            load(make(), wire[:length])


# ------------------------------------------------------------------------------ simple
class SimplePrimitive(VMStruct, name="simple/primitive"):
    b_1: bool = False
    b_2: bool = False
    u8_1: u8 = 0
    u16_1: u16 = 0
    u32_1: u32 = 0
    u64_1: u64 = 0
    i8_1: i8 = 0
    i8_2: i8 = 0
    i16_1: i16 = 0
    i16_2: i16 = 0
    i32_1: i32 = 0
    i32_2: i32 = 0
    i64_1: i64 = 0
    i64_2: i64 = 0


def simple() -> SimplePrimitive:
    return SimplePrimitive(
        b_1=True,
        b_2=False,
        u8_1=130,
        u16_1=512,
        u32_1=70000,
        u64_1=12121212,
        i8_1=65,
        i8_2=-65,
        i16_1=512,
        i16_2=-512,
        i32_1=70000,
        i32_2=-70000,
        i64_1=12121212,
        i64_2=-12121212,
    )


@case("/vmstate/simple/primitive")
def test_simple_primitive() -> None:
    wire = section("wire_simple_primitive")
    assert save(simple()) == wire
    assert description_text(simple()) == c_description("simple/primitive")
    refuses_truncated(SimplePrimitive, wire)
    obj = SimplePrimitive()
    load(obj, wire, 1)
    assert bytes(obj) == bytes(simple())
    assert (obj.u16_1, obj.i16_2, obj.i32_2, obj.i64_2) == (512, -512, -70000, -12121212)


class SimpleArray(VMStruct, name="simple/array"):
    u16_1: Array[u16, Literal[3]] = zeroed()


@case("/vmstate/simple/array")
def test_simple_array() -> None:
    wire = section("wire_simple_arr")
    obj = SimpleArray(u16_1=[0x42, 0x43, 0x44])
    assert save(obj) == wire
    assert description_text(obj) == c_description("simple/array")
    refuses_truncated(SimpleArray, wire)
    loaded = SimpleArray()
    load(loaded, wire, 1)
    assert list(loaded.u16_1) == [0x42, 0x43, 0x44]


# --------------------------------------------------------------------------- versioned
class Versioned(VMStruct, name="test/versioned", version_id=2, minimum_version_id=1):
    a: u32 = 0
    b: u32 = field(version_id=2, keep=True)
    c: u32 = 0
    d: u64 = 0
    e: u32 = field(version_id=2, keep=True)
    f: u64 = field(version_id=2, keep=True)


def six(obj: Any) -> tuple[int, ...]:
    return obj.a, obj.b, obj.c, obj.d, obj.e, obj.f


@case("/vmstate/versioned/load/v1")
def test_load_v1() -> None:
    obj = Versioned(b=200, e=500, f=600)
    load(obj, section("test_load_v1.buf"), 1)
    assert six(obj) == (10, 200, 30, 40, 500, 600)


@case("/vmstate/versioned/load/v2")
def test_load_v2() -> None:
    wire = section("test_load_v2.buf")
    obj = Versioned()
    refuses_truncated(Versioned, wire)
    load(obj, wire, 2)
    assert six(obj) == (10, 20, 30, 40, 50, 60)
    assert save(obj) == wire
    assert description_text(obj) == c_description("test/versioned")


# ------------------------------------------------------------------------ field_exists
skipping = False


def is_there(state: object, version_id: int) -> bool:
    return not skipping


class Skipping(VMStruct, name="test/skip", version_id=2, minimum_version_id=1):
    a: u32 = 0
    b: u32 = 0
    c: u32 = field(field_exists=is_there, keep=True)
    d: u64 = 0
    e: u32 = field(field_exists=is_there, keep=True)
    f: u64 = field(version_id=2)


@pytest.fixture
def skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "skipping", True)


@case("/vmstate/field_exists/load/noskip")
def test_load_noskip() -> None:
    wire = section("test_load_noskip.buf")
    obj = Skipping()
    refuses_truncated(Skipping, wire)
    load(obj, wire, 2)
    assert six(obj) == (10, 20, 30, 40, 50, 60)


@case("/vmstate/field_exists/load/skip")
def test_load_skip(skip: None) -> None:
    wire = section("test_load_skip.buf")
    obj = Skipping(c=300, e=500)
    refuses_truncated(Skipping, wire)
    load(obj, wire, 2)
    assert six(obj) == (10, 20, 300, 40, 500, 60)


@case("/vmstate/field_exists/save/noskip")
def test_save_noskip() -> None:
    obj = Skipping(a=1, b=2, c=3, d=4, e=5, f=6)
    assert save(obj) == section("test_save_noskip.expected")


@case("/vmstate/field_exists/save/skip")
def test_save_skip(skip: None) -> None:
    obj = Skipping(a=1, b=2, c=3, d=4, e=5, f=6)
    assert save(obj) == section("test_save_skip.expected")
    assert description_text(obj) == c_description("test/skip")


# ------------------------------------------------------------------- arrays of pointers
class Trivial(VMStruct, name="test/tst"):
    i: i32 = 0


class Structs(VMStruct, name="test/arps"):
    ar: PointerArray[Trivial, Literal[4]] = zeroed()


class Numbers(VMStruct, name="test/arps"):
    ar: PointerArray[i32, Literal[4]] = zeroed()


def structs(*values: int | None) -> Structs:
    return Structs(ar=[None if value is None else Trivial(i=value) for value in values])


def their_values(obj: Structs) -> list[int | None]:
    return [None if one is None else one.i for one in obj.ar]


@case("/vmstate/array/ptr/str/no0/save")
def test_arr_ptr_str_no0_save() -> None:
    assert save(structs(0, 1, 2, 3)) == section("wire_arr_ptr_no0")
    assert description_text(structs(0, 1, 2, 3)) == c_description("test/arps")


@case("/vmstate/array/ptr/str/no0/load")
def test_arr_ptr_str_no0_load() -> None:
    wire = section("wire_arr_ptr_no0")
    refuses_truncated(lambda: structs(9, 9, 9, 9), wire)
    obj = structs(9, 9, 9, 9)
    load(obj, wire, 1)
    assert their_values(obj) == [0, 1, 2, 3]


@case("/vmstate/array/ptr/str/0/save")
def test_arr_ptr_str_0_save() -> None:
    assert save(structs(0, None, 2, 3)) == section("wire_arr_ptr_0")
    assert description_text(structs(0, None, 2, 3)) == c_description("test/arps with NULL")


@case("/vmstate/array/ptr/str/0/load")
@loads_null
def test_arr_ptr_str_0_load() -> None:
    wire = section("wire_arr_ptr_0")
    refuses_truncated(lambda: structs(9, None, 9, 9), wire)
    obj = structs(9, None, 9, 9)
    load(obj, wire, 1)
    assert their_values(obj) == [0, None, 2, 3]


@case("/vmstate/array/ptr/prim/0/save")
def test_arr_ptr_prim_0_save() -> None:
    obj = Numbers(ar=[0, None, 2, 3])
    assert save(obj) == section("wire_arr_ptr_0")
    assert description_text(obj) == c_description("test/arpp with NULL")


@case("/vmstate/array/ptr/prim/0/load")
@loads_null
def test_arr_ptr_prim_0_load() -> None:
    wire = section("wire_arr_ptr_0")
    refuses_truncated(lambda: Numbers(ar=[3, None, 1, 0]), wire)
    obj = Numbers(ar=[3, None, 1, 0])
    load(obj, wire, 1)
    assert list(obj.ar) == [0, None, 2, 3]


# ------------------------------------------------------------------------------- lists
class QueueElement(VMStruct, name="test/queue-element"):
    b: bool = False
    u8_: u8 = field(name="u8")


class Queue(VMStruct, name="test/queue"):
    i16_: i16 = field(name="i16")
    q: QTailQ[QueueElement, Literal[8]] = field(version_id=1)
    i32_: i32 = field(name="i32")


@case("/vmstate/qtailq/save/saveq")
def test_save_q() -> None:
    elements = [QueueElement(b=True, u8_=130), QueueElement(b=False, u8_=65)]
    obj = Queue(i16_=-512, q=elements, i32_=70000)
    assert save(obj) == section("wire_q")
    assert description_text(obj) == c_description("test/queue")


@case("/vmstate/qtailq/load/loadq")
def test_load_q() -> None:
    refuses_truncated(Queue, section("wire_q"))
    obj = Queue()
    load(obj, section("wire_q"), 1)
    assert (obj.i16_, obj.i32_) == (-512, 70000)
    assert [(one.b, one.u8_) for one in obj.q] == [(True, 130), (False, 65)]


class ListElement(VMStruct, name="test/queue list"):
    id_: u32 = field(name="id")


class Container(VMStruct, name="test/container/qlist"):
    id_: u32 = field(name="id")
    list_: QList[ListElement, Literal[8]] = field(name="list", version_id=1)


def container() -> Container:
    elements = [ListElement(id_=value) for value in (0x0A, 0x0B00, 0xC0000, 0xD000000)]
    return Container(id_=1, list_=elements)


@case("/vmstate/qlist/save/saveqlist")
def test_save_qlist() -> None:
    assert save(container()) == section("qlist_dump")
    assert description_text(container()) == c_description("test/container/qlist")


def manipulate(obj: Container) -> None:
    """Change a list as manipulate_container() there changes a QLIST."""
    elements = list(obj.list_)
    elements.insert(1, ListElement(id_=0x12))
    elements.insert(0, ListElement(id_=0x13))
    elements.insert(-1, ListElement(id_=0x14))
    elements.append(ListElement(id_=0x15))
    del elements[-2]
    obj.list_ = elements


@case("/vmstate/qlist/load/loadqlist")
def test_load_qlist() -> None:
    refuses_truncated(Container, section("qlist_dump"))
    original, obj = container(), Container()
    load(obj, section("qlist_dump"), 1)
    manipulate(original)
    manipulate(obj)
    order = [0x13, 0x0A, 0x12, 0x0B00, 0xC0000, 0x14, 0x15]
    assert [one.id_ for one in obj.list_] == [one.id_ for one in original.list_] == order
    assert save(obj) == save(original)


# ------------------------------------------------------------------------------- trees
class Interval(VMStruct, name="interval"):
    low: u64 = 0
    high: u64 = 0


class Mapping(VMStruct, name="mapping"):
    phys_addr: u64 = 0
    flags: u32 = 0


class Domain(VMStruct, name="domain"):
    id_: i32 = field(name="id")
    mappings: GTree[Interval, Mapping, Literal[4]] = field(version_id=1)


class Iommu(VMStruct, name="iommu"):
    id_: i32 = field(name="id")
    domains: GTree[u64, Domain, Literal[4]] = field(version_id=1)


FIRST = {(0x1000, 0x1FFF): (0xA000, 1), (0x4000, 0x4FFF): (0xE0000, 2)}
SECOND = {(0x1000000, 0x1FFFFFF): (0xF000000, 3)}


def domain(number: int, mappings: dict[tuple[int, int], tuple[int, int]]) -> Domain:
    made = {key: Mapping(phys_addr=at, flags=bits) for key, (at, bits) in mappings.items()}
    return Domain(id_=number, mappings=made)


def iommu() -> Iommu:
    return Iommu(id_=7, domains={5: domain(5, SECOND), 6: domain(6, FIRST)})


def plain(obj: Domain) -> tuple[int, dict[tuple[int, int], tuple[int, int]]]:
    return obj.id_, {key: (one.phys_addr, one.flags) for key, one in obj.mappings.items()}


@case("/vmstate/gtree/save/savedomain")
def test_gtree_save_domain() -> None:
    assert save(domain(6, FIRST)) == section("first_domain_dump")
    assert description_text(domain(6, FIRST)) == c_description("domain")


@case("/vmstate/gtree/load/loaddomain")
def test_gtree_load_domain() -> None:
    refuses_truncated(Domain, section("first_domain_dump"))
    obj = Domain()
    load(obj, section("first_domain_dump"), 1)
    assert plain(obj) == (6, FIRST)


@case("/vmstate/gtree/save/saveiommu")
def test_gtree_save_iommu() -> None:
    assert save(iommu()) == section("iommu_dump")
    assert description_text(iommu()) == c_description("iommu")


@case("/vmstate/gtree/load/loadiommu")
def test_gtree_load_iommu() -> None:
    refuses_truncated(Iommu, section("iommu_dump"))
    obj = Iommu()
    load(obj, section("iommu_dump"), 1)
    assert obj.id_ == 7
    found = {key: plain(one) for key, one in obj.domains.items()}
    assert found == {5: (5, SECOND), 6: (6, FIRST)}


# --------------------------------------------------------------------------------- tmp
class BackToParent(VMStruct, name="test/tmp_child_parent", version_id=0, minimum_version_id=0):
    f: u64 = 0


class Child(VMStruct, name="test/tmp_child", version_id=0, minimum_version_id=0):
    diff: i64 = 0
    parent: BackToParent = zeroed()


class WithTmpMigration(VMStruct, name="test/with_tmp", minimum_version_id=0):
    a: u32 = 0
    d: u64 = 0
    tmp: Tmp[Child] = zeroed()


class WithTmp(ToMigrationState[WithTmpMigration]):
    """The wire has the difference of ``b`` and ``a`` instead of ``b``."""

    def __init__(self, a: int = 0, b: int = 0, d: int = 0, f: int = 0) -> None:
        self.a, self.b, self.d, self.f = a, b, d, f

    def snapshot_migration_state(self, target: WithTmpMigration) -> None:
        target.a, target.d = self.a, self.d
        target.tmp.diff = self.b - self.a
        target.tmp.parent.f = self.f

    def restore_migrated_state_mut(self, source: WithTmpMigration, version_id: int) -> None:
        self.a, self.d, self.f = source.a, source.d, source.tmp.parent.f
        self.b = self.a + source.tmp.diff


@case("/vmstate/tmp_struct")
def test_tmp_struct() -> None:
    wire = section("test_tmp_struct.wire_with_tmp")
    obj = WithTmp(a=2, b=4, d=1, f=8)
    assert save(obj) == wire
    assert description_text(obj) == c_description("test/with_tmp")
    refuses_truncated(WithTmp, wire)
    loaded = WithTmp()
    load(loaded, wire, 1)
    assert (loaded.a, loaded.b, loaded.d, loaded.f) == (2, 4, 1, 8)


# --------------------------------------------------------------------------------------
def test_every_case_of_the_tree_is_here() -> None:
    assert len(cases()) >= 23
    assert set(cases()) - NOT_IN_PYTHON == PORTED


def test_every_wire_of_the_tree_is_expected_above() -> None:
    used = re.findall(r'section\("([^"]+)"\)', Path(__file__).read_text())
    assert set(used) == set(wires()) - ITS_WIRES
