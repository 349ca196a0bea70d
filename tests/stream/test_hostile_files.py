# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile files cost little time and memory, and random ones give no other error."""

from __future__ import annotations

import io
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.iterable import Pages
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.show import show, write_json

from .streams import (
    CONFIGURATION,
    EOF,
    GOOD,
    HEADER,
    Description,
    Parse,
    be32,
    be64,
    counted,
    described,
    described_by,
    device,
    entry,
    footer,
    full,
    start,
    vmsd,
)

EMPTY = entry("e", "struct", 0, array_len=10**12, struct=vmsd("e"))


def nested(depth: int) -> Description:
    inner = vmsd("v", entry("x", "uint8", 1))
    for _ in range(depth):
        inner = vmsd("v", entry("s", "struct", 1, struct=inner))
    return device("dev", *inner["fields"])


def doubled(depth: int) -> Description:
    """Two to the power of *depth* empty structs, in a line of description for each level."""
    inner = vmsd("v")
    for _ in range(depth):
        inner = vmsd("v", entry("s", "struct", 0, array_len=2, struct=inner))
    return device("dev", *inner["fields"])


@pytest.mark.measured
@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        (device("dev", EMPTY), "more fields than the sections have bytes"),
        (doubled(40), "more fields than the sections have bytes"),
        (nested(200), "nested more than 60 deep"),
        (device("dev", entry("x", "uint64", 8, array_len=2**62)), "the sections end at byte"),
        (device("dev", entry("x", "custom", 2**63)), "the sections end at byte"),
        (device("dev", entry("x", "custom", -1)), "'size' is not a number of 64 bits"),
        (device("dev", entry("x", "uint8", 1, array_len=0)), "'array_len' is 0"),
        (device("dev", entry("x", "uint8", 1, array_len=True)), "'array_len' is not a number"),
        (device("dev", {"name": 7, "type": "uint8"}), "'name' is not a string"),
        (device("dev", {"name": "x"}), "'type' is not a string"),
        (device("dev", [1]), "'fields' is not a list of objects"),
        (device("dev", entry("x", "struct", 1)), "a struct without a description"),
        (
            device("dev", *[entry("x", "uint8", 1, array_len=2)] * 3),
            "runs of its elements are longer than the array",
        ),
    ],
)
def test_bombs_are_refused_in_little_time_and_memory(
    parse: Parse, bomb: Description, message: str
) -> None:
    data = HEADER + full("dev", bytes(64)) + EOF + described(bomb)
    tracemalloc.start()
    began = time.thread_time()
    try:
        with pytest.raises(StreamError, match=message):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert time.thread_time() - began < 5


@pytest.mark.measured
@pytest.mark.parametrize("filling", [b"\0\x06", b"\x7e" + be32(5), b"\x7e" + be32(5) + b"\x04"])
def test_many_false_marks_cost_no_more_than_their_bytes(parse: Parse, filling: bytes) -> None:
    data = HEADER + full("dev", filling * (1 << 18))[:-5]
    began = time.thread_time()
    with pytest.raises(StreamError):
        parse(data)
    assert time.thread_time() - began < 10


def test_pages_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "big.mig"
    pages = 40_000
    with file.open("wb") as out:
        ram = be64(pages << 12 | 4) + counted("r") + be64(pages << 12) + be64(0x10)
        out.write(HEADER + start("ram", ram) + b"\x03" + be32(2))
        out.write(be64(0x08) + counted("r") + bytes(4096))
        for number in range(1, pages):
            out.write(be64(number << 12 | 0x28))
            out.seek(4096, os.SEEK_CUR)  # a hole
        out.write(be64(0x10) + footer(2) + EOF)
    tracemalloc.start()
    try:
        stream = read(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stream.sections[2].pages == Pages(normal=pages)
    assert peak < 4 << 20


def fuzz(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    began = time.thread_time()
    try:
        stream = read(file)
    except StreamError as error:
        message = str(error)
    else:
        message = ""
        assert sum(section.size for section in stream) == len(data)
        show(stream, io.StringIO())
        write_json(stream, io.StringIO())
    assert (message + "x").isprintable()
    assert time.thread_time() - began < 5


@pytest.fixture(scope="module")
def fuzz_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "vm.mig"


@given(st.binary(max_size=300), st.sampled_from([b"", HEADER, HEADER + CONFIGURATION, GOOD[:60]]))
@example(EOF + described_by(b'{"devices":[{"name":"\\ud800"}]}'), HEADER)
def test_random_bytes_give_a_stream_or_an_error(
    fuzz_file: Path, data: bytes, before: bytes
) -> None:
    fuzz(before + data, fuzz_file)


@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 9), st.binary(max_size=9)), max_size=3
    )
)
def test_mutations_give_a_stream_or_an_error(
    fuzz_file: Path, changes: list[tuple[int, int, bytes]]
) -> None:
    data = GOOD
    for at, removed, put in changes:
        data = data[:at] + put + data[at + removed :]
    fuzz(data, fuzz_file)


NAMES = st.sampled_from(["dev", "a", "b", "dev/s", "\x1b[1m", ""])
SIZES = st.one_of(st.integers(0, 9), st.sampled_from([-1, 2**40, 2**64, 0.5, None, "1"]))
TYPES = st.sampled_from(
    [
        *("bool", "uint8", "int64", "timer", "buffer", "bitmap", "nullptr", "capability", "x"),
        *("qtailq", "qlist", "gtree", "tmp", "vstruct", "struct", "struct"),
    ]
)
KEYS: dict[str, st.SearchStrategy[Any]] = {"name": NAMES, "type": TYPES, "size": SIZES}
MORE: dict[str, st.SearchStrategy[Any]] = {"array_len": SIZES, "index": SIZES}
LEAF = st.fixed_dictionaries(KEYS, optional=MORE)


def holder(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return entries, or descriptions, that have others inside."""
    held = {
        "fields": st.lists(inner, max_size=4),
        "subsections": st.lists(inner, max_size=2),
        "vmsd_name": NAMES,
        "version": SIZES,
        "struct": inner,
    }
    return st.fixed_dictionaries(KEYS, optional=MORE | held)


@given(
    st.recursive(LEAF, holder, max_leaves=8),
    st.lists(st.sampled_from([b"\0", b"\x01", b"\x05", b"\x30", b"\x03dev", b"\x7e"]), max_size=40),
)
def test_random_descriptions_give_a_stream_or_an_error(
    fuzz_file: Path, field: Any, payload: list[bytes]
) -> None:
    data = full("dev", b"".join(payload))
    fuzz(HEADER + data + EOF + described(device("dev", field, field)), fuzz_file)
