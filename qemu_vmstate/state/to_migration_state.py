# SPDX-License-Identifier: GPL-2.0-or-later
"""``ToMigrationState``: how runtime state is copied to a layout object and restored from one.

Names and meaning are those of rust/migration/src/migratable.rs.
"""

from __future__ import annotations

import copy
import weakref
from abc import ABC, abstractmethod
from types import MemberDescriptorType
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from ..bindings.loader import _state
from ..errors import DeclarationError
from ..wire.types import HasLayout
from .undo import Undo, roll_back_all

__all__ = [
    "ToMigrationState",
    "ToMigrationStateShared",
    "migrated_class",
    "restore_or_undo",
    "restore_without_undo",
    "undo_by_snapshot",
    "undo_of",
    "undo_of_attributes",
]

M = TypeVar("M", bound=HasLayout)


class ToMigrationState(ABC, Generic[M]):
    """State that can be saved in a snapshot, and restored by its only owner.

    A class that is no layout class names the layout class of its snapshots, and defines two
    methods::

        from qemu_vmstate import ToMigrationState, VMStruct, load, save, u64

        class TickMigration(VMStruct):
            ticks: u64 = 0

        class Ticks(ToMigrationState[TickMigration]):
            def __init__(self) -> None:
                self.seen: set[int] = set()

            def snapshot_migration_state(self, target: TickMigration) -> None:
                target.ticks = len(self.seen)

            def restore_migrated_state_mut(self, source: TickMigration, version_id: int) -> None:
                self.seen = set(range(source.ticks))

        ticks = Ticks()
        load(ticks, (3).to_bytes(8))
        assert ticks.seen == {0, 1, 2}

    A snapshot only copies: it takes no BQL, raises no interrupt and changes nothing, because the
    source may have to continue (docs/devel/migration/main.rst).

    It is the trait of that name in rust/migration/src/migratable.rs.
    """

    __slots__ = ()

    Migrated: ClassVar[type[Any]]
    """The layout class of the snapshot; by default the argument of ``ToMigrationState[...]``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Migrated" in cls.__dict__:
            return
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, ToMigrationState):
                for argument in get_args(base):
                    if hasattr(argument, "__layout__"):
                        cls.Migrated = argument

    @abstractmethod
    def snapshot_migration_state(self, target: M) -> None:
        """Fill ``target``, which holds its class's defaults, with a copy of this state.

        Raise ``InvalidError`` (or anything else) to refuse: the save fails and
        the caller, or QEMU's ``query-migrate``, gets the message.
        """

    @abstractmethod
    def restore_migrated_state_mut(self, source: M, version_id: int) -> None:
        """Change this state to ``source``, which is complete; this method may keep it.

        ``version_id`` is the version in the stream.  Raise an exception to refuse: the load
        fails, and what this method has changed is undone.
        """

    def to_migration_state(self) -> M:
        """Return a new snapshot of this state, an instance of ``Migrated``."""
        target: M = migrated_class(self)()
        self.snapshot_migration_state(target)
        return target

    def __undo_migrated_state__(self, own_version: int) -> Undo:
        """Return the undo of the next restore.

        ``own_version`` is the ``version_id`` that the undo passes to this state's own restore.
        """
        return undo_by_snapshot(self, own_version)


class ToMigrationStateShared(ToMigrationState[M]):
    """State that can be restored while several objects refer to it.

    Such a class has a lock of its own, and a ``Migratable`` may wrap it as it is; other states need
    a ``Mutex`` or ``BqlRefCell`` around them.  It is the trait of that name in
    rust/migration/src/migratable.rs.
    """

    __slots__ = ()

    @abstractmethod
    def restore_migrated_state(self, source: M, version_id: int) -> None:
        """Change this state to ``source``, under the state's own lock."""

    def restore_migrated_state_mut(self, source: M, version_id: int) -> None:
        """Restore as a shared state: Python cannot know that there is no other reference."""
        self.restore_migrated_state(source, version_id)


def migrated_class(value: object) -> type[Any]:
    """Return the ``Migrated`` of a state or its class; ``DeclarationError`` if there is none."""
    migrated = getattr(value, "Migrated", None)
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    if migrated is None:
        if getattr(getattr(value, "__dataclass_params__", None), "frozen", False):
            raise DeclarationError(
                f"{name} is frozen, so it cannot be restored; leave frozen=True out, or make it a "
                "field of another class, which each load replaces"
            )
        raise DeclarationError(
            f"{name} has no Migrated: derive it from VMStruct, or from "
            "ToMigrationState[ALayoutClass] with snapshot_migration_state and "
            "restore_migrated_state_mut"
        )
    if not hasattr(migrated, "__layout__"):
        raise DeclarationError(
            f"{name}.Migrated is {migrated!r}; it must be a layout class, derived from VMStruct"
        )
    return migrated  # type: ignore[no-any-return]


def undo_of(value: Any, own_version: int) -> Undo:
    """Return the undo of ``value``, made by its class if that has a method for it."""
    make = getattr(value, "__undo_migrated_state__", None)
    made: Undo = make(own_version) if make else undo_by_snapshot(value, own_version)
    return made


def restore_without_undo(value: Any, source: Any, version_id: int) -> None:
    """Restore ``value``; the caller undoes what a failed restore changed.

    A guard restores its state under its lock; a class that is shared may have no other restore.
    """
    names = ("restore_without_undo", "restore_migrated_state_mut", "restore_migrated_state")
    restore = next(getattr(value, name) for name in names if hasattr(value, name))
    restore(source, version_id)


def undo_by_snapshot(value: Any, own_version: int) -> Undo:
    """Return an undo of ``value`` by a snapshot, if that succeeds, and by its attributes.

    The undo restores the snapshot first, to reset the objects that the attributes refer to.
    Then it sets the attributes, so that they refer to the same objects as before.
    """
    snapshot = snapshot_if_possible(value)
    memory = copy.copy(value) if isinstance(value, _state.Memory) else None
    reset_attributes = undo_of_attributes(value)

    def roll_back() -> None:
        try:
            if snapshot is not None:
                value.restore_migrated_state_mut(snapshot, own_version)
        finally:
            if memory is not None:
                _state.assign(value, memory)
            reset_attributes()

    return roll_back


def undo_of_attributes(value: Any) -> Undo:
    """Return a function that lets the attributes of ``value`` refer to the objects of now.

    It sets them without a ``__setattr__`` or setter of the class.
    """
    attributes = dict(vars(value)) if hasattr(value, "__dict__") else None
    names = _slots(type(value))
    slots = {n: getattr(value, n) for n in names if hasattr(value, n)}
    # pydantic keeps private attributes, and the names of those that were set, in such slots.
    records = [
        (record, record.copy())
        for name, record in slots.items()
        if name.startswith("__") and type(record) in (dict, set)
    ]

    def roll_back() -> None:
        if attributes is not None:
            now = vars(value)
            now.update(attributes)
            for name in now.keys() - attributes.keys():
                del now[name]
        for name in names:
            if name in slots:
                object.__setattr__(value, name, slots[name])
            elif hasattr(value, name):
                object.__delattr__(value, name)
        for record, before in records:
            record.clear()
            record.update(before)

    return roll_back


_slots_of: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def _slots(cls: type) -> tuple[str, ...]:
    """Return the names of the attributes that are slots."""
    if cls not in _slots_of:
        # A member of a class in C can be read-only, or store another object than it was given.
        found = (vars(base).items() for base in cls.__mro__ if "__slots__" in vars(base))
        _slots_of[cls] = tuple(
            name
            for items in found
            for name, kind in items
            if isinstance(kind, MemberDescriptorType)
        )
    return _slots_of[cls]


def restore_or_undo(
    value: ToMigrationState[Any], source: Any, version_id: int, own_version: int
) -> None:
    """Restore ``value``; if that raises, undo what it has changed.

    ``own_version`` is the ``version_id`` that the undo passes to the state's own restore.
    """
    undo = undo_of(value, own_version)
    try:
        value.restore_migrated_state_mut(source, version_id)
    except BaseException as exc:
        roll_back_all([("the state", undo)], exc)
        raise


def snapshot_if_possible(value: ToMigrationState[Any]) -> Any:
    """Return a snapshot, or ``None`` if it fails: a load may repair a state that refuses one."""
    try:
        return value.to_migration_state()
    except Exception:
        return None
