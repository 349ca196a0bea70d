# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``inspect``: a table, or JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import cli
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.show import as_json, show, write_json

from .streams import GOOD, PAYLOAD, Parse, be64, entry, one


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "good.mig"
    file.write_bytes(GOOD)
    return str(file)


def test_inspect_shows_a_table(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", good]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("bytes, pages of 4096 bytes, 7 sections, devices described")
    assert lines[1].split()[:4] == ["offset", "size", "kind", "id"]
    assert len(lines) == 2 + 7
    assert lines[6].split() == f"{PAYLOAD - 17} 28 full 5 dev 0 1 2 fields".split()
    assert "pages: 0 normal, 1 zero" in lines[5]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("with_rich", [True, False])
def test_a_terminal_gets_richs_table_if_it_can(
    good: str, with_rich: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich: list[Any] = []
    if with_rich:
        console = pytest.importorskip("rich.console").Console
        printed = console.print

        def record(self: Any, table: Any) -> None:
            rich.append(table)
            printed(self, table)

        monkeypatch.setattr(console, "print", record)
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("COLUMNS", "150")
    out = Terminal()
    show(read(good), out)
    assert len(rich) == with_rich
    assert "0 normal, 1 zero" in out.getvalue()
    assert "configuration" in out.getvalue()


def test_inspect_writes_json_with_exact_ints(parse: Parse, tmp_path: Path) -> None:
    section = one(
        parse, be64(2**64 - 1) + b"\xab", entry("q", "uint64", 8), entry("b", "buffer", 1)
    )
    assert section.field("q").value == 2**64 - 1
    stream = read(tmp_path / "vm.mig")
    out = io.StringIO()
    write_json(stream, out)
    loaded = json.loads(out.getvalue())
    assert loaded == as_json(stream)
    assert "18446744073709551615" in out.getvalue()
    values = [field["value"] for field in loaded["sections"][1]["fields"]]
    assert values == [2**64 - 1, "ab"]


def test_inspect_says_what_is_broken(
    good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mig"
    broken.write_bytes(GOOD[:30])
    assert cli.main(["inspect", str(broken)]) == 1
    assert capsys.readouterr().err.startswith(
        f"qemu-vmstate: {broken}: the file of 30 bytes ends inside "
    )
    assert cli.main(["inspect", "--json", str(tmp_path / "absent")]) == 1
    assert "absent cannot be read: No such file or directory" in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path)]) == 1
    assert "neither a file nor a disk nor a pipe" in capsys.readouterr().err
    for wrong in (["inspect"], ["inspect", good, good], ["inspect", good, "--", "qemu"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(wrong)
        assert caught.value.code == 2
