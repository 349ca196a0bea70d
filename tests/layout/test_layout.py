# SPDX-License-Identifier: GPL-2.0-or-later
"""Layout classes: memory with the layout of C, and Python attributes."""

from __future__ import annotations

import copy
import ctypes
import gc
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    Buffer,
    DeclarationError,
    Device,
    OutOfRangeError,
    VMStateError,
    VMStruct,
    asdict,
    describe,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)

make_class: Any = type(VMStruct)
array_of: Any = Array
any_field: Any = field


class Inner(VMStruct):
    a: u8 = 1
    b: u32 = 0x0203_0405


class Outer(VMStruct, name="outer-regs", version_id=3, minimum_version_id=2):
    """With a docstring, a method, a constant and a class variable."""

    LIMIT: ClassVar[int] = 9
    head: u16 = 7
    inner: Inner = zeroed()
    tail: u8 = 9
    words: Array[u16, Literal[2]] = field(default=3)
    raw: Buffer[Literal[3]] = field(default=b"xyz")

    def total(self) -> int:
        return self.head + self.tail + self.LIMIT


# ------------------------------------------------------------ one layout, twice


@dataclass(frozen=True)
class Node:
    """A type of field in this package and in ctypes."""

    annotation: Any
    ctype: Any
    values: st.SearchStrategy[Any]
    make: Callable[[Any], Any]
    cmake: Callable[[Any], Any]
    pack: Callable[[Any], bytes]


def scalar(annotation: Any, ctype: Any, letter: str, low: int, high: int) -> Node:
    return Node(
        annotation,
        ctype,
        st.booleans() if letter == "?" else st.integers(low, high),
        lambda v: v,
        lambda v: v,
        lambda v: struct.pack(">" + letter, v),
    )


def array(inner: Node, length: int) -> Node:
    ctype = inner.ctype * length
    return Node(
        array_of[inner.annotation, length],
        ctype,
        st.lists(inner.values, min_size=length, max_size=length),
        lambda v: [inner.make(x) for x in v],
        lambda v: ctype(*map(inner.cmake, v)),
        lambda v: b"".join(map(inner.pack, v)),
    )


def struct_of(fields: list[Node]) -> Node:
    names = [f"f{i}" for i in range(len(fields))]
    hints = {name: f.annotation for name, f in zip(names, fields, strict=True)}
    # A long name, so that QEMU does not read random bytes as a subsection of it.
    cls = make_class(
        "StructOfRandomFields", (VMStruct,), {"__module__": __name__, "__annotations__": hints}
    )
    pairs = [(name, f.ctype) for name, f in zip(names, fields, strict=True)]
    ctype = type("S", (ctypes.Structure,), {"_fields_": pairs})
    return Node(
        cls,
        ctype,
        st.tuples(*(f.values for f in fields)),
        lambda v: cls(**{n: f.make(x) for n, f, x in zip(names, fields, v, strict=True)}),
        lambda v: ctype(*(f.cmake(x) for f, x in zip(fields, v, strict=True))),
        lambda v: b"".join(f.pack(x) for f, x in zip(fields, v, strict=True)),
    )


SCALARS = [
    scalar(bool, ctypes.c_bool, "?", 0, 1),
    scalar(u8, ctypes.c_uint8, "B", 0, 2**8 - 1),
    scalar(u16, ctypes.c_uint16, "H", 0, 2**16 - 1),
    scalar(u32, ctypes.c_uint32, "I", 0, 2**32 - 1),
    scalar(u64, ctypes.c_uint64, "Q", 0, 2**64 - 1),
]
nodes = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.builds(array, inner, st.integers(1, 4)),
        st.lists(inner, min_size=1, max_size=4).map(struct_of),
    ),
    max_leaves=8,
)
layouts = st.lists(nodes, min_size=1, max_size=6).map(struct_of)


@given(st.data())
def test_memory_is_what_a_c_compiler_lays_out(data: st.DataObject) -> None:
    node = data.draw(layouts)
    value = data.draw(node.values)
    assert bytes(node.make(value)) == bytes(node.cmake(value))


@given(st.data())
def test_wire_is_the_fields_in_order_without_padding(data: st.DataObject) -> None:
    node = data.draw(layouts)
    value = data.draw(node.values)
    assert save(node.make(value)) == node.pack(value)


@given(st.data())
def test_what_was_saved_is_loaded(data: st.DataObject) -> None:
    node = data.draw(layouts)
    value = data.draw(node.values)
    copied = node.annotation()
    load(copied, node.pack(value))
    assert bytes(copied) == bytes(node.cmake(value))
    assert copied == node.make(value)
    assert save(copied) == node.pack(value)


# ------------------------------------------------------------------ instances


def test_a_new_instance_has_its_defaults() -> None:
    state = Outer()
    assert asdict(state) == {
        "head": 7,
        "inner": {"a": 1, "b": 0x0203_0405},
        "tail": 9,
        "words": [3, 3],
        "raw": b"xyz",
    }
    assert save(state) == struct.pack(">HBIBHH3s", 7, 1, 0x0203_0405, 9, 3, 3, b"xyz")


def test_defaults_of_instances_are_apart() -> None:
    first, second = Outer(), Outer()
    first.words[0] = 99
    first.inner.a = 99
    assert list(second.words) == [3, 3]
    assert second.inner.a == 1


def test_nested_struct_is_a_view_and_is_assigned_as_a_copy() -> None:
    state = Outer()
    view = state.inner
    view.a = 5
    assert state.inner.a == 5
    fresh = Inner(a=6)
    state.inner = fresh
    fresh.a = 7
    assert (state.inner.a, view.a) == (6, 6)
    with pytest.raises(OutOfRangeError, match=r"^Outer\.inner: .*not Inner"):
        state.inner = 3  # type: ignore[assignment]


def test_views_keep_their_owner_alive() -> None:
    def views() -> list[Any]:
        state = Outer(words=[1, 2], raw=b"abc", inner=Inner(a=42))
        return [state.inner, state.words, state.raw, memoryview(state), memoryview(state.words)]

    kept = views()
    gc.collect()
    churn = [Outer(words=[9, 9], raw=b"zzz", inner=Inner(a=9)) for _ in range(1000)]
    assert kept[0].a == 42
    assert list(kept[1]) == [1, 2]
    assert bytes(kept[2]) == b"abc"
    assert bytes(kept[3])[-3:] != b""
    assert kept[4].tolist() == [1, 2]
    assert len(churn) == 1000


def test_misspelt_attribute_is_refused() -> None:
    state = Outer()
    with pytest.raises(AttributeError):
        state.haed = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        state.haed  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError):
        Outer(haed=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match=r"Outer\.head"):
        del state.head
    assert state == Outer()


def test_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError, match="by name"):
        Outer(1)  # type: ignore[call-arg]
    with pytest.raises(OutOfRangeError, match=r"^Outer\.tail: 256"):
        Outer(tail=256)


def test_methods_and_class_variables_are_no_fields() -> None:
    assert Outer().total() == 25
    assert [f["name"] for f in describe(Outer())["fields"]] == [
        "head",
        "inner",
        "tail",
        "words",
        "raw",
    ]


def test_equality_is_that_of_class_and_values() -> None:
    class Same(VMStruct):
        a: u8 = 1
        b: u32 = 0x0203_0405

    assert Inner() == Inner()
    assert Inner(a=2) != Inner()
    assert Inner() != Same()
    assert Inner() != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Inner())


def test_repr_shows_every_field() -> None:
    assert repr(Outer()) == (
        "Outer(head=7, inner=Inner(a=1, b=33752069), tail=9, words=[3, 3], raw=[120, 121, 122])"
    )


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_and_pickles_are_equal_and_apart(how: Callable[[Outer], Outer]) -> None:
    state = Outer(head=1, words=[4, 5], inner=Inner(a=8))
    copied = how(state)
    assert type(copied) is Outer
    assert copied == state
    copied.words[0] = 6
    copied.inner.a = 0
    assert list(state.words) == [4, 5]
    assert state.inner.a == 8
    part: Any = how(state.inner)  # type: ignore[arg-type]
    assert part == Inner(a=8)


def test_pickle_of_another_size_is_refused() -> None:
    function, (cls, data) = Inner().__reduce__()
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises((ValueError, TypeError)):
            function(cls, wrong)


def test_buffer_protocol_gives_the_memory_itself() -> None:
    state = Inner()
    view = memoryview(state)
    assert view.nbytes == ctypes.sizeof(
        type(
            "C", (ctypes.Structure,), {"_fields_": [("a", ctypes.c_uint8), ("b", ctypes.c_uint32)]}
        )
    )
    view[0] = 200
    assert state.a == 200


def test_snapshot_copies_between_instances_of_one_class_only() -> None:
    state = Inner(a=5)
    assert state.to_migration_state() == state
    assert state.to_migration_state() is not state
    state.restore_migrated_state_mut(Inner(a=6), 1)
    assert state.a == 6
    with pytest.raises(TypeError, match="one layout class"):
        state.restore_migrated_state_mut(Outer(), 1)


def test_the_conversions_of_a_layout_class_are_called_like_any_method() -> None:
    state, target = Inner(a=5), Inner()
    state.snapshot_migration_state(target=target)
    assert target == state
    Inner(a=6).snapshot_migration_state(target)
    state.restore_migrated_state_mut(version_id=1, source=target)
    assert state.a == 6
    state.restore_migrated_state_mut(Inner(a=7), version_id=1)
    assert state.a == 7
    wrong: Any = state
    calls: list[Callable[[], object]] = [
        lambda: wrong.snapshot_migration_state(),
        lambda: wrong.snapshot_migration_state(target, target),
        lambda: wrong.restore_migrated_state_mut(target),
        lambda: wrong.restore_migrated_state_mut(target, 1, 2),
        lambda: wrong.restore_migrated_state_mut(target, version=1),
        lambda: wrong.snapshot_migration_state(Outer()),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert state.a == 7


# -------------------------------------------------------------------- classes


def test_inherited_fields_come_first() -> None:
    class Derived(Inner, name="derived"):
        c: u16 = 0x0607

    state = Derived(b=1)
    assert save(state) == struct.pack(">BIH", 1, 1, 0x0607)
    assert describe(state)["vmsd_name"] == "derived"
    assert asdict(state) == {"a": 1, "b": 1, "c": 0x0607}


def test_two_layout_bases_are_refused_when_the_class_is_made() -> None:
    class Other(VMStruct):
        z: u64 = 5

    with pytest.raises((DeclarationError, TypeError)):

        class Both(Inner, Other):
            pass


def test_mixin_with_methods_only_is_fine() -> None:
    class Named:
        __slots__ = ()

        def name(self) -> str:
            return "n"

    class Mixed(Named, VMStruct):
        a: u8 = 3

    assert Mixed().name() == "n"
    assert save(Mixed()) == b"\3"


def test_renamed_field_keeps_its_attribute() -> None:
    class Renamed(VMStruct):
        config: u32 = field(name="timer_config", default=5)

    assert Renamed().config == 5
    assert asdict(Renamed()) == {"config": 5}
    assert [f["name"] for f in describe(Renamed())["fields"]] == ["timer_config"]
    assert save(Renamed()) == bytes([0, 0, 0, 5])


def test_names_and_versions_of_the_description_are_the_class_keywords() -> None:
    described = describe(Outer())
    assert described["vmsd_name"] == "outer-regs"
    assert described["version"] == 3
    load(Outer(), save(Outer()), 2)
    with pytest.raises(VMStateError):
        load(Outer(), save(Outer()), 1)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 128, "é" * 64])
def test_name_that_qemu_cannot_read_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="name"):

        class Bad(VMStruct, name=name):
            a: u8

    with pytest.raises(DeclarationError, match="name"):

        class BadField(VMStruct):
            a: u8 = field(name=name)


def test_name_of_127_bytes_is_taken() -> None:
    class Long(VMStruct, name="x" * 127):
        a: u8 = 0

    assert describe(Long())["vmsd_name"] == "x" * 127


@pytest.mark.parametrize(("version", "minimum"), [(1, 2), (-1, -1), (2**31, 1), (1, -1)])
def test_versions_that_no_stream_has_are_refused(version: int, minimum: int) -> None:
    with pytest.raises(DeclarationError, match="version_id"):

        class Bad(VMStruct, version_id=version, minimum_version_id=minimum):
            a: u8


def test_duplicate_name_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.b: the name 'a' is taken by a"):

        class Bad(VMStruct):
            a: u8
            b: u8 = field(name="a")

    with pytest.raises(DeclarationError, match=r"BadToo\.a: the name 'a' is taken"):

        class BadToo(Inner):
            a: u8 = 0


def test_attribute_of_a_base_is_not_declared_again_under_another_name() -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a"):

        class Bad(Inner):
            a: u8 = field(name="another", default=0)


@pytest.mark.parametrize(
    "attribute", ["Migrated", "snapshot_migration_state", "to_migration_state", "__layout__"]
)
def test_field_does_not_hide_what_every_layout_class_has(attribute: str) -> None:
    with pytest.raises(DeclarationError, match="taken"):
        make_class("Bad", (VMStruct,), {"__module__": __name__, "__annotations__": {attribute: u8}})


@pytest.mark.parametrize("annotation", [int, float, str, list[int], dict[str, int], Any])
def test_annotation_without_a_width_is_refused(annotation: Any) -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a: .*has no width on the wire"):
        make_class(
            "Bad", (VMStruct,), {"__module__": __name__, "__annotations__": {"a": annotation}}
        )


def test_annotation_that_cannot_be_evaluated_is_named() -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a: the annotation 'u9' cannot be evaluated"):
        make_class("Bad", (VMStruct,), {"__module__": __name__, "__annotations__": {"a": "u9"}})


def test_default_that_does_not_fit_is_refused_with_the_class() -> None:
    with pytest.raises(VMStateError, match=r"Bad\.a: 256 is out of range for u8"):

        class Bad(VMStruct):
            a: u8 = 256

    with pytest.raises(VMStateError, match=r"BadLength\.a: 2 elements for 3"):

        class BadLength(VMStruct):
            a: Array[u8, Literal[3]] = field(default=[1, 2])


@pytest.mark.parametrize("options", [{"omit": True}, {"default_factory": list}])
def test_layout_class_migrates_every_field_with_a_constant_default(options: Any) -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a: every field of a layout class"):

        class Bad(VMStruct):
            a: u8 = any_field(**options)


def test_class_beyond_two_gigabytes_is_refused_before_memory_is_taken() -> None:
    half = array_of[u8, 2**30]
    hints = {"a": half, "b": half, "c": half}
    with pytest.raises(DeclarationError, match="2147483647"):
        make_class("Huge", (VMStruct,), {"__module__": __name__, "__annotations__": hints})


def test_empty_struct_as_a_field_is_taken_or_refused_as_a_declaration() -> None:
    class Empty(VMStruct):
        pass

    assert save(Empty()) == b""
    hints = {"e": Empty, "a": u8}
    try:
        cls = make_class("Holder", (VMStruct,), {"__module__": __name__, "__annotations__": hints})
    except DeclarationError:
        return
    assert save(cls(a=3)) == b"\3"


def test_string_annotations_find_classes_local_to_a_function() -> None:
    class Local(VMStruct):
        a: u8 = 4

    class Holder(VMStruct):
        local: Local = zeroed()
        more: Array[Local, Literal[2]] = zeroed()

    assert save(Holder()) == bytes([4, 4, 4])


@pytest.mark.parametrize("options", [field(into=u8), field(try_into=u8), field(clone=True)])
def test_options_of_derived_dataclasses_are_refused_elsewhere(options: Any) -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a: into, try_into, clone"):

        class Bad(VMStruct):
            a: u8 = options

    with pytest.raises(DeclarationError, match=r"BadDevice\.a: into, try_into, clone"):

        class BadDevice(Device, name="bad"):
            a: u8 = options
