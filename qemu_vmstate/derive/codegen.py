# SPDX-License-Identifier: GPL-2.0-or-later
"""Generates the source of one class's conversions: a struct pack for each run of numbers."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import struct
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

from ..bindings.loader import _state
from ..errors import BqlError, DeclarationError, InvalidError
from ..layout.descriptors import compact
from ..layout.vmstruct import VMStruct, VMStructMeta
from ..state.bql import bql_lock_guard
from ..state.to_migration_state import Former
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.types import SCALARS, ArrayType, Scalar, WireType, structs_of
from .packing import _Numbers, _packer, _Run
from .runtime import (
    _UNFIT,
    _all_are,
    _check,
    _Codec,
    _formers_of_states,
    _items,
    _like,
    _plain,
    _prepare_state,
    _prepare_states,
    _put_items_back,
    _put_numbers_back,
    _put_rows_back,
    _put_states_back,
    _refill,
    _restore_all,
    _rows,
    _snapshot_state,
    _snapshot_states,
    _unfit_value,
)

if TYPE_CHECKING:
    from .fields import _Field


_METHODS = ("snapshot_migration_state", "restore_migrated_state_mut")
_MORE_METHODS = ("_prepare_migrated_state", "_former_migrated_state", "_put_back_migrated_state")


class _Writer:
    """Collects the source of one class's functions, and what it refers to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fields: dict[str, tuple[WireType, FieldOptions]] = {}
        self._names: dict[str, Any] = {
            "_unfit_value": _unfit_value,
            "_raw": _state.raw,
            "_plain": _plain,
            "_like": _like,
            "_refill": _refill,
            "_snapshot_state": _snapshot_state,
            "_snapshot_states": _snapshot_states,
            "_prepare_state": _prepare_state,
            "_prepare_states": _prepare_states,
            "_restore_all": _restore_all,
            "_all_are": _all_are,
            "_put_numbers_back": _put_numbers_back,
            "_items": _items,
            "_put_items_back": _put_items_back,
            "_rows": _rows,
            "_put_rows_back": _put_rows_back,
            "_formers_of_states": _formers_of_states,
            "_put_states_back": _put_states_back,
            "_Former": Former,
            "_unfit": _UNFIT,
        }
        self._defaults: dict[str, Any] = {}  # what a new object has, in the form of the wire
        self._snapshot: list[str] = []
        self._prepare: list[str] = []
        self._commit: list[str] = []
        self._attributes: list[str] = []  # that a restore assigns to
        self._former: list[str] = []
        self._put_back: list[str] = []
        self._reads: list[tuple[str, str, int, str]] = []  # attribute, letters, bytes, local
        self._plain_run = True  # nothing but numbers as they are
        self._has_states = False
        self.numbers: _Numbers | None = None
        self._run: _Run = []
        self._pending: list[str] = []
        self._runs: list[_Run] = []
        self._count = 0

    def _const(self, value: Any) -> str:
        self._count += 1
        name = f"_c{self._count}"
        self._names[name] = value
        return name

    def _local(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _add(
        self,
        attribute: str,
        type_: WireType,
        where: str,
        options: FieldOptions,
        to: Callable[[Any], Any],
    ) -> None:
        """A field of the layout class; ``to`` makes the wire's value of a live one, or ``None``."""
        if attribute in self.fields:
            raise DeclarationError(
                f"{where}: the field {attribute} is another's on the wire; rename one of them"
            )
        made = options.of_wire(default=NO_OPTIONS.default)
        self.fields[attribute] = (type_, made)
        if not options.has_default:
            return
        asked = options.given("version_id", "field_exists", "minimum", "maximum")
        try:
            default = _default_on_wire(options, to)
        except Exception as exc:
            if not asked:
                return  # a placeholder; a snapshot says so if it is still there
            raise DeclarationError(
                f"{where}: an older stream or a limit asks for its default, which has no form on "
                f"the wire ({exc}); give it another"
            ) from exc
        if default is None:
            return
        if asked:
            self.fields[attribute] = (type_, options.of_wire(default=default))
        else:
            self._defaults[attribute] = default

    def _undo(self, kept: str, put_back: str) -> None:
        """``kept``: an expression; ``put_back``: a statement, its value as ``{}``."""
        self._former.append(kept)
        self._put_back.append(put_back.format(f"former[{len(self._put_back)}]"))

    def _undo_assignment(self, attribute: str) -> None:
        self._attributes.append(attribute)
        self._undo(f"self.{attribute}", f"self.{attribute} = {{}}")

    def _pack(self, attribute: str, type_: Scalar, value: str) -> str:
        """Add a number to the run; returns the local that has it on a restore."""
        fast = value
        options = self.fields[attribute][1]
        if options.given("minimum", "maximum"):
            # struct knows the type's limits only.
            low = type_.low if options.minimum is None else options.minimum
            high = type_.high if options.maximum is None else options.maximum
            held = self._local()
            fits = f"type({held} := {value}) is int and {low} <= {held} <= {high}"
            fast = f"({held} if {fits} else _unfit_value())"
        if type_.kind == "?":
            # struct takes the truth of anything; a field takes True, False, 1 and 0.
            held = self._local()
            fast = f"({held} if ({held} := {value}) is True or {held} is False else _unfit_value())"
        self._run.append((attribute, type_, fast, value))
        return self._read(attribute, type_.kind, type_.size)

    def _read(self, attribute: str, letters: str, size: int) -> str:
        """The local that has it on a restore, of struct's ``letters``."""
        local = self._local()
        self._reads.append((attribute, letters, size, local))
        return local

    def scalar(self, field: _Field, type_: Scalar, codec: _Codec, *, presence: bool) -> None:
        """A number, perhaps converted, perhaps after a bool that tells if there is one."""
        source = f"self.{field.attribute}"
        has = self._presence(field) if presence else None
        convert = codec.to or _same
        to = f"{self._const(codec.to)}({{}})" if codec.to else "{}"
        absent = _nearest_to_zero(type_, field.options)
        if has:
            source = f"({absent} if {source} is None else {to.format(source)})"
        else:
            source = to.format(source)

        def on_wire(value: Any) -> Any:
            return absent if has and value is None else convert(value)

        self._add(field.attribute, type_, field.where, field.options, on_wire)
        local = self._pack(field.attribute, type_, source)
        back = f"{self._const(codec.back)}({local})" if codec.back else local
        if has:
            back = f"{back} if {has} else None"
        if codec.to or codec.back or has:
            self._plain_run = False
            self._pending.append(f"{local} = {back}")
        self._commit.append(f"self.{field.attribute} = {local}")
        self._undo_assignment(field.attribute)

    def _presence(self, field: _Field) -> str:
        self._plain_run = False
        attribute = f"has_{field.attribute}"
        names = ("default", "default_factory", "version_id", "field_exists", "keep")
        options = FieldOptions(**{name: getattr(field.options, name) for name in names})
        self._add(attribute, SCALARS["?"], field.where, options, lambda value: value is not None)
        return self._pack(attribute, SCALARS["?"], f"self.{field.attribute} is not None")

    def _flush(self) -> None:
        """End the run of numbers: what follows has another shape."""
        self._plain_run = self._plain_run and not self._runs
        if self._run:
            index = len(self._runs)
            self._runs.append(self._run)
            fast = ", ".join(item[2] for item in self._run)
            self._snapshot += [
                "try:",
                f"    _pack{index}(@target@, _at{index}, {fast})",
                "except _unfit:  # one by one, each with its own sentence",
                *(f"    target.{item[0]} = {item[3]}" for item in self._run),
            ]
            self._run = []
        self._prepare += self._pending
        self._pending = []

    def _store(
        self,
        field: _Field,
        type_: WireType,
        back: str,
        commit: str,
        to: Callable[[Any], Any] | None = None,
    ) -> None:
        """What is stored through the layout class's own attribute."""
        has = self._presence(field) if field.optional else None
        convert = to or _same

        def on_wire(value: Any) -> Any:
            return None if has and value is None else convert(value)

        self._add(field.attribute, type_, field.where, field.options, on_wire)
        self._flush()
        self._plain_run = False
        value = f"{self._const(to)}(self.{field.attribute})" if to else f"self.{field.attribute}"
        store = f"target.{field.attribute} = {value}"
        local = self._local()
        self._prepare.append(f"{local} = {back} if {has} else None" if has else f"{local} = {back}")
        if has:
            self._snapshot += [f"if self.{field.attribute} is not None:", f"    {store}"]
        else:
            self._snapshot.append(store)
        self._commit.append(commit.format(local))
        self._undo_assignment(field.attribute)

    def array(self, field: _Field, type_: ArrayType) -> None:
        """Numbers in a row: a list, a tuple, bytes or a bytearray."""
        attribute = field.attribute
        path = self._const(field.path)
        if field.optional or field.options.clone or not isinstance(type_.element, Scalar):
            self._rows(field, type_, path)
            return
        self._add(attribute, type_, field.where, field.options, _same)
        self._flush()
        self._plain_run = False
        local, live = self._local(), self._local()
        if type_.is_buffer:
            local = self._read(attribute, f"{type_.length}s", type_.length)
        else:
            unpack = self._const(struct.Struct(f"={type_.length}{type_.element.kind}").unpack_from)
            offset = self._offset(attribute)
            self._prepare.append(f"{local} = [*{unpack}(source, {offset})]")
        usual, commit = ("bytes", "self.{} = {}") if type_.is_buffer else ("list", "{2}[:] = {1}")
        self._snapshot.append(f"target.{attribute} = self.{attribute}")
        self._prepare += [
            f"{live} = getattr(self, {attribute!r}, None)",
            f"if {live}.__class__ is not {usual}:",
            f"    {local} = _like({live}, {local}, {path})",
        ]
        self._commit += [
            f"if {live}.__class__ is {usual}:",
            f"    {commit.format(attribute, local, live)}",
            "else:",
            f"    _refill(self, {attribute!r}, {local})",
        ]
        self._undo_assignment(attribute)
        self._undo(
            f"None if self.{attribute}.__class__ is bytes else _items(self.{attribute})",
            f"_put_items_back(self.{attribute}, {{}})",
        )

    def _rows(self, field: _Field, type_: ArrayType, path: str) -> None:
        attribute = field.attribute
        fresh = f"_plain({self._const(type_)}, source.{attribute})"
        if field.options.clone:
            self._store(field, type_, fresh, f"self.{attribute} = {{}}")
            return
        live = f"_like(getattr(self, {attribute!r}, None), {fresh}, {path})"
        self._store(field, type_, live, f"_refill(self, {attribute!r}, {{}})")
        self._undo(f"_rows(self.{attribute})", f"_put_rows_back(self.{attribute}, {{}})")

    def _offset(self, attribute: str) -> str:
        """The name of where the field will lie."""
        return f"_offset_{attribute}"

    def value(self, field: _Field, type_: WireType, codec: _Codec) -> None:
        """What a converter makes of the attribute, and back."""
        attribute = field.attribute
        self._store(
            field,
            type_,
            f"{self._const(codec.back)}(source.{attribute})",
            f"self.{attribute} = {{}}",
            codec.to,
        )

    def _numbers(self, field: _Field, type_: ArrayType, element: _Numbers, path: str) -> None:
        """A list of derived states that are nothing but numbers: in one loop."""
        attribute = field.attribute
        cls, offset = self._const(field.element), self._offset(attribute)
        fit = f"_all_are(self.{attribute}, {cls}, {type_.length})"
        values = ", ".join(f"e.{name}" for name in element.attributes)
        pack = self._const(element.packer.pack_into)
        self._snapshot += [
            "try:",
            f"    {fit} or _unfit_value()",
            f"    at, memory = {offset}, @whole@",
            f"    for e in self.{attribute}:",
            f"        {pack}(@memory@, at, {', '.join(element.packed)})",
            f"        at += {element.packer.size}",
            "except _unfit:  # one by one, each with its own sentence",
            f"    _snapshot_states(self.{attribute}, target.{attribute}, {path})",
        ]
        states, other = self._local(), self._local()
        self._prepare += [
            f"{states} = self.{attribute}",
            f"{other} = None if {fit} else _prepare_states({states}, source.{attribute}, "
            f"version_id, foreign, {path})",
        ]
        unpack = self._const(element.packer.iter_unpack)
        memory = f"memoryview(source)[{offset}:{offset} + {type_.size}]"
        self._commit += [
            f"if {other} is None:",
            f"    for e, ({values},) in zip({states}, {unpack}({memory})):",
            "        pass",
            "else:",
            f"    {other}()",
        ]
        self._undo(
            f"(self.{attribute}[:], [x for e in self.{attribute} for x in ({values},)]) "
            f"if {fit} else _formers_of_states(self.{attribute})",
            f"_put_numbers_back({{}}, {len(element.attributes)}, own_version)",
        )

    def states(self, field: _Field, type_: WireType) -> None:
        """A ``ToMigrationState``, or a list of them; restored in place."""

        def on_wire(value: Any) -> Any:
            (cls,) = structs_of(type_)
            if not isinstance(type_, ArrayType):
                made = cls()
                _snapshot_state(value, made, field.path)
                return made
            row = [cls() for _ in range(type_.length)]
            _snapshot_states(value, row, field.path)
            return row

        self._add(field.attribute, type_, field.where, field.options, on_wire)
        self._flush()
        self._plain_run = False
        self._has_states = True
        path = self._const(field.path)
        many = "s" if isinstance(type_, ArrayType) else ""
        numbers = _Numbers.of_class(field.element)
        if isinstance(type_, ArrayType) and numbers:
            self._numbers(field, type_, numbers, path)
            return
        attribute = field.attribute
        local = self._local()
        self._snapshot.append(
            f"_snapshot_state{many}(self.{attribute}, target.{attribute}, {path})"
        )
        self._prepare.append(
            f"{local} = _prepare_state{many}(self.{attribute}, source.{attribute}, version_id, "
            f"foreign, {path})"
        )
        self._commit.append(f"{local}()")
        listed = f"self.{attribute}" if many else f"[self.{attribute}]"
        self._undo(f"_formers_of_states({listed})", "_put_states_back({}, own_version)")

    def layout_class(self, cls: type, keywords: dict[str, Any]) -> type[VMStruct]:
        """The ``Migrated`` of ``cls``; found, and so pickled, as its attribute."""
        namespace: dict[str, Any] = {
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.Migrated",
            "__doc__": f"The migrated form of ``{cls.__name__}``.",
            "__annotations__": {name: type_ for name, (type_, _) in self.fields.items()},
            **{name: options for name, (_, options) in self.fields.items()},
        }
        made: Any = VMStructMeta(self.name, (VMStruct,), namespace, **keywords)
        if not self._defaults:
            return made  # type: ignore[no-any-return]
        as_new = made()
        for name, default in self._defaults.items():
            # Of one that does not fit a snapshot says so, if it is still there.
            with contextlib.suppress(InvalidError):
                setattr(as_new, name, default)
        made.__image__ = compact(bytes(as_new))
        return made  # type: ignore[no-any-return]

    def functions(self, cls: type, migrated: type[VMStruct]) -> dict[str, Any]:
        """The methods, by name."""
        self._flush()
        offsets = {info.attribute: info.offset for info in migrated.__layout__.fields}
        self._names |= {self._offset(name): offset for name, offset in offsets.items()}
        for index, run in enumerate(self._runs):
            packer = _packer([(offsets[item[0]], item[1].kind, item[1].size) for item in run])
            self._names |= {
                f"_at{index}": offsets[run[0][0]],
                f"_pack{index}": packer.pack_into,
            }
        if self._reads:
            reads = [(offsets[item[0]], item[1], item[2]) for item in self._reads]
            self._names |= {"_first": reads[0][0], "_unpack": _packer(reads).unpack_from}
        checker = partial(_check, cls, migrated, weakref.WeakSet({cls}))
        self._names |= {"__name__": cls.__module__, "_cls": cls, "_migrated": migrated}
        self._names["_check"] = checker
        own_way = vars(object)["__setattr__"]
        assigned = inspect.getattr_static(cls, "__setattr__") is own_way and not any(
            _is_computed(cls, name) for name in self._attributes
        )
        source = self._source(assigned, migrated.__checked__)
        filename = _remember(cls, source)
        exec(compile(source, filename, "exec"), self._names)
        made = {name: self._names[name] for name in (*_METHODS, *_MORE_METHODS)}
        for name, function in made.items():
            function.__qualname__ = f"{cls.__qualname__}.{name}"
        # Nothing but assignments after the last that can fail: there is nothing to undo.
        simple = all(line.startswith("self.") for line in self._commit)
        restore = made["restore_migrated_state_mut"]
        restore.all_or_nothing = simple and assigned
        restore.keeps_nothing = True
        if self._plain_run and self._runs and assigned:
            size = migrated.__layout__.size
            self.numbers = _Numbers.of(self._runs[0], offsets, size)
        return made

    def _source(self, assigned: bool, checked: bool) -> str:
        """``assigned``: what is assigned to an attribute is what it then has; ``checked``: the
        buffer of ``target`` is only to be read.
        """

        def body(lines: Iterable[str], indent: str = "    ") -> str:
            return "".join(f"{indent}{line}\n" for line in lines)

        # A view of raw memory must not outlive the call, not even in a traceback.
        known = {
            "@target@": "_raw(target)" if checked else "target",
            "@whole@": "None" if checked else "memoryview(target)",
            "@memory@": "_raw(target)" if checked else "memory",
        }

        def filled_in(line: str) -> str:
            for name, value in known.items():
                line = line.replace(name, value)
            return line

        check = "if self.__class__ is not _cls or {0}.__class__ is not _migrated:"
        snapshot = [
            '"""Fill ``target`` with a copy of this state."""',
            check.format("target"),
            "    _check(self, target)",
            *map(filled_in, self._snapshot),
        ]
        locals_ = "".join(f"{item[3]}, " for item in self._reads)
        read = [f"{locals_}= _unpack(source, _first)"] if locals_ else []
        restore = [
            '"""Take ``source`` over: all of it, or nothing and raise."""',
            check.format("source"),
            "    _check(self, source)",
        ]
        if self._has_states:
            restore += [
                "foreign = []",
                "commit = _prepare_migrated_state(self, source, version_id, foreign)",
                "_restore_all(foreign, version_id, commit)",
            ]
        elif self._plain_run and self._reads:
            attributes = "".join(f"self.{item[0]}, " for item in self._reads)
            restore.append(f"{attributes}= _unpack(source, _first)")
        else:
            restore += [*read, *self._prepare, *self._commit]
        prepare = [
            *read,
            *self._prepare,
            "def commit():",
            *(f"    {line}" for line in self._commit or ["pass"]),
            "return commit",
        ]
        former = "".join(f"{kept}, " for kept in self._former)
        keep = [
            '"""What undoes the next restore."""',
            "if self.__class__ is not _cls:",
            "    return _Former(self)",
            "try:",
            f"    return ({former})",
            "except Exception:  # one is missing, or keeps more than is known of",
            "    return _Former(self)",
        ]
        if not assigned:
            keep = ["return _Former(self)"]
        put_back = [
            '"""Make it again what it was when ``former`` was made."""',
            "if former.__class__ is _Former:",
            "    former.put_back(own_version)",
            "    return",
            *self._put_back,
        ]
        return (
            f"def snapshot_migration_state(self, target):\n{body(snapshot)}\n\n"
            f"def restore_migrated_state_mut(self, source, version_id):\n{body(restore)}\n\n"
            "def _prepare_migrated_state(self, source, version_id, foreign):\n"
            f"{body(prepare)}\n\n"
            f"def _former_migrated_state(self):\n{body(keep)}\n\n"
            f"def _put_back_migrated_state(self, former, own_version):\n{body(put_back)}"
        )


def _is_computed(cls: type, name: str) -> bool:
    """Whether the attribute is a property or the like, and not the object's own."""
    found = inspect.getattr_static(cls, name, None)
    return hasattr(type(found), "__set__") and not isinstance(found, MemberDescriptorType)


def _same(value: Any) -> Any:
    return value


def _default_on_wire(options: FieldOptions, to: Callable[[Any], Any]) -> Any:
    try:
        return to(options.make_default())
    except BqlError:  # there is a BqlRefCell in it
        with bql_lock_guard():
            return to(options.make_default())


def _nearest_to_zero(type_: Scalar, options: FieldOptions) -> int:
    """What is on the wire for the number that there is not."""
    if type_.kind == "?":
        return False
    low = type_.low if options.minimum is None else options.minimum
    high = type_.high if options.maximum is None else options.maximum
    return min(max(0, low), high)


def _remember(cls: type, source: str) -> str:
    """Let tracebacks show the generated source as long as the class lives."""
    base = f"{cls.__module__}.{cls.__qualname__}"
    filename, count = f"<derived ToMigrationState of {base}>", 1
    while filename in linecache.cache:
        count += 1
        filename = f"<derived ToMigrationState of {base}, {count}>"
    # No time of change: checkcache() would look for a file of that name.
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    weakref.finalize(cls, linecache.cache.pop, filename, None)
    return filename
