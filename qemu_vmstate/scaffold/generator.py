# SPDX-License-Identifier: GPL-2.0-or-later
"""Generation of Python classes for the devices of a migration file, as a starting point.

    print(scaffold(read("vm.mig"), "mc146818rtc"))

The source is the description at the end of the stream: the names, types, lengths and order of
what was written.  It does not say which field counts the elements of another one, which version
added a field, or when a subsection is needed.  The classes load and save the sections of this
stream.
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

_ROOM = 16
"""The minimum capacity of a list: the stream has the number of its elements, but no limit."""

_BUFFER_ROOM = 1 << 16
"""The minimum capacity of a buffer whose size is in the stream, in bytes."""

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
            members = list(self._members(section.fields, name))
        cls = self._module.add(Class("Device", name, section.version_id or 0, tuple(members)))
        return Made(section, cls, self._opaque)

    def text(self, origin: str = "a migration file") -> str:
        """Return the module's source, formatted as by ``ruff format``; *origin* is the file."""
        sections = [(made.section, made.cls) for made in self.made]
        return self._module.text(origin, sections)

    # ------------------------------------------------------------ the fields

    def _members(self, fields: Iterable[Field], parent: str) -> Iterator[Member]:
        before: Field | None = None
        for one in fields:
            size_field, before = before, one
            if one.type in CONTENTS and size_field and _is_size_of(size_field, one):
                yield Member(one.name, _content(one, size_field.name))
            elif one.type == "subsection":
                cls = self._nested(one, parent, one.name)
                made = Type(f"Subsection[{cls}]", options=("needed=True",))
                yield Member(one.name, made, one.name.removeprefix(f"{parent}/"))
            elif one.type not in _LISTS and one.children and one.children[0].name == "[0]":
                yield from self._array(one, parent)
            elif one.size or one.type in ("struct", "vstruct", "tmp"):
                yield Member(one.name, self._type(one, parent, one.name))

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
                return self._list(one, parent)
            case "struct" | "vstruct" | "tmp" if one.value is None:
                return self._struct_type(one, self._nested(one, parent, place))
            case "struct":
                return self._bytes(one.size, UNDESCRIBED)
        return self._bytes(one.size, one.type)

    def _struct_type(self, one: Field, cls_name: str) -> Type:
        if one.type == "tmp":
            return Type(f"Tmp[{cls_name}]")
        if one.type == "vstruct":
            return Type(cls_name, options=(f"struct_version_id={one.version_id or 0}",))
        return Type(cls_name)

    def _nested(self, one: Field, parent: str, place: str) -> str:
        name = one.vmsd_name or one.name
        version = 1 if one.version_id is None else one.version_id
        members = tuple(self._members(one.children, name))
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
        for index, element in enumerate(array.children):
            null = element.type == "nullptr"
            known = None if null else self._type(element, parent, array.name)
            alike = known is None or of is None or (known == of and not known.options)
            if run and not (alike and _can_repeat(known) and _can_repeat(of)):
                yield begin, run, of
                begin, run, of = index, [], None
            run.append(element)
            of = known or of
        yield begin, run, of

    def _list(self, one: Field, parent: str) -> Type:
        keys: list[str] = []
        values: list[str] = []
        for child in one.children:
            if one.type == "gtree":
                key, child = child.children
                direct = key.type == "uint64" and not key.children
                keys.append("u64" if direct else self._nested(key, parent, f"{one.name} key"))
            values.append(self._nested(child, parent, one.name))
        if len(set(keys)) > 1 or len(set(values)) > 1:
            return self._bytes(one.size, f"{one.type} of elements that differ")
        note = ""
        if not values:
            note = "It is empty, so the stream does not describe its elements."
            keys = ["u64"] if one.type == "gtree" else []
            element = Class("struct", f"{one.name} element", 1, ())
            values = [self._module.add(element, f"{parent} {element.name}")]
        room = f"Literal[{max(_ROOM, len(values))}]"
        arguments = ", ".join([*keys[:1], values[0], room])
        return Type(f"{_LISTS[one.type]}[{arguments}]", comment=note)


def _is_size_of(size: Field, one: Field) -> bool:
    """Return whether the field before *one* is the number of its bytes, as of a VBUFFER."""
    return size.type == "uint32" and size.value == one.size


def _content(one: Field, size: str) -> Type:
    """Return a buffer of any length, for bytes that ``inspect`` shows decoded."""
    room = max(_BUFFER_ROOM, 1 << (one.size - 1).bit_length())
    note = f'Of the type "{one.type}"; {_MADE_BY[one.type]}.'
    return Type(f"VBuffer[Literal[{room}]]", comment=note, size=size)


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
