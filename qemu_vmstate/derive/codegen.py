# SPDX-License-Identifier: GPL-2.0-or-later
"""Generates the code of one class's conversions: one call of C for each run of numbers."""

from __future__ import annotations

import dataclasses
import inspect
import struct
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import MethodType
from typing import Any

from ..bindings.loader import _state
from ..errors import InvalidError
from ..layout.vmstruct import VMStruct
from ..state.to_migration_state import undo_by_snapshot
from ..wire.field_options import FieldOptions
from ..wire.record import replace
from ..wire.types import SCALARS, ArrayType, Scalar
from .contents import copy_contents, refill_of, roll_contents_back
from .forms import ObjectParts
from .functions import Lines, compile_functions, readable
from .migrated import MigratedFields
from .number_list import NumberList, number_run
from .runtime import (
    as_kind_of,
    check_classes,
    copy_items,
    copy_rows,
    nothing,
    prepare_state,
    prepare_states,
    refilled,
    restore_all,
    roll_items_back,
    roll_rows_back,
    roll_states_back,
    snapshot_state,
    snapshot_states,
    undos_of_states,
)
from .spec import FieldConversion, Shape
from .undo_fields import prepare_array, prepare_form, undo_of_fields, unreadable
from .values import plain_value

__all__ = ["ClassWriter"]

_NAMES: dict[str, Any] = {
    "_InvalidError": InvalidError,
    "_states_of": _state.states_of,
    "_plain_value": plain_value,
    "_as_kind_of": as_kind_of,
    "_refilled": refilled,
    "_snapshot_state": snapshot_state,
    "_snapshot_states": snapshot_states,
    "_prepare_state": prepare_state,
    "_prepare_states": prepare_states,
    "_restore_all": restore_all,
    "_nothing": nothing,
    "_prepare_array": prepare_array,
    "_prepare_form": prepare_form,
    "_copy_items": copy_items,
    "_roll_items_back": roll_items_back,
    "_copy_rows": copy_rows,
    "_roll_rows_back": roll_rows_back,
    "_undos_of_states": undos_of_states,
    "_roll_states_back": roll_states_back,
    "_undo_by_snapshot": undo_by_snapshot,
    "_refill_of": refill_of,
    "_copy_contents": copy_contents,
    "_roll_contents_back": roll_contents_back,
    "_undo_of_fields": undo_of_fields,
    "_unreadable": unreadable,
    "_MethodType": MethodType,
    "_partial": partial,
}
"""The names that the generated code can use."""


_EXISTENCE = ("version_id", "field_exists", "keep")
"""The options that each field of a form gets."""

_MOST_VALUES = 24
"""CPython makes a list and a tuple of the arguments of a call that has more than 30."""


class ClassWriter:
    """Generates the code of one class, field by field; ``name`` is the name of its ``Migrated``."""

    def __init__(self, name: str) -> None:
        self.migrated = MigratedFields(name)
        self.numbers: NumberList | None = None
        self._names = dict(_NAMES)
        self._lines = Lines()
        self._fields: list[FieldConversion] = []
        self._run: dict[str, str] = {}  # the numbers of the run, with the values that are stored
        self._pending: list[str] = []  # statements that convert the loaded numbers of the run
        self._runs: list[list[str]] = []
        self._formed: dict[str, FieldConversion] = {}  # by the global name of its conversion
        self._count = 0

    def add(self, field: FieldConversion) -> None:
        """Generate the code of a field.

        Raises ``DeclarationError`` if its name on the wire is taken, or if its default is
        needed there and cannot be converted.
        """
        self._fields.append(field)
        self._names |= field.access.names
        {
            Shape.NUMBER: self._number,
            Shape.ARRAY: self._array,
            Shape.VALUE: self._value,
            Shape.STATES: self._states,
            Shape.FORM: self._form,
        }[field.shape](field)

    def functions(
        self, cls: type, migrated: type[VMStruct], *, inheritable: bool
    ) -> dict[str, Any]:
        """Return the functions by name; ``migrated`` is the layout class of ``self.migrated``.

        ``inheritable``: a subclass that has more fields inherits them too.
        """
        self._flush()
        offsets = {info.attribute: info.offset for info in migrated.__layout__.fields}
        self._names |= {self._offset(name): offset for name, offset in offsets.items()}
        for index, run in enumerate(self._runs):
            self._names[f"_pack{index}"] = number_run(migrated, run).pack
        self._names["_unpack"] = number_run(migrated, self._lines.reads).unpack
        for name, field in self._formed.items():
            assert field.form
            conversion = field.form.conversion(migrated, field.attribute, field.path)
            self._names |= {f"{name}_pack": conversion.pack, f"{name}_unpack": conversion.unpack}
            self.migrated.set_default(migrated, field, conversion)
        known = None if inheritable else weakref.WeakSet({cls})
        self._names |= {"__name__": cls.__module__, "_cls": cls, "_migrated": migrated}
        self._names |= {
            "_check": partial(check_classes, cls, migrated, known),
            "_fields": tuple(self._fields),
            "_own_version": migrated.__layout__.version_id,
        }
        assigned = all(
            field.access.attribute for field in self._fields if field.shape is not Shape.STATES
        )
        made = compile_functions(cls, self._lines, self._names, assigned=assigned)
        restore: Any = made["restore_migrated_state_mut"]
        restore.all_or_nothing = self._lines.only_assigns or not assigned
        restore.forgets_source = True
        prepare: Any = made["__prepare_migrated_state__"]
        prepare.commit_can_fail = not assigned
        if self._lines.only_numbers and self._runs and assigned:
            attributes = {field.access.attribute: field.attribute for field in self._fields}
            self.numbers = NumberList.of_class(migrated, attributes)
        return made

    def _const(self, value: Any) -> str:
        """Return a new global name for ``value``."""
        self._count += 1
        name = f"_c{self._count}"
        self._names[name] = value
        return name

    def _local(self) -> str:
        """Return the name of a new local variable."""
        self._count += 1
        return f"v{self._count}"

    def _offset(self, attribute: str) -> str:
        """Return the global name of a field's offset, which is not known yet."""
        return f"_offset_{attribute}"

    def _undo(self, previous: str, roll_back: str) -> None:
        """Add an undo: the statement ``roll_back``, with the value of ``previous`` for ``{}``."""
        local = self._local()
        self._lines.previous[local] = previous
        self._lines.roll_back.append(roll_back.format(local))

    def _undo_assignment(self, field: FieldConversion) -> None:
        self._undo(field.access.read, field.access.write)

    def _read_once(self, field: FieldConversion, lines: list[str]) -> str:
        """Return an expression that can be evaluated several times after ``lines``."""
        if field.access.attribute:
            return field.access.read
        local = self._local()
        lines.append(f"{local} = {field.access.read}")
        return local

    # Runs of numbers

    def _pack(self, attribute: str, value: str) -> str:
        """Add a number to the run; return the local variable that has it in a restore."""
        self._run[attribute] = value
        local = self._local()
        self._lines.reads[attribute] = local
        return local

    def _flush(self) -> None:
        """End the run of numbers, because what follows has another shape."""
        self._lines.only_numbers = self._lines.only_numbers and not self._runs
        names = list(self._run)
        for first in range(0, len(names), _MOST_VALUES):
            run = names[first : first + _MOST_VALUES]
            values = ", ".join(self._run[name] for name in run)
            self._lines.snapshot.append(f"_pack{len(self._runs)}(target, {values})")
            self._runs.append(run)
        self._run = {}
        self._lines.prepare += self._pending
        self._pending = []

    def _presence(self, field: FieldConversion, source: str) -> str:
        """Add the bool before a value that can be ``None``; return its local variable.

        ``source`` is the expression of the value.
        """
        self._lines.only_numbers = False
        attribute = f"has_{field.attribute}"
        names = ("default", "default_factory", *_EXISTENCE)
        options = FieldOptions(**{name: getattr(field.options, name) for name in names})
        self.migrated.add(
            attribute, SCALARS["?"], field.where, options, lambda value: value is not None
        )
        return self._pack(attribute, f"{source} is not None")

    def _number(self, field: FieldConversion) -> None:
        type_, codec = field.type, field.codec
        assert isinstance(type_, Scalar)
        source = self._read_once(field, self._lines.snapshot)
        has = self._presence(field, source) if field.has_presence else None
        convert = codec.to or _same
        to = f"{self._const(codec.to)}({{}})" if codec.to else "{}"
        absent = _nearest_to_zero(type_, field.options)
        if has:
            source = f"({absent} if {source} is None else {to.format(source)})"
        else:
            source = to.format(source)

        def to_wire(value: Any) -> Any:
            return absent if has and value is None else convert(value)

        self.migrated.add(field.attribute, type_, field.where, field.options, to_wire)
        local = self._pack(field.attribute, source)
        back = f"{self._const(codec.back)}({local})" if codec.back else local
        if has:
            back = f"{back} if {has} else None"
        if codec.to or codec.back or has:
            self._lines.only_numbers = False
            self._pending.append(f"{local} = {back}")
        self._lines.targets.append(field.access.read)
        self._lines.commit.append(field.access.write.format(local))
        self._undo_assignment(field)

    # Arrays and single values

    def _store(
        self,
        field: FieldConversion,
        back: str,
        commit: list[str],
        to: Callable[[Any], Any] | None = None,
        prepared: str = "{}",
    ) -> None:
        """Convert a field by an assignment to the layout class's attribute.

        ``back`` is the expression of the loaded value, ``prepared`` that of what ``commit`` needs,
        with ``{}`` for the loaded value, and ``commit`` the statements that store it, with ``{}``
        for what is prepared.
        """
        current = self._read_once(field, self._lines.snapshot)
        has = self._presence(field, current) if field.has_presence else None
        convert = to or _same

        def to_wire(value: Any) -> Any:
            return None if has and value is None else convert(value)

        self.migrated.add(field.attribute, field.type, field.where, field.options, to_wire)
        self._flush()
        self._lines.only_numbers = False
        value = f"{self._const(to)}({current})" if to else current
        store = f"target.{field.attribute} = {value}"
        local = self._local()
        result = f"{back} if {has} else None" if has else back
        self._lines.prepare.append(f"{local} = {prepared.format(result)}")
        if has:
            self._lines.snapshot += [f"if {current} is not None:", f"    {store}"]
        else:
            self._lines.snapshot.append(store)
        self._lines.commit += [line.format(local) for line in commit]
        self._undo_assignment(field)

    def _value(self, field: FieldConversion) -> None:
        self._store(
            field,
            f"{self._const(field.codec.back)}(source.{field.attribute})",
            [field.access.write],
            field.codec.to,
        )

    def _array(self, field: FieldConversion) -> None:
        type_, access = field.type, field.access
        assert isinstance(type_, ArrayType)
        path = self._const(field.path)
        if (
            not access.attribute
            or field.has_presence
            or field.options.clone
            or not isinstance(type_.element, Scalar)
        ):
            self._array_of_any_kind(field, path)
            return
        self.migrated.add(field.attribute, type_, field.where, field.options, _same)
        self._flush()
        self._lines.only_numbers = False
        self._lines.only_assigns = False
        local, current = self._local(), self._local()
        letter = "s" if type_.is_buffer else type_.element.kind
        unpack = self._const(struct.Struct(f"={type_.length}{letter}").unpack_from)
        loaded = f"{unpack}(source, {self._offset(field.attribute)})"
        self._lines.prepare.append(
            f"({local},) = {loaded}" if type_.is_buffer else f"{local} = [*{loaded}]"
        )
        usual, commit = (
            ("bytes", access.write) if type_.is_buffer else ("list", f"{current}[:] = {{}}")
        )
        self._lines.snapshot.append(f"target.{field.attribute} = {access.read}")
        self._lines.prepare += [
            f"{current} = {access.read_or_none}",
            f"if {current}.__class__ is not {usual}:",
            f"    {local} = _as_kind_of({current}, {local}, {path})",
        ]
        self._lines.commit += [
            f"if {current}.__class__ is {usual}:",
            f"    {commit.format(local)}",
            f"elif not _refilled({current}, {local}):",
            f"    {access.write.format(local)}",
        ]
        self._undo_assignment(field)
        self._undo(
            f"None if {access.read}.__class__ is bytes else _copy_items({access.read})",
            f"_roll_items_back({access.read}, {{}})",
        )

    def _array_of_any_kind(self, field: FieldConversion, path: str) -> None:
        """Convert an array that is nested, cloned, can be ``None`` or has a setter: no fast one."""
        access = field.access
        loaded = f"_plain_value({self._const(field.type)}, source.{field.attribute})"
        if field.options.clone:
            self._store(field, loaded, [access.write])
            return
        self._lines.only_assigns = False
        if not access.attribute:
            self._store(
                field,
                loaded,
                ["{}()"],
                prepared=f"_prepare_array({self._const(field)}, self, {{}})",
            )
            return
        filled = f"_as_kind_of({access.read_or_none}, {loaded}, {path})"
        self._store(
            field,
            filled,
            [f"if not _refilled({access.read_or_none}, {{}}):", f"    {access.write}"],
        )
        self._undo(f"_copy_rows({access.read})", f"_roll_rows_back({access.read}, {{}})")

    # Forms

    def _form(self, field: FieldConversion) -> None:
        form, access = field.form, field.access
        assert form
        exists = {name: getattr(field.options, name) for name in _EXISTENCE}
        for name, type_, options in form.fields(field.attribute):
            own_name = field.options.name if name == field.attribute else None
            options = replace(options, name=own_name, **exists)
            self.migrated.add(name, type_, field.where, options, _same)
        self._flush()
        self._lines.only_numbers = False
        name, local = f"_form_{field.attribute}", self._local()
        self._formed[name] = field
        self._lines.snapshot.append(f"{name}_pack({access.read}, target)")
        self._lines.prepare.append(f"{local} = {name}_unpack(source, version_id)")
        if not access.attribute:
            prepared = f"_prepare_form({self._const(field)}, self, {local})"
            self._lines.prepare.append(f"{local} = {prepared}")
            self._lines.commit.append(f"{local}()")
            return
        self._undo_assignment(field)
        if not form.replaces_contents:
            self._lines.commit.append(access.write.format(local))
            return
        current, refill, path = self._local(), self._local(), self._const(field.path)
        self._lines.only_assigns = False
        self._lines.prepare += [
            f"{current} = {access.read_or_none}",
            f"{refill} = _refill_of({current}, {local}, {path})",
        ]
        self._lines.commit += [
            f"if {refill}:",
            f"    {refill}({current}, {local})",
            "else:",
            f"    {access.write.format(local)}",
        ]
        self._undo(f"_copy_contents({access.read})", f"_roll_contents_back({access.read}, {{}})")

    def object_parts(self, cls: type, migrated: type[VMStruct]) -> ObjectParts | None:
        """Return what makes an object of a dataclass in a collection, or ``None``."""
        frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        parts = []
        for field in self._fields:
            # A frozen class refuses assignments, which are ordinary otherwise.
            if field.form is None or not (field.access.attribute or frozen):
                return None
            parts.append((field.attribute, field.form.conversion(migrated, field.attribute), 0))
        others = others_of(cls, {name for name, _, _ in parts})
        post_init = getattr(cls, "__post_init__", None)
        if others is None or _takes_more_than_self(post_init):
            return None
        return ObjectParts(cls, migrated, tuple(parts), others, post_init)

    # Nested states

    def _states(self, field: FieldConversion) -> None:
        type_ = field.type

        def to_wire(value: Any) -> Any:
            (cls,) = type_.structs()
            if not isinstance(type_, ArrayType):
                made = cls()
                snapshot_state(value, made, field.path)
                return made
            row = [cls() for _ in range(type_.length)]
            snapshot_states(value, row, field.path)
            return row

        self.migrated.add(field.attribute, type_, field.where, field.options, to_wire)
        self._flush()
        self._lines.only_numbers = False
        self._lines.has_states = True
        if numbers := NumberList.of_states(field.element):
            self._states_of_numbers(field, numbers)
            return
        attribute, value, path = field.attribute, field.access.read, self._const(field.path)
        many = "s" if isinstance(type_, ArrayType) else ""
        local = self._local()
        self._lines.only_assigns = False
        self._lines.snapshot.append(f"_snapshot_state{many}({value}, target.{attribute}, {path})")
        prepare = (
            f"{local} = _prepare_state{many}({value}, source.{attribute}, version_id, fallible, "
            f"{path})"
        )
        self._lines.prepare += readable([prepare], f"({self._const(field)},)")
        self._lines.commit.append(f"{local}()")
        listed = value if many else f"[{value}]"
        self._undo(f"_undos_of_states({listed}, own_version)", "_roll_states_back({})")

    def _states_of_numbers(self, field: FieldConversion, numbers: NumberList) -> None:
        """Convert derived states that have nothing but numbers, one or a list, by one call."""
        attribute, type_, path = field.attribute, field.type, self._const(field.path)
        value = field.access.read
        many = "s" if isinstance(type_, ArrayType) else ""
        listed = value if many else f"[{value}]"
        cls, run = self._const(field.element), self._const(numbers.run)
        count = type_.size // numbers.size
        fit = f"_states_of({listed}, {cls}, {count})"
        place = f"{self._offset(attribute)}, {numbers.size}"
        states, loaded = self._local(), self._local()
        self._lines.snapshot += [
            f"{states} = {fit}",
            "try:",
            f"    if {states}: {run}.pack_states({states}, target, {place})",
            "except _InvalidError:  # each by its own conversion, which reports the error",
            f"    {states} = None",
            f"if {states} is None:",
            f"    _snapshot_state{many}({value}, target.{attribute}, {path})",
        ]
        prepare = [
            f"{states} = {fit}",
            f"if {states} is None:",
            f"    {loaded} = _prepare_state{many}({value}, source.{attribute}, version_id, "
            f"fallible, {path})",
            "    undo = _partial(self.__undo_migrated_state__, _own_version)",
            "    # A signal can end their commit.",
            f"    fallible.insert(0, (undo, _nothing, _migrated, {path}))",
            "else:",
            f"    {loaded} = {run}.unpack_states(source, {place}, {count})",
        ]
        self._lines.prepare += readable(prepare, f"({self._const(field)},)")
        self._lines.commit += [
            f"if {states} is None:",
            f"    {loaded}()",
            "else:",
            f"    {run}[{states}] = {loaded}",
        ]
        values = ", ".join(f"e.{name}" for name in numbers.attributes)
        self._undo(
            f"() if ({states} := {fit}) is None else [(e, {values}) for e in {states}]",
            f"for e, {values} in {{}}: pass",
        )
        self._undo(
            f"() if {states} else _undos_of_states({listed}, own_version)",
            "_roll_states_back({})",
        )


def _same(value: Any) -> Any:
    return value


def _nearest_to_zero(type_: Scalar, options: FieldOptions) -> int:
    """Return the number on the wire for ``None``, after the bool that says so."""
    if type_.kind == "?":
        return False
    low = type_.low if options.minimum is None else options.minimum
    high = type_.high if options.maximum is None else options.maximum
    return min(max(0, low), high)


def _takes_more_than_self(post_init: Callable[..., Any] | None) -> bool:
    """Return whether ``__post_init__`` gets an ``InitVar``, which only the class's call has."""
    if post_init is None:
        return False
    try:
        inspect.signature(post_init).bind(None)
    except TypeError:
        return True
    return False


def others_of(cls: type, migrated: Iterable[str]) -> dict[str, Callable[[], Any]] | None:
    """Return functions for the values of a dataclass's other attributes in a new object.

    ``None``: one has no default, so that no object can be made.
    """
    found: dict[str, Callable[[], Any]] = {}
    for item in dataclasses.fields(cls):
        if item.name in migrated:
            continue
        if item.default_factory is not dataclasses.MISSING:
            found[item.name] = item.default_factory
        elif item.default is not dataclasses.MISSING:
            found[item.name] = partial(_same, item.default)
        elif not hasattr(cls, "__post_init__"):
            return None
    return found
