# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for tests that read migration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.sections import Stream

from .streams import Parse


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    def write_and_read(data: bytes) -> Stream:
        file = tmp_path / "vm.mig"
        file.write_bytes(data)
        stream = read(file)
        at = 0
        for section in stream:
            assert section.offset == at
            at += section.size
        assert at == stream.size == len(data)
        return stream

    return write_and_read
