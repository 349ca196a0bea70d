# SPDX-License-Identifier: GPL-2.0-or-later
"""A scratch: a directory of ours that mirrors a QEMU build directory, and ninja in it.

The commands in a ``build.ninja`` reach the source by relative paths, so the scratch repeats the
way from the build directory to the source with symbolic links. It holds copies of what QEMU's
configure wrote, and every object and generated file is made in it anew.
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

# A scratch laid out by another revision of this file is thrown away.
LAYOUT = 1

# Parts of a build directory that no command run here reads; some are large.
SKIPPED_DIRS = {"docs", "meson-logs", "pc-bios", "pyvenv", "qemu-bundle", "roms", "tests"}
SKIPPED_FILES = {".ninja_deps", ".ninja_log", ".ninja_lock", "build.ninja", "compile_commands.json"}
SKIPPED_SUFFIXES = {".a", ".d", ".fa", ".gcda", ".gcno", ".o", ".so"}
LARGEST_COPY = 2 << 20


@dataclass(frozen=True)
class Scratch:
    """A directory of ours that mirrors a tree: objects go here."""

    tree: Tree
    root: Path
    # Of the compiler's -fsanitize, "address,undefined"; empty: none.
    sanitize: str = ""

    @property
    def sanitizer_flags(self) -> list[str]:
        """What compiles and links with them; what one finds ends the process."""
        if not self.sanitize:
            return []
        return [
            *(f"-fsanitize={self.sanitize}", "-fno-sanitize-recover=all"),
            "-fno-omit-frame-pointer",
        ]

    @property
    def farm(self) -> Path:
        """What stands for the directory that source and build directory have in common."""
        return self.root / "tree"

    @property
    def common(self) -> Path:
        """The directory that source and build directory have in common."""
        return Path(os.path.commonpath([self.tree.source, self.tree.build]))

    @property
    def build(self) -> Path:
        """What stands for the build directory."""
        return self.farm / self.tree.build.relative_to(self.common)

    @property
    def stamp(self) -> Path:
        """Written last: which state of the build directory the scratch mirrors."""
        return self.root / "stamp.json"

    def wanted_stamp(self) -> dict[str, Any]:
        """Return what the stamp says when the scratch is up to date."""
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
    """Make or refresh the scratch of ``tree`` in ``root``; it is locked until the context ends."""
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
    """Put the source where it is seen from the build directory, around what is ours."""
    source, build = scratch.tree.source, scratch.tree.build
    place = scratch.farm / source.relative_to(scratch.common)
    if source != build and source not in build.parents:
        place.parent.mkdir(parents=True, exist_ok=True)
        _symlink(place, str(source))
        return
    on_the_way = build.relative_to(source).parts
    for depth, own in enumerate(on_the_way):
        outer = source.joinpath(*on_the_way[:depth])
        for entry in sorted(outer.iterdir()):
            if entry.name != own:
                _symlink(place.joinpath(*on_the_way[:depth], entry.name), str(entry))


def _symlink(place: Path, target: str) -> None:
    if place.is_symlink():
        if os.readlink(place) == target:
            return
        place.unlink()
    place.symlink_to(target)


def _write_if_changed(path: Path, data: bytes) -> None:
    """Keep the time of a file that stays as it is: ninja compares times."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def _mirror(scratch: Scratch, directory: Path, outputs: set[str]) -> None:
    """Copy what configure wrote below ``directory``: small, and no output of ninja's."""
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
    """Split one line of a build.ninja at its unescaped blanks; an unescaped colon is a word."""
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
    """Every file the rules of a build.ninja make, as it is named there."""
    outputs: set[str] = set()
    for line in re.findall(r"^build ((?:[^$\n]|\$.|\$\n)*)$", text, re.MULTILINE):
        words = ninja_words(re.sub(r"\$\n\s*", "", line))
        if ":" in words:
            outputs.update(words[: words.index(":")])
    return outputs


def _scratch_ninja(scratch: Scratch, text: str) -> str:
    """Return the tree's build.ninja as the scratch needs it."""
    build = re.escape(str(scratch.tree.build))
    text = re.sub(rf"{build}(?!/pyvenv\b)(?![\w.+-])", lambda _: str(scratch.build), text)
    # The copy must not run meson: it would configure the scratch from the user's files.
    text = re.sub(r"^build build\.ninja:.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
    # The last of such options wins, whatever the tree was configured with.
    flags = " ".join(["-fPIC", "-fno-lto", *scratch.sanitizer_flags])
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
    """Keep what QEMU's generators run from writing into the source they are read from."""
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
    """Show a line of progress every few seconds, and everything of a failure."""
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
