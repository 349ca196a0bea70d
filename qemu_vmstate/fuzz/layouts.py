# SPDX-License-Identifier: GPL-2.0-or-later
"""Random layout classes, as Python source."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ..wire.types import SCALARS

__all__ = ["FLOAT_NAMES", "INTEGERS", "SCALAR_NAMES", "Layout", "LayoutDrawing"]

INTEGERS = {scalar.name: scalar for scalar in SCALARS.values() if scalar.is_whole}
"""The integer scalars by name."""

SCALAR_NAMES = ("bool", *INTEGERS)
"""The names of bool and the integer scalars."""

FLOAT_NAMES = ("f32", "f64", "cpudouble")
"""The names of the floating-point scalars."""

_COUNTERS = ("u8", "u16", "u32", "i32", "Equal[u32]", "Equal[u8]", "i32_positive_le")
_SIZES = ("u32", "i32", "Equal[u32]", "i32_positive_le")
_BUFFER_SIZES = (*_SIZES, "u64", "Equal[u64]")
_LENGTHS = (1, 2, 2, 3, 4, 5, 7, 8)
_BYTES = (1, 2, 3, 4, 7, 8, 16, 33, 255, 256, 5000)


@dataclass
class Layout:
    """A layout class that is being drawn."""

    name: str
    wire: str
    version: int
    minimum: int
    lines: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    fields: int = 0

    @property
    def head(self) -> str:
        """The arguments of the class's ``VMStruct``."""
        return f"name={self.wire!r}, version_id={self.version}, minimum_version_id={self.minimum}"

    def new(self) -> str:
        """Return the name of the next field."""
        self.fields += 1
        return f"f{self.fields}"


class LayoutDrawing:
    """Draws layout classes, and has the source of the finished ones."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sources: list[str] = []
        self.made = 0
        # The limit on the number of fields limits the size of a payload.
        self.left = rng.choice((4, 8, 16, 24, 40))
        # Without options that leave a field out of some streams, more can be checked.
        self.has_all_fields = False

    def chance(self, probability: float) -> bool:
        """Return True with that probability."""
        return self.rng.random() < probability

    # ------------------------------------------------------------------ classes

    def begin(self, wire: str | None = None) -> Layout:
        """Begin a layout class; ``wire`` is its name in streams."""
        self.made += 1
        # QEMU identifies subsections by prefix; with the "_", "s1_" is no prefix of "s12_".
        version = self.rng.choice((1, 1, 1, 2, 3))
        return Layout(
            f"S{self.made}", wire or f"s{self.made}_", version, self.rng.randint(0, version)
        )

    def struct(self, depth: int, wire: str | None = None, simple: bool = False) -> Layout:
        """Draw a layout class; a ``simple`` one has only a few scalars."""
        cls = self.begin(wire)
        if simple:
            for _ in range(self.rng.randint(1, 2)):
                name = cls.new()
                type_ = self.rng.choice(SCALAR_NAMES)
                cls.lines.append(f"{name}: {type_} = zeroed()")
                cls.numbers.append(name)
        else:
            self.fill(cls, depth)
        self.finish(cls, depth)
        return cls

    def fill(self, cls: Layout, depth: int) -> None:
        """Add a few fields, within the limit of the declaration."""
        for _ in range(self.rng.choice((0, 1, 2, 3, 3, 4, 6))):
            if self.left > 0:
                self.left -= 1
                self.any_field(cls, depth)

    def finish(self, cls: Layout, depth: int) -> None:
        """Add subsections and a validator at random, and the source of the class to the others."""
        if depth < 2 and self.chance(0.2) and self.left > 0 and not self.has_all_fields:
            for _ in range(self.rng.randint(1, 2)):
                self.subsection(cls, depth)
        if cls.numbers and self.chance(0.15):
            cls.lines += [
                f'@validate("{cls.name} is as drawn")',
                "def check(self):",
                f"    return int(self.{self.rng.choice(cls.numbers)}) % 11 != 7",
            ]
        self.sources.append(
            "\n    ".join([f"class {cls.name}(VMStruct, {cls.head}):", *(cls.lines or ["pass"])])
        )

    def subsection(self, cls: Layout, depth: int) -> None:
        """Add a subsection."""
        name = cls.new()
        inner = self.struct(depth + 1, f"{cls.wire}/{name}_", simple=self.chance(0.4))
        options = []
        needed = self.rng.choice(("", "True", "asked"))
        if needed == "True":
            options.append("needed=True")
        elif needed and cls.numbers:
            number = self.rng.choice(cls.numbers)
            options.append(f"needed=lambda s: int(s.{number}) & 1 == 1")
        if self.chance(0.3):
            options.append("keep=True")
        cls.lines.append(f"{name}: Subsection[{inner.name}] = field({', '.join(options)})")

    # ------------------------------------------------------------------- fields

    def common(self, cls: Layout, absent: bool = True) -> list[str]:
        """Draw options of any field; with ``absent`` also those that omit it in some streams."""
        options: list[str] = []
        if self.has_all_fields:
            return options
        if absent and cls.version > 1 and self.chance(0.25):
            options.append(f"version_id={self.rng.randint(1, cls.version)}")
        if absent and cls.numbers and self.chance(0.12):
            number = self.rng.choice(cls.numbers)
            options.append(f"field_exists=lambda s, v: int(s.{number}) & 3 != 1")
        if self.chance(0.15):
            options.append("keep=True")
        return options

    def any_field(self, cls: Layout, depth: int) -> None:
        """Add a field of any kind."""
        kinds = [self.scalar] * 4 + [
            *(self.array, self.buffer, self.counted, self.counted, self.sized, self.sized),
            *(self.bitmap, self.unused, self.pointers),
        ]
        if depth < 3:
            kinds += [self.nested, self.nested, self.list, self.list, self.tree, self.tmp]
        self.rng.choice(kinds)(cls, depth)

    def add(self, cls: Layout, name: str, type_: str, options: list[str]) -> None:
        """Add a field of that name, type and options to a class."""
        options = [option for option in options if option]
        cls.lines.append(f"{name}: {type_} = field({', '.join(options)})")

    def scalar(self, cls: Layout, depth: int) -> None:
        """Add a scalar."""
        name = cls.new()
        type_ = self.rng.choice(
            (*SCALAR_NAMES, *INTEGERS, *FLOAT_NAMES, "timer", "Equal[u16]", "i32_positive_le")
        )
        if self.chance(0.1):
            type_ = self.rng.choice(
                ("Equal[u8]", "Equal[u32]", "Equal[u64]", "Equal[i32]", "i32_positive_le")
            )
        options = self.common(cls)
        base = type_.removeprefix("Equal[").removesuffix("]").removesuffix("_le")
        if base in INTEGERS:
            cls.numbers.append(name)
            if self.chance(0.3):
                options += self.limits(base)
        if type_.startswith("Equal") and self.chance(0.5):
            options.append('err_hint="as drawn"')
        self.add(cls, name, type_, options)

    def limits(self, type_: str) -> list[str]:
        """Draw a minimum, a maximum and a default between them."""
        low, high = INTEGERS[type_].low, INTEGERS[type_].high
        minimum = max(low, self.rng.choice((low, 0, 0, 1, -1, 3)))
        maximum = min(high, self.rng.choice((high, minimum, minimum + 1, minimum + 200)))
        maximum = max(maximum, 0)
        default = self.rng.randint(minimum, min(maximum, minimum + 300))
        return [f"minimum={minimum}", f"maximum={maximum}", f"default={default}"]

    def number(self, cls: Layout, types: tuple[str, ...], most: int) -> str:
        """Add a field that counts up to ``most`` and return its name."""
        name = cls.new()
        options = self.common(cls)
        if self.chance(0.2):
            options.append(f"maximum={self.rng.randint(0, most)}")
        elif self.chance(0.3):
            options.append(f"default={self.rng.randint(0, most)}")
        self.add(cls, name, self.rng.choice(types), options)
        if self.chance(0.2):
            self.add(cls, cls.new(), self.rng.choice(SCALAR_NAMES), self.common(cls))
        return name

    def element(self, depth: int) -> str:
        """Draw the type of an array's elements."""
        if depth < 3 and self.left > 0 and self.chance(0.4):
            return self.struct(depth + 1, simple=self.chance(0.4)).name
        return self.rng.choice(
            (*SCALAR_NAMES, *FLOAT_NAMES, "timer", "Equal[u8]", "i32_positive_le")
        )

    def array(self, cls: Layout, depth: int) -> None:
        """Add an array of one or two dimensions, or a range of one."""
        length = self.rng.choice(_LENGTHS)
        element = self.element(depth)
        options = self.common(cls)
        type_ = f"Array[{element}, {length}]"
        if self.chance(0.2):
            type_ = f"Array[Array[{element}, {self.rng.choice((1, 2, 3))}], {length}]"
        if self.chance(0.3):
            start = self.rng.randrange(length)
            options += [f"start={start}", f"num={self.rng.randint(1, length - start)}"]
        self.add(cls, cls.new(), type_, options)

    def buffer(self, cls: Layout, depth: int) -> None:
        """Add a buffer, or a range of one."""
        length = self.rng.choice(_BYTES)
        options = self.common(cls)
        if self.chance(0.3):
            start = self.rng.randrange(length)
            options += [f"start={start}", f"size={self.rng.randint(1, length - start)}"]
        self.add(cls, cls.new(), f"Buffer[{length}]", options)

    def times(self) -> int:
        """Draw a multiplier."""
        return self.rng.choice((1, 1, 1, 2, 3))

    def counted(self, cls: Layout, depth: int) -> None:
        """Add one or two arrays, each with a field that counts its elements."""
        most, multiply = self.rng.choice(_LENGTHS), self.times()
        element = self.element(depth)
        for _ in range(1 + self.chance(0.15)):
            num = self.number(cls, _COUNTERS, most)
            options = [f"num={num!r}", f"multiply={multiply}" if multiply > 1 else ""]
            options += self.common(cls)
            self.add(cls, cls.new(), f"VArray[{element}, {most * multiply}]", options)

    def sized(self, cls: Layout, depth: int) -> None:
        """Add a buffer with a field for its size in bytes."""
        most, multiply = self.rng.choice(_BYTES), self.times()
        size = self.number(cls, _BUFFER_SIZES, most)
        options = [f"size={size!r}", f"multiply={multiply}" if multiply > 1 else ""]
        self.add(cls, cls.new(), f"VBuffer[{most * multiply}]", options + self.common(cls))

    def bitmap(self, cls: Layout, depth: int) -> None:
        """Add a bitmap."""
        bits = self.rng.choice((1, 63, 64, 65, 100, 128, 1000))
        options = []
        if self.chance(0.5):
            options.append(f"size={self.number(cls, _SIZES, bits)!r}")
        self.add(cls, cls.new(), f"Bitmap[{bits}]", options + self.common(cls))

    def unused(self, cls: Layout, depth: int) -> None:
        """Add bytes that no field uses."""
        options = [option for option in self.common(cls) if "keep" not in option]
        if self.chance(0.4):
            name = cls.new()
            limits = [f"maximum={self.rng.choice((0, 3, 9))}"]
            self.add(cls, name, self.rng.choice(("u8", "u16", "u32", "i32")), limits)
            options += [f"num={name!r}"]
        self.add(cls, cls.new(), f"Unused[{self.rng.choice((1, 4, 1500))}]", options)

    def pointers(self, cls: Layout, depth: int) -> None:
        """Add an array of pointers."""
        length = self.rng.choice(_LENGTHS)
        element = self.element(depth)
        options = []
        if self.chance(0.4):
            options.append(f"num={self.number(cls, ('u32', 'u8', 'i32', 'u16'), length)!r}")
        self.add(cls, cls.new(), f"PointerArray[{element}, {length}]", options + self.common(cls))

    def nested(self, cls: Layout, depth: int) -> None:
        """Add a layout class in a layout class."""
        inner = self.struct(depth + 1)
        options = self.common(cls)
        if self.chance(0.2):
            options.append(f"struct_version_id={self.rng.randint(inner.minimum, inner.version)}")
        self.add(cls, cls.new(), inner.name, options)

    def list(self, cls: Layout, depth: int) -> None:
        """Add one of QEMU's lists."""
        inner = self.struct(depth + 1, simple=self.chance(0.4))
        kind = self.rng.choice(("QTailQ", "QList"))
        options = self.common(cls)
        self.add(cls, cls.new(), f"{kind}[{inner.name}, {self.rng.choice((1, 2, 4, 9))}]", options)

    def tree(self, cls: Layout, depth: int) -> None:
        """Add a tree."""
        inner = self.struct(depth + 1, simple=self.chance(0.4))
        key = "u64" if self.chance(0.4) else self.struct(9, simple=True).name
        options = self.common(cls)
        self.add(
            cls,
            cls.new(),
            f"GTree[{key}, {inner.name}, {self.rng.choice((1, 2, 4, 9))}]",
            options,
        )

    def tmp(self, cls: Layout, depth: int) -> None:
        """Add a temporary layout class."""
        inner = self.struct(depth + 1)
        self.add(cls, cls.new(), f"Tmp[{inner.name}]", self.common(cls))
