# SPDX-License-Identifier: GPL-2.0-or-later
"""Python source in the format of ``ruff format``: names, strings, calls and classes."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Container, Iterable, Sequence

__all__ = [
    "attribute_name",
    "call",
    "class_name",
    "comment",
    "docstring",
    "imports",
    "plain",
    "quoted",
    "unique",
]

WIDTH = 88
"""The default line length of ruff; code that is wrapped for it is also valid for longer lines."""

LONGEST, LONGEST_CLASS = 40, 32
"""The maximum length of attribute and class names, so that a declaration fits into a line."""


def plain(text: str) -> str:
    """Return a name of the stream in a form that is valid in a docstring or a comment."""
    shown = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def quoted(text: str) -> str:
    """Return a string literal, in the quotes that need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    out = []
    for c in text:
        if c in ("\\", quote):
            out.append("\\" + c)
        elif c.isprintable():
            out.append(c)
        else:
            out.append(repr(c)[1:-1])
    return quote + "".join(out) + quote


def unique(name: str, taken: Container[str], between: str = "_") -> str:
    """Return ``name``, with the first number from 2 on that makes it unique if it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}{between if name[-1].isdigit() else ''}{number}"
    return found


def attribute_name(name: str, taken: Container[str], room: int = LONGEST) -> str:
    """Return an identifier for a field of at most ``room`` characters: its C name if possible.

    It has no leading underscores, because such names belong to the base class.
    """
    parts = name.split(".")
    found = _identifier(name)
    while len(found) > room and len(parts) > 1:
        del parts[0]
        found = _identifier(".".join(parts))
    # At least 8 characters remain; 3 are left for a number.
    found = found[: max(room - 3, 8)] if len(found) > room else found
    if keyword.iskeyword(found) or found in taken:
        found = f"{found}_"
    return unique(found, taken)


def _identifier(name: str) -> str:
    found = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_") or "field"
    return f"n_{found}" if found[0].isdigit() else found


def class_name(name: str) -> str:
    """Return a class name for a description: ``PIIX3``, ``CpuCommon``, ``Mc146818rtc``."""
    words = re.findall(r"[0-9A-Za-z]+", name)
    found = "".join(word[0].upper() + word[1:] for word in words)[:LONGEST_CLASS] or "Unnamed"
    if keyword.iskeyword(found):
        found = f"{found}_"
    return f"N{found}" if found[0].isdigit() else found


def call(head: str, arguments: Sequence[str], tail: str, indent: str = "") -> list[str]:
    """Return ``head(arguments)tail`` on one line, or with each argument on its own line."""
    line = f"{indent}{head}({', '.join(arguments)}){tail}"
    if len(line) <= WIDTH or not arguments:
        return [line]
    inner = [f"{indent}    {argument}," for argument in arguments]
    return [f"{indent}{head}(", *inner, f"{indent}){tail}"]


def comment(text: str, indent: str = "    ") -> list[str]:
    """Return ``text`` as lines that begin with ``#``."""
    return [f"{indent}# {line}" for line in _wrapped(text, WIDTH - len(indent) - 2)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def docstring(text: str, indent: str = "    ") -> list[str]:
    """Return ``text`` as a docstring; empty lines separate its paragraphs."""
    paragraphs = text.split("\n\n")
    lines: list[str] = []
    for paragraph in paragraphs:
        wrapped = _wrapped(paragraph, WIDTH - len(indent) - (6 if not lines else 0))
        lines += [*([""] if lines else []), *wrapped]
    if len(lines) == 1:
        return [f'{indent}"""{lines[0]}"""']
    rest = [f"{indent}{line}" if line else "" for line in lines[1:]]
    return [f'{indent}"""{lines[0]}', *rest, f'{indent}"""']


def imports(module: str, names: Iterable[str]) -> list[str]:
    """Return a sorted import statement."""
    # In natural order: u8 before u16.
    ordered = sorted(names, key=lambda name: (name[0].islower(), _natural(name)))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"    {name}," for name in ordered), ")"]


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]
