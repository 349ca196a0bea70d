# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams in containers: libvirt's header, compressed data, an offset, pipes and file objects."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from qemu_vmstate import cli, stream
from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.reader import read

from .containers import FORMATS, XML, save_image
from .streams import GOOD, PAYLOAD

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: run("zstd", "-c", data=data),
}


def run(*words: str, data: bytes = b"", status: int = 0) -> bytes:
    """Return the output of a program that reads *data*."""
    done = subprocess.run(words, input=data, capture_output=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def inspect(*words: str, data: bytes = b"", status: int = 0) -> str:
    return run(sys.executable, "-m", "qemu_vmstate", *words, data=data, status=status).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a file, with 'marks'.sav"


def error_of(file: Path, **where: int | str) -> str:
    with pytest.raises(StreamError) as caught:
        read(file, **where)  # type: ignore[arg-type]
    return str(caught.value)


# ------------------------------------------------------------------- libvirt


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_libvirt_saved_is_read_behind_its_header(file: Path, order: str) -> None:
    header = save_image("raw", order=order)
    # 16 bytes of magic, 5 numbers and 14 unused ones, and as much as the header says.
    assert len(header) == 16 + 19 * 4 + len(XML) + 1 + 65536
    file.write_bytes(header + GOOD)
    found = read(file)
    assert found.sections[0].offset == len(header)
    assert found.section("dev").payload_offset == len(header) + PAYLOAD
    assert found.payload("dev") == bytes(6)
    assert found.size == len(header + GOOD)
    assert found.origin.container == "libvirt save image of the domain 'a & b'"
    text = inspect("inspect", str(file))
    assert text.startswith(f"{file} (libvirt save image of the domain 'a & b'): machine none, ")
    shown = json.loads(inspect("inspect", "--json", str(file)))
    assert shown["container"] == found.origin.container
    assert shown["sections"][0]["offset"] == len(header)


def test_an_unfinished_image_of_libvirts_is_read_and_says_so(file: Path) -> None:
    header = save_image("raw", complete=False)
    file.write_bytes(header + GOOD)
    container = read(file).origin.container
    assert container.startswith("unfinished libvirt save image of the domain 'a & b' (libvirt did")
    file.write_bytes(header + GOOD[:40])
    message = error_of(file)
    assert f"the file of {len(header) + 40} bytes ends inside" in message
    assert message.endswith("; libvirt did not finish writing this image")


def test_the_format_of_version_1_means_nothing(file: Path) -> None:
    file.write_bytes(save_image("gzip", version=1) + GOOD)
    assert read(file).payload("dev") == bytes(6)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (save_image("raw", version=3), "at byte 0 is of the version 50331648, and 1 and 2 are"),
        (save_image(9), "at byte 0 has the format 9, and the last one known is 6 (sparse)"),
        (save_image("raw")[:90], "of 90 bytes ends inside libvirt's header, whose 92 byte(s)"),
        (save_image("raw")[:-1], "bytes ends inside the domain's XML, whose "),
        (save_image("raw"), "bytes ends inside the header"),
        (save_image("raw", length=2**32 - 1), "the domain's XML, whose 4294967295 byte(s) begin"),
        (
            save_image("xz") + GOOD,
            f"compressed by xz, and at byte {len(save_image('xz'))} begins nothing compressed "
            f"({GOOD[:16].hex()})",
        ),
    ],
)
def test_headers_that_libvirt_does_not_write(file: Path, header: bytes, message: str) -> None:
    file.write_bytes(header)
    assert message in error_of(file)


def test_a_domains_name_does_not_reach_a_terminal(file: Path) -> None:
    file.write_bytes(save_image("raw", xml=b"<name>\x1b[2J\xff</name>") + GOOD)
    text = inspect("inspect", str(file))
    assert "\x1b" not in text
    assert r"\x1b[2J\xff" in text.replace("\\\\", "\\")


# ---------------------------------------------------------------- compressed


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("libvirt", [True, False])
def test_what_is_compressed_is_unpacked(file: Path, name: str, libvirt: bool) -> None:
    header = save_image(name) if libvirt else b""
    file.write_bytes(header + PACKERS[name](GOOD))
    found = read(file)
    assert found.section("dev").payload_offset == PAYLOAD
    assert found.size == len(GOOD)
    assert found.payload("dev") == bytes(6)
    before = "libvirt save image of the domain 'a & b', " if libvirt else ""
    assert found.origin.container == f"{before}{name}; offsets are those of what is unpacked"
    # Two pieces after each other, as `cat a.gz b.gz` makes them, unpack to one.
    file.write_bytes(header + PACKERS[name](GOOD[:50]) + PACKERS[name](GOOD[50:]))
    assert read(file).payload("dev") == bytes(6)
    # What is unpacked exists as long as the stream.
    file.unlink()
    assert found.payload("dev") == bytes(6)


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_data_that_ends_early_is_read_as_far_as_it_goes(file: Path, name: str) -> None:
    noise = os.urandom(1 << 20)
    packed = PACKERS[name](GOOD[: PAYLOAD + 3] + noise)
    file.write_bytes(packed[: len(packed) // 2])
    message = error_of(file)
    assert "offsets are those of what is unpacked; " in message
    assert message.endswith(f"; the {name} data ends early")
    # An end that lacks only the checksum has all of the stream.
    packed = PACKERS[name](GOOD)
    file.write_bytes(packed[:-1])
    found = read(file)
    assert f"{name} (the {name} data ends early)" in found.origin.container
    assert found.payload("dev") == bytes(6)


@pytest.mark.parametrize("name", PACKERS)
def test_broken_compressed_data_is_said_to_be_so(file: Path, name: str) -> None:
    packed = bytearray(PACKERS[name](GOOD[:40] + os.urandom(1000)))
    packed[len(packed) // 2] ^= 0xFF
    file.write_bytes(packed)
    assert f"the {name} data is broken: " in error_of(file)


def test_a_stream_in_front_of_broken_compressed_data_is_read(file: Path) -> None:
    # Stored, not packed, so that the fault is found by the checksum at the end.
    packed = bytearray(gzip.compress(GOOD + bytes(1000), compresslevel=0))
    packed[-500] ^= 0xFF
    file.write_bytes(packed)
    found = read(file)
    assert "the gzip data is broken: " in found.origin.container
    assert found.payload("dev") == bytes(6)


def test_zeros_cost_neither_memory_nor_disk(file: Path) -> None:
    for name, level in (("gzip", "-9"), ("zstd", "-19"), ("xz", "-0")):
        packer = subprocess.Popen(
            [name, level, "-c"], stdin=subprocess.PIPE, stdout=file.open("wb")
        )
        assert packer.stdin is not None
        packer.stdin.write(GOOD)
        for _ in range(200):
            packer.stdin.write(bytes(1 << 20))
        packer.stdin.close()
        assert packer.wait(120) == 0
        tracemalloc.start()
        try:
            found = read(file)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found.size == len(GOOD) + (200 << 20)
        assert found.sections[-1].kind == "trailing"
        assert peak < 40 << 20, name
        with found.origin.open() as source:
            held = os.fstat(source._fd)  # noqa: SLF001 - the temporary file has no name
        assert held.st_blocks * 512 < 2 << 20, name


@pytest.mark.parametrize("name", ["lzop", "lz4"])
def test_what_is_not_unpacked_here_names_the_command_that_does(file: Path, name: str) -> None:
    header = save_image("lzop") if name == "lzop" else b""
    magic = {"lzop": b"\x89LZO\0\r\n\x1a\n", "lz4": b"\x04\x22\x4d\x18"}[name]
    packed = run(name, "-c", data=GOOD) if shutil.which(name) else magic
    file.write_bytes(header + packed)
    message = error_of(file)
    assert f"compressed by {name} from byte {len(header)} on" in message
    command = message.split("`")[1]
    assert command.endswith(f"{name} -dc | qemu-vmstate inspect -") or not header
    if shutil.which(name):
        program = f"{sys.executable} -m qemu_vmstate"
        shown = run("sh", "-c", command.replace("qemu-vmstate", program)).decode()
        assert shown.startswith("<stdin>: machine none, ")


def test_zstd_without_a_library_names_the_package_and_the_command(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("zstandard", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    file.write_bytes(save_image("zstd") + PACKERS["zstd"](GOOD))
    message = error_of(file)
    assert "`pip install 'qemu-vmstate[zstd]'` for the package zstandard, or unpack it" in message
    command = message.split("`")[3]
    program = f"{sys.executable} -m qemu_vmstate"
    assert "machine none" in run("sh", "-c", command.replace("qemu-vmstate", program)).decode()


def test_containers_in_containers(file: Path) -> None:
    file.write_bytes(lzma.compress(save_image("gzip") + gzip.compress(GOOD)))
    found = read(file)
    assert found.payload("dev") == bytes(6)
    assert found.origin.container == (
        "xz, libvirt save image of the domain 'a & b', gzip; offsets are those of what is unpacked"
    )
    data = GOOD
    for _ in range(9):
        data = gzip.compress(data)
    file.write_bytes(data)
    assert "begins with 1f8b" in error_of(file)


# -------------------------------------------------------------------- offset


def test_an_offset_is_where_the_stream_or_its_container_begins(file: Path) -> None:
    file.write_bytes(b"LibvirtQemudSave" + bytes(4080) + GOOD)
    found = read(file, offset=4096)
    assert found.section("dev").payload_offset == 4096 + PAYLOAD
    assert found.payload("dev") == bytes(6)
    assert found.origin.container == ""
    for words in (["--offset", "4096"], ["--offset=0x1000"]):
        assert f" {4096 + PAYLOAD - 17} " in inspect("inspect", *words, str(file))
    assert "class Dev(Device" in inspect("scaffold", "--offset", "4096", str(file))
    header = save_image("raw")
    file.write_bytes(b"1234" + header + GOOD)
    assert read(file, offset=4).sections[0].offset == 4 + len(header)
    assert "of 5 bytes has no byte 6" in error_of(_written(file, b"12345"), offset=6)
    with pytest.raises(ValueError, match="the offset -1 is negative"):
        read(file, offset=-1)


def _written(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


def test_a_file_that_begins_with_something_else_has_a_hint(file: Path) -> None:
    file.write_bytes(b"12345678" + GOOD)
    message = error_of(file)
    assert "at byte 0 it begins with 31323334 instead of 5145564d (QEVM); " in message
    assert message.endswith("such a header is at byte 8, which --offset 8 would read")
    assert read(file, offset=8).payload("dev") == bytes(6)
    assert "at byte 4 it begins with 35363738" in error_of(file, offset=4)
    file.write_bytes(b"1" * (1 << 20) + GOOD)
    assert error_of(file).endswith("if a stream begins further on, say at which byte (--offset N)")


@pytest.mark.parametrize("words", [["-1"], ["x"], ["1", "--snapshot", "s"], [""]])
def test_wrong_offsets_are_refused(
    file: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["inspect", str(file), "--offset", *words])
    assert caught.value.code == 2
    assert "offset" in capsys.readouterr().err


def test_a_snapshot_of_no_image(file: Path) -> None:
    file.write_bytes(GOOD)
    message = error_of(file, snapshot="s1")
    assert "the snapshot 's1' is looked for in a qcow2 image, and at byte 0 begins none" in message


# --------------------------------------------------- pipes and file objects


def test_the_standard_input_may_be_a_file_or_a_pipe(file: Path) -> None:
    header = save_image("gzip")
    for data in (GOOD, header + gzip.compress(GOOD), save_image("raw") + GOOD):
        file.write_bytes(data)
        named = inspect("inspect", str(file)).splitlines()
        piped = inspect("inspect", "-", data=data).splitlines()
        assert piped[1:] == named[1:]
        assert piped[0].startswith("<stdin>")
        with file.open("rb") as opened:
            done = subprocess.run(
                [sys.executable, "-m", "qemu_vmstate", "inspect", "-"],
                stdin=opened, capture_output=True, timeout=60,
            )  # fmt: skip
        assert done.stdout.decode().splitlines() == piped
    assert "class Dev(Device" in inspect("scaffold", "-", data=GOOD)
    offset = inspect("inspect", "-", "--offset", "3", data=b"123" + GOOD)
    assert f" {3 + PAYLOAD - 17} " in offset
    assert "<stdin>: the file of 0 bytes ends inside" in inspect("inspect", "-", status=1)


def test_a_named_pipe_is_read_once_and_its_payloads_later(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # More than fits into a pipe at once.
    data = GOOD + bytes(1 << 18)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    found = read(pipe)
    writer.join(60)
    assert found.size == len(data)
    assert found.payload("dev") == bytes(6)


def test_file_objects_are_read_from_their_position(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"123" + GOOD)
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(b"123" + GOOD)
    with (
        file.open("rb") as buffered,
        file.open("rb", buffering=0) as raw,
        file.open("r+b") as both,
        gzip.open(tmp_path / "packed") as unpacked,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(b"123" + GOOD)
        objects = [buffered, raw, both, unpacked, spooled, io.BytesIO(b"123" + GOOD)]
        for opened in objects:
            assert "such a header is at byte 3" in error_from(opened)
            opened.seek(3)
            found = read(opened)  # type: ignore[arg-type]
            assert found.section("dev").payload_offset == 3 + PAYLOAD
            assert opened.tell() == 3
            opened.close()
            assert found.payload("dev") == bytes(6)
    with pytest.raises(TypeError, match="is not a binary file: it reads str"):
        read(io.StringIO("text"))  # type: ignore[arg-type]


def error_from(opened: object) -> str:
    opened.seek(0)  # type: ignore[attr-defined]
    with pytest.raises(StreamError) as caught:
        read(opened)  # type: ignore[arg-type]
    return str(caught.value)


# ------------------------------------------------------------------- replace


def test_a_section_is_replaced_behind_libvirts_header_and_an_offset(
    file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for before, offset in ((save_image("raw"), 0), (b"12345", 5)):
        file.write_bytes(before + GOOD)
        stream.replace(file, out, {("dev", 0): b"abcdef"}, offset=offset)
        changed = GOOD[:PAYLOAD] + b"abcdef" + GOOD[PAYLOAD + 6 :]
        assert out.read_bytes() == before + changed


def test_a_section_in_compressed_data_is_not_replaced(file: Path, tmp_path: Path) -> None:
    file.write_bytes(save_image("gzip") + gzip.compress(GOOD))
    with pytest.raises(StreamError, match="only where the stream itself is in the file") as caught:
        stream.replace(file, tmp_path / "out", {("dev", 0): bytes(6)})
    assert "libvirt save image of the domain 'a & b', gzip; " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_format_is_libvirts() -> None:
    # enum virQEMUSaveFormat in libvirt's src/qemu/qemu_saveimage_format.h
    assert [*FORMATS] == ["raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse"]
