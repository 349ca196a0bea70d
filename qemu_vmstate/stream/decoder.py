# SPDX-License-Identifier: GPL-2.0-or-later
"""Decoding of the fields of a device's section by the description in the same stream.

migration/vmstate.c writes the description while it saves, so its entries are in the order of the
bytes.  It is as untrusted as all of the stream.  If a field's type has a fixed width, the size in
the description is not used: in QEMU 9 and later it is the difference of a counter, which another
channel may change meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from ..errors import StreamError
from .content import CONTENTS
from .source import Source, shown

__all__ = ["Budget", "Decoder", "Duplicates", "Field", "Value", "find"]

Scalar: TypeAlias = bool | int | bytes | str | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]
Entry: TypeAlias = Mapping[str, Any]

LARGEST_VALUE = 1 << 24
"""The size up to which a field has its value; a larger one has only its offset and size."""

DEEPEST = 60
_NULLPTR = 0x30
_SUBSECTION = 0x05


class Duplicates(dict[str, Any]):
    """A JSON object with repeated keys, as QEMU writes the elements of a list."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a section, and its position in the file."""

    name: str
    """The name in the description, which may have dots; ``[3]`` for an element."""
    type: str
    """QEMU's name (``uint32``, ``timer``, ``struct``...), or ``subsection``."""
    offset: int
    """The offset of its first byte in the file."""
    size: int
    """The number of its bytes."""
    value: Value = None
    """An int, a bool, the bytes of a buffer or of an unknown type, or a tuple of these for an
    array; ``None`` for a field with children and for a NULL pointer.  A ``timer`` is in
    nanoseconds, -1 if it is not armed; a ``CPU_Double_U`` is its 64 bits as an int; a ``bitmap``
    is a tuple of 64-bit words, the lowest bits first."""
    children: tuple[Field, ...] = ()
    """The fields of a struct, or the elements of an array, in their order."""
    version_id: int | None = None
    """A struct's or a subsection's version."""
    vmsd_name: str | None = None
    """The name of the ``VMStateDescription`` of a struct or a subsection."""

    def field(self, path: str) -> Field:
        """Return the field with that path below this one; KeyError if there is none."""
        found = find(self.children, path)
        if found is None:
            raise KeyError(path)
        return found

    def walk(self) -> Iterator[Field]:
        """Yield this field and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def find(fields: Sequence[Field], path: str) -> Field | None:
    """Return the field *path* names: names joined by dots, elements as ``[3]``.

    Names may contain dots and brackets, so each name that is a prefix of *path* is tried.
    """
    for field in fields:
        if not path.startswith(field.name):
            continue
        rest = path[len(field.name) :]
        if not rest:
            return field
        if rest.startswith("."):
            found = find(field.children, rest[1:])
        elif rest.startswith("["):
            found = find(field.children, rest) or _element(field, rest)
        else:
            found = None
        if found is not None:
            return found
    return None


def _element(field: Field, index: str) -> Field | None:
    """Return an element without a ``Field`` of its own: of scalars, or an array's only one."""
    match = re.fullmatch(r"\[(\d{1,9})\](?:\.(.+))?", index, re.DOTALL)
    if match is None:
        return None
    at, rest = int(match[1]), match[2]
    if isinstance(field.value, tuple) and rest is None and at < len(field.value):
        size = field.size // len(field.value)
        return Field(f"[{at}]", field.type, field.offset + at * size, size, field.value[at])
    # QEMU describes an array of one element like a plain field.
    if at == 0 and not isinstance(field.value, tuple) and not _is_list(field):
        return field if rest is None else find(field.children, rest)
    return None


def _is_list(field: Field) -> bool:
    return field.type in _LISTS or bool(field.children and field.children[0].name == "[0]")


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, signed=True)


def _unsigned(raw: bytes) -> int:
    return int.from_bytes(raw)


_SCALARS: dict[str, tuple[int, Callable[[bytes], int]]] = {
    "bool": (1, lambda raw: raw != b"\0"),
    "timer": (8, _signed),
    "CPU_Double_U": (8, _unsigned),
    "int32 le": (4, _signed),
    # QEMU's name of VMSTATE_UINT64_EQUAL.
    "int64 equal": (8, _unsigned),
}
for _bits in (8, 16, 32, 64):
    _SCALARS[f"int{_bits}"] = (_bits // 8, _signed)
    _SCALARS[f"uint{_bits}"] = _SCALARS[f"uint{_bits} equal"] = (_bits // 8, _unsigned)
_SCALARS["int32 equal"] = _SCALARS["int32"]

_LISTS = ("qtailq", "qlist", "gtree")


class Budget:
    """The number of fields that may still be decoded.

    Without a limit, one line of description could be an array of a billion empty structs.
    """

    def __init__(self, left: int) -> None:
        self.left = left


class Decoder:
    """Reads one section's payload, which begins at *at* and ends before *limit*.

    *find_end* returns the end according to the section's footer, or -1.  It is needed only if
    the description has a gap.  With *optional_subsections*, those of the description may be
    absent, because it is of another stream.
    """

    def __init__(
        self,
        source: Source,
        at: int,
        limit: int,
        budget: Budget,
        find_end: Callable[[], int] = lambda: -1,
        optional_subsections: bool = False,
    ) -> None:
        self.at = at
        self._source = source
        self._limit = limit
        self._budget = budget
        self._find_end = find_end
        self._optional = optional_subsections
        self._is_copy = False  # whether an element is read by the description of another one

    def described(self, description: Entry, where: str, depth: int = 0) -> tuple[Field, ...]:
        """Return the fields, then the subsections, of a description; *where* is for errors."""
        if depth > DEEPEST:
            raise self._malformed(where, f"it is nested more than {DEEPEST} deep")
        out: list[Field] = []
        entries = self._objects(description, "fields", where)
        subsections = self._objects(description, "subsections", where)
        seen = 0
        for name, grouped in groupby(entries, lambda entry: self._str(entry, "name", where)):
            group = list(grouped)
            seen += len(group)
            inner = f"{where}.{name}"
            if self._is_copy and out and _is_counted(out[-1], group[0]):
                group = [{**group[0], "size": out[-1].value}]
            if self._is_gap(group, inner):
                later = [] if depth else [*entries[seen:], *subsections]
                out.append(self._gap(name, later, inner, depth))
            else:
                out.append(self._field(name, group, inner, depth))
        for sub in subsections:
            if not (self._optional and self._is_absent(sub, where)):
                out.append(self._subsection(sub, where, depth))
        return tuple(out)

    # ---------------------------------------------- what QEMU did not describe

    def _is_gap(self, group: list[Entry], where: str) -> bool:
        """Return whether this is an array of pointers, described by its first, a NULL, only.

        QEMU before 9.2 describes an array by its first element.
        """
        entry = group[0]
        if len(group) > 1 or "array_len" not in entry or entry.get("struct") != {}:
            return False
        count = self._int(entry, "array_len", where)
        if entry.get("size") != 1 or self.at + count > self._limit:
            return False
        marks = self._source.at(self.at, min(count, LARGEST_VALUE), where)
        return any(mark != _NULLPTR for mark in marks)

    def _gap(self, name: str, later: list[Entry], where: str, depth: int) -> Field:
        """Return the gap: the bytes before those of *later*, by the sizes in the description."""
        end = self._find_end()
        if depth or end < 0:
            raise self._malformed(
                where, "the first of its pointers is NULL, and nothing describes the others"
            )
        if self._optional and any("vmsd_name" in entry for entry in later):
            raise self._malformed(where, "subsections that may be absent follow its pointers")
        for entry in later:
            end -= self._extent(entry, where)
        if end <= self.at:
            raise self._malformed(where, "what follows it has more bytes than the section")
        return self._raw({"type": "struct", "size": end - self.at}, name, where)

    def _extent(self, entry: Entry, where: str) -> int:
        """Return the size of a field or a subsection by the sizes in its description."""
        if "vmsd_name" not in entry:
            count = self._int(entry, "array_len", where) if "array_len" in entry else 1
            return self._int(entry, "size", where) * count
        inner = [*self._objects(entry, "fields", where)]
        inner += self._objects(entry, "subsections", where)
        head = 6 + len(self._str(entry, "vmsd_name", where).encode())
        return head + sum(self._extent(one, where) for one in inner)

    # ------------------------------------------------------------ one field

    def _field(self, name: str, group: list[Entry], where: str, depth: int) -> Field:
        runs = self._runs(group, where)
        begin = self.at
        kind = self._str(group[0], "type", where)
        if len(runs) == 1 and runs[0][1] is None:
            return self._one(group[0], name, where, depth)
        scalar = _SCALARS.get(kind)
        if len(runs) == 1 and scalar and not self._is_null(group[0], scalar[0]):
            return self._numbers(name, kind, runs[0][1] or 1, where)
        elements: list[Field] = []
        for entry, count in runs:
            for repeated in range(count or 1):
                index = f"[{len(elements)}]"
                was_copy, self._is_copy = self._is_copy, self._is_copy or repeated > 0
                elements.append(self._one(entry, index, where + index, depth))
                self._is_copy = was_copy
        return self._made(name, kind, begin, children=tuple(elements))

    def _runs(self, group: list[Entry], where: str) -> list[tuple[Entry, int | None]]:
        """Return an array's entries and how many elements each stands for; None: it is no array.

        An array is one entry with ``array_len``, or an entry with ``index`` for each
        element; since QEMU 9.2 an array of pointers is one for each run of NULLs and not.
        """
        counts: list[int | None] = []
        for entry in group:
            count = self._int(entry, "array_len", where) if "array_len" in entry else None
            if count == 0:
                raise self._malformed(where, "'array_len' is 0")
            if count is None and ("index" in entry or len(group) > 1):
                count = 1
            counts.append(count)
        null = [entry.get("type") == "nullptr" for entry in group]
        for i in range(len(group)):
            # Two entries of one run are not compressed, whatever their array_len says.
            if null[i] and (null[i - 1 : i] == [True] or null[i + 1 : i + 2] == [True]):
                counts[i] = 1
        if len(group) > 1 and not null[0] and "array_len" in group[0]:
            # The first run claims the whole array.
            first = (counts[0] or 0) - sum(count or 0 for count in counts[1:])
            if first < 1:
                raise self._malformed(where, "the runs of its elements are longer than the array")
            counts[0] = first
        return list(zip(group, counts, strict=True))

    def _one(self, entry: Entry, name: str, where: str, depth: int) -> Field:
        kind, begin = self._str(entry, "type", where), self.at
        if kind in _SCALARS:
            width, convert = _SCALARS[kind]
            if self._is_null(entry, width):
                return self._null(name, where)
            value: Value = convert(self._take(width, where))
            return self._made(name, kind, begin, value)
        if kind == "struct":
            return self._nested_struct(entry, name, where, depth)
        if kind in ("vstruct", "tmp") and "fields" in entry:
            return self._struct(entry, name, kind, where, depth)
        if kind in _LISTS:
            return self._list(entry, name, where, depth)
        if kind == "nullptr":
            return self._null(name, where)
        if kind == "bitmap":
            return self._bitmap(entry, name, where)
        if kind == "capability":
            length = self._take(1, where)[0]
            return self._made(name, kind, begin, shown(self._take(length, where)))
        return self._raw(entry, name, where)

    def _bitmap(self, entry: Entry, name: str, where: str) -> Field:
        begin, size = self.at, self._int(entry, "size", where)
        raw = self._take(size // 8 * 8, where)
        words = tuple(int.from_bytes(raw[i : i + 8]) for i in range(0, len(raw), 8))
        return self._made(name, "bitmap", begin, words)

    def _nested_struct(self, entry: Entry, name: str, where: str, depth: int) -> Field:
        inner = entry.get("struct")
        if not isinstance(inner, Mapping):
            raise self._malformed(where, "it is a struct without a description")
        if "fields" in inner:
            return self._struct(inner, name, "struct", where, depth)
        # QEMU 7.2 describes a NULL pointer to a struct as an empty struct.
        if entry.get("size") == 1:
            return self._null(name, where)
        return self._raw(entry, name, where)

    def _struct(self, inner: Entry, name: str, kind: str, where: str, depth: int) -> Field:
        begin = self.at
        version = self._int(inner, "version", where) if "version" in inner else None
        children = self.described(inner, where, depth + 1)
        vmsd_name = self._str(inner, "vmsd_name", where) if "vmsd_name" in inner else None
        return self._made(name, kind, begin, None, children, version, vmsd_name)

    def _numbers(self, name: str, kind: str, count: int, where: str) -> Field:
        width, convert = _SCALARS[kind]
        begin = self.at
        if count * width > LARGEST_VALUE:
            self._skip(count * width, where)
            return self._made(name, kind, begin)
        raw = self._take(count * width, where)
        values = tuple(convert(raw[i : i + width]) for i in range(0, len(raw), width))
        return self._made(name, kind, begin, values)

    def _raw(self, entry: Entry, name: str, where: str) -> Field:
        size, begin = self._int(entry, "size", where), self.at
        if size > LARGEST_VALUE:
            self._skip(size, where)
            return self._made(name, str(entry["type"]), begin)
        value = self._take(size, where)
        return self._made(name, str(entry["type"]), begin, value)

    def _is_null(self, entry: Entry, width: int) -> bool:
        """Return whether this is a NULL pointer, which QEMU 7.2 describes as the scalar."""
        return (
            width > 1
            and entry.get("size") == 1
            and self.at < self._limit
            and self._source.byte(self.at, "a pointer") == _NULLPTR
        )

    def _null(self, name: str, where: str) -> Field:
        begin = self.at
        if (mark := self._take(1, where)[0]) != _NULLPTR:
            raise self._source.error(
                f"{where} at byte {begin} is a NULL pointer by its description, which is "
                f"written as {_NULLPTR:#04x}, and here is {mark:#04x}"
            )
        return self._made(name, "nullptr", begin)

    # ---------------------------------------------------- lists, subsections

    def _list(self, entry: Entry, name: str, where: str, depth: int) -> Field:
        kind, begin = self._str(entry, "type", where), self.at
        elements = _descriptions(entry)
        children: list[Field] = []
        with_keys = False
        if kind == "gtree":
            nodes = int.from_bytes(self._take(4, where))
            with_keys = nodes > 0 and len(elements) == 2 * nodes
            if nodes != len(elements) // (2 if with_keys else 1):
                raise self._source.error(
                    f"{where} at byte {begin} has {nodes} nodes, and its description "
                    f"{len(elements)} parts of nodes"
                )
        step = 2 if with_keys else 1
        for i in range(0, len(elements), step):
            element, at = f"{where}[{i // step}]", self.at
            self._mark(1, element)
            if kind != "gtree":
                inner = elements[i]
                children.append(self._struct(inner, f"[{i}]", "struct", element, depth))
                continue
            if with_keys:
                key = self._struct(elements[i], "key", "struct", f"{element}.key", depth)
            else:
                key = self._made("key", "uint64", at + 1, int.from_bytes(self._take(8, element)))
            value = self._struct(elements[i + step - 1], "value", "struct", element, depth)
            children.append(self._made(f"[{i // step}]", "struct", at, children=(key, value)))
        self._mark(0, where)
        return self._made(name, kind, begin, children=tuple(children))

    def _mark(self, expected: int, where: str) -> None:
        mark = self._take(1, where)[0]
        if bool(mark) != bool(expected):
            described = "another element" if expected else "its end"
            raise self._source.error(
                f"{where}: by the description {described} is at byte {self.at - 1}, "
                f"and {mark:#04x} is there"
            )

    def _is_absent(self, sub: Entry, where: str) -> bool:
        name = self._str(sub, "vmsd_name", where).encode()
        head = bytes([_SUBSECTION, len(name) & 0xFF]) + name
        end = self.at + len(head)
        return end > self._limit or self._source.at(self.at, len(head), where) != head

    def _subsection(self, sub: Entry, where: str, depth: int) -> Field:
        name = self._str(sub, "vmsd_name", where)
        begin, inner = self.at, f"{where}.{name}"
        mark = self._take(1, inner)[0]
        if mark != _SUBSECTION:
            raise self._source.error(
                f"{where}: at byte {begin} is {mark:#04x}, where by the description the "
                f"subsection {name!r} begins, with {_SUBSECTION:#04x}"
            )
        found = shown(self._take(self._take(1, inner)[0], inner))
        if found != name:
            raise self._source.error(
                f"{where}: at byte {begin} is the subsection {found!r}, where by the "
                f"description {name!r} is"
            )
        version = int.from_bytes(self._take(4, inner))
        children = self.described(sub, inner, depth + 1)
        return self._made(name, "subsection", begin, None, children, version, name)

    # ------------------------------------------------------------- the bytes

    def _take(self, length: int, where: str) -> bytes:
        begin = self.at
        self._skip(length, where)
        return self._source.at(begin, length, where)

    def _skip(self, length: int, where: str) -> None:
        end = self.at + length
        if end > self._limit:
            if self._limit == self._source.size:
                raise self._source.cut(self.at, length, where)
            raise self._source.error(
                f"{where} has {length} byte(s) at byte {self.at} by its description, and the "
                f"sections end at byte {self._limit}"
            )
        self.at = end

    def _made(
        self,
        name: str,
        kind: str,
        begin: int,
        value: Value = None,
        children: tuple[Field, ...] = (),
        version_id: int | None = None,
        vmsd_name: str | None = None,
    ) -> Field:
        self._budget.left -= 1
        if self._budget.left < 0:
            raise self._source.error(
                "the descriptions have more fields than the sections have bytes "
                f"(so at {name!r}, byte {begin})"
            )
        size = self.at - begin
        return Field(name, kind, begin, size, value, children, version_id, vmsd_name)

    # ------------------------------------------------------- the description

    def _objects(self, holder: Entry, key: str, where: str) -> list[Entry]:
        found = holder.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise self._malformed(where, f"{key!r} is not a list of objects")
        return found

    def _int(self, entry: Entry, key: str, where: str) -> int:
        found = entry.get(key)
        if type(found) is not int or not 0 <= found < 1 << 64:
            raise self._malformed(where, f"{key!r} is not a number of 64 bits")
        return found

    def _str(self, entry: Entry, key: str, where: str) -> str:
        found = entry.get(key)
        if not isinstance(found, str):
            raise self._malformed(where, f"{key!r} is not a string")
        return found

    def _malformed(self, where: str, reason: str) -> StreamError:
        return self._source.error(f"the description of {where} cannot be used: {reason}")


def _is_counted(before: Field, entry: Entry) -> bool:
    """Return whether *before* is the number of the bytes of *entry*, a content of this package's.

    QEMU describes only the first struct of an array, and the contents of others have other sizes.
    """
    return entry.get("type") in CONTENTS and before.type == "uint32" and type(before.value) is int


def _descriptions(entry: Entry) -> Sequence[Entry]:
    """Return the descriptions of a list's elements; QEMU puts all their keys into one object."""
    pairs = entry.pairs if isinstance(entry, Duplicates) else list(entry.items())
    out: list[dict[str, Any]] = []
    for key, value in pairs:
        if key == "vmsd_name":
            out.append({})
        if out and key in ("vmsd_name", "version", "fields", "subsections"):
            out[-1][key] = value
    return out
