# SPDX-License-Identifier: GPL-2.0-or-later
"""Device: the fields of a class are in its section, in the order of their declaration."""

from __future__ import annotations

import gc
import struct
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from qemu_vmstate import (
    Arc,
    Array,
    BqlCell,
    BqlRefCell,
    Buffer,
    DeclarationError,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    ToMigrationState,
    VArray,
    VMStruct,
    derive_to_migration_state,
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

from ..release import release

make_class: Any = type(Device)


class Regs(VMStruct):
    a: u8 = 1
    b: u16 = 0x0203


class Timer(Device, name="timer", version_id=2, minimum_version_id=1):
    """A device with a field of every kind."""

    LIMIT: ClassVar[int] = 9
    count: u32 = 5
    regs: Migratable[Mutex[Regs]]
    irq: BqlCell[u8]
    nested: Regs = zeroed()
    words: Array[u16, Literal[2]] = field(default=6)
    raw: Buffer[Literal[2]] = field(default=b"ab")
    shared: Migratable[Arc[Mutex[Regs]]]
    cache: dict[str, int] = field(default_factory=dict, omit=True)
    label: str = field(default="x", omit=True)
    unset: str = field(omit=True)

    def double(self) -> int:
        return self.count * 2


def test_fields_are_on_the_wire_in_the_order_they_are_declared() -> None:
    dev = Timer()
    assert save(dev) == struct.pack(">IBHBBHHH2sBH", 5, 1, 515, 0, 1, 515, 6, 6, b"ab", 1, 515)
    wire = struct.pack(">IBHBBHHH2sBH", 1, 2, 3, 4, 5, 6, 7, 8, b"cd", 9, 10)
    load(dev, wire)
    assert save(dev) == wire
    assert dev.count == 1
    assert list(dev.words) == [7, 8]
    assert bytes(dev.raw) == b"cd"
    assert (dev.nested.a, dev.nested.b) == (5, 6)
    assert dev.shared.into_inner().a == 9


def test_keyword_arguments_are_the_fields() -> None:
    dev = Timer(
        count=7, irq=8, regs=Regs(a=9), words=[1, 2], raw=b"yz", nested=Regs(), cache={"k": 1}
    )
    assert save(dev)[:8] == struct.pack(">IBHB", 7, 9, 515, 8)
    assert dev.cache == {"k": 1}


def test_unknown_keyword_argument_is_refused_with_the_fields_there_are() -> None:
    with pytest.raises(TypeError, match=r"Timer\(\) has no field 'cuont'; it has count, regs, irq"):
        Timer(cuont=1)
    with pytest.raises(TypeError):
        Timer(1)  # type: ignore[call-arg]


def test_plain_field_refuses_a_value_out_of_range_when_it_is_assigned() -> None:
    dev = Timer()
    with pytest.raises(OutOfRangeError, match=r"^Timer\.count: -1 is out of range for u32"):
        dev.count = -1
    with pytest.raises(OutOfRangeError, match=r"^Timer\.words\[1\]: 65536"):
        dev.words[1] = 65536
    with pytest.raises(OutOfRangeError):
        Timer(count=2**32)
    assert dev.count == 5


def test_defaults_of_two_devices_are_apart() -> None:
    one, two = Timer(), Timer()
    one.words[0] = 99
    one.cache["k"] = 1
    one.nested.a = 99
    with one.regs.lock() as regs:
        regs.a = 99
    assert save(two) == save(Timer())
    assert two.cache == {}


def test_default_factory_makes_a_migratable_field_once() -> None:
    made: list[Mutex[Regs]] = []

    def make() -> Mutex[Regs]:
        made.append(Mutex(Regs(a=len(made) + 10)))
        return made[-1]

    class Made(Device, name="made"):
        regs: Migratable[Mutex[Regs]] = field(default_factory=make)

    one, two = Made(), Made()
    assert made == []
    assert save(one)[0] == 10
    assert save(one)[0] == 10
    assert save(two)[0] == 11
    assert one.regs.into_inner() is made[0].into_inner()


def test_default_factory_makes_a_plain_field() -> None:
    class Made(Device, name="made"):
        words: Array[u8, Literal[3]] = field(default_factory=lambda: [1, 2, 3])

    assert save(Made()) == b"\1\2\3"


def test_bql_cell_has_a_default() -> None:
    class Levels(Device, name="levels"):
        level: BqlCell[u8] = field(default=7)

    assert save(Levels()) == b"\7"
    assert save(Levels(level=8)) == b"\x08"


def test_omitted_fields_are_attributes_that_do_not_migrate() -> None:
    dev = Timer()
    assert dev.label == "x"
    assert dev.cache == {}
    assert dev.cache is dev.cache
    with pytest.raises(AttributeError, match="unset"):
        dev.unset  # noqa: B018
    dev.label, dev.unset = "y", "z"
    load(dev, save(Timer()))
    assert (dev.label, dev.unset) == ("y", "z")
    names = [f["name"] for f in describe(dev)["fields"]]
    assert names == ["count", "regs", "irq", "nested", "words", "raw", "shared"]


def test_device_may_have_its_own_init_without_calling_ours() -> None:
    class Own(Device, name="own"):
        count: u32 = 5
        regs: Migratable[Mutex[Regs]]
        cache: list[int] = field(default_factory=list, omit=True)

        def __init__(self, count: int) -> None:
            self.count = count
            self.other = count + 1

    dev = Own(6)
    assert dev.other == 7
    assert save(dev) == struct.pack(">IBH", 6, 1, 515)
    dev.cache.append(1)
    assert dev.cache == [1]


def test_methods_properties_and_class_variables_are_ordinary() -> None:
    dev = Timer(count=4)
    assert dev.double() == 8
    assert dev.LIMIT == 9
    with pytest.raises(AttributeError, match="'Timer' object has no attribute 'nothing'"):
        getattr(dev, "noth" + "ing")


def test_fields_of_a_base_class_come_first() -> None:
    class Special(Timer, name="special", version_id=5):
        extra: u8 = 0xEE

    dev = Special(count=1)
    assert save(dev) == save(Timer(count=1)) + b"\xee"
    assert describe(dev)["vmsd_name"] == "special"
    assert describe(dev)["version"] == 5
    load(dev, save(Timer(count=3)) + b"\x11")
    assert (dev.count, dev.extra) == (3, 0x11)
    assert describe(Timer())["vmsd_name"] == "timer"
    with pytest.raises(TypeError):
        Timer(extra=1)


def test_field_name_on_the_wire_is_that_of_field() -> None:
    class Renamed(Device, name="renamed"):
        count: u32 = field(default=1, name="wire_count")
        regs: Migratable[Mutex[Regs]] = field(name="wire_regs")
        irq: BqlCell[u8] = field(name="wire_irq")

    assert [f["name"] for f in describe(Renamed())["fields"]] == [
        "wire_count",
        "wire_regs",
        "wire_irq",
    ]
    with pytest.raises(InvalidError, match=r"renamed\.wire_regs\.a"):
        load(Renamed(), bytes(4))
    assert save(Renamed(count=2)) == struct.pack(">IBHB", 2, 1, 515, 0)


def test_device_without_fields_is_an_empty_section() -> None:
    class Empty(Device, name="empty"):
        pass

    dev = Empty()
    assert save(dev) == b""
    load(dev, b"")
    assert describe(dev)["fields"] == []
    with pytest.raises(InvalidError, match="1 bytes goes on after the last field"):
        load(dev, b"\0")


def test_part_without_fields_is_an_empty_struct() -> None:
    class Nothing(VMStruct):
        pass

    class Holder(Device, name="holder"):
        nothing: Migratable[Mutex[Nothing]]
        last: u8 = 3

    assert save(Holder()) == b"\3"


# --------------------------------------------------------------- declarations


def test_device_needs_a_name() -> None:
    with pytest.raises(DeclarationError, match="class Nameless has no name"):

        class Nameless(Device):
            a: u8


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 128, "é" * 64])
def test_name_that_would_crash_or_mislead_qemu_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="name"):

        class Bad(Device, name=name):
            a: u8


def test_name_of_127_bytes_is_accepted() -> None:
    class Long(Device, name="x" * 127):
        a: u8 = 0

    assert describe(Long())["vmsd_name"] == "x" * 127


def test_two_fields_of_one_wire_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="the name 'a' is taken by a"):

        class Bad(Device, name="bad"):
            a: u8
            b: BqlCell[u8] = field(name="a")

    with pytest.raises(DeclarationError, match="taken"):

        class BadToo(Timer, name="bad"):
            count: u8 = 0


@pytest.mark.parametrize(("version", "minimum"), [(1, 2), (-1, -1), (2**31, 1), (3, -1)])
def test_minimum_is_not_above_the_version(version: int, minimum: int) -> None:
    with pytest.raises(DeclarationError, match="the minimum not above the version"):

        class Bad(Device, name="bad", version_id=version, minimum_version_id=minimum):
            a: u8


def make(annotation: Any) -> type[Device]:
    """Return a device class with one field ``a``, as the class statement would make it."""
    namespace = {"__module__": __name__, "__annotations__": {"a": annotation}}
    made: type[Device] = make_class("Bad", (Device,), namespace, name="bad")
    return made


@pytest.mark.parametrize("annotation", [int, str, float, list[int], dict[str, int], Any, object])
def test_annotation_without_a_width_is_refused_with_the_way_out(annotation: Any) -> None:
    with pytest.raises(
        DeclarationError, match=r"Bad\.a: .* has no width on the wire.*field\(omit=True\)"
    ):
        make(annotation)
    with pytest.raises(DeclarationError, match="has no width on the wire"):
        make(BqlCell[annotation])


def test_migratable_of_something_without_migrated_is_refused() -> None:
    class Nothing:
        pass

    for hint in (Migratable[Mutex[Nothing]], Migratable[Arc[Mutex[Nothing]]]):
        with pytest.raises(DeclarationError, match="Nothing has no Migrated: derive it from"):
            make(hint)


def test_state_with_a_shape_of_its_own_needs_a_cell() -> None:
    class Ticks(ToMigrationState[Regs]):
        def snapshot_migration_state(self, target: Regs) -> None: ...

        def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None: ...

    with pytest.raises(DeclarationError, match=r"wrap it: Migratable\[Mutex\[Ticks\]\]"):
        make(Ticks)


@pytest.mark.parametrize("hint", [Mutex[Regs], BqlRefCell[Regs], Arc[Mutex[Regs]]])
def test_cell_without_migratable_is_refused(hint: Any) -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a"):
        make(hint)


def test_annotation_that_cannot_be_evaluated_is_named() -> None:
    with pytest.raises(DeclarationError, match=r"Bad\.a: the annotation 'u9' cannot be evaluated"):
        make("u9")


def test_string_annotations_find_classes_local_to_a_function() -> None:
    class Local(VMStruct):
        a: u64 = 4

    class Holder(Device, name="holder"):
        regs: Migratable[Mutex[Local]]
        plain: Local = zeroed()
        more: Array[Local, Literal[2]] = zeroed()

    assert save(Holder()) == struct.pack(">4Q", 4, 4, 4, 4)


@pytest.mark.parametrize(
    "attribute", ["Migrated", "__plain_class__", "__description__", "__make_staging__"]
)
def test_field_does_not_hide_an_attribute_that_a_device_needs(attribute: str) -> None:
    with pytest.raises(DeclarationError, match=attribute):
        make_class(
            "Bad",
            (Device,),
            {"__module__": __name__, "__annotations__": {attribute: u8}},
            name="bad",
        )


# ------------------------------------------------------------------- lifetime


class Ticks(ToMigrationState[Regs]):
    def __init__(self) -> None:
        self.a = 1
        self.fail = False

    def snapshot_migration_state(self, target: Regs) -> None:
        target.a = self.a

    def restore_migrated_state_mut(self, source: Regs, version_id: int) -> None:
        if self.fail:
            raise InvalidError("failing")
        self.a = source.a


class Collectable(Device, name="collectable"):
    count: u32 = 0
    native: Migratable[Mutex[Regs]]
    python: Migratable[Mutex[Ticks]]


@pytest.mark.parametrize("failing", [False, True])
def test_device_is_freed_when_dropped_after_saves_and_loads(failing: bool) -> None:
    dev = Collectable()
    load(dev, save(dev))
    if failing:
        dev.python.into_inner().fail = True
        with pytest.raises(InvalidError):
            load(dev, save(dev))
    watched = [weakref.ref(x) for x in (dev, dev.native, dev.python.into_inner())]
    del dev
    gc.collect()
    assert [w() for w in watched] == [None, None, None]


def test_state_outlives_its_device() -> None:
    state = Regs(a=9)
    dev = Collectable(native=state)
    save(dev)
    del dev
    gc.collect()
    assert state.a == 9
    state.a = 10
    assert save(state) == struct.pack(">BH", 10, 515)


needs_multiply = pytest.mark.skipif(
    release() >= (11, 1), reason="needs a QEMU up to 11.0, which has VMSTATE_VARRAY_MULTIPLY"
)


class Lane(VMStruct):
    level: u16 = 7


@derive_to_migration_state
@dataclass
class DerivedLane:
    level: u16 = 7


class Lanes(Device, name="lanes"):
    count: u8 = 2
    native: VArray[Migratable[Mutex[Lane]], Literal[4]] = field(num="count")
    python: VArray[Migratable[Mutex[DerivedLane]], Literal[4]] = field(num="count")
    doubled: VArray[Migratable[Mutex[Lane]], Literal[8]] = field(num="count", multiply=2)

    def levels(self, attribute: str) -> list[int]:
        return [one.into_inner().level for one in getattr(self, attribute)]


class FailingLanes(Lanes, name="failing-lanes"):
    def post_load(self, version_id: int) -> None:
        raise InvalidError("it is Monday")


def lanes(cls: type[Lanes] = Lanes) -> Lanes:
    dev = cls(count=3)
    for attribute in ("native", "python", "doubled"):
        for number, one in enumerate(getattr(dev, attribute)):
            with one.lock() as lane:
                lane.level = 100 + number
    return dev


@needs_multiply
def test_a_load_leaves_the_states_beyond_the_count_alone() -> None:
    dev = lanes()
    load(dev, struct.pack(">B4H", 1, 1, 2, 3, 4))
    assert dev.levels("native") == [1, 101, 102, 103]
    assert dev.levels("python") == [2, 101, 102, 103]
    assert dev.levels("doubled") == [3, 4, *range(102, 108)]
    dev.count = 2
    assert save(dev) == struct.pack(">B8H", 2, 1, 101, 2, 101, 3, 4, 102, 103)
    load(dev, struct.pack(">B", 0))
    assert dev.levels("doubled") == [3, 4, *range(102, 108)]


@needs_multiply
def test_a_load_that_fails_late_leaves_all_states_alone() -> None:
    dev = lanes(FailingLanes)
    with pytest.raises(InvalidError, match="Monday"):
        load(dev, struct.pack(">B16H", 4, *range(16)))
    assert dev.count == 3
    assert dev.levels("native") == dev.levels("python") == [100, 101, 102, 103]
    assert dev.levels("doubled") == list(range(100, 108))
