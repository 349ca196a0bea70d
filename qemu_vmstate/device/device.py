# SPDX-License-Identifier: GPL-2.0-or-later
"""``Device``, an object with several Migratables and plain fields under one description."""

from __future__ import annotations

import contextlib
import threading
import weakref
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin

from ..errors import DeclarationError
from ..layout.annotations import check_name, check_versions, own_annotations
from ..layout.validation import Validator, validators_of
from ..layout.vmstruct import VMStruct, VMStructMeta
from ..staging.bridge_object import NativeKind
from ..staging.build import make_staging
from ..staging.parts import Hooks, Part, StatePart
from ..staging.staging import Staging
from ..state.cells import Arc, BqlCell, BqlRefCell, Mutex
from ..state.migratable import Migratable, unwrap
from ..state.qemu_timer import QEMUTimer
from ..state.to_migration_state import migrated_class
from ..vmsd.description import VMStateDescription, are_packed, descriptions_of
from ..vmsd.priority import MigrationPriority
from ..wire.annotations import timer
from ..wire.caller import caller_locals
from ..wire.field_options import FieldOptions
from ..wire.lookup import find_wire_type, subsection_of, wire_type
from ..wire.types import (
    ArrayType,
    CountedType,
    StatesType,
    StructType,
    SubsectionType,
    UnusedType,
    WireType,
)
from .parts import CellPart, PlainField, PlainPart

__all__ = ["Device", "staging_of"]


_HOOKS = (
    *("needed", "pre_save", "post_save", "pre_load", "post_load"),
    *("load_complete", "load_rolled_back"),
)

# Held only while a newly made field or staging struct is stored in its object.
_store_lock = threading.Lock()


class Device:
    """An object with a section of its own in the stream.

    ::

        from qemu_vmstate import *

        class Regs(VMStruct):
            config: u64 = 0

        class Timer(Device, name="pytimer", version_id=2, minimum_version_id=1):
            regs: Migratable[Mutex[Regs]]
            link: Migratable[BqlRefCell[Regs]]
            irq: BqlCell[u8]
            count: u32 = 0

        dev = Timer(count=2)
        with dev.regs.lock() as regs:
            regs.config = 1
        assert len(save(dev)) == 8 + 8 + 1 + 4

    Fields go on the wire in the order they are declared, those of a base class
    first.  A ``Migratable`` is a nested struct named after its attribute; other
    fields are wire types (see ``qemu_vmstate.wire``), guarded by the BQL.  An
    attribute that is not migrated is written ``= field(omit=True)``.
    ``Array[Migratable[...], Literal[3]]`` is a tuple of three; a load of a
    ``VArray`` leaves the elements beyond its count unchanged.
    ``Subsection[Migratable[...]]`` is migrated in a subsection.

    Class keywords, each the ``VMStateDescription`` member of that name: ``name``
    (required), ``version_id``, ``minimum_version_id`` (default 1), ``priority``
    (a ``MigrationPriority``; higher is loaded earlier), ``unmigratable`` and
    ``early_setup`` (QEMU 8.0 and later).

    A subclass can define ``needed()``, ``pre_save()``, ``post_save()``, ``pre_load()`` and
    ``post_load(version_id)``; an exception in one of them fails the save or load.
    ``load_complete(loaded)`` and ``load_rolled_back()`` are called after the end of a load.

    The constructor takes fields as keyword arguments and makes the others from their
    annotations.  A ``Migratable`` field cannot be replaced once the device was saved,
    loaded or registered, because C has its address.  The class raises ``DeclarationError`` for a
    declaration that QEMU could not walk.

    In C: a ``VMStateDescription`` (``migration/vmstate.h``).
    """

    __description__: ClassVar[tuple[str, int, int, MigrationPriority]]
    __parts__: ClassVar[dict[str, Any]] = {}
    __options__: ClassVar[dict[str, FieldOptions]] = {}
    __vmsd_flags__: ClassVar[dict[str, bool]] = {}
    __validators__: ClassVar[tuple[Validator, ...]] = ()
    Migrated: ClassVar[type[Any]] = VMStruct
    __plain_class__: ClassVar[type[VMStruct]] = VMStruct
    __plain__: VMStruct
    __staging__: Staging | None = None
    __native_kind__: ClassVar[NativeKind | None] = None

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version_id: int = 1,
        minimum_version_id: int = 1,
        priority: MigrationPriority = MigrationPriority.DEFAULT,
        unmigratable: bool = False,
        early_setup: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        what = f"class {cls.__name__}"
        check_name(name, what)
        check_versions(version_id, minimum_version_id, what)
        if not isinstance(priority, MigrationPriority):
            raise DeclarationError(
                f"{what}: priority={priority!r} is no MigrationPriority; give a member, as in "
                "priority=MigrationPriority.IOMMU"
            )
        cls.__description__ = (str(name), version_id, minimum_version_id, priority)
        cls.__parts__ = dict(cls.__parts__)
        cls.__options__ = dict(cls.__options__)
        migrated: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        for attribute, hint in own_annotations(cls, caller_locals()).items():
            value = cls.__dict__.get(attribute, FieldOptions())
            options = value if isinstance(value, FieldOptions) else FieldOptions(default=value)
            cls.__add_field(attribute, hint, options, migrated, plain)
        _limit_counts(plain, migrated)
        cls.__vmsd_flags__ = {"unmigratable": unmigratable, "early_setup": early_setup}
        cls.__validators__ = validators_of(cls)
        cls.__native_kind__ = None
        cls.Migrated = _layout_class(
            f"{cls.__name__}Migration",
            *(cls.Migrated, cls, migrated),
            name=name,
            version_id=version_id,
            minimum_version_id=minimum_version_id,
        )
        cls.__plain_class__ = _layout_class(cls.__name__, cls.__plain_class__, cls, plain)
        _share_keys(cls)

    @classmethod
    def __add_field(
        cls,
        attribute: str,
        hint: Any,
        options: FieldOptions,
        migrated: dict[str, Any],
        plain: dict[str, Any],
    ) -> None:
        where = f"{cls.__name__}.{attribute}"
        if hasattr(Device, attribute) or attribute in Device.__annotations__:
            raise DeclarationError(f"{where}: every Device has this attribute; take another name")
        cls.__options__[attribute] = options
        options.refuse_conversions(where)
        if options.omit:
            if options.has_default and options.default_factory is None:
                setattr(cls, attribute, options.default)
            elif attribute in cls.__dict__:
                delattr(cls, attribute)
            return
        inner = subsection_of(hint) or hint
        type_ = _parts_type(inner, where)
        if type_ is not None:
            cls.__parts__[attribute] = inner
            # A part's default is an object; the layout class has the defaults of its Migrated.
            options = FieldOptions(**{**vars(options), "default": FieldOptions().default})
        else:
            type_ = _plain_type(inner, where)
            plain_options = FieldOptions(
                **{name: getattr(options, name) for name in ("default", "minimum", "maximum")},
                **{name: getattr(options, name) for name in ("num", "size", "multiply", "start")},
            )
            plain[attribute] = (type_, plain_options)
        if inner is not hint:
            if not isinstance(type_, StructType):
                raise DeclarationError(f"{where}: a Subsection holds one struct")
            type_ = SubsectionType(type_.cls)
        migrated[attribute] = (type_, options.of_wire())
        if attribute not in cls.__parts__ and not isinstance(type_, UnusedType):
            setattr(cls, attribute, PlainField(attribute))
        elif attribute in cls.__dict__:
            delattr(cls, attribute)

    def __init__(self, **values: Any) -> None:
        for attribute, value in values.items():
            if attribute not in self.__options__:
                raise TypeError(
                    f"{type(self).__name__}() has no field {attribute!r}; it has "
                    f"{', '.join(self.__options__) or 'none'}"
                )
            setattr(self, attribute, value)

    if not TYPE_CHECKING:

        def __getattr__(self, attribute: str) -> Any:
            return self._make_field(attribute)

    def _make_field(self, attribute: str) -> Any:
        # Makes a field when it is first used, so that a subclass's __init__ need not call ours.
        value: Any
        if attribute == "__plain__":
            value = self.__plain_class__()
            for name in (info.attribute for info in value.__layout__.fields):
                options = self.__options__[name]
                if options.default_factory:
                    setattr(value, name, options.make_default())
        elif attribute in self.__parts__:
            options = self.__options__[attribute]
            hint = self.__parts__[attribute]
            if options.has_default:
                value = self._as_declared(attribute, hint, options.make_default())
            else:
                value = _make(hint)
        elif attribute in self.__options__ and self.__options__[attribute].default_factory:
            value = self.__options__[attribute].make_default()
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
        # Two threads that make the field at the same time get the same object.  A use of
        # __dict__ would create a dict for each of maybe ten thousand devices.
        with _store_lock:
            try:
                return object.__getattribute__(self, attribute)
            except AttributeError:
                object.__setattr__(self, attribute, value)
                return value

    def needed(self) -> bool:
        """Return whether a migration or snapshot saves the device; by default it does.

        This is ``needed`` of include/migration/vmstate.h.  QEMU calls it when it reaches the
        section, before ``pre_save``, with the BQL held and no lock of the device.  A load
        accepts a stream with the section and one without it, which makes the device new (see
        :meth:`load_complete`).  Like ``vmstate_save_state()``, ``save()`` and ``describe()`` do
        not call it.
        """
        return True

    def pre_save(self) -> None:
        """Prepare for the snapshot; the BQL is held, and no lock of the device."""

    def post_save(self) -> None:
        """Clean up after the fields are written, or that has failed; not if ``pre_save`` failed."""

    def pre_load(self) -> None:
        """Prepare for a load, before the first field is read."""

    def post_load(self, version_id: int) -> None:
        """Finish a load after the commit; ``version_id`` is the version in the stream.

        No lock of the device is held.  An exception rolls the load back, as far as
        snapshots record the state.  Other threads may have seen the new state by then, so
        refuse a stream in ``@validate`` instead.

        A device that is loaded later, or the rest of the stream, can still make the load fail.
        What cannot be undone by a second call belongs in :meth:`load_complete`; what can be, in
        :meth:`load_rolled_back` too.
        """

    def load_complete(self, loaded: bool) -> None:
        """Act on a load that cannot fail any more.

        It is called after the last section of an incoming migration or a snapshot, before the
        machine runs, for each registered device in the order of registration, and at the end of
        ``load()``.  In a postcopy that is before the pages that are still to come.  The BQL is
        held, and no lock of the device.

        ``loaded`` is ``False`` if the stream has no section of the device: it was saved while
        :meth:`needed` returned ``False``, before the device was registered, or by a QEMU
        without it.  The device was then loaded from the defaults of its fields, except those
        with ``keep=True``, with all hooks and its own ``version_id``; if that fails, the device
        is unchanged, and QEMU's log has the error.

        An exception cannot change the load: in a VM it is logged, and ``load()`` raises it.
        """

    def load_rolled_back(self) -> None:
        """Act on a load that has failed after it had restored the device.

        The state is that from before the load again: bring what is outside of it, such as an
        open port, into agreement with it.  It is called for each device whose ``post_load`` was
        called, or would have been: by a VM's load in the reverse order of registration, once all
        devices are rolled back, and at once if the device's own ``post_load`` raises.  The BQL is
        held, and no lock of the device.  It is not called where QEMU ends, as it does before 9.1
        after an incoming migration that failed.

        An exception is logged, or added as a note to the one of ``post_load``.
        """

    def __setattr__(self, attribute: str, value: Any) -> None:
        hint = self.__parts__.get(attribute)
        if hint is None:
            object.__setattr__(self, attribute, value)
            return
        where = f"{type(self).__name__}.{attribute}"
        if self.__staging__ is not None:
            raise AttributeError(
                f"{where} cannot be replaced any more: C has its address since the first "
                "save, load or registration; change the state inside it"
            )
        object.__setattr__(self, attribute, self._as_declared(attribute, hint, value))

    def _as_declared(self, attribute: str, hint: Any, value: Any) -> Any:
        where = f"{type(self).__name__}.{attribute}"
        if isinstance(hint, StatesType):
            items = list(value)
            if len(items) != hint.length:
                raise DeclarationError(
                    f"{where}: {len(items)} elements for {hint.length}; give all of them, for a "
                    "VArray also those beyond its count"
                )
            value = tuple(_as_part(item, hint.hint, where) for item in items)
        elif get_origin(hint) is Migratable:
            value = _as_part(value, hint, where)
        elif hint is QEMUTimer and not isinstance(value, QEMUTimer):
            raise DeclarationError(f"{where}: {value!r} is no QEMUTimer")
        elif hint is not QEMUTimer and not isinstance(value, BqlCell):
            value = BqlCell(value)
        return value

    def __make_staging__(self) -> Staging:
        cls = type(self)
        kind = cls.__native_kind__
        if kind is not None and are_packed() and _hooks_of(cls) == _NO_HOOKS:
            known = kind.make(self)
            if known is not None:
                return known
        name = self.__description__[0]
        parts: list[Part] = []
        if self.__plain_class__.__layout__.fields:
            parts.append(PlainPart(name, self.__plain__))
        for attribute in self.__parts__:
            value = getattr(self, attribute)
            path = f"{name}.{self.__options__[attribute].name or attribute}"
            if isinstance(value, BqlCell | QEMUTimer):
                parts.append(CellPart(path, attribute, value))
            elif isinstance(value, tuple):
                parts += [
                    StatePart(f"{path}[{index}]", attribute, unwrap(item), index)
                    for index, item in enumerate(value)
                ]
            else:
                parts.append(StatePart(path, attribute, unwrap(value)))
        hooks = self._hooks()
        flags = self.__vmsd_flags__ | {"asks_needed": hooks is not None and bool(hooks.needed)}
        description = _description(self.Migrated, *self.__description__, **flags)
        made = make_staging(description, parts, hooks)
        states = [part for part in parts if isinstance(part, StatePart) and part.index is None]
        if type(made) is Staging and 0 < len(states) == len(parts) and are_packed():
            cls.__native_kind__ = NativeKind(description, states)
        return made

    def _hooks(self) -> Hooks | None:
        """Return the class's hooks by weak references, because the device owns the struct."""
        own: dict[str, Any] = {}
        for name in _HOOKS:
            if getattr(type(self), name) is not getattr(Device, name):
                own[name] = _weakly(getattr(self, name))
        if self.__validators__:
            own["validate"] = _weakly(self._validate)
        return Hooks(**own) if own else None

    def _validate(self, source: Any) -> None:
        for validator in self.__validators__:
            validator.check(self, self.__description__[0], source)


_hooks_of = attrgetter(*_HOOKS)
_NO_HOOKS = _hooks_of(Device)


def _weakly(method: Any) -> Any:
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        found = reference()
        if found is None:
            raise ReferenceError("the device of this hook was freed")
        return found(*arguments)

    return call


def _as_part(value: Any, hint: Any, where: str) -> Migratable[Any]:
    part = value if isinstance(value, Migratable) else Migratable(_wrap(value, hint))
    declared = _migrated_of(get_args(hint)[0])
    if migrated_class(part) is not declared:
        raise DeclarationError(
            f"{where} is declared to migrate as {declared.__name__}, but "
            f"{unwrap(part)!r} migrates as {migrated_class(part).__name__}"
        )
    return part


def _parts_type(hint: Any, where: str) -> WireType | None:
    """Return the wire type of a ``Migratable``, an array of them or a cell, else ``None``."""
    if get_origin(hint) is Migratable:
        return StructType(_migrated_of(get_args(hint)[0]))
    if get_origin(hint) is BqlCell:
        return wire_type(get_args(hint)[0], where)
    if hint is QEMUTimer:
        return wire_type(timer, where)
    if isinstance(hint, StatesType) and get_origin(hint.hint) is Migratable:
        element = StructType(_migrated_of(get_args(hint.hint)[0]))
        assert hint.length is not None
        return (CountedType if hint.counted else ArrayType)(element, hint.length)
    return None


def _plain_type(hint: Any, where: str) -> WireType:
    if find_wire_type(hint) is None and hasattr(hint, "Migrated"):
        raise DeclarationError(
            f"{where}: {hint.__name__} has a shape of its own; wrap it: "
            f"Migratable[Mutex[{hint.__name__}]]"
        )
    return wire_type(hint, where)


def _share_keys(cls: type[Device]) -> None:
    """Let all instances share the names of their attributes, which saves 270 bytes in each.

    CPython shares the names that one of the first thirty instances has, but a device makes
    its fields only when they are used: this makes an instance that has all names.
    """
    if hasattr(cls, "__del__"):
        return
    with contextlib.suppress(TypeError):  # an abstract class has no instances
        first = object.__new__(cls)
        plain = ("__plain__",) if cls.__plain_class__.__layout__.fields else ()
        for attribute in (*cls.__parts__, *plain, "__staging__"):
            object.__setattr__(first, attribute, None)


def _limit_counts(plain: dict[str, Any], migrated: dict[str, Any]) -> None:
    """Set the maximum of each plain field that counts Migratables to their number."""
    for attribute, (type_, options) in migrated.items():
        counted = isinstance(type_, CountedType) and attribute not in plain
        if not counted or options.num not in plain:
            continue
        count_type, count_options = plain[options.num]
        most = type_.length // options.multiply
        limits = {
            "minimum": max(0, count_options.minimum or 0),
            "maximum": min(most, most if count_options.maximum is None else count_options.maximum),
        }
        plain[options.num] = (count_type, FieldOptions(**{**vars(count_options), **limits}))


def _layout_class(
    cls_name: str, base: type[VMStruct], owner: type, fields: dict[str, Any], **keywords: Any
) -> type[VMStruct]:
    namespace: dict[str, Any] = {"__module__": owner.__module__, "__annotations__": {}}
    for attribute, (type_, options) in fields.items():
        namespace["__annotations__"][attribute] = type_
        namespace[attribute] = options
    made: Any = VMStructMeta(cls_name, (base,), namespace, **keywords)
    return made  # type: ignore[no-any-return]


def _migrated_of(hint: Any) -> type[Any]:
    """Return the ``Migrated`` of the state inside an annotation such as ``Arc[Mutex[Ticks]]``."""
    if get_origin(hint) in (Mutex, BqlRefCell, Arc):
        return _migrated_of(get_args(hint)[0])
    return migrated_class(get_origin(hint) or hint)


def _make(hint: Any) -> Any:
    """Return an object of an annotation's type with its initial state."""
    if isinstance(hint, StatesType):
        return tuple(_make(hint.hint) for _ in range(hint.length or 0))
    origin, args = get_origin(hint), get_args(hint)
    if origin is BqlCell:
        type_ = wire_type(args[0], "BqlCell")
        if isinstance(type_, StructType):
            return BqlCell(type_.cls())
        initial: Any = False if args[0] is bool else 0
        return BqlCell(type_.filled(initial))
    if origin in (Migratable, Mutex, BqlRefCell, Arc):
        return origin(_make(args[0]))
    return (origin or hint)()


def _wrap(value: Any, hint: Any) -> Any:
    """Return ``value`` wrapped in the annotation's cells that are not around it already."""
    origin = get_origin(hint)
    if origin not in (Migratable, Mutex, BqlRefCell, Arc) or isinstance(value, origin):
        return value
    inner = _wrap(value, get_args(hint)[0])
    return inner if origin is Migratable else origin(inner)


def _description(cls: type[Any], *members: Any, **flags: bool) -> VMStateDescription:
    of_class, key = descriptions_of(cls), (*members, are_packed())
    if key not in of_class:
        of_class[key] = VMStateDescription(cls, *members, owned=True, **flags)  # type: ignore[arg-type]
    return of_class[key]


def staging_of(obj: Any, name: str | None = None) -> Staging:
    """Return the staging struct of a device, or a new one of any other ``ToMigrationState``.

    ``name`` is the section's name for an object that is no device, by default the name of its
    ``Migrated``.
    """
    if isinstance(obj, Device):
        found = obj.__staging__
        if found is None:
            made = obj.__make_staging__()
            with _store_lock:
                found = obj.__staging__ or made
                object.__setattr__(obj, "__staging__", found)
        return found
    value = unwrap(obj)
    cls = migrated_class(value)
    layout = cls.__layout__
    section = check_name(layout.name if name is None else name, f"this {cls.__name__}")
    description = _description(cls, section, layout.version_id, layout.minimum_version_id)
    staging = make_staging(description, [StatePart(section, None, value)])
    staging.bridge_object.stands_for(value)
    return staging
