# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers are copied to big endian with every instruction set, at any alignment."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

CDEFS = Path(__file__).resolve().parents[2] / "cdefs"
LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
MARK = 0xA5
# Around the number of items in the vectors of 16 and 32 bytes, and of an unrolled loop.
COUNTS = (*range(0, 70), 127, 128, 129, 1000)


@pytest.fixture(scope="module", params=([], ["-DQV_NO_VECTOR_CLONES"]), ids=("clones", "plain"))
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the compiled function, with the compiler's options of meson.build."""
    output = tmp_path_factory.mktemp("byte_order") / "byte_order.so"
    source = str(CDEFS / "bridge" / "byte_order.c")
    options = ["-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{CDEFS}"]
    subprocess.run(["cc", *options, *request.param, "-o", str(output), source], check=True)
    function = ctypes.CDLL(str(output)).qv_copy_big_endian
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = None
    return function


@pytest.mark.parametrize("width", LETTERS)
def test_copies_numbers_of_the_host_to_big_endian(copy: Any, width: int) -> None:
    numbers = random.Random(width)
    for count in COUNTS:
        values = [numbers.getrandbits(8 * width) for _ in range(count)]
        host, big = (struct.pack(f"{order}{count}{LETTERS[width]}", *values) for order in "=>")
        for at in range(8):
            to_offset = (at * 3) % 8
            source = ctypes.create_string_buffer(bytes(at) + host + bytes(8))
            target = ctypes.create_string_buffer(bytes([MARK]) * (len(host) + 24))
            begin = ctypes.addressof(target) + 8 + to_offset
            copy(width, begin, ctypes.addressof(source) + at, count)
            expected = bytes([MARK]) * (8 + to_offset) + big
            assert target.raw[: len(expected)] == expected, (count, at)
            assert set(target.raw[len(expected) : -1]) <= {MARK}, (count, at)
