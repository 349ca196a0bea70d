# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages in docs/: every block of code runs when it is pasted."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

KINDS = {"python", "python continued", "python table", "python vm-script"}
DOCS = sorted((Path(__file__).resolve().parent.parent / "docs").glob("*.md"))


def run_blocks(page: Path, *kinds: str) -> ModuleType:
    """Run all the page's blocks of these kinds, in their order, and return their module."""
    blocks = re.findall(r"^```(.+)\n((?s:.*?))^```$", page.read_text(), re.MULTILINE)
    module = ModuleType(f"pasted_from_{page.stem}")
    sys.modules[module.__name__] = module  # where annotations are looked up
    try:
        for kind, block in blocks:
            if kind in kinds:
                exec(compile(block, str(page), "exec", dont_inherit=True), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_blocks_of_a_page_work_when_pasted(page: Path) -> None:
    module = run_blocks(page, "python", "python continued")
    assert len(vars(module)) > len(vars(ModuleType("empty")))


def test_every_block_is_one_that_a_test_runs() -> None:
    for page in DOCS:
        kinds = re.findall(r"^```(.+)$", page.read_text(), re.MULTILINE)
        assert set(kinds) <= {"python", "python continued", "python table", "python vm-script"}, (
            page
        )


ROOT = Path(__file__).resolve().parent.parent


def test_the_architecture_page_names_files_and_functions_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = set(re.findall(r"\b(?:\w+/)+\w+\.(?:py|[ch]|md)\b", page))
    assert len(files) > 20
    for file in files:
        assert (ROOT / file).exists() or (ROOT / "qemu_vmstate" / file).exists(), file
    source = "".join(
        path.read_text()
        for folder in ("cdefs", "qemu_vmstate")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".c", ".h", ".py")
    )
    functions = set(re.findall(r"\b((?:qv|hook)_\w+)\(\)", page))
    assert len(functions) > 15
    for function in functions:
        assert re.search(rf"\b{function}\(", source), function
