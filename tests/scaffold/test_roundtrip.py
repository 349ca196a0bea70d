# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections through QEMU's C code and back, from streams written by hand."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qemu_vmstate import StreamError, cli
from qemu_vmstate.scaffold.roundtrip import Report, roundtrip, show_roundtrip
from qemu_vmstate.stream.reader import read

from ..release import loads_null
from ..stream.streams import (
    EOF,
    HEADER,
    be16,
    be32,
    be64,
    counted,
    described,
    described_by,
    device,
    entry,
    full,
    list_entry,
    stream_of,
    vmsd,
)


def tried(tmp_path: Path, data: bytes) -> Report:
    file = tmp_path / "vm.mig"
    file.write_bytes(data)
    return roundtrip(read(file))


def sub(name: str, payload: bytes, version: int = 1) -> bytes:
    return b"\x05" + counted(name) + be32(version) + payload


POINT = vmsd("point", entry("x", "uint8", 1), entry("y", "int16", 2))
LONG_POINT = vmsd(
    "point",
    *POINT["fields"],
    subsections=[vmsd("point/z", entry("z", "uint8", 1))],
)
PARTS: list[tuple[bytes, Any]] = [
    (b"\1", entry("flag", "bool", 1)),
    (be32(7), entry("word", "uint32", 4)),
    (be64(2**64 - 1), entry("when", "timer", 8)),
    (be16(1) + be16(2), entry("env.words", "uint16", 2, array_len=2)),
    (bytes.fromhex("3ff8000000000000"), entry("half", "CPU_Double_U", 8)),
    (b"\1\2\3", entry("raw", "buffer", 3)),
    (be64(5) + be64(2**63), entry("map", "bitmap", 16)),
    (bytes(4), entry("unused", "unused_buffer", 4)),
    (b"\0\1", entry("reused", "unused_buffer", 2)),
    (be32(2**32 - 5), entry("same", "int32 equal", 4)),
    (be64(2**63), entry("id", "int64 equal", 8)),
    (be32(9), entry("version_id", "int32 le", 4)),
    (b"\1\xff\xfe" + b"\2\0\3", entry("points", "struct", 3, array_len=2, struct=POINT)),
    (b"\7\0\1", entry("tmp", "tmp", 3) | POINT | {"version": 0}),
    (b"\7\0\2", entry("v", "vstruct", 3) | POINT | {"version": 4}),
    (b"\x30\x30", entry("none", "nullptr", 1, array_len=2)),
    (b"\x05\x06", entry("custom", "tlb_entry", 2)),
    (be32(3), entry("size_packed", "uint32", 4)),
    (b"\xa2ab", entry("packed", "messagepack", 3)),
    (b"\3\0\4", entry("mixed", "struct", 3, index=0, struct=POINT)),
    (
        b"\3\0\4" + sub("point/z", b"\5"),
        entry("mixed", "struct", 19, struct=LONG_POINT),
    ),
    (b"\x30", entry("ptr", "nullptr", 1)),
    (b"\1\0\1", entry("ptr", "struct", 3, struct=POINT)),
    (b"\x30\x30", entry("ptr", "nullptr", 1, array_len=2)),
]
SUBSECTIONS = [
    vmsd("dev/more", entry("a", "uint8", 1), subsections=[vmsd("dev/more/inner")]),
    vmsd("dev-even_more", entry("b", "uint8", 1)),
]
WIRE = b"".join(raw for raw, _ in PARTS)
WIRE += sub("dev/more", b"\1" + sub("dev/more/inner", b"")) + sub("dev-even_more", b"\2")
EVERYTHING = stream_of(WIRE, *(field for _, field in PARTS), subsections=SUBSECTIONS)


@loads_null
def test_everything_comes_back(tmp_path: Path) -> None:
    report = tried(tmp_path, EVERYTHING)
    assert [(r.outcome, r.why) for r in report.results] == [("identical", "")]
    assert report.opaque == {"tlb_entry": 2}
    assert report.summary == f"identical: 1 of 1 sections, 2 bytes opaque of {len(WIRE)}"


@pytest.mark.parametrize("type_", ["qtailq", "qlist", "gtree"])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_lists_come_back(tmp_path: Path, type_: str, count: int) -> None:
    elements, payload = [], b""
    for number in range(count):
        key = be64(1000 + number) if type_ == "gtree" else b""
        payload += b"\1" + key + bytes([number, 0, 7])
        elements.append(POINT)
    payload = (be32(count) if type_ == "gtree" else b"") + payload + b"\0"
    head = '{"devices": [{"name": "dev", "instance_id": 0, "vmsd_name": "dev", "fields": ['
    text = head + list_entry("q", type_, elements) + "]}]}"
    report = tried(tmp_path, HEADER + full("dev", payload) + EOF + described_by(text.encode()))
    assert [(r.outcome, r.why) for r in report.results] == [("identical", "")]
    assert not report.opaque


def test_sections_without_a_description_are_opaque(tmp_path: Path) -> None:
    old = {"name": "old", "instance_id": 0, "size": 2, "fields": [entry("data", "buffer", 2)]}
    data = (
        HEADER
        + full("old", b"\1\2")
        + full("unknown", b"\3\4\5", 6)
        + full("empty", b"", 7)
        + full("dev", b"\6", 8)
        + EOF
        + described(old, device("dev", entry("x", "uint8", 1)), device("empty"))
    )
    report = tried(tmp_path, data)
    assert report.summary == "identical: 4 of 4 sections, 5 bytes opaque of 6"
    assert report.opaque == {"not described": 5}


def test_where_a_section_differs(tmp_path: Path) -> None:
    # QEMU writes a bool as 1, whatever true value it has read.
    inner = vmsd("in", entry("a", "uint8", 1), entry("flags", "bool", 1, array_len=3))
    fields = [entry("n", "uint8", 1), entry("s", "struct", 4, array_len=2, struct=inner)]
    payload = b"\7" + b"\1\0\1\1" + b"\2\0\1\4"
    data = stream_of(payload, *fields)
    at = data.index(payload)
    report = tried(tmp_path, data)
    (result,) = report.results
    assert result.outcome == "differs"
    assert result.why == f"s[1].flags[2] at byte {at + 8}: 0x04 became 0x01"
    assert report.summary.startswith("identical: 0 of 1 sections")


def test_a_section_that_cannot_be_loaded_does_not_prevent_others(tmp_path: Path) -> None:
    good = entry("x", "uint8", 1)
    # QEMU does not find a subsection with such a name.
    stray = vmsd("bad", good, subsections=[vmsd("other/s", good)])
    devices = [
        {"name": name, "instance_id": 0} | description
        for name, description in (("a", vmsd("a", good)), ("bad", stray), ("z", vmsd("z", good)))
    ]
    data = HEADER + full("a", b"\1") + full("bad", b"\1" + sub("other/s", b"\2"), 6)
    report = tried(tmp_path, data + full("z", b"\3", 7) + EOF + described(*devices))
    assert [r.outcome for r in report.results] == ["identical", "cannot", "identical"]
    assert "'other/s' must be called 'bad/...'" in report.results[1].why
    assert report.summary.startswith("identical: 2 of 3 sections")


def test_a_version_that_no_description_has(tmp_path: Path) -> None:
    data = bytearray(stream_of(b"\1", entry("x", "uint8", 1)))
    at = data.index(b"\3dev") + 4 + 4
    data[at : at + 4] = be32(2**31)
    (result,) = tried(tmp_path, bytes(data)).results
    assert result.outcome == "cannot"
    assert f"version_id {2**31}" in result.why


def test_a_file_that_shrank_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "vm.mig"
    file.write_bytes(EVERYTHING)
    stream = read(file)
    file.write_bytes(EVERYTHING[:40])
    with pytest.raises(StreamError, match="ends inside dev"):
        roundtrip(stream)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        roundtrip(stream)


@pytest.fixture(scope="module")
def fuzz_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "vm.mig"


@given(
    st.lists(
        st.tuples(st.integers(0, len(EVERYTHING)), st.integers(0, 9), st.binary(max_size=9)),
        max_size=3,
    )
)
@example([(EVERYTHING.index(b"\x7e"), 0, b"\0")])
def test_broken_streams_give_a_report_or_an_error(
    fuzz_file: Path, changes: list[tuple[int, int, bytes]]
) -> None:
    data = EVERYTHING
    for at, removed, put in changes:
        data = data[:at] + put + data[at + removed :]
    fuzz_file.write_bytes(data)
    try:
        stream = read(fuzz_file)
    except StreamError:
        return
    report = roundtrip(stream)
    assert len(report.results) == sum(section.kind == "full" for section in stream)
    show_roundtrip(report, io.StringIO())


@loads_null
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vm.mig"
    file.write_bytes(EVERYTHING)
    assert cli.main(["roundtrip", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"identical  dev/0: {len(WIRE)} bytes, 2 opaque (tlb_entry)",
        f"identical: 1 of 1 sections, 2 bytes opaque of {len(WIRE)}",
    ]
    file.write_bytes(stream_of(b"\2", entry("x", "bool", 1)))
    assert cli.main(["roundtrip", str(file)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("differs    dev/0: x at byte ")
    assert out[1] == "identical: 0 of 1 sections, 0 bytes opaque of 1"
    assert cli.main(["roundtrip", "--json", str(file)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [found[key] for key in ("identical", "sections", "opaque", "size")] == [0, 1, 0, 1]
    assert found["results"][0]["outcome"] == "differs"
    file.write_bytes(b"QEVM")
    assert cli.main(["roundtrip", str(file)]) == 1
    assert "ends inside the header's version" in capsys.readouterr().err


def test_the_status_is_kept_when_nobody_reads(tmp_path: Path) -> None:
    file = tmp_path / "vm.mig"
    file.write_bytes(stream_of(b"\2", entry("x", "bool", 1)))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "qemu_vmstate", "roundtrip", str(file)]
    with os.fdopen(writer) as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
