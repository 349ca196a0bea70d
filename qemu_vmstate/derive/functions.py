# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins generated lines to the source of a class's functions, and compiles it."""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONVERSIONS", "Lines", "compile_functions", "readable"]

CONVERSIONS = ("snapshot_migration_state", "restore_migrated_state_mut")
_FUNCTIONS = (
    *CONVERSIONS,
    "__prepare_migrated_state__",
    "__undo_migrated_state__",
)


@dataclass
class Lines:
    """The statements of each step, in the order of the fields."""

    snapshot: list[str] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    """The numbers on the wire, each with the local variable that a restore loads it into."""
    targets: list[str] = field(default_factory=list)
    """The targets of an assignment that puts each of ``reads`` into the state."""
    prepare: list[str] = field(default_factory=list)
    """Convert and check the values that were read; can fail."""
    commit: list[str] = field(default_factory=list)
    """Change the state; cannot fail."""
    previous: dict[str, str] = field(default_factory=dict)
    """The local variables of ``roll_back``, each with the expression of its value; can fail."""
    roll_back: list[str] = field(default_factory=list)
    """Reset the state to the previous values."""
    has_states: bool = False
    """Whether there are nested states."""
    only_assigns: bool = True
    """Whether ``commit`` only assigns to attributes, of this state and of those in its lists."""
    only_numbers: bool = True
    """Whether all fields are numbers that need no conversion."""


def compile_functions(
    cls: type, lines: Lines, names: dict[str, Any], *, assigned: bool
) -> dict[str, Callable[..., Any]]:
    """Return the functions of ``cls`` by name; ``names`` are the globals of ``lines``.

    ``assigned``: each attribute keeps the object that is assigned to it, so that ``commit``
    cannot fail.
    """
    source = "\n\n".join(
        [
            _snapshot(lines),
            _restore(lines, assigned),
            _prepare(lines),
            _undo(lines, assigned),
            _roll_back(lines),
        ]
    )
    exec(compile(source, _remember(cls, source), "exec"), names)
    made = {name: names[name] for name in _FUNCTIONS}
    for name, function in made.items():
        function.__qualname__ = f"{cls.__qualname__}.{name}"
    return made


def _function(signature: str, body: Iterable[str]) -> str:
    return f"def {signature}:\n" + "".join(f"    {line}\n" for line in body)


def _check(struct: str) -> list[str]:
    return [
        f"if self.__class__ is not _cls or {struct}.__class__ is not _migrated:",
        f"    _check(self, {struct})",
    ]


def _snapshot(lines: Lines) -> str:
    return _function(
        "snapshot_migration_state(self, target)",
        [
            '"""Fill ``target`` with a copy of this state."""',
            *_check("target"),
            *readable(lines.snapshot, "_fields"),
        ],
    )


def readable(lines: list[str], fields: str) -> list[str]:
    """Return lines that report which of ``fields`` cannot be read."""
    if not lines:
        return []
    return [
        "try:",
        *(f"    {line}" for line in lines),
        "except Exception as exc:",
        f"    raise _unreadable({fields}, self, exc)",
    ]


def _read(lines: Lines) -> list[str]:
    locals_ = "".join(f"{local}, " for local in lines.reads.values())
    return [f"{locals_}= _unpack(source)"] if locals_ else []


def _restore(lines: Lines, assigned: bool) -> str:
    body = ['"""Restore all of ``source``, or raise and change nothing."""', *_check("source")]
    prepare = "commit = __prepare_migrated_state__(self, source, version_id, fallible)"
    if not assigned:
        body += [
            "fallible = []",
            prepare,
            "undo = _partial(_undo_of_fields, _fields, self, _own_version)",
            "fallible.append((undo, commit, _migrated, _migrated.__name__))",
            "_restore_all(fallible, _nothing)",
        ]
    elif lines.has_states:
        body += ["fallible = []", prepare, "_restore_all(fallible, commit)"]
    elif lines.only_numbers and lines.reads:
        targets = "".join(f"{target}, " for target in lines.targets)
        body.append(f"{targets}= _unpack(source)")
    else:
        body += [*_read(lines), *lines.prepare, *lines.commit]
    return _function("restore_migrated_state_mut(self, source, version_id)", body)


def _prepare(lines: Lines) -> str:
    return _function(
        "__prepare_migrated_state__(self, source, version_id, fallible)",
        [
            *_read(lines),
            *lines.prepare,
            "def commit():",
            *(f"    {line}" for line in lines.commit or ["pass"]),
            "return commit",
        ],
    )


def _undo(lines: Lines, assigned: bool) -> str:
    # A method bound to the values: a closure would take a cell for each, and partial() longer.
    values = "".join(f"{value}, " for value in lines.previous.values())
    body = [
        '"""Return the undo of this state."""',
        "if self.__class__.restore_migrated_state_mut is not restore_migrated_state_mut:",
        "    return _undo_by_snapshot(self, own_version)",
    ]
    if assigned:
        body += [
            "if self.__class__ is _cls:",
            "    try:",
            f"        return _MethodType(_roll_back, (self, {values}))",
            "    except Exception:  # an attribute is missing, or of a class without undo",
            "        pass",
        ]
    body.append("return _undo_of_fields(_fields, self, own_version)")
    return _function("__undo_migrated_state__(self, own_version)", body)


def _roll_back(lines: Lines) -> str:
    locals_ = "".join(f"{local}, " for local in lines.previous)
    return _function("_roll_back(previous)", [f"self, {locals_}= previous", *lines.roll_back])


def _remember(cls: type, source: str) -> str:
    """Let tracebacks show the source as long as the class lives; return its file name."""
    base = f"{cls.__module__}.{cls.__qualname__}"
    filename, count = f"<derived ToMigrationState of {base}>", 1
    while filename in linecache.cache:
        count += 1
        filename = f"<derived ToMigrationState of {base}, {count}>"
    # Without a modification time, because checkcache() would look for a file of that name.
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    weakref.finalize(cls, linecache.cache.pop, filename, None)
    return filename
