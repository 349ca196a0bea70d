# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/reference: every public name is there, with a docstring whose examples run."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from .pages import CHECKOUT, run

MODULES = (
    *("qemu_vmstate", "qemu_vmstate.stream", "qemu_vmstate.vm"),
    *("qemu_vmstate.scaffold", "qemu_vmstate.fuzz", "qemu_vmstate.pytest_plugin"),
)
# What cli.py and pytest call.
CALLED_BY_PROGRAMS = (
    *("add_arguments", "run"),
    *("pytest_addoption", "pytest_load_initial_conftests", "pytest_runtest_makereport"),
)

_DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+|py:function):: ([\w.]+)", re.MULTILINE)


def public_names() -> set[str]:
    return {
        f"{module}.{name}"
        for module in MODULES
        for name in import_module(module).__all__
        if name not in CALLED_BY_PROGRAMS
    }


def documented_names() -> set[str]:
    """Return the names that the pages of the reference describe."""
    found = set()
    for page in (CHECKOUT / "docs" / "reference").glob("*.rst"):
        module = ""
        for directive, name in _DIRECTIVE.findall(page.read_text()):
            if directive == "currentmodule":
                module = name
                continue
            # An alias is named by the module that defines it.
            own = name.rpartition(".")[2] if directive == "autoalias" else name
            found.add(own if own.startswith("qemu_vmstate.") else f"{module}.{own}")
    return found


def test_every_public_name_is_in_the_reference() -> None:
    # The package has the name of an error of its own in two modules.
    missing = public_names() - documented_names() - {"qemu_vmstate.stream.StreamError"}
    assert missing == set(), "add each to a page of docs/reference"
    assert len(documented_names()) > 80


def aliases() -> dict[str, str]:
    """Return the text below each type alias, which Python itself does not keep."""
    found = {}
    for file in ("wire/annotations.py", "stream/sections.py"):
        body = ast.parse((CHECKOUT / "qemu_vmstate" / file).read_text()).body
        for node, text in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(node.target, ast.Name)
                assert isinstance(text.value, ast.Constant)
                found[node.target.id] = str(text.value.value)
    return found


@pytest.mark.parametrize("name", sorted(public_names()))
def test_a_public_name_has_a_docstring(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    own = inspect.isclass(value) or inspect.isroutine(value)
    text = aliases().get(attribute) or (inspect.getdoc(value) if own else "")
    if module == "qemu_vmstate.pytest_plugin":
        text = (CHECKOUT / "docs" / "reference" / "pytest.rst").read_text()
    assert text, f"{name} has no docstring"


# ------------------------------------------------------------------- examples


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield the docstrings of public names and of their members."""
    for name in sorted(public_names()):
        module, _, attribute = name.rpartition(".")
        value: Any = getattr(import_module(module), attribute)
        if isinstance(value, ModuleType) or not (
            inspect.isclass(value) or inspect.isroutine(value)
        ):
            continue
        yield name, inspect.getdoc(value) or ""
        for member in vars(value) if inspect.isclass(value) else ():
            if not member.startswith("_") and member != "Migrated":
                yield f"{name}.{member}", inspect.getdoc(getattr(value, member)) or ""


def examples() -> dict[str, str]:
    """Return the literal blocks of docstrings, which the site shows as Python."""
    found = {}
    for name, text in docstrings():
        for number, block in enumerate(re.findall(r"::\n\n((?: {4}.*\n|\n)+)", text + "\n")):
            found[f"{name}-{number}"] = inspect.cleandoc(block)
    return found


@pytest.mark.parametrize("name", examples())
def test_an_example_in_a_docstring_runs(name: str) -> None:
    run(name.replace(".", "_").replace("-", "_"), [examples()[name]])


def test_examples_are_found() -> None:
    assert {"qemu_vmstate.Device-0", "qemu_vmstate.VMStruct-0"} <= set(examples())
