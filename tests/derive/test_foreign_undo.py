# SPDX-License-Identifier: GPL-2.0-or-later
"""A load that a setter of another's class refuses changes nothing, whatever was set before it."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    ToMigrationState,
    VMStruct,
    derive_to_migration_state,
    f64,
    field,
    load,
    migrates,
    save,
    u8,
    u16,
    u32,
)

from .foreign_classes import (
    FIRST,
    KINDS,
    OTHER,
    REFUSED,
    REFUSING,
    WIRE,
    Computed,
    Model,
    Plain,
    Registers,
    picture,
)

BAD = (9, REFUSED, 7, 8, 9)
"""The mode is stored before the level is refused."""


@pytest.mark.parametrize("cls", REFUSING)
def test_a_setter_that_refuses_changes_nothing(cls: Any) -> None:
    state = cls()
    load(Mutex(state), struct.pack(WIRE, *OTHER))
    before = picture(state)
    with pytest.raises(
        InvalidError, match=rf"^{cls.__name__}Migration\.level: 66 could not be stored: \w*Error: "
    ) as caught:
        load(Mutex(state), struct.pack(WIRE, *BAD))
    assert isinstance(caught.value.__cause__, ValueError)
    assert not hasattr(caught.value, "__notes__") or "rolling" not in str(caught.value.__notes__)
    assert picture(state) == before
    load(Mutex(state), struct.pack(WIRE, *FIRST))
    assert save(Mutex(state)) == struct.pack(WIRE, *FIRST)


@pytest.mark.parametrize("cls", REFUSING)
def test_the_classs_own_restore_is_all_or_nothing_too(cls: Any) -> None:
    state = cls()
    source = state.to_migration_state()
    source.mode, source.level, source.words = 9, REFUSED, [7, 8, 9]
    before = picture(state)
    with pytest.raises(InvalidError, match="66 could not be stored"):
        state.restore_migrated_state_mut(source, 1)
    assert picture(state) == before


class Word(VMStruct):
    value: u32 = 5


class Refusing(ToMigrationState[Word]):
    """A state whose restore refuses everything."""

    def snapshot_migration_state(self, target: Word) -> None:
        target.value = 1

    def restore_migrated_state_mut(self, source: Word, version_id: int) -> None:
        raise InvalidError("never")


@derive_to_migration_state
@dataclass
class Own:
    """A dataclass with states of others inside."""

    first: u8 = 1
    plain: Plain = field(default_factory=Plain)
    computed: Computed = field(default_factory=Computed)
    pair: list[Registers] = field(default_factory=lambda: [Registers(), Registers()], length=2)
    last: u8 = 2


OWN = ">B" + 4 * WIRE[1:] + "B"


def _device(cls: Any) -> Any:
    """Return a device with parts of every kind around one of ``cls``."""
    parts: dict[str, Any] = {
        "before": Migratable[Mutex[Own]],
        "word": Migratable[Mutex[Word]],
        "plain": Migratable[Mutex[Plain]],
        "part": Migratable[Mutex[cls]],
        "model": Migratable[Mutex[Model]],
        "after": Migratable[Mutex[Own]],
    }
    return type("Board", (Device,), {"__annotations__": {"count": u8, **parts}}, name="board")()


BOARD = ">B" + OWN[1:] + "I" + 3 * WIRE[1:] + OWN[1:]


def _board(part: tuple[int, ...], model: tuple[int, ...], after: tuple[int, ...]) -> bytes:
    own = (8, *OTHER, *OTHER, *OTHER, *OTHER, 9)
    after_own = (8, *OTHER, *OTHER, *OTHER, *after, 9)
    return struct.pack(BOARD, 3, *own, 77, *OTHER, *part, *model, *after_own)


@pytest.mark.parametrize(
    ("place", "cls"),
    [("part", cls) for cls in REFUSING]
    + [(each, cls) for each in ("model", "after") for cls in KINDS],
)
def test_no_part_of_a_device_changes_if_one_of_them_refuses(place: str, cls: Any) -> None:
    dev = _device(cls)
    names = ("before", "word", "plain", "part", "model", "after")
    states = [getattr(dev, name).into_inner() for name in names]
    before = [picture(state) for state in states], save(dev)
    wires = {name: BAD if name == place else OTHER for name in ("part", "model", "after")}
    paths = {"part": r"part\.level", "model": r"model\.level", "after": r"after\.pair\[1\]\.level"}
    with pytest.raises(InvalidError, match=rf"^board\.{paths[place]}: 66 could not be stored"):
        load(dev, _board(**wires))
    assert ([picture(state) for state in states], save(dev)) == before
    load(dev, _board(OTHER, OTHER, OTHER))
    assert save(dev) == _board(OTHER, OTHER, OTHER)


@pytest.mark.parametrize("cls", KINDS)
def test_a_part_is_undone_if_a_later_one_refuses(cls: Any) -> None:
    parts = {"part": Migratable[Mutex[cls]], "refusing": Migratable[Mutex[Refusing]]}
    device = type("Two", (Device,), {"__annotations__": parts}, name="two")
    dev: Any = device()
    state = dev.part.into_inner()
    before = picture(state)
    with pytest.raises(InvalidError, match=r"^two\.refusing: never"):
        load(dev, struct.pack(WIRE + "I", *OTHER, 5))
    assert picture(state) == before


def test_a_dataclasss_own_restore_changes_nothing_if_a_state_inside_refuses() -> None:
    for path, place in (("computed", 2), ("pair[0]", 3), ("pair[1]", 4)):
        own = Own()
        before = picture(own)
        wire = [OTHER] * 4
        wire[place - 1] = BAD
        with pytest.raises(InvalidError, match="66 could not be stored") as caught:
            load(Mutex(own), struct.pack(OWN, 8, *itertools.chain(*wire), 9))
        assert caught.value.path == f"OwnMigration.{path}.level"
        assert picture(own) == before
        source = own.to_migration_state()  # type: ignore[attr-defined]
        source.first, source.plain.mode, source.computed.level = 7, 6, REFUSED
        with pytest.raises(InvalidError, match=r"^OwnMigration\.computed\.level: 66 could not"):
            own.restore_migrated_state_mut(source, 1)  # type: ignore[attr-defined]
        assert picture(own) == before


class Deep:
    def __init__(self) -> None:
        self.plain, self.items = 1, [1, 2]


class Every:
    """A value in every kind of place; each can be told to refuse the next one."""

    def __init__(self) -> None:
        self.plain, self.items = 1, [1, 2]
        self._computed, self._copied = 1, [1, 2]
        self.deep = Deep()
        self._live = [1, 2]
        self.outside: dict[str, Any] = {"number": 1}
        self.trap = -1
        self.calls = iter(range(100))

    def sprung(self) -> None:
        if next(self.calls) == self.trap:
            raise RuntimeError("sprung")

    @property
    def computed(self) -> int:
        self_value: int = self._computed
        return self_value

    @computed.setter
    def computed(self, value: int) -> None:
        self._computed = value
        self.sprung()

    @property
    def copied(self) -> list[int]:
        return list(self._copied)

    @copied.setter
    def copied(self, value: list[int]) -> None:
        self._copied = value
        self.sprung()

    def get_live(self) -> list[int]:
        return self._live

    def set_live(self, value: list[int]) -> None:
        self._live.clear()
        self.sprung()
        self._live.extend(value)

    def get_number(self) -> int:
        number: int = self.outside["number"]
        return number

    def set_number(self, value: int) -> None:
        self.outside["number"] = value
        self.sprung()


_EVERY_FIELDS = {
    "plain": u8,
    "items": field(list[u8], length=2),
    "computed": u8,
    "copied": field(list[u8], length=2),
    "deep": field(u8, attribute="deep.plain"),
    "deep_items": field(list[u8], length=2, attribute="deep.items"),
    "live": field(list[u8], length=2, attribute=(Every.get_live, Every.set_live)),
    "number": field(u8, attribute=(Every.get_number, Every.set_number)),
}


_ORDERS = [
    [*list(_EVERY_FIELDS)[shift:], *list(_EVERY_FIELDS)[:shift]]
    for shift in range(len(_EVERY_FIELDS))
]


@pytest.mark.parametrize("order", _ORDERS, ids=lambda order: order[0])
@pytest.mark.parametrize("trap", range(4))
def test_each_setter_may_refuse_after_each_other(order: list[str], trap: int) -> None:
    cls = type("Ordered", (Every,), {})
    migrates(cls, fields={name: _EVERY_FIELDS[name] for name in order})
    state = cls()
    guarded = Mutex(state)
    wire = bytes(range(50, 50 + len(save(guarded))))
    state.trap = trap
    before = picture(state)
    with pytest.raises(InvalidError, match="could not be stored: RuntimeError: sprung"):
        load(guarded, wire)
    assert picture(state) == before
    state.trap = -1
    load(guarded, wire)
    assert save(guarded) == wire


def test_setters_that_compare_their_values_are_unwound() -> None:
    class Limits:
        """Three limits outside the object's attributes, each of which is below the one before."""

        def __init__(self) -> None:
            self.store = {"high": 3, "middle": 2, "low": 1, "last": 0}

        def set(self, name: str, value: int) -> None:
            self.store[name] = value
            if not self.store["high"] > self.store["middle"] > self.store["low"]:
                raise ValueError(f"{value} is out of order")

    def place(name: str) -> Any:
        def put(limits: Limits, value: int) -> None:
            before = dict(limits.store)
            try:
                limits.set(name, value)
            except ValueError:
                limits.store.update(before)
                raise

        return (lambda limits: limits.store[name], put)

    names = ("high", "middle", "low")
    fields = {name: field(u8, attribute=place(name)) for name in names}
    migrates(Limits, fields={**fields, "last": field(u8, attribute=(lambda _: 0, _never))})
    limits = Limits()
    with pytest.raises(InvalidError, match=r"^LimitsMigration\.last: 1 could not") as caught:
        load(Mutex(limits), bytes([30, 20, 10, 1]))
    assert limits.store == {"high": 3, "middle": 2, "low": 1, "last": 0}
    assert "rolling" not in str(getattr(caught.value, "__notes__", ""))


def test_setters_that_change_other_values_are_undone_in_the_order_of_the_wire() -> None:
    class Counter:
        """Another mode begins to count at 0; both are outside the object's attributes."""

        def __init__(self) -> None:
            self.store = {"mode": 1, "count": 5, "last": 0}
            self.changes = 0

    def set_mode(counter: Counter, value: int) -> None:
        counter.store.update(mode=value, count=0)
        counter.changes += 1

    def set_count(counter: Counter, value: int) -> None:
        counter.store["count"] = value
        counter.changes += 1

    migrates(
        Counter,
        fields={
            "mode": field(u8, attribute=(lambda c: c.store["mode"], set_mode)),
            "count": field(u8, attribute=(lambda c: c.store["count"], set_count)),
            "last": field(u8, attribute=(lambda c: c.store["last"], _never)),
        },
    )
    counter = Counter()
    with pytest.raises(InvalidError, match=r"^CounterMigration\.last"):
        load(Mutex(counter), bytes([2, 9, 1]))
    assert counter.store == {"mode": 1, "count": 5, "last": 0}
    assert counter.changes == 0


def test_a_setter_that_also_refuses_the_old_value_is_reported() -> None:
    class Once:
        def __init__(self) -> None:
            self.store = {"value": 1}

        def set(self, value: int) -> None:
            if self.store["value"] != 1:
                raise ValueError("only once")
            self.store["value"] = value

    migrates(
        Once,
        fields={
            "value": field(u8, attribute=(lambda o: o.store["value"], Once.set)),
            "other": field(u8, attribute=(lambda _: 0, _never)),
        },
    )
    once = Once()
    with pytest.raises(InvalidError, match=r"^OnceMigration\.other") as caught:
        load(Mutex(once), b"\5\6")
    assert "and rolling OnceMigration back raised ValueError" in caught.value.__notes__


def test_what_an_object_lacked_it_lacks_again() -> None:
    made: list[Any] = [Plain(), Computed(), Model()]
    for state in made:
        for name in ("level", "_level"):
            state.__dict__.pop(name, None)
        part: Any = Migratable[Mutex[type(state)]]  # type: ignore[misc]
        parts = {"part": part, "refusing": Migratable[Mutex[Refusing]]}
        device: Any = type("Two", (Device,), {"__annotations__": parts}, name="two")
        dev = device(part=Mutex(state))
        before = picture(state)
        with pytest.raises(InvalidError, match=r"^two\.refusing: never") as caught:
            load(dev, struct.pack(WIRE + "I", *OTHER, 5))
        assert picture(state) == before
        assert "rolling two.part" not in str(caught.value.__notes__)


def test_what_an_object_that_a_path_leads_to_lacked_it_lacks_again() -> None:
    class Outer:
        def __init__(self) -> None:
            self.deep, self.last = Deep(), 0

    migrates(
        Outer,
        fields={
            "plain": field(u8, attribute="deep.plain"),
            "items": field(list[u8], length=2, attribute="deep.items"),
            "last": field(u8, attribute=(lambda outer: outer.last, _never)),
        },
    )
    outer = Outer()
    del outer.deep.plain, outer.deep.items
    with pytest.raises(InvalidError, match=r"^OuterMigration\.last: 9 could not be stored"):
        load(Mutex(outer), b"\6\7\10\11")
    assert vars(outer.deep) == {}


def _never(_state: Any, value: Any) -> None:
    raise ValueError(f"{value} is refused")


def test_a_slot_that_a_setter_has_filled_is_empty_again() -> None:
    class Cached:
        __slots__ = ("_value", "cached")

        def __init__(self) -> None:
            self._value = 1

        @property
        def value(self) -> int:
            return self._value

        @value.setter
        def value(self, value: int) -> None:
            self._value = self.cached = value
            if value == 9:
                raise ValueError("no")

    migrates(Cached, fields={"value": u8})
    cached = Cached()
    with pytest.raises(InvalidError, match=r"^CachedMigration\.value: 9 could not be stored"):
        load(Mutex(cached), b"\11")
    assert (cached.value, hasattr(cached, "cached")) == (1, False)


def test_a_member_of_a_class_in_c_is_no_slot() -> None:
    class Point(complex):
        mark = 1

    migrates(Point, fields={"mark": u8, "real": f64})
    point: Any = Point(1.5)
    assert save(Mutex(point)) == struct.pack(">Bd", 1, 1.5)
    with pytest.raises(InvalidError, match=r"^PointMigration\.real: 2\.5 could not be") as caught:
        load(Mutex(point), struct.pack(">Bd", 2, 2.5))
    assert (point.mark, point.real, vars(point)) == (1, 1.5, {})
    assert "rolling" not in str(getattr(caught.value, "__notes__", ""))


def test_a_setter_that_fills_what_get_returned() -> None:
    class Mirrored:
        """Two lists outside the object, one of which ``get`` returns as it is."""

        def __init__(self) -> None:
            self.banks = Deep()
            self.banks.items, self.banks.mirror = [1, 2], [1, 2]  # type: ignore[attr-defined]

        def fill(self, value: list[int]) -> None:
            items: Any = self.banks.items
            items.clear()
            items.extend(value)
            self.banks.mirror = tuple(items)  # type: ignore[attr-defined]

    migrates(
        Mirrored,
        fields={
            "items": field(list[u8], length=2, attribute=(lambda m: m.banks.items, Mirrored.fill)),
            "last": field(u8, attribute=(lambda _: 0, _never)),
        },
    )
    mirrored = Mirrored()
    items = mirrored.banks.items
    with pytest.raises(InvalidError, match=r"^MirroredMigration\.last: 7 could not be stored"):
        load(Mutex(mirrored), b"\5\6\7")
    assert mirrored.banks.items is items
    assert vars(mirrored.banks) == {"plain": 1, "items": [1, 2], "mirror": (1, 2)}


def test_a_subclasss_setter_that_refuses_the_old_value_keeps_nothing_from_being_undone() -> None:
    class Strict(Plain):
        @property
        def level(self) -> int:
            return int(vars(self)["level"])

        @level.setter
        def level(self, value: int) -> None:
            if value == 70000 and "level" in vars(self):
                raise ValueError("not again")
            vars(self)["level"] = value

    parts = {"part": Migratable[Mutex[Strict]], "refusing": Migratable[Mutex[Refusing]]}
    device: Any = type("Two", (Device,), {"__annotations__": parts}, name="two")
    dev = device()
    state = dev.part.into_inner()
    before = picture(state)
    with pytest.raises(InvalidError, match=r"^two\.refusing: never"):
        load(dev, struct.pack(WIRE + "I", *OTHER, 5))
    assert picture(state) == before


def test_a_models_private_attributes_and_fields_set_are_as_before() -> None:
    class Private(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(validate_assignment=True)
        mode: int = 1
        level: int = 2
        _count: int = pydantic.PrivateAttr(default=0)

        @property
        def counted(self) -> int:
            return self.mode

        @counted.setter
        def counted(self, value: int) -> None:
            self._count += 1
            self.mode = value

        @pydantic.field_validator("level")
        @classmethod
        def _refuse(cls, value: int) -> int:
            raise ValueError(f"no level of {value}")

    migrates(Private, fields={"counted": u8, "level": u8})
    private = Private()
    with pytest.raises(InvalidError, match=r"^PrivateMigration\.level: 9 could not be stored"):
        load(Mutex(private), b"\10\11")
    assert (private.mode, private.level, private._count) == (1, 2, 0)  # noqa: SLF001 - a test's
    assert private.model_fields_set == set()


def test_a_dataclasss_property_is_undone_the_same_way() -> None:
    @derive_to_migration_state
    @dataclass
    class Owner:
        first: u16 = 1
        level: u8 = 2

    def set_level(owner: Owner, value: int) -> None:
        if value == REFUSED:
            raise ValueError("no")
        vars(owner)["level"] = value

    @derive_to_migration_state
    @dataclass
    class Careful(Owner):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "level" and value == REFUSED:
                raise ValueError("no")
            super().__setattr__(name, value)

    careful = Careful()
    with pytest.raises(InvalidError, match=r"^CarefulMigration\.level: 66 could not be stored"):
        careful.restore_migrated_state_mut(  # type: ignore[attr-defined]
            Careful.Migrated(first=9, level=REFUSED),  # type: ignore[attr-defined]
            1,
        )
    assert careful == Careful(1, 2)


class Inner(VMStruct):
    number: u8 = 0


class Slots(dict[int, Any]):
    """A dict with an attribute of its own."""

    owner = "nobody"


def elements(collection: Any) -> list[Any]:
    return list(collection.items() if isinstance(collection, dict) else collection)


def test_collections_elsewhere_are_the_same_objects_again_with_the_same_elements() -> None:
    """No element is copied: it can have what nobody can copy."""

    @derive_to_migration_state
    @dataclass
    class Guarded:
        number: Mutex[Inner] = field(default_factory=lambda: Mutex(Inner()))

    class Machine:
        def __init__(self) -> None:
            self._by_name = {1: Guarded(), 2: Guarded()}
            self.parts = {"row": [1, 2], "rows": [[1], [2, 3]], "seen": {4}}
            self.slots = Slots({5: Guarded()})
            self.last = 0

        @property
        def by_name(self) -> dict[int, Guarded]:
            return self._by_name

        @by_name.setter
        def by_name(self, value: dict[int, Guarded]) -> None:
            self._by_name = value

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "last" and value == 255:
                raise ValueError("too late")
            super().__setattr__(name, value)

    def part(name: str) -> tuple[Any, Any]:
        return lambda made: made.parts[name], lambda made, value: made.parts.update({name: value})

    migrates(
        Machine,
        max_length=4,
        fields={
            "by_name": dict[u8, Guarded],
            "row": field(list[u8], attribute=part("row")),
            "rows": field(list[Annotated[list[u8], field(max_length=3)]], attribute=part("rows")),
            "seen": field(set[u8], attribute=part("seen")),
            "slots": dict[u8, Guarded],
            "last": u8,
        },
    )
    machine = Mutex(Machine())
    empty = b"\0" * 5
    with machine.lock() as state:
        before = [state.by_name, *state.parts.values(), state.slots]
        contents = [elements(each) for each in before]
        wire = save(state)
        with pytest.raises(InvalidError, match=r"MachineMigration\.last: .*ValueError: too late"):
            load(state, empty + b"\xff")
        after = [state.by_name, *state.parts.values(), state.slots]
        assert list(map(id, after)) == list(map(id, before))
        assert [elements(each) for each in after] == contents
        assert (state.slots.owner, save(state)) == ("nobody", wire)
        load(state, empty + b"\1")
        assert save(state) == empty + b"\1"
