# SPDX-License-Identifier: GPL-2.0-or-later
"""A scratch: a directory that mirrors a QEMU build directory, for running ninja.

The commands in a ``build.ninja`` use relative paths to the source, so the scratch has the same
folders from the build directory to the source, with symbolic links. It has copies of the files
that QEMU's configure wrote; all objects and generated files are built again in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .qemu_build import Tree, TreeError

# A scratch with another layout, from another revision of this file, is removed.
LAYOUT = 2

# Parts of a build directory that no command here reads; some are large.
SKIPPED_DIRS = {"docs", "meson-logs", "pc-bios", "pyvenv", "qemu-bundle", "roms", "tests"}
SKIPPED_FILES = {".ninja_deps", ".ninja_log", ".ninja_lock", "build.ninja", "compile_commands.json"}
SKIPPED_SUFFIXES = {".a", ".d", ".fa", ".gcda", ".gcno", ".o", ".so"}
LARGEST_COPY = 2 << 20


@dataclass(frozen=True)
class Scratch:
    """A directory that mirrors a tree and gets the objects."""

    tree: Tree
    root: Path
    # The argument of the compiler's -fsanitize, such as "address,undefined", or empty.
    sanitize: str = ""

    @property
    def sanitizer_flags(self) -> list[str]:
        """The flags that compile and link with the sanitizers; a finding ends the process."""
        if not self.sanitize:
            return []
        return [
            *(f"-fsanitize={self.sanitize}", "-fno-sanitize-recover=all"),
            "-fno-omit-frame-pointer",
        ]

    @property
    def farm(self) -> Path:
        """The mirror of the directory that contains source and build directory."""
        return self.root / "tree"

    @property
    def common(self) -> Path:
        """The directory that contains source and build directory."""
        return Path(os.path.commonpath([self.tree.source, self.tree.build]))

    @property
    def build(self) -> Path:
        """The mirror of the build directory."""
        return self.farm / self.tree.build.relative_to(self.common)

    @property
    def stamp(self) -> Path:
        """The file, written last, that has the mirrored state of the build directory."""
        return self.root / "stamp.json"

    def wanted_stamp(self) -> dict[str, Any]:
        """Return the content of the stamp of an up-to-date scratch."""
        status = (self.tree.build / "build.ninja").stat()
        return {
            "layout": LAYOUT,
            "source": str(self.tree.source),
            "build": str(self.tree.build),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sanitize": self.sanitize,
        }


@contextlib.contextmanager
def open_scratch(tree: Tree, root: str | os.PathLike[str], sanitize: str = "") -> Iterator[Scratch]:
    """Make or update the scratch of ``tree`` in ``root``, locked until the context ends."""
    path = Path(os.path.abspath(root))
    for place in (tree.build, tree.source):
        if path == place or path in place.parents:
            raise TreeError(f"{path} holds {place}: name another directory as scratch.")
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch = Scratch(tree, path, sanitize)
        _refresh(scratch)
        yield scratch


def _refresh(scratch: Scratch) -> None:
    wanted = scratch.wanted_stamp()
    try:
        present = json.loads(scratch.stamp.read_text())
    except (OSError, ValueError):
        present = {}
    if present == wanted:
        return
    if any(present.get(key) != wanted[key] for key in ("layout", "source", "build", "sanitize")):
        shutil.rmtree(scratch.farm, ignore_errors=True)
    scratch.stamp.unlink(missing_ok=True)
    scratch.build.mkdir(parents=True, exist_ok=True)
    _link_source(scratch)
    text = (scratch.tree.build / "build.ninja").read_text()
    _mirror(scratch, scratch.tree.build, ninja_outputs(text))
    _write_if_changed(scratch.build / "build.ninja", _scratch_ninja(scratch, text).encode())
    _write_if_changed(scratch.stamp, json.dumps(wanted, indent=1).encode())


def _link_source(scratch: Scratch) -> None:
    """Link the source at the same relative path from the build directory as in the tree."""
    source, build = scratch.tree.source, scratch.tree.build
    place = scratch.farm / source.relative_to(scratch.common)
    if source != build and source not in build.parents:
        place.parent.mkdir(parents=True, exist_ok=True)
        _symlink(place, str(source))
        return
    parts = build.relative_to(source).parts
    for depth, own in enumerate(parts):
        outer = source.joinpath(*parts[:depth])
        for entry in sorted(outer.iterdir()):
            if entry.name != own:
                _symlink(place.joinpath(*parts[:depth], entry.name), str(entry))


def _symlink(place: Path, target: str) -> None:
    if place.is_symlink():
        if os.readlink(place) == target:
            return
        place.unlink()
    place.symlink_to(target)


def _write_if_changed(path: Path, data: bytes) -> None:
    """Write a file only if it changes, because ninja compares modification times."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def _mirror(scratch: Scratch, directory: Path, outputs: set[str]) -> None:
    """Copy configure's files below ``directory``: the small ones that ninja does not build."""
    for entry in sorted(os.scandir(directory), key=lambda item: item.name):
        path = Path(entry.path)
        relative = path.relative_to(scratch.tree.build)
        top = directory == scratch.tree.build
        if str(relative) in outputs or path == scratch.root:
            continue
        if entry.is_symlink():
            if not (top and entry.name in SKIPPED_DIRS):
                (scratch.build / relative).parent.mkdir(parents=True, exist_ok=True)
                _symlink(scratch.build / relative, os.readlink(path))
        elif entry.is_dir():
            if not (top and entry.name in SKIPPED_DIRS) and path.suffix != ".p":
                _mirror(scratch, path, outputs)
        elif (
            entry.is_file()
            and not (top and entry.name in SKIPPED_FILES)
            and path.suffix not in SKIPPED_SUFFIXES
            and entry.stat().st_size <= LARGEST_COPY
        ):
            _write_if_changed(scratch.build / relative, path.read_bytes())
            shutil.copymode(path, scratch.build / relative)


def ninja_words(line: str) -> list[str]:
    """Split a line of a build.ninja at unescaped blanks; an unescaped colon is a word."""
    words, word, index = [], "", 0
    while index < len(line):
        char = line[index]
        if char == "$" and index + 1 < len(line):
            word += line[index + 1]
            index += 2
            continue
        if char in " :":
            if word:
                words.append(word)
            word = ""
            if char == ":":
                words.append(":")
        else:
            word += char
        index += 1
    return [*words, word] if word else words


def ninja_outputs(text: str) -> set[str]:
    """Return the names of all files that the rules of a build.ninja build."""
    outputs: set[str] = set()
    for line in re.findall(r"^build ((?:[^$\n]|\$.|\$\n)*)$", text, re.MULTILINE):
        words = ninja_words(re.sub(r"\$\n\s*", "", line))
        if ":" in words:
            outputs.update(words[: words.index(":")])
    return outputs


def _scratch_ninja(scratch: Scratch, text: str) -> str:
    """Return the tree's build.ninja with changes for the scratch."""
    build = re.escape(str(scratch.tree.build))
    text = re.sub(rf"{build}(?!/pyvenv\b)(?![\w.+-])", lambda _: str(scratch.build), text)
    # The scratch must not run meson, which would configure it from the user's files.
    text = re.sub(r"^build build\.ninja:.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
    # Appended, because the last of contradicting options is effective.
    # Assertions in QEMU's headers have their paths in the library.
    paths = f"-fmacro-prefix-map={scratch.tree.source}/="
    flags = " ".join(["-fPIC", "-fno-lto", paths, *scratch.sanitizer_flags])
    return re.sub(
        r"^(rule \w*COMPILER\w*(?:_RSP)?\n(?: .*\n)*?.*)\$ARGS", rf"\1$ARGS {flags}", text,
        flags=re.MULTILINE,
    )  # fmt: skip


def _ninja_program() -> str:
    for name in (os.environ.get("NINJA"), "ninja", "ninja-build"):
        if name and shutil.which(name):
            return name
    raise TreeError("ninja was not found: install it, for instance with `pip install ninja`.")


def ninja_environment() -> dict[str, str]:
    """Return an environment in which QEMU's generators do not write into the source."""
    return {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "NINJA_STATUS": "[%f/%t] ",
        "LC_ALL": "C.UTF-8",
    }


def run_ninja(scratch: Scratch, targets: Sequence[str], what: str) -> None:
    """Build ``targets`` in the scratch, with progress on stderr."""
    command = [_ninja_program(), "-C", str(scratch.build), *targets]
    print(f"QEMU {scratch.tree.version}: building {what}", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        result = subprocess.run(command, env=ninja_environment(), stdout=sys.stderr)
        status = result.returncode
    else:
        status = _run_quietly(command)
    if status:
        raise TreeError(
            f"QEMU {scratch.tree.version} in {scratch.tree.build} does not build (see above): "
            f"if `ninja -C {scratch.tree.build}` works, remove {scratch.root} and try again."
        )


def _run_quietly(command: Sequence[str]) -> int:
    """Print a line of progress every few seconds, and after a failure the last lines."""
    tail: deque[str] = deque(maxlen=40)
    shown = time.monotonic()
    with subprocess.Popen(
        command,
        env=ninja_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line)
            if line.startswith("[") and time.monotonic() - shown > 5:
                shown = time.monotonic()
                print(f"  {line.rstrip()[:100]}", file=sys.stderr, flush=True)
    if process.returncode:
        sys.stderr.writelines(tail)
    return process.returncode
