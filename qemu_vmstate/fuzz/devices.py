# SPDX-License-Identifier: GPL-2.0-or-later
"""Random declarations with the complete vocabulary, as Python source.

They are source instead of classes, so that a report can show them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import qemu_vmstate

from .dataclass_states import derived, foreign_state
from .forms import IMPORTS
from .layouts import FLOAT_NAMES, SCALAR_NAMES, Layout, LayoutDrawing

__all__ = ["Drawn", "draw", "make"]


@dataclass
class Drawn:
    """A declaration: its source, and the name of the class or function that makes the object."""

    source: str
    name: str


def draw(seed: str) -> Drawn:
    """Draw the declaration of a seed; the same seed always gives the same one."""
    return _DeviceDrawing(random.Random(seed)).device()


def make(drawn: Drawn) -> Any:
    """Return an object of a declaration; raise ``DeclarationError`` if its class is refused."""
    # The module has the package's name, because annotations are resolved in the package.
    namespace = vars(ModuleType(qemu_vmstate.__name__))
    namespace.update((name, getattr(qemu_vmstate, name)) for name in qemu_vmstate.__all__)
    exec(compile(drawn.source, f"<{drawn.name}>", "exec"), namespace)
    return namespace[drawn.name]()


class _DeviceDrawing(LayoutDrawing):
    """Draws a device and its classes."""

    def custom(self, inner: Layout) -> str:
        """Draw a class with conversions, which may refuse a load after changing the state."""
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
        """Draw the state in a cell: a layout class or one with conversions of its own."""
        if self.chance(0.25):
            if IMPORTS not in self.sources:
                self.sources.insert(0, IMPORTS)
            return self.rng.choice((derived, derived, foreign_state))(self, wire, depth)
        inner = self.struct(depth, wire, simple)
        return inner.name if self.chance(0.6) else self.custom(inner)

    def part(self, depth: int, wire: str | None = None, simple: bool = False) -> str:
        """Draw the type of a device's migratable field."""
        state = self.state(depth, wire, simple)
        cell = "BqlRefCell" if self.chance(0.25) else "Mutex"
        hint = f"{cell}[{state}]"
        if self.chance(0.1):
            hint = f"Arc[{hint}]"
        return f"Migratable[{hint}]"

    def device(self) -> Drawn:
        if self.chance(0.3):
            self.has_all_fields = True
            return self.of_derived_states()
        if self.chance(0.15):
            self.sources.append(f"def make():\n    return Migratable(Mutex({self.state(0)}()))")
            return Drawn("\n\n".join(self.sources) + "\n", "make")
        device = self.begin("dev")
        if self.chance(0.25):
            # A device with only such parts takes the fast path.
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

    def of_derived_states(self) -> Drawn:
        """Draw a derived dataclass, or a device with some, of which one may refuse a load."""
        self.sources.append(IMPORTS)
        draws = [self.rng.choice((derived, derived, derived, foreign_state)) for _ in range(2)]
        names = [draw(self, None, 0) for draw in draws[: self.rng.choice((1, 1, 2))]]
        if len(names) == 1:
            self.sources.append(f"def make():\n    return Migratable(Mutex({names[0]}()))")
            return Drawn("\n\n".join(self.sources) + "\n", "make")
        if self.chance(0.5):
            names.append(self.custom(self.struct(1, simple=True)))
        lines = [f"f{index}: Migratable[Mutex[{name}]]" for index, name in enumerate(names)]
        self.sources.append("\n    ".join(["class Dev(Device, name='dev'):", *lines]))
        return Drawn("\n\n".join(self.sources) + "\n", "Dev")

    def parts(self, device: Layout) -> None:
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

    def migratable(self, device: Layout) -> None:
        hint = self.part(0)
        self.add(device, device.new(), hint, self.common(device))

    def migratables(self, device: Layout) -> None:
        hint = self.part(1, simple=self.chance(0.4))
        length = self.rng.choice((1, 2, 3))
        if self.chance(0.5):
            self.add(device, device.new(), f"Array[{hint}, {length}]", self.common(device))
            return
        num = self.number(device, ("u8", "u16", "u32", "i32"), length)
        options = [f"num={num!r}", *self.common(device)]
        self.add(device, device.new(), f"VArray[{hint}, {length}]", options)

    def cell(self, device: Layout) -> None:
        types = (
            *SCALAR_NAMES,
            *FLOAT_NAMES,
            "Equal[u32]",
            "i32_positive_le",
            "Array[u16, 3]",
            "Buffer[5]",
        )
        self.add(device, device.new(), f"BqlCell[{self.rng.choice(types)}]", self.common(device))

    def plain(self, device: Layout) -> None:
        for _ in range(self.rng.randint(1, 3)):
            self.any_field(device, 1)

    def hooks(self, device: Layout) -> None:
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
