# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables and the picture of a benchmark's result."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qemu_vmstate.bench.picture import draw
from qemu_vmstate.bench.report import show

from .results import everything


def tables(printed: str) -> dict[str, list[list[str]]]:
    """Return the rows of each table, by its title; columns have two blanks between them."""
    found: dict[str, list[list[str]]] = {}
    for block in printed.split("\n\n")[1:]:
        title, *rows = block.strip("\n").split("\n")
        found[title.strip()] = [re.split(r"\s{2,}", row.strip()) for row in rows]
    return found


def test_tables_have_every_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    show(everything())
    printed = tables(capsys.readouterr().out)
    ours = printed["In process: ratio to the reference device"]
    # 2, 4 and 6 of the reference device's 8 us.
    assert ours[1][2:6] == ["0.25", "0.50", "0.75", "8.00 us"]
    others = printed["In process: ratio of a derived dataclass to serializers of an equal one"]
    assert others[0][1:] == [
        *("op", "to pickle", "to msgspec dataclass", "to msgspec Struct"),
        *("derived", "pickle", "msgspec dataclass", "msgspec Struct"),
    ]
    # 6 us beside 20, 10 and 5.
    assert others[1][2:6] == ["0.30", "0.60", "1.20", "6.00 us"]
    states = printed["Python state beside serializers: ratio of the conversion"]
    assert states[0] == [
        *("state", "op", "typed to msgspec", "to pickle", "Packed to msgspec", "to pickle"),
        *("typed", "Packed", "msgspec", "pickle", "typed device", "Packed device"),
    ]
    # 12 and 11 us beside 10 and 20, and the devices twice as much.
    assert states[1] == [
        *("session", "save", "1.20", "0.60", "1.10", "0.55"),
        *("12.00 us", "11.00 us", "10.00 us", "20.00 us", "24.00 us", "22.00 us"),
    ]
    destination = printed["In a VM, destination: ratio (first hook to last; to running, ms)"]
    # A hundredth, a two-hundredth and a fiftieth of 1,000, and 1; twice that until it runs.
    assert destination[1] == [
        *("1,000", "0", "0.55 (6.00; 12.00)", "1.91 (21.00; 42.00)", "(11.00; 22.00)")
    ]
    assert len(destination) == 4
    source = printed["In a VM, source: ratio (downtime; first hook to last, ms)"]
    assert source[-1][:3] == ["1,000", "4", "0.55 (6; 6.00)"]


def test_tables_without_msgspec_and_destinations(capsys: pytest.CaptureFixture[str]) -> None:
    result = everything({"pickle": 20.0})
    result["vm"] = [row for row in result["vm"] if row["devices"] < 1_000]
    show(result)
    printed = capsys.readouterr().out
    assert "msgspec" not in printed
    assert "destination" not in printed
    states = tables(printed)["Python state beside serializers: ratio of the conversion"]
    assert states[0] == ["state", "op", "typed to pickle", "typed", "pickle", "typed device"]
    assert states[1] == ["session", "save", "0.60", "12.00 us", "20.00 us", "24.00 us"]


def test_the_picture_is_small_legible_and_the_same_again(tmp_path: Path) -> None:
    pictures = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for path in pictures:
        draw(everything(), str(path))
    first, second = (path.read_bytes() for path in pictures)
    assert first == second
    assert len(first.splitlines()) < 600
    root = ElementTree.fromstring(first)
    space = "{http://www.w3.org/2000/svg}"
    texts = {"".join(element.itertext()).strip() for element in root.iter(f"{space}text")}
    assert {"native", "msgspec dataclass", "64 Ki", "busy Python threads"} <= texts
    assert "destination: first hook to last of 1,000 devices, ms" in texts
    # A light and a dark page are both possible behind it, so nothing is black or white.
    colours = {colour.lower() for colour in re.findall(rb"#[0-9a-fA-F]{6}\b", first)}
    assert not colours & {b"#000000", b"#ffffff"}
    assert b"<rdf:" not in first


def test_a_picture_of_what_was_measured_without_destinations(tmp_path: Path) -> None:
    result = everything()
    result["vm"] = [row for row in result["vm"] if row["devices"] < 1_000]
    draw(result, str(tmp_path / "picture.svg"))
    text = (tmp_path / "picture.svg").read_text()
    assert "source: first hook to last" in text
    assert "destination" not in text
    draw(result, str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
