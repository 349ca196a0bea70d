# SPDX-License-Identifier: GPL-2.0-or-later
"""mypy accepts the types in tests/typing_tests, and finds the mistakes that are marked there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).absolute().parents[1]
FOLDER = ROOT / "tests" / "typing_tests"


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_declarations_have_the_types_they_are_used_with() -> None:
    done = mypy(FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_error_is_reported(tmp_path: Path) -> None:
    """Show that the test above can fail: mypy refuses the file with one mistake corrected."""
    copied = Path(shutil.copy(FOLDER / "declarations.py", tmp_path))
    text = copied.read_text()
    assert text.count('r.config = "1"  #') == 1
    copied.write_text(text.replace('r.config = "1"  #', "r.config = 1  #"))
    done = mypy(copied)
    assert done.returncode == 1
    assert 'Unused "type: ignore' in done.stdout
