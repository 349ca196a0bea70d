# SPDX-License-Identifier: GPL-2.0-or-later
"""The stubs that type checkers read have the names and types of the compiled modules."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.bench import native as bench
from qemu_vmstate.bindings import native
from qemu_vmstate.bindings.loader import _state

BINDINGS = Path(__file__).absolute().parents[2] / "qemu_vmstate" / "bindings"
CFFI_MODULES: dict[str, Any] = {"_native": native, "_bench": bench}
FUNCTIONS = [
    (module, name)
    for module, bound in CFFI_MODULES.items()
    for name in dir(bound.lib())
    if name.startswith("qv_")
]


def stub(name: str) -> list[ast.stmt]:
    """Return the statements of a stub."""
    return ast.parse((BINDINGS / f"{name}.pyi").read_text()).body


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Return the functions, classes and annotated names that these statements define."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def lib_stub(module: str) -> dict[str, ast.stmt]:
    lib_class = defined(stub(module))["Lib"]
    assert isinstance(lib_class, ast.ClassDef)
    return defined(lib_class.body)


def python_type(c_type: Any, argument: bool = False) -> str:
    """Return the stub's name of a C type."""
    if c_type.kind == "pointer" and argument and c_type.item.cname == "char":
        return "CData | bytes"
    if c_type.kind in ("pointer", "function"):
        return "CData"
    if c_type.kind == "void":
        return "None"
    return "bool" if c_type.cname == "_Bool" else "int"


@pytest.mark.parametrize("module", CFFI_MODULES)
def test_a_stub_has_its_modules_names(module: str) -> None:
    assert sorted(lib_stub(module)) == sorted(dir(CFFI_MODULES[module].lib()))


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_a_stub_has_each_functions_types(module: str, name: str) -> None:
    ffi, lib = CFFI_MODULES[module].ffi, CFFI_MODULES[module].lib()
    c_type = ffi.typeof(ffi.addressof(lib, name))
    if c_type.kind == "pointer":
        c_type = c_type.item
    node = lib_stub(module)[name]
    assert isinstance(node, ast.FunctionDef)
    annotations = [ast.unparse(arg.annotation) for arg in node.args.posonlyargs if arg.annotation]
    assert annotations == [python_type(arg, argument=True) for arg in c_type.args]
    assert node.returns is not None
    assert ast.unparse(node.returns) == python_type(c_type.result)


def test_the_state_modules_stub_has_its_names() -> None:
    names = {name for name in dir(_state) if not name.startswith("__")}
    assert {name for name in defined(stub("_state")) if not name.startswith("_")} == names


def test_everything_in_the_state_modules_stub_has_a_docstring() -> None:
    nodes = defined(stub("_state")).values()
    bare = [
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not ast.get_docstring(node)
    ]
    assert bare == []
