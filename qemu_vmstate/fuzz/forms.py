# SPDX-License-Identifier: GPL-2.0-or-later
"""Random annotations of Python values of any form, as source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .layouts import FLOAT_NAMES, INTEGERS, LayoutDrawing

__all__ = ["IMPORTS", "ClassLimits", "Form", "FormDrawing"]

IMPORTS = """\
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import uuid
from typing import Annotated"""
"""The imports that the source of derived dataclasses needs besides this package."""

_NUMBERS = tuple(INTEGERS)
_COUNTERS = ("u8", "u16", "u32", "i32")
_SIZES = ("u32", "u64", "i32")
_MOST = (1, 2, 2, 3, 5)
_MANY = (40, 255, 256)
_BYTES = (1, 3, 8, 33)

_DEEPEST = 3
"""How many collections are around a value at most."""

_LARGEST = 1 << 17
"""The most bytes of a collection's memory."""

_CONVERTED = {
    "datetime.datetime": "datetime.datetime(2026, 1, 2, 3)",
    "datetime.date": "datetime.date(2026, 1, 2)",
    "datetime.time": "datetime.time(3)",
    "datetime.timedelta": "datetime.timedelta(1)",
    "uuid.UUID": "uuid.UUID(int=1)",
    "ipaddress.IPv4Address": "ipaddress.IPv4Address(1)",
    "ipaddress.IPv6Address": "ipaddress.IPv6Address(1)",
    "decimal.Decimal": "decimal.Decimal(1)",
    "fractions.Fraction": "fractions.Fraction(1, 2)",
    "pathlib.Path": "pathlib.Path()",
    "pathlib.PureWindowsPath": "pathlib.PureWindowsPath()",
}
"""The classes with a converter of this package, each with a default."""

_ENUMS = (
    ("enum.Enum", ("0", "1", "300")),
    ("enum.Enum", ("-1", "70000")),
    ("enum.IntEnum", ("1", "2", "64")),
    ("enum.Flag", ("1", "2", "64")),
    ("enum.Flag, boundary=enum.KEEP", ("1", "256")),
    ("enum.IntFlag", ("1", "4")),
    ("enum.Enum", ("'a'", "'grün'", "''")),
    ("str, enum.Enum", ("'a'", "'b'")),
)
"""Bases of Enums, each with the values of the members A, B and C."""

_PACKED = {
    "int | None": "None",
    "list[int]": "[]",
    "dict[str, list[int]]": "{}",
    "tuple[int, str]": "(0, '')",
    "bytes": "b''",
    "float": "0.0",
}
"""The annotations inside ``Packed``, each with a default."""


@dataclass(frozen=True)
class ClassLimits:
    """What the decorator of a class is given for annotations without options of their own."""

    int_type: str
    max_length: int


class Form(NamedTuple):
    """An annotation, options of ``field()`` that it needs, and the source of a default.

    ``size`` is about the bytes of its memory.
    """

    hint: str
    options: tuple[str, ...]
    default: str
    size: int

    @property
    def inside(self) -> str:
        """The annotation inside another one."""
        if not self.options:
            return self.hint
        return f"Annotated[{self.hint}, field({', '.join(self.options)})]"


class FormDrawing:
    """Draws forms for the fields of one class.

    ``limits`` are those that its decorator gets; each of ``structs`` draws a class that can be in
    a collection of that depth, and returns its name.
    """

    def __init__(
        self,
        drawing: LayoutDrawing,
        limits: ClassLimits | None,
        structs: Sequence[Callable[[int], str]],
    ) -> None:
        self._drawing = drawing
        self._rng = drawing.rng
        self._limits = limits
        self._structs = structs

    def draw(self, depth: int = 0, *, hashable: bool = False) -> Form:
        """Draw a form that is inside ``depth`` others; one that is ``hashable`` can be a key."""
        if depth >= _DEEPEST or self._drawing.chance(0.3 + 0.1 * depth):
            return self._one_value(hashable)
        kinds = [self._tuple, self._tuple, self._optional, self._optional, self._registered]
        kinds += [self._frozen, self._sequence, self._set]
        if not hashable:
            kinds += [*3 * [self._sequence], *4 * [self._dict], self._set, *2 * [self._struct]]
        return self._rng.choice(kinds)(depth, hashable)

    def _one_value(self, hashable: bool) -> Form:
        kinds = [*3 * [self._number], self._float, *2 * [self._text], self._bytes]
        kinds += [*2 * [self._enum], *3 * [self._converted], self._fixed_bytes]
        if not hashable:
            kinds += [self._array, self._packed, self._bytearray]
        return self._rng.choice(kinds)()

    # ------------------------------------------------------------------ one value

    def _number(self) -> Form:
        if self._limits and self._drawing.chance(0.5):
            return Form("int", (), "0", 8)
        name = self._rng.choice((*_NUMBERS, "bool"))
        return Form(name, (), "False" if name == "bool" else "0", 8)

    def _float(self) -> Form:
        return Form(self._rng.choice(("float", *FLOAT_NAMES[:2])), (), "0.0", 8)

    def _of_bytes(self, name: str, default: str) -> Form:
        if self._limits and self._drawing.chance(0.5):
            return Form(name, (), default, 4 + self._limits.max_length)
        most = self._rng.choice(_BYTES)
        return Form(name, self._counted(most, _SIZES), default, 8 + most)

    def _counted(self, most: int, counters: Sequence[str]) -> tuple[str, ...]:
        fitting = [name for name in counters if most <= INTEGERS[name].high]
        count = (f"count_type={self._rng.choice(fitting)}",) if self._drawing.chance(0.3) else ()
        return (f"max_length={most}", *count)

    def _text(self) -> Form:
        return self._of_bytes("str", "''")

    def _bytes(self) -> Form:
        return self._of_bytes("bytes", "b''")

    def _bytearray(self) -> Form:
        return self._of_bytes("bytearray", "bytearray()")

    def _fixed_bytes(self) -> Form:
        size = self._rng.choice(_BYTES)
        if self._drawing.chance(0.5):
            return Form(f"Buffer[{size}]", (), f"bytes({size})", size)
        return Form("bytes", (f"length={size}",), f"bytes({size})", size)

    def _array(self) -> Form:
        length = self._rng.choice(_MOST)
        hint = f"Array[{self._rng.choice(_NUMBERS)}, {length}]"
        return Form(hint, (), f"[0] * {length}", 8 * length)

    def _packed(self) -> Form:
        hint, most = self._rng.choice(tuple(_PACKED)), self._rng.choice((16, 64))
        return Form(f"Packed[{hint}, {most}]", (), _PACKED[hint], most)

    def _enum(self) -> Form:
        bases, values = self._rng.choice(_ENUMS)
        name = self._new("E")
        lines = [f"{letter} = {value}" for letter, value in zip("ABC", values, strict=False)]
        self._drawing.sources.append("\n    ".join([f"class {name}({bases}):", *lines]))
        return Form(name, (), f"{name}.A", 10)

    def _converted(self) -> Form:
        name = self._rng.choice(tuple(_CONVERTED))
        # Paths of 4096 bytes would be most of a declaration's memory.
        options = ("max_length=16",) if name.startswith("pathlib") else ()
        return Form(name, options, _CONVERTED[name], 256)

    def _new(self, letter: str) -> str:
        self._drawing.made += 1
        return f"{letter}{self._drawing.made}"

    # ------------------------------------------------------------------ with others inside

    def _tuple(self, depth: int, hashable: bool) -> Form:
        count = self._rng.choice((1, 2, 3))
        inner = [self.draw(depth + 1, hashable=hashable) for _ in range(count)]
        hint = f"tuple[{', '.join(form.inside for form in inner)}]"
        default = "".join(f"{form.default}, " for form in inner)
        return Form(hint, (), f"({default})", sum(form.size for form in inner))

    def _optional(self, depth: int, hashable: bool) -> Form:
        inner = self.draw(depth + 1, hashable=hashable)
        if inner.hint.startswith("Packed") or inner.hint.endswith("| None"):
            return inner
        default = self._rng.choice(("None", inner.default))
        return Form(f"{inner.hint} | None", inner.options, default, inner.size + 1)

    def _registered(self, depth: int, hashable: bool) -> Form:
        """Draw a class with a converter, which may refuse some values."""
        inner = self.draw(depth + 1, hashable=hashable)
        name = self._new("R")
        lines = [f"class {name}:", "    def __init__(self, value):"]
        if self._drawing.chance(0.3):
            lines += _refusal(f"value != {inner.default} and len(repr(value)) % 7 == 3", 8)
        lines += [
            "        self.value = value",
            "    def __eq__(self, other):",
            f"        return type(other) is {name} and self.value == other.value",
            "    def __hash__(self):",
            "        return hash(self.value)",
            "    def __repr__(self):",
            f"        return f'{name}({{self.value!r}})'",
            f"register_converter({name}, {inner.inside}, lambda made: made.value, {name})",
        ]
        self._drawing.sources.append("\n".join(lines))
        return Form(name, (), f"{name}({inner.default})", inner.size)

    def _frozen(self, depth: int, hashable: bool) -> Form:
        """Draw a frozen dataclass, whose ``__post_init__()`` may refuse some values."""
        drawing = FormDrawing(self._drawing, None, self._structs)
        count = self._rng.choice((1, 2))
        inner = [drawing.draw(depth + 1, hashable=hashable) for _ in range(count)]
        name = self._new("K")
        lines = [
            "@derive_to_migration_state",
            "@dataclasses.dataclass(frozen=True)",
            f"class {name}:",
        ]
        for index, form in enumerate(inner):
            options = ", ".join((f"default_factory=lambda: {form.default}", *form.options))
            lines.append(f"    f{index}: {form.hint} = field({options})")
        if self._drawing.chance(0.3):
            lines.append("    def __post_init__(self):")
            condition = f"self.f0 != {inner[0].default} and len(repr(self.f0)) % 7 == 3"
            lines += _refusal(condition, 8)
        self._drawing.sources.append("\n".join(lines))
        return Form(name, (), f"{name}()", sum(form.size for form in inner))

    def _struct(self, depth: int, hashable: bool) -> Form:
        del hashable  # no such class is
        name = self._rng.choice(self._structs)(depth + 1)
        return Form(name, (), f"{name}()", _LARGEST // 4)

    def _room(self, size: int, depth: int) -> tuple[tuple[str, ...], int]:
        """Return options for elements of a size, and the most elements."""
        if self._limits and self._drawing.chance(0.5):
            return (), self._limits.max_length
        fitting = [most for most in (*_MOST, *_MANY[: 3 * (depth == 0)]) if most * size <= _LARGEST]
        most = self._rng.choice(fitting or _MOST[:1])
        return self._counted(most, _COUNTERS), most

    def _sequence(self, depth: int, hashable: bool) -> Form:
        inner = self.draw(depth + 1, hashable=hashable)
        options, most = self._room(inner.size, depth)
        kind = "tuple" if hashable else self._rng.choice(("list", "list", "tuple", "deque"))
        if kind == "deque":
            hint, default = f"collections.deque[{inner.inside}]", "collections.deque()"
            return Form(hint, options, default, most * inner.size)
        hint = f"{kind}[{inner.inside}{', ...' if kind == 'tuple' else ''}]"
        if self._drawing.chance(0.2):
            length = self._rng.choice(_MOST)
            default = f"{kind}({inner.default} for _ in range({length}))"
            return Form(hint, (f"length={length}",), default, length * inner.size)
        return Form(hint, options, f"{kind}()", most * inner.size)

    def _set(self, depth: int, hashable: bool) -> Form:
        inner = self.draw(depth + 1, hashable=True)
        options, most = self._room(inner.size, depth)
        kind = "frozenset" if hashable else self._rng.choice(("set", "set", "frozenset"))
        return Form(f"{kind}[{inner.inside}]", options, f"{kind}()", most * inner.size)

    def _dict(self, depth: int, hashable: bool) -> Form:
        del hashable  # none is
        key = self.draw(depth + 1, hashable=True)
        kinds = ["dict", "dict", "dict", "collections.OrderedDict", "collections.Counter"]
        kind = self._rng.choice([*kinds, "collections.defaultdict"] if depth == 0 else kinds)
        if kind.endswith("Counter"):
            options, most = self._room(key.size + 8, depth)
            return Form(f"{kind}[{key.inside}]", options, f"{kind}()", most * (key.size + 8))
        value = self.draw(depth + 1)
        size = key.size + value.size
        options, most = self._room(size, depth)
        return Form(f"{kind}[{key.inside}, {value.inside}]", options, f"{kind}()", most * size)


def _refusal(condition: str, indent: int) -> list[str]:
    lines = [f"if {condition}:", "    raise ValueError('refused as drawn')"]
    return [" " * indent + line for line in lines]
