# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of pytest in projects made on the spot; scripts/setup has installed this package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..conftest import PATIENCE

ROOT = Path(__file__).absolute().parents[2]
PYTEST_IN_CI = ("CI", "BUILD_NUMBER")


def run_pytest(
    folder: Path,
    files: dict[str, str],
    *arguments: str,
    environment: dict[str, str] | None = None,
    python: tuple[str, ...] = (sys.executable,),
) -> tuple[int, str]:
    """Run pytest on a project of these files; return its status and what it printed."""
    project = folder / "project"
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    # In CI pytest repeats each error with its notes in the summary.
    inherited = {name: value for name, value in os.environ.items() if name not in PYTEST_IN_CI}
    ended = subprocess.run(
        [*python, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env=inherited | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    return ended.returncode, ended.stdout + ended.stderr
