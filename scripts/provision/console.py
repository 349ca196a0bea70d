# SPDX-License-Identifier: GPL-2.0-or-later
"""Output of the scripts, and the commands that they run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_STARTED = time.monotonic()
_PROGRESS_SECONDS = 8.0
_PROGRESS_SECONDS_TERMINAL = 1.0
_TAIL_LINES = 30


class SetupError(Exception):
    """Something could not be provided; the text names it and the remedy."""


def say(text: str) -> None:
    """Print a line with the seconds since the script started."""
    print(f"[{time.monotonic() - _STARTED:4.0f} s] {text}", flush=True)


def path_with(tools: Path) -> dict[str, str]:
    """Return the variable PATH with the folder ``tools`` first."""
    return {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def shown(command: Sequence[str | os.PathLike[str]]) -> str:
    """Return a command as text of limited length."""
    words = " ".join(os.fspath(word) for word in command)
    return words if len(words) < 160 else words[:157] + "..."


def output_of(
    command: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None
) -> str | None:
    """Return the output of a short command, or None if it fails or does not exist."""
    try:
        result = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    return result.stdout if result.returncode == 0 else None


def run(
    command: Sequence[str | os.PathLike[str]],
    what: str,
    *,
    remedy: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    attempts: int = 1,
    quiet: bool = False,
) -> None:
    """Run a command, with a line of its progress every few seconds.

    The end of its output is shown if it fails; after ``attempts`` tries ``SetupError`` is raised.
    """
    if not quiet:
        say(what)
    for attempt in range(1, attempts + 1):
        status, tail = _run_once(command, cwd, env)
        if status == 0:
            return
        if attempt < attempts:
            say(f"{what}: failed, trying again ({attempt + 1} of {attempts})")
            time.sleep(2.0 * attempt)
    sys.stdout.write(tail)
    raise SetupError(f"{what}: `{shown(command)}` failed (its last lines are above): {remedy}")


def _run_once(
    command: Sequence[str | os.PathLike[str]], cwd: Path | None, env: Mapping[str, str] | None
) -> tuple[int, str]:
    # A file, not a pipe, which a background process of the command could keep open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C.UTF-8", "NINJA_STATUS": "[%f/%t] ", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            return 127, f"{shown(command)}: {error.strerror}\n"
        try:
            _watch(process, output.fileno())
        except BaseException:
            process.terminate()
            process.wait()
            raise
        return process.returncode, _tail(output.fileno())


def _watch(process: subprocess.Popen[bytes], output: int) -> None:
    """Wait, and show the command's latest line; on a terminal in one line that is updated."""
    terminal = sys.stdout.isatty()
    seconds = _PROGRESS_SECONDS_TERMINAL if terminal else _PROGRESS_SECONDS
    shown_any = False
    while True:
        try:
            process.wait(timeout=seconds)
            break
        except subprocess.TimeoutExpired:
            lines = _tail(output).replace("\r", "\n").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            line = f"[{time.monotonic() - _STARTED:4.0f} s]   ... {last[:100]}"
            # Cut to the terminal's width: a wrapped line could not be updated.
            if terminal:
                line = f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}"
            print(line, end="" if terminal else "\n", flush=True)
            shown_any = True
    if terminal and shown_any:
        print("\r\033[K", end="", flush=True)


def _tail(output: int) -> str:
    size = os.fstat(output).st_size
    data = os.pread(output, 16384, max(0, size - 16384))
    return "\n".join(data.decode(errors="replace").splitlines()[-_TAIL_LINES:]) + "\n"
