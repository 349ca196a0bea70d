# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md and the pages in docs/: their blocks of code, links and headings."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parent.parent
README = CHECKOUT / "README.md"
PAGES = [README, CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]

RUN_IN_PROCESS = ("python", "python continued")
RUN_IN_VMS = (
    *("python vm-script", "python vm-host", "python vm-test"),
    *("python vm-plugin", "python attach-script"),
)
RUN_AGAINST_THE_TREE = ("python table",)  # by qemu_tables/test_macros.py
DIRECTIVES = ("{include} ../README.md", "{include} ../CONTRIBUTING.md", "{toctree}")

_FENCED = re.compile(r"^```(.*)\n((?s:.*?))^```$", re.MULTILINE)


def blocks(page: Path, *kinds: str) -> list[str]:
    """Return the page's blocks of these kinds, in their order."""
    return [code for kind, code in _FENCED.findall(page.read_text()) if kind in kinds]


def kinds(page: Path) -> set[str]:
    """Return the kinds of the page's blocks; that of output is empty."""
    return {kind for kind, _ in _FENCED.findall(page.read_text())}


def links(page: Path) -> list[str]:
    """Return the targets of the page's links that are no address."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page.read_text()))
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as forges and the site make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def run(name: str, codes: list[str]) -> ModuleType:
    """Run blocks of code in one module, and return it."""
    module = ModuleType(f"pasted_from_{name}")
    sys.modules[module.__name__] = module  # where annotations are looked up
    try:
        for code in codes:
            exec(compile(code, name, "exec", dont_inherit=True), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module
