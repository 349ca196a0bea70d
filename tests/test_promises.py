# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/promises.md: every promise names a test, and every named test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "promises.md").read_text()
HOLDER = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises() -> dict[str, list[tuple[str, str]]]:
    """Return the tests that each row of the page's tables names."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {cell[0]: HOLDER.findall(cell[-1]) for cell in cells if cell[0] != "Promise"}


def functions_of(path: str) -> set[str]:
    tree = ast.parse((CHECKOUT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_a_test() -> None:
    assert len(promises()) >= 30
    assert [promise for promise, tests in promises().items() if not tests] == []


def test_every_test_that_is_named_is_there() -> None:
    missing = [
        f"{path}::{name}"
        for path, name in HOLDER.findall(PAGE)
        if not (CHECKOUT / path).exists() or name not in functions_of(path)
    ]
    assert missing == []
    assert all(name.startswith("test_") for _, name in HOLDER.findall(PAGE))
    # The pattern finds every mention of a test.
    assert PAGE.count("tests/") == len(HOLDER.findall(PAGE))
