# SPDX-License-Identifier: GPL-2.0-or-later
"""Random classes for ``migrates()``, as Python source."""

from __future__ import annotations

from .forms import Form, FormDrawing
from .layouts import LayoutDrawing

__all__ = ["foreign"]


class _Parts:
    """The source of a class: what ``__init__()`` does, its other methods, and its fields."""

    def __init__(self) -> None:
        self.init = ["self.holder = type('Holder', (), {})()", "self.table = {}"]
        self.methods: list[str] = []
        self.fields: list[str] = []


def foreign(drawing: LayoutDrawing, wire: str | None, forms: FormDrawing, depth: int) -> str:
    """Draw a class whose values are in attributes, properties and elsewhere; return its name."""
    cls, parts = drawing.begin(wire), _Parts()
    for _ in range(drawing.rng.choice((1, 2, 3, 4))):
        form, name = forms.draw(depth), cls.new()
        place = drawing.rng.choice((_attribute, _attribute, _path, _functions, _property))
        options = [*place(drawing, name, form, parts), *form.options, *drawing.common(cls)]
        default = f"default_factory=lambda: {form.default}"
        given = ", ".join((form.hint, default, *options))
        parts.fields.append(f"{name!r}: field({given}),")
    lines = [f"class {cls.name}:", "    def __init__(self):"]
    lines += [f"        {line}" for line in parts.init]
    lines += [f"    {line}" for line in parts.methods]
    lines += [f"migrates({cls.name}, {cls.head}, fields={{"]
    lines += [*(f"    {line}" for line in parts.fields), "})"]
    drawing.sources.append("\n".join(lines))
    return cls.name


def _attribute(_drawing: LayoutDrawing, name: str, form: Form, parts: _Parts) -> list[str]:
    parts.init.append(f"self.{name} = {form.default}")
    return []


def _path(_drawing: LayoutDrawing, name: str, form: Form, parts: _Parts) -> list[str]:
    parts.init.append(f"self.holder.{name} = {form.default}")
    return [f"attribute='holder.{name}'"]


def _functions(_drawing: LayoutDrawing, name: str, form: Form, parts: _Parts) -> list[str]:
    parts.init.append(f"self.table[{name!r}] = {form.default}")
    getter = f"lambda made: made.table[{name!r}]"
    setter = f"lambda made, value: made.table.update({name}=value)"
    return [f"attribute=({getter}, {setter})"]


def _property(drawing: LayoutDrawing, name: str, form: Form, parts: _Parts) -> list[str]:
    """Add a property, which may refuse some values."""
    parts.init.append(f"self._{name} = {form.default}")
    parts.methods += ["@property", f"def {name}(self):", f"    return self._{name}"]
    parts.methods += [f"@{name}.setter", f"def {name}(self, value):"]
    if drawing.chance(0.5):
        condition = f"value != {form.default} and len(repr(value)) % 7 == 3"
        parts.methods += [f"    if {condition}:", "        raise ValueError('refused as drawn')"]
    parts.methods.append(f"    self._{name} = value")
    return []
