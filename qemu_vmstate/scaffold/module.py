# SPDX-License-Identifier: GPL-2.0-or-later
"""The source of a module of ``VMStruct`` and ``Device`` classes, without duplicates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..stream.sections import Section
from ..wire import annotations as vocabulary
from ..wire.types import LONGEST_NAME
from .text import (
    WIDTH,
    attribute_name,
    call,
    class_name,
    comment,
    docstring,
    imports,
    plain,
    quoted,
    unique,
)

__all__ = ["ATTRIBUTES", "Class", "Member", "Module", "Type"]

# Every name that a generated module has, or may have.
_VOCABULARY = {
    *vocabulary.__all__,
    *("Device", "Literal", "SECTIONS", "VMStruct", "bool", "field", "zeroed"),
}
ATTRIBUTES = {
    "Device": {
        *("Migrated", "needed", "pre_save", "post_save", "pre_load", "post_load"),
        *("load_complete", "load_rolled_back"),
    },
    "VMStruct": {
        *("Migrated", "restore_migrated_state_mut", "snapshot_migration_state"),
        "to_migration_state",
    },
}
"""The classes' own attributes; listed here, because importing the classes needs compiled parts."""


@dataclass(frozen=True)
class Type:
    """The declaration of a field: its annotation, and the arguments of ``field()``."""

    annotation: str
    default: str = ""
    """Empty if the type's own default is right."""
    needs_default: bool = False
    """Whether a load depends on the default: QEMU compares it, or looks for NULLs in it."""
    options: tuple[str, ...] = ()
    comment: str = ""
    counter: tuple[str, str] | None = None
    """``num`` or ``size``, and the name of the field that counts the elements or bytes."""
    flag: str = ""
    """The name of the bool without which the stream lacks the field."""


@dataclass(frozen=True)
class Member:
    """A field of a class; ``attribute`` is its attribute, if that is not to be its name."""

    name: str
    type: Type
    attribute: str = ""


@dataclass(frozen=True)
class Class:
    """A class of the module; ``kind`` is Device, or the stream's type of a struct."""

    kind: str
    name: str
    version_id: int
    members: tuple[Member, ...]

    @property
    def base(self) -> str:
        """The name of the base class."""
        return "Device" if self.kind == "Device" else "VMStruct"


class Module:
    """Classes in the order of their dependencies."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._reserved = {class_name(name) for name in devices}
        self._names: dict[tuple[object, ...], str] = {}
        self._classes: dict[str, Class] = {}

    def add(self, cls: Class, *places: str) -> str:
        """Add a class, unless an equal one exists, and return its name.

        *places* are alternative names, for when another class has its own.
        """
        key = (cls.base, cls.name, cls.version_id, cls.members)
        if key not in self._names:
            taken = _VOCABULARY | self._classes.keys()
            if cls.base != "Device":
                taken |= self._reserved
            names = [class_name(name) for name in (cls.name, *places)]
            name = next((name for name in names if name not in taken), names[0])
            # E1000No2, because E10002 would look like another device.
            self._names[key] = name = unique(name, taken, "No")
            self._classes[name] = cls
        return self._names[key]

    def text(self, origin: str, sections: Sequence[tuple[Section, str]]) -> str:
        """Return the source: the classes of *sections*, and all classes that they need."""
        needed = self._needed({cls for _, cls in sections})
        used: set[str] = set()
        classes: list[str] = []
        for name in (name for name in self._classes if name in needed):
            of = [section for section, cls in sections if cls == name]
            classes += ["", "", *self._written(name, of, used)]
        lines = docstring(
            f"The devices of {plain(origin)}, to start from.\n\n"
            "Each class loads and saves its section as it stands there. The stream does not "
            "say which field counts another's elements and how many there can be (VArray, "
            "VBuffer: both are guesses), which version added a field, or when a subsection is "
            "needed.",
            "",
        )
        lines.append("")
        if "Literal" in used:
            lines += ["from typing import Literal", ""]
        lines += imports("qemu_vmstate", (used & _VOCABULARY) - {"Literal", "bool"} | {"Device"})
        return "\n".join([*lines, *classes, "", "", *_table(sections)]) + "\n"

    def mark(self) -> tuple[int, int]:
        """Return a mark for :meth:`forget`."""
        return len(self._names), len(self._classes)

    def forget(self, mark: tuple[int, int]) -> None:
        """Drop the classes that were added since the mark."""
        names, classes = mark
        for key in list(self._names)[names:]:
            del self._names[key]
        for name in list(self._classes)[classes:]:
            del self._classes[name]

    def _needed(self, roots: set[str]) -> set[str]:
        needed, more = set[str](), set(roots)
        while more:
            needed |= more
            tokens = (
                token
                for name in more
                for member in self._classes[name].members
                for token in _tokens(member.type.annotation)
            )
            more = {token for token in tokens if token in self._classes} - needed
        return needed

    def _written(self, name: str, sections: Sequence[Section], used: set[str]) -> list[str]:
        cls = self._classes[name]
        used.add(cls.base)
        arguments = [cls.base]
        if cls.base == "Device" or cls.name != name:
            arguments.append(f"name={quoted(_fitting(cls.name))}")
        if cls.version_id != 1:
            arguments.append(f"version_id={cls.version_id}")
            arguments.append(f"minimum_version_id={cls.version_id}")
        lines = call(f"class {name}", arguments, ":")
        lines += docstring(_of_sections(sections) if sections else _of_struct(cls))
        if cls.members:
            lines.append("")
        # A class attribute would hide the type of that name from the declarations after it.
        # A device's fields are those of a layout class, its Migrated, too.
        own = ATTRIBUTES[cls.base] | ATTRIBUTES["VMStruct"]
        taken = {*_VOCABULARY, *self._classes, *own}
        names: set[str] = set()
        attributes: dict[str, str] = {}
        for member in cls.members:
            wire_name = _fitting(member.name)
            if wire_name in names:
                wire_name = unique(_fitting(member.name, LONGEST_NAME - 10), names)
            names.add(wire_name)
            room = WIDTH - len(f"    : {member.type.annotation} = field(")
            attribute = attribute_name(member.attribute or member.name, taken, room)
            taken.add(attribute)
            references = _references(member.type, attributes)
            attributes[member.name] = attribute
            lines += _declared(attribute, wire_name, member, references, used, cls.base)
        return lines


def _references(type_: Type, attributes: Mapping[str, str]) -> list[str]:
    """Return the options that name other fields, by their attributes."""
    options = []
    if type_.counter:
        option, name = type_.counter
        options.append(f'{option}="{attributes[name]}"')
    if type_.flag:
        options.append(_exists(f"state.{attributes[type_.flag]}"))
    return options


def _exists(flag: str) -> str:
    option = f"field_exists=lambda state, _: bool({flag})"
    # As one of several arguments, each on its own line.
    indent = " " * 8
    if len(f"{indent}{option},") > WIDTH:
        option = f"field_exists=lambda state, _: bool(\n{indent}    {flag}\n{indent})"
    return option


def _declared(
    attribute: str,
    name: str,
    member: Member,
    references: Sequence[str],
    used: set[str],
    base: str,
) -> list[str]:
    made = member.type
    used |= _tokens(made.annotation)
    lines = comment(made.comment) if made.comment else []
    options = [*references, *made.options]
    if attribute != name and not member.attribute:
        options.insert(0, f"name={quoted(name)}")
    is_row = "[" in made.annotation.removeprefix("Equal[")
    # Type checkers need the other defaults for the constructor, which devices do not have.
    if made.default and (is_row or (options and (made.needs_default or base != "Device"))):
        options.append(f"default={made.default}")
    head = f"{attribute}: {made.annotation}"
    if options:
        used.add("field")
        return lines + call(f"{head} = field", options, "", "    ")
    if not made.default:
        used.add("zeroed")
    return [*lines, f"    {head} = {made.default or 'zeroed()'}"]


def _tokens(annotation: str) -> set[str]:
    return set(re.findall(r"\w+", annotation))


def _fitting(name: str, room: int = LONGEST_NAME) -> str:
    """Return the name as one that a description can have; see ``check_name`` in layout."""
    raw = name.replace("\0", "?").encode("utf-8", "replace")
    return raw[:room].decode("utf-8", "ignore") or "unnamed"


def _of_struct(cls: Class) -> str:
    kind = "subsection" if cls.kind == "subsection" else "struct"
    return f"The {kind} {plain(cls.name)}."


def _of_sections(sections: Sequence[Section]) -> str:
    most = 4
    shown = [f"{plain(one.name)}/{one.instance_id}" for one in sections[:most]]
    if len(sections) > most:
        shown.append(f"and {len(sections) - most} more")
    word = "section" if len(sections) == 1 else "sections"
    return f"The {word} {', '.join(shown)}: {sections[0].payload_size} bytes in this stream."


def _table(sections: Iterable[tuple[Section, str]]) -> list[str]:
    classes: dict[tuple[str, int], str] = {}
    for section, cls in sections:
        classes.setdefault((section.name, section.instance_id or 0), cls)
    lines = ["SECTIONS: dict[tuple[str, int], type[Device]] = {"]
    for (name, instance), cls in classes.items():
        lines += call("", [quoted(name), str(instance)], f": {cls},", "    ")
    return [*lines, "}", '"""The class of each section, by its name and instance."""']
