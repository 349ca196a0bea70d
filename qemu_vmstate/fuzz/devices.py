# SPDX-License-Identifier: GPL-2.0-or-later
"""Declarations drawn at random from the whole vocabulary, as Python source.

Source, and not classes, for it is what somebody who has to understand a finding reads.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import qemu_vmstate

from .dataclass_states import IMPORTS, WHOLE, derived

__all__ = ["Drawn", "draw", "make"]

_SCALARS = ("bool", *WHOLE)
_COUNTERS = ("u8", "u16", "u32", "i32", "Equal[u32]", "Equal[u8]", "i32_positive_le")
_SIZES = ("u32", "i32", "Equal[u32]", "i32_positive_le")
_LENGTHS = (1, 2, 2, 3, 4, 5, 7, 8)
_BYTES = (1, 2, 3, 4, 7, 8, 16, 33, 255, 256, 5000)


@dataclass
class Drawn:
    """A declaration: its source, and the name of the class in it to make an object of."""

    source: str
    name: str


@dataclass
class _Class:
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
        return f"name={self.wire!r}, version_id={self.version}, minimum_version_id={self.minimum}"

    def new(self) -> str:
        self.fields += 1
        return f"f{self.fields}"


def draw(seed: str) -> Drawn:
    """The declaration of that seed."""
    return _Drawing(random.Random(seed)).device()


def make(drawn: Drawn) -> Any:
    """An object of a drawn declaration; raises ``DeclarationError`` as its class does."""
    # Of the package's name, for annotations are looked up in what is imported under it.
    namespace = vars(ModuleType(qemu_vmstate.__name__))
    namespace.update((name, getattr(qemu_vmstate, name)) for name in qemu_vmstate.__all__)
    exec(compile(drawn.source, f"<{drawn.name}>", "exec"), namespace)
    return namespace[drawn.name]()


class _Drawing:
    """One device, and the classes it is made of."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sources: list[str] = []
        self.made = 0
        # What keeps a payload small: so many fields in all.
        self.left = rng.choice((4, 8, 16, 24, 40))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # ------------------------------------------------------------------ classes

    def begin(self, wire: str | None = None) -> _Class:
        self.made += 1
        # "s1_" is no beginning of "s12_": QEMU tells subsections apart by how names begin.
        version = self.rng.choice((1, 1, 1, 2, 3))
        return _Class(
            f"S{self.made}", wire or f"s{self.made}_", version, self.rng.randint(0, version)
        )

    def struct(self, depth: int, wire: str | None = None, simple: bool = False) -> _Class:
        """A layout class; ``simple``: of a few scalars."""
        cls = self.begin(wire)
        if simple:
            for _ in range(self.rng.randint(1, 2)):
                name = cls.new()
                type_ = self.rng.choice(_SCALARS)
                cls.lines.append(f"{name}: {type_} = zeroed()")
                cls.numbers.append(name)
        else:
            self.fill(cls, depth)
        self.finish(cls, depth)
        return cls

    def fill(self, cls: _Class, depth: int) -> None:
        for _ in range(self.rng.choice((0, 1, 2, 3, 3, 4, 6))):
            if self.left > 0:
                self.left -= 1
                self.any_field(cls, depth)

    def finish(self, cls: _Class, depth: int) -> None:
        if depth < 2 and self.chance(0.2) and self.left > 0:
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

    def subsection(self, cls: _Class, depth: int) -> None:
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

    def common(self, cls: _Class, absent: bool = True) -> list[str]:
        """What any field can have; ``absent``: also what makes it so in some streams."""
        options = []
        if absent and cls.version > 1 and self.chance(0.25):
            options.append(f"version_id={self.rng.randint(1, cls.version)}")
        if absent and cls.numbers and self.chance(0.12):
            number = self.rng.choice(cls.numbers)
            options.append(f"field_exists=lambda s, v: int(s.{number}) & 3 != 1")
        if self.chance(0.15):
            options.append("keep=True")
        return options

    def any_field(self, cls: _Class, depth: int) -> None:
        kinds = [self.scalar] * 4 + [
            *(self.array, self.buffer, self.counted, self.counted, self.sized, self.sized),
            *(self.bitmap, self.unused, self.pointers),
        ]
        if depth < 3:
            kinds += [self.nested, self.nested, self.list, self.list, self.tree, self.tmp]
        self.rng.choice(kinds)(cls, depth)

    def add(self, cls: _Class, name: str, type_: str, options: list[str]) -> None:
        options = [option for option in options if option]
        cls.lines.append(f"{name}: {type_} = field({', '.join(options)})")

    def scalar(self, cls: _Class, depth: int) -> None:
        name = cls.new()
        type_ = self.rng.choice(
            (*_SCALARS, *WHOLE, "cpudouble", "timer", "Equal[u16]", "i32_positive_le")
        )
        if self.chance(0.1):
            type_ = self.rng.choice(
                ("Equal[u8]", "Equal[u32]", "Equal[u64]", "Equal[i32]", "i32_positive_le")
            )
        options = self.common(cls)
        whole = type_.removeprefix("Equal[").removesuffix("]").removesuffix("_le")
        if whole in WHOLE:
            cls.numbers.append(name)
            if self.chance(0.3):
                options += self.limits(whole)
        if type_.startswith("Equal") and self.chance(0.5):
            options.append('err_hint="as drawn"')
        self.add(cls, name, type_, options)

    def limits(self, type_: str) -> list[str]:
        low, high = WHOLE[type_].low, WHOLE[type_].high
        minimum = max(low, self.rng.choice((low, 0, 0, 1, -1, 3)))
        maximum = min(high, self.rng.choice((high, minimum, minimum + 1, minimum + 200)))
        maximum = max(maximum, 0)
        default = self.rng.randint(minimum, min(maximum, minimum + 300))
        return [f"minimum={minimum}", f"maximum={maximum}", f"default={default}"]

    def number(self, cls: _Class, types: tuple[str, ...], most: int) -> str:
        """A field that counts up to ``most``."""
        name = cls.new()
        options = self.common(cls)
        if self.chance(0.2):
            options.append(f"maximum={self.rng.randint(0, most)}")
        elif self.chance(0.3):
            options.append(f"default={self.rng.randint(0, most)}")
        self.add(cls, name, self.rng.choice(types), options)
        if self.chance(0.2):
            self.add(cls, cls.new(), self.rng.choice(_SCALARS), self.common(cls))
        return name

    def element(self, depth: int) -> str:
        if depth < 3 and self.left > 0 and self.chance(0.4):
            return self.struct(depth + 1, simple=self.chance(0.4)).name
        return self.rng.choice((*_SCALARS, "cpudouble", "timer", "Equal[u8]", "i32_positive_le"))

    def array(self, cls: _Class, depth: int) -> None:
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

    def buffer(self, cls: _Class, depth: int) -> None:
        length = self.rng.choice(_BYTES)
        options = self.common(cls)
        if self.chance(0.3):
            start = self.rng.randrange(length)
            options += [f"start={start}", f"size={self.rng.randint(1, length - start)}"]
        self.add(cls, cls.new(), f"Buffer[{length}]", options)

    def times(self) -> int:
        return self.rng.choice((1, 1, 1, 2, 3))

    def counted(self, cls: _Class, depth: int) -> None:
        most, multiply = self.rng.choice(_LENGTHS), self.times()
        element = self.element(depth)
        for _ in range(1 + self.chance(0.15)):
            num = self.number(cls, _COUNTERS, most)
            options = [f"num={num!r}", f"multiply={multiply}" if multiply > 1 else ""]
            options += self.common(cls)
            self.add(cls, cls.new(), f"VArray[{element}, {most * multiply}]", options)

    def sized(self, cls: _Class, depth: int) -> None:
        most, multiply = self.rng.choice(_BYTES), self.times()
        size = self.number(cls, _SIZES, most)
        options = [f"size={size!r}", f"multiply={multiply}" if multiply > 1 else ""]
        self.add(cls, cls.new(), f"VBuffer[{most * multiply}]", options + self.common(cls))

    def bitmap(self, cls: _Class, depth: int) -> None:
        bits = self.rng.choice((1, 63, 64, 65, 100, 128, 1000))
        options = []
        if self.chance(0.5):
            options.append(f"size={self.number(cls, _SIZES, bits)!r}")
        self.add(cls, cls.new(), f"Bitmap[{bits}]", options + self.common(cls))

    def unused(self, cls: _Class, depth: int) -> None:
        options = [option for option in self.common(cls) if "keep" not in option]
        if self.chance(0.4):
            name = cls.new()
            limits = [f"maximum={self.rng.choice((0, 3, 9))}"]
            self.add(cls, name, self.rng.choice(("u8", "u16", "u32", "i32")), limits)
            options += [f"num={name!r}"]
        self.add(cls, cls.new(), f"Unused[{self.rng.choice((1, 4, 1500))}]", options)

    def pointers(self, cls: _Class, depth: int) -> None:
        length = self.rng.choice(_LENGTHS)
        element = self.element(depth)
        options = []
        if self.chance(0.4):
            options.append(f"num={self.number(cls, ('u32', 'u8', 'i32', 'u16'), length)!r}")
        self.add(cls, cls.new(), f"PointerArray[{element}, {length}]", options + self.common(cls))

    def nested(self, cls: _Class, depth: int) -> None:
        inner = self.struct(depth + 1)
        options = self.common(cls)
        if self.chance(0.2):
            options.append(f"struct_version_id={self.rng.randint(inner.minimum, inner.version)}")
        self.add(cls, cls.new(), inner.name, options)

    def list(self, cls: _Class, depth: int) -> None:
        inner = self.struct(depth + 1, simple=self.chance(0.4))
        kind = self.rng.choice(("QTailQ", "QList"))
        options = self.common(cls)
        self.add(cls, cls.new(), f"{kind}[{inner.name}, {self.rng.choice((1, 2, 4, 9))}]", options)

    def tree(self, cls: _Class, depth: int) -> None:
        inner = self.struct(depth + 1, simple=self.chance(0.4))
        key = "u64" if self.chance(0.4) else self.struct(9, simple=True).name
        options = self.common(cls)
        self.add(
            cls,
            cls.new(),
            f"GTree[{key}, {inner.name}, {self.rng.choice((1, 2, 4, 9))}]",
            options,
        )

    def tmp(self, cls: _Class, depth: int) -> None:
        inner = self.struct(depth + 1)
        self.add(cls, cls.new(), f"Tmp[{inner.name}]", self.common(cls))

    # ------------------------------------------------------------------ devices

    def custom(self, inner: _Class) -> str:
        """A state of its own shape, that changes before it refuses."""
        number = self.rng.choice(inner.numbers) if inner.numbers else None
        self.made += 1
        name = f"C{self.made}"
        lines = [
            f"class {name}(ToMigrationState[{inner.name}]):",
            "    def __init__(self):",
            f"        self.state = {inner.name}()",
            "        self.restored = 0",
            "    def snapshot_migration_state(self, target):",
            "        for name in asdict(self.state):",
            "            setattr(target, name, getattr(self.state, name))",
            "    def restore_migrated_state_mut(self, source, version_id):",
            "        for name in asdict(source):",
            "            setattr(self.state, name, getattr(source, name))",
            "        self.restored += 1",
        ]
        if number and self.chance(0.5):
            lines += [
                f"        if int(source.{number}) % 5 == 3:",
                '            raise InvalidError("refused when half of it was changed")',
            ]
        self.sources.append("\n".join(lines))
        return name

    def state(self, depth: int, wire: str | None = None, simple: bool = False) -> str:
        """What a cell guards: a layout class, or a class of its own shape."""
        if self.chance(0.25):
            if IMPORTS not in self.sources:
                self.sources.insert(0, IMPORTS)
            return derived(self, wire, depth)
        inner = self.struct(depth, wire, simple)
        return inner.name if self.chance(0.6) else self.custom(inner)

    def part(self, depth: int, wire: str | None = None, simple: bool = False) -> str:
        """A hint of a field of a device."""
        state = self.state(depth, wire, simple)
        cell = "BqlRefCell" if self.chance(0.25) else "Mutex"
        hint = f"{cell}[{state}]"
        if self.chance(0.1):
            hint = f"Arc[{hint}]"
        return f"Migratable[{hint}]"

    def device(self) -> Drawn:
        if self.chance(0.15):
            self.sources.append(f"def make():\n    return Migratable(Mutex({self.state(0)}()))")
            return Drawn("\n\n".join(self.sources) + "\n", "make")
        device = self.begin("dev")
        if self.chance(0.25):
            # Nothing else: these are saved and loaded, and undone, in a way of their own.
            states = [self.state(1) for _ in range(self.rng.choice((1, 2, 3)))]
            states.append(self.custom(self.struct(1, simple=True)))
            for state in states:
                self.add(device, device.new(), f"Migratable[Mutex[{state}]]", [])
        else:
            self.parts(device)
            self.hooks(device)
        lines = [f"class Dev(Device, {device.head}):", *(device.lines or ["pass"])]
        self.sources.append("\n    ".join(lines))
        return Drawn("\n\n".join(self.sources) + "\n", "Dev")

    def parts(self, device: _Class) -> None:
        for _ in range(self.rng.choice((1, 2, 2, 3, 4))):
            self.rng.choice(
                (self.migratable, self.migratable, self.migratables, self.cell, self.plain)
            )(device)
        for _ in range(self.rng.choice((0, 0, 1, 2))):
            if self.chance(0.5):
                self.subsection(device, 0)
            else:
                name = device.new()
                hint = f"Subsection[{self.part(1, f'dev/{name}_')}]"
                keep = "keep=True" if self.chance(0.3) else ""
                self.add(device, name, hint, [keep])

    def migratable(self, device: _Class) -> None:
        hint = self.part(0)
        self.add(device, device.new(), hint, self.common(device))

    def migratables(self, device: _Class) -> None:
        hint = self.part(1, simple=self.chance(0.4))
        length = self.rng.choice((1, 2, 3))
        if self.chance(0.5):
            self.add(device, device.new(), f"Array[{hint}, {length}]", self.common(device))
            return
        num = self.number(device, ("u8", "u16", "u32", "i32"), length)
        options = [f"num={num!r}", *self.common(device)]
        self.add(device, device.new(), f"VArray[{hint}, {length}]", options)

    def cell(self, device: _Class) -> None:
        types = (
            *_SCALARS,
            "cpudouble",
            "Equal[u32]",
            "i32_positive_le",
            "Array[u16, 3]",
            "Buffer[5]",
        )
        self.add(device, device.new(), f"BqlCell[{self.rng.choice(types)}]", self.common(device))

    def plain(self, device: _Class) -> None:
        for _ in range(self.rng.randint(1, 3)):
            self.any_field(device, 1)

    def hooks(self, device: _Class) -> None:
        number = f"int(self.{self.rng.choice(device.numbers)})" if device.numbers else "0"
        if self.chance(0.1):
            device.lines += ["def pre_save(self):", "    self.saves = 1"]
        if self.chance(0.1):
            device.lines += ["def post_save(self):", "    self.saved = 1"]
        if self.chance(0.1):
            device.lines += ["def pre_load(self):", "    self.loads = 1"]
        if self.chance(0.15):
            device.lines += [
                "def post_load(self, version_id):",
                f"    if {number} % 7 == 5:",
                '        raise InvalidError("refused after all was changed")',
            ]
        if device.numbers and self.chance(0.1):
            name = self.rng.choice(device.numbers)
            device.lines += [
                '@validate("it is as drawn")',
                "def check(self, source):",
                f"    return int(source.{name}) % 13 != 9",
            ]
