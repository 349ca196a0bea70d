# SPDX-License-Identifier: GPL-2.0-or-later
"""Generation of Python classes for the devices of a migration file, as a starting point.

    print(scaffold(read("vm.mig"), "mc146818rtc"))

The source is the description at the end of the stream: the names, types, lengths and order of
what was written.  It does not say which field counts the elements of another one and how many there
can be, which version added a field, or when a subsection is needed.  The classes load and save the
sections of this stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from ..errors import VMStateError
from ..stream.content import CONTENTS
from ..stream.decoder import Field
from ..stream.sections import Section, Stream
from .module import Class, Member, Module, Type
from .samples import Column, Numbers, UnlikeError, columns, elements_of
from .text import plain

__all__ = ["Made", "Scaffold", "scaffold", "sections_named"]

_SCALARS = {
    "bool": ("bool", 1),
    "timer": ("timer", 8),
    "CPU_Double_U": ("cpudouble", 8),
    **{f"uint{n}": (f"u{n}", n // 8) for n in (8, 16, 32, 64)},
    **{f"int{n}": (f"i{n}", n // 8) for n in (8, 16, 32, 64)},
}
# Types whose loaded value QEMU's code compares with the object's value.
_COMPARED = {
    "int32 le": ("i32_positive_le", 4),
    "int32 equal": ("Equal[i32]", 4),
    # QEMU's name of VMSTATE_UINT64_EQUAL.
    "int64 equal": ("Equal[u64]", 8),
    **{f"uint{n} equal": (f"Equal[u{n}]", n // 8) for n in (8, 16, 32, 64)},
}
_DEFAULTS = {"bool": "False", "timer": "-1", "cpudouble": "0.0"}
_LISTS = {"qtailq": "QTailQ", "qlist": "QList", "gtree": "GTree"}
_STRUCTS = ("struct", "vstruct", "tmp")
# What can count an array's elements, a buffer's bytes or a bitmap's bits, as in C.
_COUNTERS = ("uint8", "uint16", "uint32", "int32")
_BYTE_COUNTERS = ("uint32", "uint64", "int32")
_BIT_COUNTERS = ("uint32", "int32")

_ROOM = 16
"""The minimum capacity of a list: the stream has the number of its elements, but no limit."""

_MADE_BY = {
    "messagepack": "a dataclass declares it as Packed",
    "utf8": "a dataclass declares it as str",
}

UNDESCRIBED = "not described"
"""The type name for bytes that the stream does not describe."""


@dataclass
class Made:
    """The class of a section: its name, and the number of opaque bytes in it, by type."""

    section: Section
    cls: str
    opaque: Counter[str] = field(default_factory=Counter)


class Scaffold:
    """A module with a class for each of *sections*; ``text()`` returns its source."""

    def __init__(self, sections: Iterable[Section]) -> None:
        sections = list(sections)
        self._module = Module(_class_of(section) for section in sections)
        self._opaque: Counter[str] = Counter()
        self.made = [self._add(section) for section in sections]

    def _add(self, section: Section) -> Made:
        self._opaque = Counter()
        name = _class_of(section)
        if section.fields is None or section.vmsd_name is None:
            # The name that migration/savevm.c gives to the bytes of an old-style handler.
            size = section.payload_size
            members = [Member("data", self._bytes(size, UNDESCRIBED))] if size else []
        else:
            members = list(self._members([section.fields], name))
        cls = self._module.add(Class("Device", name, section.version_id or 0, tuple(members)))
        return Made(section, cls, self._opaque)

    def text(self, origin: str = "a migration file") -> str:
        """Return the module's source, formatted as by ``ruff format``; *origin* is the file."""
        sections = [(made.section, made.cls) for made in self.made]
        return self._module.text(origin, sections)

    # ------------------------------------------------------------ the fields

    def _members(self, structs: Sequence[Sequence[Field]], parent: str) -> Iterator[Member]:
        """Yield the fields of a class for all of these structs, each given by its fields.

        Raises ``UnlikeError`` if several structs have no class in common.
        """
        numbers = Numbers()
        for column in columns(structs):
            if counted := self._counted(column, parent, numbers):
                yield Member(column.name, counted)
            elif len(structs) == 1:
                yield from self._alone(column.present[0], parent)
            else:
                yield from self._same(column, parent, numbers)
            numbers.add(column)

    def _alone(self, one: Field, parent: str) -> Iterator[Member]:
        """Yield the fields for a field whose length is taken as fixed."""
        if one.type == "subsection":
            cls = self._nested([one], parent, one.name)
            made = Type(f"Subsection[{cls}]", options=("needed=True",))
            yield Member(one.name, made, one.name.removeprefix(f"{parent}/"))
        elif one.type not in _LISTS and elements_of(one)[0] is not one:
            yield from self._array(one, parent)
        elif one.size or one.type in _STRUCTS:
            yield Member(one.name, self._type(one, parent, one.name))

    def _same(self, column: Column, parent: str, numbers: Numbers) -> Iterator[Member]:
        """Yield the fields of a column without a counter, which has to be equal in all structs."""
        flag = ""
        if len(column.present) < len(column.found):
            flag = numbers.flag([one is not None for one in column.found])
            if not flag:
                raise UnlikeError(f"not all structs have {column.name}")
        if column.type in _STRUCTS or column.type in _LISTS:
            made = [self._alike(column, parent)]
        else:
            # Not a set, whose order differs from one process to the next.
            every = dict.fromkeys(tuple(self._alone(one, parent)) for one in column.present)
            if len(every) > 1:
                raise UnlikeError(f"{column.name} differs")
            made = list(next(iter(every)))
        for member in made:
            yield replace(member, type=replace(member.type, flag=flag)) if flag else member

    def _alike(self, column: Column, parent: str) -> Member:
        """Return the field for structs or lists, whose own structs can differ."""
        if column.type in _LISTS:
            return Member(column.name, self._list(column.present, parent))
        lengths = {len(elements_of(one)) for one in column.present}
        inner = [element for one in column.present for element in elements_of(one)]
        is_array = elements_of(column.present[0])[0] is not column.present[0]
        element = self._merged(inner, parent, column.name)
        if element is None or len(lengths) > 1 or (is_array and element.options):
            raise UnlikeError(f"{column.name} differs")
        (length,) = lengths
        return Member(column.name, _row(element, [], length) if is_array else element)

    # ------------------------------------------------------- counted fields

    def _counted(self, column: Column, parent: str, numbers: Numbers) -> Type | None:
        """Return the type of a field that a number before it counts, or ``None``."""
        kind, name = column.type, column.name
        if kind in _SCALARS:
            scalar, width = _SCALARS[kind]
            counts = column.counts(lambda one: one.size // width)
            counter = numbers.counter(name, counts, _COUNTERS)
            return _varray(Type(scalar), counter, max(counts)) if counter else None
        if (kind == "buffer" or kind in CONTENTS) and not any(
            one.children for one in column.present
        ):
            sizes = column.counts(lambda one: one.size)
            counter = numbers.counter(name, sizes, _BYTE_COUNTERS, varies=kind in CONTENTS)
            is_complete = len(column.present) == len(column.found)
            return _vbuffer(kind, counter, max(sizes)) if counter and is_complete else None
        if kind == "bitmap":
            sizes = column.counts(lambda one: one.size)
            counter = numbers.counter(name, sizes, _BIT_COUNTERS, _bits_fit)
            return _bitmap(counter, 8 * max(sizes)) if counter else None
        if kind == "struct":
            counts = column.counts(lambda one: len(elements_of(one)))
            counter = numbers.counter(name, counts, _COUNTERS)
            inner = [element for one in column.present for element in elements_of(one)]
            made = self._merged(inner, parent, name) if counter else None
            return _varray(made, counter, max(counts)) if made else None
        return None

    def _merged(self, structs: Sequence[Field], parent: str, place: str) -> Type | None:
        """Return the one type of structs that may differ in size; ``None`` if there is none."""
        if any(one.type not in _STRUCTS or one.value is not None for one in structs):
            return None
        mark, opaque = self._module.mark(), self._opaque.copy()
        try:
            return self._struct_type(structs[0], self._nested(structs, parent, place))
        except UnlikeError:
            self._module.forget(mark)
            self._opaque = opaque
            return None

    def _type(self, one: Field, parent: str, place: str) -> Type:
        """Return the type of *one*; *place* is the field's name, where *one* may be an element."""
        match one.type:
            case kind if kind in _SCALARS or kind in _COMPARED:
                return _numbers(one)
            case "nullptr":
                return _pointers([one], None)
            case "bitmap":
                return Type(f"Bitmap[Literal[{8 * one.size}]]")
            case "unused_buffer" if isinstance(one.value, bytes) and not any(one.value):
                return Type(f"Unused[Literal[{one.size}]]")
            case "buffer" | "unused_buffer":
                return Type(f"Buffer[Literal[{one.size}]]")
            case "qtailq" | "qlist" | "gtree":
                return self._list([one], parent)
            case "struct" | "vstruct" | "tmp" if one.value is None:
                return self._struct_type(one, self._nested([one], parent, place))
            case "struct":
                return self._bytes(one.size, UNDESCRIBED)
        return self._bytes(one.size, one.type)

    def _struct_type(self, one: Field, cls_name: str) -> Type:
        if one.type == "tmp":
            return Type(f"Tmp[{cls_name}]")
        if one.type == "vstruct":
            return Type(cls_name, options=(f"struct_version_id={one.version_id or 0}",))
        return Type(cls_name)

    def _nested(self, structs: Sequence[Field], parent: str, place: str) -> str:
        """Return the name of the class of structs; raise ``UnlikeError`` if they have several."""
        one = structs[0]
        if len({(each.type, each.vmsd_name, each.version_id) for each in structs}) > 1:
            raise UnlikeError(f"{place} has several descriptions")
        name = one.vmsd_name or one.name
        version = 1 if one.version_id is None else one.version_id
        members = tuple(self._members([each.children for each in structs], name))
        made = Class(one.type, name, version, members)
        places = [f"{parent} {name}"] if not name.startswith(parent) else []
        return self._module.add(made, *places, f"{parent} {place}")

    def _bytes(self, size: int, kind: str, count: int = 1) -> Type:
        self._opaque[kind] += size
        note = "The stream does not describe these bytes."
        if kind != UNDESCRIBED:
            of = f'Of the type "{plain(kind)}"' if count == 1 else f'{count} of "{plain(kind)}"'
            note = f"{of}, which only its device's code understands."
        return Type(f"Buffer[Literal[{size}]]", comment=note)

    # ------------------------------------------------------ arrays and lists

    def _array(self, one: Field, parent: str) -> Iterator[Member]:
        """Yield a field for the array or, if its elements differ, for each run of equal ones."""
        kinds = {child.type for child in one.children}
        if len(kinds) == 1 and all(isinstance(child.value, bytes) for child in one.children):
            # An array of any opaque type becomes one buffer.
            (kind,) = kinds
            if kind in ("buffer", "unused_buffer"):
                yield Member(one.name, Type(f"Buffer[Literal[{one.size}]]"))
            else:
                kind = UNDESCRIBED if kind == "struct" else kind
                yield Member(one.name, self._bytes(one.size, kind, len(one.children)))
            return
        runs = list(self._runs(one, parent))
        for first, elements, element in runs:
            name = one.name
            if len(runs) > 1:
                last = first + len(elements)
                name += f"[{first}]" if len(elements) == 1 else f"[{first}:{last}]"
            made = _several(elements, element)
            if len(runs) > 1 and first == 0:
                note = f"Not all elements of {plain(one.name)} are alike. {made.comment}"
                made = replace(made, comment=note.strip())
            yield Member(name, made)

    def _runs(self, array: Field, parent: str) -> Iterator[tuple[int, list[Field], Type | None]]:
        """Yield index, elements and type of each run; a run of only NULLs has no type."""
        begin = 0
        run: list[Field] = []
        of: Type | None = None
        present = [element for element in array.children if element.type != "nullptr"]
        common = self._merged(present, parent, array.name) if present else None
        for index, element in enumerate(array.children):
            null = element.type == "nullptr"
            known = None if null else common or self._type(element, parent, array.name)
            alike = known is None or of is None or (known == of and not known.options)
            if run and not (alike and _can_repeat(known) and _can_repeat(of)):
                yield begin, run, of
                begin, run, of = index, [], None
            run.append(element)
            of = known or of
        yield begin, run, of

    def _list(self, lists: Sequence[Field], parent: str) -> Type:
        one = lists[0]
        keys: list[Field] = []
        values: list[Field] = []
        for child in (child for each in lists for child in each.children):
            if one.type == "gtree":
                key, child = child.children
                keys.append(key)
            values.append(child)
        element = self._common(values, parent, one.name)
        key_type = self._common(keys, parent, f"{one.name} key")
        if element is None or key_type is None:
            if len(lists) > 1:
                raise UnlikeError(f"{one.name} has elements that differ")
            return self._bytes(one.size, f"{one.type} of elements that differ")
        note = ""
        if not values:
            note = "It is empty, so the stream does not describe its elements."
            key_type = "u64" if one.type == "gtree" else ""
            made = Class("struct", f"{one.name} element", 1, ())
            element = self._module.add(made, f"{parent} {made.name}")
        room = f"Literal[{max(_ROOM, *(len(each.children) for each in lists))}]"
        arguments = ", ".join([*([key_type] if key_type else []), element, room])
        return Type(f"{_LISTS[one.type]}[{arguments}]", comment=note)

    def _common(self, structs: Sequence[Field], parent: str, place: str) -> str | None:
        """Return the name of the class of a list's elements or keys, or ``None``.

        It is empty if there are none.
        """
        if not structs:
            return ""
        if all(one.type == "uint64" and not one.children for one in structs):
            return "u64"
        made = self._merged(structs, parent, place)
        return made.annotation if made else None


def _capacity(seen: int) -> int:
    return max(_ROOM, 1 << (seen - 1).bit_length())


def _guessed(seen: int, what: str) -> str:
    return f"TODO: up to {seen} {what} in this stream, which does not say how many there can be."


def _varray(element: Type, counter: str, seen: int) -> Type:
    annotation = f"VArray[{element.annotation}, Literal[{_capacity(seen)}]]"
    return Type(annotation, comment=_guessed(seen, "elements"), counter=("num", counter))


def _vbuffer(kind: str, counter: str, seen: int) -> Type:
    annotation = f"VBuffer[Literal[{_capacity(seen)}]]"
    note = _guessed(seen, "bytes")
    if kind in _MADE_BY:
        note = f'{note} Of the type "{kind}"; {_MADE_BY[kind]}.'
    return Type(annotation, comment=note, counter=("size", counter))


def _bitmap(counter: str, seen: int) -> Type:
    annotation = f"Bitmap[Literal[{_capacity(seen)}]]"
    return Type(annotation, comment=_guessed(seen, "bits"), counter=("size", counter))


def _bits_fit(bits: int, size: int) -> bool:
    return -(-bits // 64) * 8 == size


def _numbers(one: Field) -> Type:
    """Return a scalar, or an array of scalars."""
    name, width = _COMPARED.get(one.type) or _SCALARS[one.type]
    count = one.size // width
    compared = one.type in _COMPARED
    default = _DEFAULTS.get(name, "0")
    if count == 1 and not isinstance(one.value, tuple):
        return Type(name, str(one.value) if compared else default, compared)
    known = one.value if isinstance(one.value, tuple) else ()
    return _row(Type(name, default), [str(value) for value in known] if compared else [], count)


def _row(element: Type, values: Sequence[str], count: int) -> Type:
    """Return an array; *values*, if any, are what its elements are compared with."""
    annotation = f"Array[{element.annotation}, Literal[{count}]]"
    if values:
        alike = len(set(values)) == 1
        shown = f"[{values[0]}] * {count}" if alike else f"[{', '.join(values)}]"
        return Type(annotation, shown, needs_default=True)
    is_zero = element.default in ("0", "0.0", "False")
    return Type(annotation, "" if is_zero else element.default)


def _can_repeat(element: Type | None) -> bool:
    """Return whether an array can have such elements: scalars and structs."""
    return element is None or "[" not in element.annotation.removeprefix("Equal[")


def _several(elements: Sequence[Field], element: Type | None) -> Type:
    if element is None or any(one.type == "nullptr" for one in elements):
        return _pointers(elements, element)
    if len(elements) == 1:
        return element
    values = [element.default] * len(elements) if element.needs_default else []
    return _row(element, values, len(elements))


def _pointers(elements: Sequence[Field], element: Type | None) -> Type:
    note, of = "", "u8"
    if element is None:
        note = "All are NULL, so the stream does not describe their type."
    else:
        of = element.annotation
    value = (element and element.default) or f"{of}()"
    parts = []
    for null, run in groupby(elements, lambda one: one.type == "nullptr"):
        count = len(list(run))
        shown = "None" if null else value
        parts.append(f"[{shown}] * {count}" if count > 1 else f"[{shown}]")
    annotation = f"PointerArray[{of}, Literal[{len(elements)}]]"
    return Type(annotation, " + ".join(parts), needs_default=True, comment=note)


def _class_of(section: Section) -> str:
    return section.vmsd_name or section.name


def sections_named(stream: Stream, name: str | None = None) -> list[Section]:
    """Return the sections of devices in order, all or those of this name or name and instance.

    The name is a section's (``0000:00:03.0/e1000``, ``cpu/1``) or its description's
    (``e1000``).  Raises ``VMStateError`` with the existing names if none matches.
    """
    devices = [section for section in stream if section.kind == "full"]
    if name is None:
        return devices
    found = [
        one for one in devices if name in (one.name, one.vmsd_name, f"{one.name}/{one.instance_id}")
    ]
    if not found:
        names = ", ".join(dict.fromkeys(one.name for one in devices))
        raise VMStateError(
            f"{stream.path}: there is no section of a device {name!r}; it has {names or 'none'}"
        )
    return found


def scaffold(stream: Stream, section: str | None = None) -> str:
    """Return the source of a Python module: a ``Device`` class for each section of a device.

    *section* selects sections as in :func:`sections_named`, which raises ``VMStateError`` if there
    are none.  The module is typed, formatted and complete.  Types that only the device's code
    understands become bytes (``Buffer``), with a comment that names the type; a field that QEMU
    compares has the stream's value as its default; an array whose elements differ becomes
    several fields.
    """
    module = Scaffold(sections_named(stream, section))
    machine = stream.configuration.machine if stream.configuration else ""
    return module.text(f"a {machine} machine" if machine else "a migration file")
