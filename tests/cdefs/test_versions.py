# SPDX-License-Identifier: GPL-2.0-or-later
"""One header compares QEMU's versions, and docs/versions.md describes each of its macros."""

from __future__ import annotations

import re
from pathlib import Path

from .test_order import CDEFS, FOLDERS, code, included, sources

HEADER = CDEFS / "bridge" / "qemu_version.h"
PAGE = CDEFS.parent / "docs" / "versions.md"
REFERENCE = CDEFS.parent / "tests" / "c_reference"
# The number of the tree itself: for messages, and to refuse another QEMU.
NUMBER_USERS = {"qemu_version.h", "qemu.c"}


def macros() -> dict[str, str]:
    """Return the condition of each macro that stands for a thing."""
    found = re.findall(r"^#define (QV_\w+) \((.+)\)$", code(HEADER), re.MULTILINE)
    return {name: condition for name, condition in found if name != "QV_VERSION"}


def users() -> dict[Path, set[str]]:
    """Return the macros that each C file uses."""
    files = [path for folder in FOLDERS for path in sources(folder) if path != HEADER]
    files += REFERENCE.glob("*.c")
    return {path: set(re.findall(r"\bQV_\w+", code(path))) & set(macros()) for path in files}


def releases() -> list[str]:
    """Return the releases of the page's first table, in its order."""
    return re.findall(r"^\| (\d+\.\d+) \|", PAGE.read_text(), re.MULTILINE)


def in_words(condition: str) -> str:
    """Return a macro's condition as its row has it."""
    since = re.search(r"QV_VERSION >= (\d+)", condition)
    before = re.search(r"QV_VERSION < (\d+)", condition)
    words = []
    if since:
        number = int(since.group(1))
        words.append(f"from {number // 100}.{number % 100}")
    if before:
        number = int(before.group(1))
        last = releases()[releases().index(f"{number // 100}.{number % 100}") - 1]
        words.append(f"to {last}")
    return " ".join(words)


def test_only_one_header_compares_versions() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            text = code(path)
            if path != HEADER:
                assert not re.search(r"\bQV_VERSION\b", text), path
            if path.name not in NUMBER_USERS:
                assert not re.search(r"\bQEMU_VERSION_(MAJOR|MINOR|MICRO)\b", text), path


def test_each_macro_is_used_by_files_that_include_it() -> None:
    used = users()
    assert set().union(*used.values()) == set(macros())
    for path, names in used.items():
        headers = {stem for _, stem in included(path)}
        if names and path.suffix == ".c":
            assert headers & {"qemu_version", "qemu_internal"}, f"{path.name} uses {names}"


def test_the_page_describes_each_macro_with_its_releases() -> None:
    rows = dict(re.findall(r"^\| `(QV_\w+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE))
    assert len(macros()) > 10
    assert rows == {name: in_words(condition) for name, condition in macros().items()}


def test_the_page_has_every_release_at_which_something_changes() -> None:
    numbers = re.findall(r"QV_VERSION (?:>=|<) (\d+)", " ".join(macros().values()))
    changed = {f"{int(number) // 100}.{int(number) % 100}" for number in numbers}
    assert changed <= set(releases())
    assert releases() == sorted(releases(), key=lambda text: [int(n) for n in text.split(".")])
    assert releases()[0] == "7.2"
