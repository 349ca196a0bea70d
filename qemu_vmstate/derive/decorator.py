# SPDX-License-Identifier: GPL-2.0-or-later
"""``derive_to_migration_state``: both conversions of a dataclass, from its fields.

It is the Python form of ``#[derive(ToMigrationState)]``
(rust/qemu-macros/src/migration_state.rs).  Each class gets functions of its own,
whose source tracebacks show::

    Ticks (dataclass)                           TicksMigration (layout class)
      ├─ u8 to u64, bool, float, an Enum        one struct pack for a run of them
      ├─ field(into=T), field(try_into=T)       T
      ├─ Array, Buffer, field(length=N)         a fixed array
      ├─ list, dict, set, str, bytes ...        a count and an array or a buffer
      └─ a state: nested derived, layout ...    its Migrated, restored in place
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..errors import DeclarationError
from ..layout.annotations import own_annotations
from ..state.to_migration_state import ToMigrationState
from ..wire.caller import caller_locals
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.record import replace
from .conversions import Declared, add_conversions, foreign_fields
from .lookup import ClassOptions, class_options

__all__ = ["DerivedState", "derive_to_migration_state"]

C = TypeVar("C", bound=type)


@overload
def derive_to_migration_state(cls: C, /) -> C: ...
@overload
def derive_to_migration_state(
    *,
    rename: str | None = None,
    name: str | None = None,
    version_id: int = 1,
    minimum_version_id: int = 1,
    int_type: Any = None,
    max_length: int | None = None,
) -> Callable[[C], C]: ...
def derive_to_migration_state(
    cls: C | None = None,
    /,
    *,
    rename: str | None = None,
    name: str | None = None,
    version_id: int = 1,
    minimum_version_id: int = 1,
    int_type: Any = None,
    max_length: int | None = None,
) -> C | Callable[[C], C]:
    """Make a dataclass a ``ToMigrationState`` whose fields go on the wire in their order.

    ::

        from dataclasses import dataclass
        from enum import Enum
        from ipaddress import IPv4Address

        from qemu_vmstate import derive_to_migration_state, field, i64, save, u8, u32, u64

        class Mode(Enum):
            IDLE = 0
            BUSY = 1

        @derive_to_migration_state
        @dataclass
        class Timer:
            expires: u64 = 0

        @derive_to_migration_state(int_type=i64, max_length=64)
        @dataclass
        class Ticks:
            count: u32 = 0
            late: int = 0  # an i64
            mode: Mode = Mode.IDLE  # a u8
            peer: IPv4Address = field(default=IPv4Address(0), into=u32)
            fifo: list[u8] = field(default_factory=lambda: [0] * 16, length=16)
            waiting: list[u8] = field(default_factory=list)  # at most 64
            timer: Timer = field(default_factory=Timer)  # derived as well
            deadline: u64 | None = field(default=None, none=2**64 - 1)
            cache: dict[str, int] = field(default_factory=dict, omit=True)

        assert len(save(Ticks())) == 4 + 8 + 1 + 4 + 16 + 1 + 8 + 8

    ``Ticks.Migrated`` is the generated layout class ``TicksMigration``, or has
    the name ``rename``; ``name``, ``version_id`` and ``minimum_version_id`` are
    its own, as for a ``VMStruct``.  ``int_type`` is the type of each ``int`` and
    ``max_length`` the maximum of each value of variable length that has none of its
    own, in elements, or in bytes for ``str``, ``bytes`` and ``bytearray``.

    A field's annotation can be ``bool``, ``u8`` to ``i64``, ``float``, an ``Enum``
    or ``Flag``, ``Array``, ``Buffer``, ``str``, ``bytes``, ``bytearray``, a ``list``,
    ``tuple``, ``deque``, ``set``, ``frozenset`` or ``dict`` of such types, ``| None``
    with any of them, a class with a converter
    (:func:`~qemu_vmstate.register_converter`), a ``ToMigrationState`` class, or such a
    class in a ``Mutex``, ``BqlRefCell`` or ``Arc``; what has no such form is a
    :class:`~qemu_vmstate.Packed`.  docs/vocabulary.md says what each is on the wire.  A
    restore changes nested states, lists, dicts, sets, deques and bytearrays in place, so
    that other references to them stay valid; it makes anew what is in a list of variable
    length and in any other collection.

    A frozen dataclass is no state of its own: it can be in a field or a collection of
    another one, and a restore makes it anew.

    The options of ``field()`` are these, the first four as in upstream's
    ``#[migration_state(...)]``:

    - ``omit``: the field is not migrated.  No other option can go with it.
    - ``into=T``: migrated as the wire type ``T``.  A snapshot calls ``T`` (``int``,
      ``bool``, ``bytes``, ``list`` or the layout class) with the value, a restore
      calls the annotated class with the loaded value.  Neither should fail; if one
      does, the caller gets its exception.
    - ``try_into=T``: the same for conversions that can fail, with an
      ``InvalidError`` that has the field's path and value.  An ``Enum`` or ``Flag``
      refuses numbers that it has no member for.
    - ``clone``: copied completely; a restore assigns a new object to the attribute.
      With ``into`` or ``try_into`` a deep copy is converted.
    - ``length``: a list, tuple, bytes or bytearray always has that many elements.
    - ``max_length``: the most elements of a collection, or bytes of ``str``, ``bytes``
      and ``bytearray``.  Inside an annotation: ``list[Annotated[str,
      field(max_length=16)]]``.
    - ``count_type``: the type of the field that counts them, by default the smallest of
      ``u8``, ``u16`` and ``u32`` that holds the maximum, and ``u32`` for bytes.
    - ``none``: for a field like ``u16 | None``, the number that stands for ``None``;
      with ``none=bool``, the default, a bool goes before the value.

    A field that a stream lacks (because of its version, or with a part or a
    subsection) has the dataclass's default, made and converted once for the class.

    A restore converts everything before it assigns anything.  Raises
    ``DeclarationError`` for a class that cannot be saved or restored like this.
    """
    # The annotations of a local class use names of the calling function.
    namespace = caller_locals()
    keywords = {"name": name, "version_id": version_id, "minimum_version_id": minimum_version_id}
    given = class_options("derive_to_migration_state()", int_type, max_length)
    if cls is not None:
        return _derive(cls, namespace, rename, keywords, given)

    def decorate(decorated: C) -> C:
        return _derive(decorated, caller_locals(), rename, keywords, given)

    return decorate


class DerivedState(ToMigrationState[Any]):
    """An optional base of derived dataclasses, for type checkers.

    They cannot see what a decorator adds.  With this base they see ``Migrated``,
    ``to_migration_state()`` and the two conversions::

        from dataclasses import dataclass

        from qemu_vmstate import DerivedState, derive_to_migration_state, u32

        @derive_to_migration_state
        @dataclass
        class Ticks(DerivedState):
            count: u32 = 0

        snapshot = Ticks().to_migration_state()
    """

    __slots__ = ()

    def snapshot_migration_state(self, target: Any) -> None:
        """Raise ``DeclarationError``: the decorator replaces this method."""
        raise _not_derived(type(self))

    def restore_migrated_state_mut(self, source: Any, version_id: int) -> None:
        """Raise ``DeclarationError``: the decorator replaces this method."""
        raise _not_derived(type(self))


def _not_derived(cls: type) -> DeclarationError:
    return DeclarationError(
        f"class {cls.__name__} has no conversions: write @derive_to_migration_state above its "
        "@dataclass"
    )


def _derive(
    cls: C, namespace: Any, rename: str | None, keywords: dict[str, Any], given: ClassOptions
) -> C:
    what = f"class {getattr(cls, '__name__', cls)}"
    if "__dataclass_fields__" not in getattr(cls, "__dict__", {}):
        raise DeclarationError(
            f"{what} is no dataclass, whose fields could be derived; write @dataclass below "
            "@derive_to_migration_state"
        )
    hints = _hints(cls, namespace)
    fields = [
        Declared(item.name, hints[item.name], options)
        for item in dataclasses.fields(cls)
        if not (options := _options(item, f"{cls.__name__}.{item.name}")).omit
    ]
    _refuse_lost(cls, [field.name for field in fields])
    add_conversions(cls, fields, rename, keywords, given)
    target: Any = cls
    target.__migration_hints__ = hints
    return cls


def _refuse_lost(cls: type, names: list[str]) -> None:
    """Raise ``DeclarationError`` if the fields of a ``migrates()`` base would not be migrated."""
    for base in cls.__mro__[1:]:
        lost = [name for name in foreign_fields(base) if name not in names]
        if lost:
            raise DeclarationError(
                f"class {cls.__name__} would lose the migrated fields {', '.join(lost)} of "
                f"{base.__name__}, which are no fields of a dataclass; make {base.__name__} a "
                f"field instead of a base, or write migrates({cls.__name__}, fields=...) with all"
            )


def _hints(cls: type, namespace: Any) -> dict[str, Any]:
    """Return the evaluated annotations of all migrated fields, each in its own class's module."""
    found = {}
    for item in dataclasses.fields(cls):
        if _options(item, f"{cls.__name__}.{item.name}").omit:
            continue  # its annotation may be unknown at run time
        # An inherited field is the same object as in the class that declares it.
        owner = [
            base
            for base in cls.__mro__
            if base.__dict__.get("__dataclass_fields__", {}).get(item.name) is item
        ][-1]
        known = owner.__dict__.get("__migration_hints__", {})
        if item.name in known:
            found[item.name] = known[item.name]
            continue
        alone = type(
            owner.__name__,
            (),
            {"__module__": owner.__module__, "__annotations__": {item.name: item.type}},
        )
        found.update(own_annotations(alone, namespace))
    return found


def _options(item: dataclasses.Field[Any], where: str) -> FieldOptions:
    options: FieldOptions = item.metadata.get(FieldOptions, NO_OPTIONS)
    options.refuse_foreign(where)
    if item.default is not dataclasses.MISSING:
        options = replace(options, default=item.default)
    elif item.default_factory is not dataclasses.MISSING:
        options = replace(options, default_factory=item.default_factory)
    given = options.given(*(set(vars(options)) - {"omit", "default", "default_factory"}))
    if options.omit and given:
        raise DeclarationError(
            f"{where}: omit stands alone, and {', '.join(given)} would have no meaning; "
            "leave out one or the other"
        )
    return options
