# SPDX-License-Identifier: GPL-2.0-or-later
"""Layouts of another file, and what was read of a file that an error ends."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from qemu_vmstate import cli
from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.reader import read

from .streams import (
    EOF,
    GOOD,
    HEADER,
    PAYLOAD,
    be32,
    be64,
    counted,
    described,
    device,
    entry,
    full,
    later,
    start,
    vmsd,
)

SUBSECTION = b"\x05" + counted("dev/s") + be32(1) + b"\x09"
LAYOUT = described(
    device(
        *("dev", entry("a", "uint16", 2)),
        subsections=[vmsd("dev/s", entry("x", "uint8", 1))],
    ),
    device("dev", entry("b", "buffer", 3), instance=1),
    device("last", entry("c", "uint32", 4)),
)
RECORDS = (
    be64(0x1004) + counted("r") + be64(0x1000) + be64(0x10),
    be64(2) + counted("r") + b"\0" + be64(0x10),
)


def sections(*devices: tuple[str, bytes, int], with_footers: bool) -> bytes:
    """Return a machine's sections, of its memory and of its devices."""
    wire = [start("ram", RECORDS[0]), later(3, RECORDS[1])]
    wire += [full(name, data, 5 + i, number) for i, (name, data, number) in enumerate(devices)]
    return HEADER + b"".join(one if with_footers else one[:-5] for one in wire) + EOF


DEVICES = (("dev", b"\1\2", 0), ("dev", b"abc", 1), ("last", be32(9), 0))


@pytest.fixture
def like(tmp_path: Path) -> Path:
    path = tmp_path / "like.mig"
    first = ("dev", b"\0\0" + SUBSECTION, 0)
    path.write_bytes(sections(first, *DEVICES[1:], with_footers=True) + LAYOUT)
    assert read(path).section("dev").field("dev/s.x").value == 9
    return path


@pytest.mark.parametrize("with_footers", [True, False])
@pytest.mark.parametrize("rest", [b"", bytes(999), GOOD, b"text"])
def test_devices_are_decoded_like_those_of_another_file(
    tmp_path: Path, like: Path, rest: bytes, with_footers: bool
) -> None:
    path = tmp_path / "vm.mig"
    path.write_bytes(sections(*DEVICES, with_footers=with_footers) + rest)
    for other in (like, read(like)):
        stream = read(path, like=other)
        assert stream.section("dev").field("a").value == 0x0102
        assert stream.section("dev", 1).field("b").value == b"abc"
        assert stream.section("last").field("c").value == 9
        assert (stream.like, stream.description) == (str(like), None)
        assert stream.footers == with_footers
        assert stream.size == sum(s.size for s in stream)
        assert stream.ram_blocks == {"r": 0x1000}
    # A subsection may be there or not.
    first = ("dev", b"\1\2" + SUBSECTION, 0)
    path.write_bytes(sections(first, *DEVICES[1:], with_footers=with_footers) + rest)
    assert read(path, like=like).section("dev").field("dev/s.x").value == 9


def test_a_description_of_its_own_is_used_first(tmp_path: Path, like: Path) -> None:
    path = tmp_path / "vm.mig"
    path.write_bytes(GOOD)
    assert read(path, like=like) == read(path)


@pytest.mark.parametrize("rest", [b"", bytes(999)])
@pytest.mark.parametrize("with_footers", [True, False])
@pytest.mark.parametrize(
    ("devices", "name"),
    [
        ([("dev", b"\1", 0), *DEVICES[1:]], "'dev' (instance 0)"),
        ([("dev", b"\1\2\3", 0), *DEVICES[1:]], "'dev' (instance 0)"),
        ([("dev", b"\1\2\0", 0), *DEVICES[1:]], "'dev' (instance 0)"),
        ([DEVICES[0], ("dev", b"ab", 1), DEVICES[2]], "'dev' (instance 1)"),
        ([*DEVICES[:2], ("last", b"\0\0\0", 0)], "'last' (instance 0)"),
    ],
)  # fmt: skip
def test_layouts_that_do_not_fit(
    tmp_path: Path,
    like: Path,
    devices: list[tuple[str, bytes, int]],
    name: str,
    with_footers: bool,
    rest: bytes,
) -> None:
    path = tmp_path / "vm.mig"
    path.write_bytes(sections(*devices, with_footers=with_footers) + rest)
    if devices[-1][1] == b"\0\0\0" and not with_footers:
        return  # the zero that is missing may as well be missing at the end
    with pytest.raises(StreamError) as caught:
        read(path, like=like)
    assert f"the layout of {name} in {like} does not fit the section" in caught.value.reason
    names = [s.name for s in caught.value.partial]
    assert names == ["", "ram", "ram", *(name for name, _, _ in devices[: len(names) - 3])]


def test_other_reasons_why_layouts_do_not_fit(tmp_path: Path, like: Path) -> None:
    path = tmp_path / "vm.mig"
    data = sections(*DEVICES, with_footers=False)
    path.write_bytes(data.replace(be32(0) + be32(1) + b"\1\2", be32(0) + be32(3) + b"\1\2"))
    with pytest.raises(StreamError, match=r"'dev' .*: it is of version_id 1, not 3"):
        read(path, like=like)
    path.write_bytes(data.replace(b"\x04last", b"\x04LAST"))
    with pytest.raises(StreamError, match=f"'LAST' .* has neither .*, in this file or in {like}"):
        read(path, like=like)
    bare = tmp_path / "bare.mig"
    bare.write_bytes(sections(*DEVICES, with_footers=True))
    with pytest.raises(StreamError, match=f"like those of {bare}, because that file has no desc"):
        read(path, like=bare)
    with pytest.raises(StreamError, match=r"neither a description nor a footer.* `like` .--like"):
        read(path)


def test_an_error_has_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "vm.mig"
    path.write_bytes(GOOD)
    whole = read(path)
    end = GOOD.rindex(EOF + b"\x06") + 1
    for length in (*range(8, end), *range(end + 1, len(GOOD))):
        path.write_bytes(GOOD[:length])
        with pytest.raises(StreamError) as caught:
            read(path)
        partial = caught.value.partial
        assert partial.size == length
        assert partial.end <= length
        for one, other in zip(partial, whole.sections, strict=False):
            assert (one.offset, one.size, one.name) == (other.offset, other.size, other.name)
        missing = whole.sections[len(partial.sections)]
        assert missing.offset <= length < missing.offset + missing.size
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.partial) == (str(caught.value), partial)
    path.write_bytes(GOOD[: PAYLOAD + 3])
    with pytest.raises(StreamError) as caught:
        read(path)
    assert caught.value.partial.ram_blocks == {"r": 0x1000}
    assert caught.value.partial.configuration == whole.configuration
    path.write_bytes(GOOD[:7])
    with pytest.raises(StreamError) as caught:
        read(path)
    assert caught.value.partial is None


def test_inspect_shows_what_was_read(
    tmp_path: Path, like: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vm.mig"
    cut = sections(*DEVICES, with_footers=False)[:-3]
    path.write_bytes(cut)
    assert cli.main(["inspect", str(path), "--like", str(like)]) == 1
    out, err = capsys.readouterr()
    assert f"read up to byte {len(cut) - 20} of {len(cut)} bytes, pages of" in out
    assert f"5 sections, devices decoded like those of {like}\n" in out
    assert [line.split()[2] for line in out.splitlines()[2:]] == [
        "header",
        "start",
        "end",
        "full",
        "full",
    ]
    assert err.startswith(f"qemu-vmstate: {path}: the layout of 'last'")
    assert "ends inside last.c, whose 4 byte(s)" in err
    assert cli.main(["inspect", str(path), "--like", str(like), "--json"]) == 1
    out, again = capsys.readouterr()
    shown = json.loads(out)
    assert err == again == f"qemu-vmstate: {shown['error']}\n"
    assert [s["kind"] for s in shown["sections"]] == ["header", "start", "end", "full", "full"]
    assert shown["sections"][4]["fields"][0]["value"] == b"abc".hex()
    assert cli.main(["inspect", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "3 sections, devices not described" in out
    assert "--like" in err
    # Without an error, the member is null; an error of the other file is that file's.
    assert cli.main(["inspect", str(like), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["error"] is None
    assert cli.main(["inspect", str(like), "--like", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"qemu-vmstate: {path}: ")
    assert cli.main(["inspect", str(like), "--like", str(tmp_path / "none")]) == 1
    assert "none cannot be read: No such file" in capsys.readouterr().err
