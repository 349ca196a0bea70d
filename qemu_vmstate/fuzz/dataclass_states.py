# SPDX-License-Identifier: GPL-2.0-or-later
"""Random derived dataclasses for the fuzzer's declarations, as Python source."""

from __future__ import annotations

from .foreign_states import foreign
from .forms import ClassLimits, FormDrawing
from .layouts import INTEGERS, Layout, LayoutDrawing

__all__ = ["derived", "foreign_state"]

_NUMBERS = tuple(INTEGERS)
_UNSIGNED = tuple(name for name, scalar in INTEGERS.items() if scalar.low == 0)
_WIDER = {"u8": ("u16", "u64", "i32"), "u16": ("u32", "i64"), "i8": ("i16", "i64")}
_LENGTHS = (1, 2, 3, 5, 8)
_LONG = 100
_SIZES = (1, 4, 7, 255, 5000)


def derived(drawing: LayoutDrawing, wire: str | None, depth: int) -> str:
    """Draw a derived dataclass and return its name."""
    cls = drawing.begin(wire)
    limits = None
    if drawing.chance(0.2):
        rng = drawing.rng
        limits = ClassLimits(rng.choice(_NUMBERS), rng.choice((1, 2, 4)))
    forms = _forms(drawing, limits)
    leaves = 4 * (_scalar,) + (_optional, _enum, _address, _narrowed, _list, _bytes, _array, _tuple)
    for _ in range(drawing.rng.choice((1, 2, 3, 4, 6, 9))):
        if drawing.left > 0 or not cls.fields:
            drawing.left -= 1
            if drawing.chance(0.5):
                _form(drawing, cls, forms, depth)
            elif depth < 3 and drawing.chance(0.25):
                drawing.rng.choice((_state, _states))(drawing, cls, depth)
            else:
                drawing.rng.choice(leaves)(drawing, cls)
    if drawing.chance(0.1):
        cls.lines.append(f"{cls.new()}: object = field(default=None, omit=True)")
    given = f", int_type={limits.int_type}, max_length={limits.max_length}" if limits else ""
    head = [
        f"@derive_to_migration_state({cls.head}{given})",
        "@dataclasses.dataclass",
        f"class {cls.name}(DerivedState):",
    ]
    drawing.sources.append("\n".join([*head, *(f"    {line}" for line in cls.lines)]))
    return cls.name


def foreign_state(drawing: LayoutDrawing, wire: str | None, depth: int) -> str:
    """Draw a class for ``migrates()`` and return its name."""
    return foreign(drawing, wire, _forms(drawing, None), depth)


def _forms(drawing: LayoutDrawing, limits: ClassLimits | None) -> FormDrawing:
    structs = (
        lambda depth: derived(drawing, None, depth),
        lambda depth: foreign_state(drawing, None, depth),
        lambda depth: drawing.struct(depth, simple=drawing.chance(0.4)).name,
    )
    return FormDrawing(drawing, limits, structs)


def _form(drawing: LayoutDrawing, cls: Layout, forms: FormDrawing, depth: int) -> None:
    form = forms.draw(depth)
    options = [f"default_factory=lambda: {form.default}", *form.options, *drawing.common(cls)]
    drawing.add(cls, cls.new(), form.hint, options)


def _scalar(drawing: LayoutDrawing, cls: Layout) -> None:
    type_ = drawing.rng.choice((*_NUMBERS, "bool"))
    options = drawing.common(cls)
    name = cls.new()
    if type_ != "bool" and drawing.chance(0.3):
        options += drawing.limits(type_)
    else:
        options.append(
            "default=False" if type_ == "bool" else f"default={drawing.rng.choice((0, 1))}"
        )
    drawing.add(cls, name, type_, options)
    cls.numbers.append(name)


def _optional(drawing: LayoutDrawing, cls: Layout) -> None:
    none = drawing.rng.choice(("bool", "0", "127"))
    options = [f"none={none}", "default=None", *drawing.common(cls)]
    drawing.add(cls, cls.new(), f"{drawing.rng.choice(_NUMBERS)} | None", options)


def _enum(drawing: LayoutDrawing, cls: Layout) -> None:
    base, how = drawing.rng.choice(
        (
            ("enum.Enum", "try_into"),
            ("enum.IntEnum", "try_into"),
            ("enum.Flag", "try_into"),
            ("enum.Flag, boundary=enum.KEEP", "into"),
        )
    )
    drawing.made += 1
    name = f"E{drawing.made}"
    lines = [f"{letter} = {value}" for letter, value in zip("ABC", (1, 2, 64), strict=True)]
    drawing.sources.append("\n    ".join([f"class {name}({base}):", *lines]))
    options = [f"default={name}.B", f"{how}={drawing.rng.choice(_UNSIGNED)}", *drawing.common(cls)]
    drawing.add(cls, cls.new(), name, options)


def _address(drawing: LayoutDrawing, cls: Layout) -> None:
    how = drawing.rng.choice(("into=u32", "try_into=u64", "try_into=i64"))
    options = ["default=ipaddress.IPv4Address(1)", how, *drawing.common(cls)]
    drawing.add(cls, cls.new(), "ipaddress.IPv4Address", options)


def _narrowed(drawing: LayoutDrawing, cls: Layout) -> None:
    live = drawing.rng.choice(tuple(_WIDER))
    wire = drawing.rng.choice(_WIDER[live])
    options = ["default=1", f"try_into={wire}", *drawing.common(cls)]
    drawing.add(cls, cls.new(), live, options)


def _list(drawing: LayoutDrawing, cls: Layout) -> None:
    length = _LONG if drawing.chance(0.1) else drawing.rng.choice(_LENGTHS)
    element = drawing.rng.choice((*_NUMBERS, "bool"))
    zero = "False" if element == "bool" else "0"
    options = [f"default_factory=lambda: {length} * [{zero}]", f"length={length}"]
    drawing.add(cls, cls.new(), f"list[{element}]", options + drawing.common(cls))


def _bytes(drawing: LayoutDrawing, cls: Layout) -> None:
    size = drawing.rng.choice(_SIZES)
    kind = drawing.rng.choice(("bytes", "bytearray", "Buffer"))
    if kind == "Buffer":
        options = [f"default=bytes({size})"]
        kind = f"Buffer[{size}]"
    else:
        options = [f"default_factory=lambda: {kind}({size})", f"length={size}"]
    drawing.add(cls, cls.new(), kind, options + drawing.common(cls))


def _array(drawing: LayoutDrawing, cls: Layout) -> None:
    length, element = drawing.rng.choice(_LENGTHS), drawing.rng.choice(_NUMBERS)
    type_, default = f"Array[{element}, {length}]", f"{length} * [0]"
    if drawing.chance(0.3):
        type_, default = f"Array[{type_}, 2]", f"[{default}, {default}]"
    options = [f"default_factory=lambda: {default}", *drawing.common(cls)]
    drawing.add(cls, cls.new(), type_, options)


def _tuple(drawing: LayoutDrawing, cls: Layout) -> None:
    length, element = drawing.rng.choice(_LENGTHS), drawing.rng.choice(_NUMBERS)
    how = drawing.rng.choice(("into", "try_into"))
    options = [f"default={length} * (0,)", f"{how}=Array[{element}, {length}]"]
    drawing.add(cls, cls.new(), "tuple[int, ...]", options + drawing.common(cls))


def _inner(drawing: LayoutDrawing, depth: int) -> tuple[str, list[str]]:
    """Draw a nested state, and return the name of its class and options for it."""
    if drawing.chance(0.6):
        draw = drawing.rng.choice((derived, derived, derived, foreign_state))
        return draw(drawing, None, depth + 1), []
    name = drawing.struct(depth + 1, simple=drawing.chance(0.4)).name
    return name, ["clone=True"] if drawing.chance(0.3) else []


def _state(drawing: LayoutDrawing, cls: Layout, depth: int) -> None:
    name, clone = _inner(drawing, depth)
    cells = (
        () if clone else drawing.rng.choice(((), (), ("Mutex",), ("BqlRefCell",), ("Arc", "Mutex")))
    )
    hint, made = name, f"{name}()"
    for cell in reversed(cells):
        hint, made = f"{cell}[{hint}]", f"{cell}({made})"
    options = [f"default_factory=lambda: {made}", *clone, *drawing.common(cls)]
    drawing.add(cls, cls.new(), hint, options)


def _states(drawing: LayoutDrawing, cls: Layout, depth: int) -> None:
    name, clone = _inner(drawing, depth)
    length = drawing.rng.choice(_LENGTHS)
    options = [f"default_factory=lambda: [{name}() for _ in range({length})]", f"length={length}"]
    drawing.add(cls, cls.new(), f"list[{name}]", options + clone + drawing.common(cls))
