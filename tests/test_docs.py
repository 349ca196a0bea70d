# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation: every block of code runs when it is pasted, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qemu_vmstate.cli import main

from .pages import (
    CHECKOUT,
    DIRECTIVES,
    PAGES,
    RUN_AGAINST_THE_TREE,
    RUN_IN_PROCESS,
    RUN_IN_VMS,
    anchors,
    blocks,
    kinds,
    links,
    run,
)
from .release import loads_null

# The vocabulary loads into an array with None, and expects a hint.
WITH_CODE = [
    pytest.param(page, marks=[loads_null] if page.name == "vocabulary.md" else [])
    for page in PAGES
    if blocks(page, *RUN_IN_PROCESS)
]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_work_when_pasted(page: Path) -> None:
    run(page.name, blocks(page, *RUN_IN_PROCESS))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_one_that_a_test_runs(page: Path) -> None:
    known = {*RUN_IN_PROCESS, *RUN_IN_VMS, *RUN_AGAINST_THE_TREE, *DIRECTIVES, ""}
    assert kinds(page) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_links_are_found() -> None:
    assert sum(len(links(page)) for page in PAGES) > 40
    assert {"docs/installation.md", "docs/versions.md"} <= set(links(PAGES[0]))


def test_every_page_is_in_the_table_of_contents() -> None:
    index = CHECKOUT / "docs" / "index.md"
    listed = {line for block in blocks(index, "{toctree}") for line in block.split()}
    pages = {page.stem for page in (CHECKOUT / "docs").glob("*.md")} - {"index"}
    assert pages <= listed
    reference = (CHECKOUT / "docs" / "reference" / "index.rst").read_text()
    for page in (CHECKOUT / "docs" / "reference").glob("*.rst"):
        assert page.stem == "index" or f"   {page.stem}\n" in reference


def test_every_verb_of_the_command_is_on_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    (verbs,) = re.findall(r"\{([\w,-]+)\}", capsys.readouterr().out.split("\n\n")[0])
    page = (CHECKOUT / "docs" / "command.md").read_text()
    missing = [verb for verb in verbs.split(",") if not re.search(rf"^\| `{verb}\b", page, re.M)]
    assert len(verbs.split(",")) >= 8
    assert missing == []


def test_the_architecture_page_names_files_and_functions_that_are_there() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text()
    files = set(re.findall(r"\b(?:\w+/)+\w+\.(?:py|[ch]|md)\b", page))
    assert len(files) > 20
    for file in files:
        assert (CHECKOUT / file).exists() or (CHECKOUT / "qemu_vmstate" / file).exists(), file
    source = "".join(
        path.read_text()
        for folder in ("cdefs", "qemu_vmstate")
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in (".c", ".h", ".py")
    )
    functions = set(re.findall(r"\b((?:qv|hook)_\w+)\(\)", page))
    assert len(functions) > 15
    for function in functions:
        assert re.search(rf"\b{function}\(", source), function
