# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the native parts for a QEMU build directory of the user, into the user's data folder.

The tree is only read: its migration code is compiled again in the user's cache folder, which is
kept, so that a second build takes seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import NativeError
from .folders import PACKAGE, RECORD, Native, data_folder, source, source_digest, user_natives
from .qemu_build import Tree, open_tree

__all__ = ["build", "ensure", "is_outdated", "remove", "require_tools"]

_LIBRARIES = ("libmigration", "libio", "libqom", "libqemuutil")


@dataclass(frozen=True)
class _Place:
    """Where the native parts of one tree are compiled, and where they are put."""

    tree: Tree

    @property
    def name(self) -> str:
        digest = hashlib.sha256(os.fsencode(self.tree.build)).hexdigest()[:12]
        return f"{self.tree.build.parent.name}-{digest}"

    @property
    def folder(self) -> Path:
        return data_folder() / self.name

    @property
    def work(self) -> Path:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(base).expanduser() / "qemu-vmstate" / "native" / self.name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other processes that build for this tree, until the context ends."""
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def build(directory: str | os.PathLike[str]) -> Native:
    """Compile the native parts for a configured or built QEMU tree, and return them.

    *directory* is QEMU's build directory, in which nothing is changed.  It takes about a minute the
    first time, with progress on stderr.  Raises ``NativeError`` if it is no such directory, if a
    tool is missing, or if the code does not compile.
    """
    place = _Place(open_tree(directory))
    with place.locked():
        return _build(place)


def ensure(directory: str | os.PathLike[str]) -> Native:
    """Return the native parts for a QEMU tree, after building them if they are missing or outdated.

    Processes that call it at the same time wait for the first.  Raises as :func:`build`.
    """
    place = _Place(open_tree(directory))
    with place.locked():
        for native in user_natives():
            if native.build == place.tree.build and not is_outdated(native):
                return native
        return _build(place)


def is_outdated(native: Native) -> bool:
    """Return whether the user's native parts are older than the objects of their tree.

    Of a tree that is configured and not built, QEMU's sources count.
    """
    if not native.usable or native.build is None:
        return True
    try:
        tree = open_tree(native.build)
    except NativeError:
        return False
    built = (native.folder / RECORD).stat().st_mtime
    return tree.version != native.qemu or any(
        path.stat().st_mtime > built for path in _inputs(tree)
    )


def remove(native: Native) -> None:
    """Remove native parts that :func:`build` made, and what was compiled for them."""
    assert native.build is not None
    work = Path(json.loads((native.folder / RECORD).read_text())["work"])
    shutil.rmtree(native.folder)
    shutil.rmtree(work, ignore_errors=True)


def _inputs(tree: Tree) -> Iterator[Path]:
    yield tree.build / "build.ninja"
    archives = [path for name in _LIBRARIES for path in tree.build.rglob(f"{name}.*a")]
    if archives:
        yield from archives
    else:
        for folder in ("migration", "io", "qom", "util", "include/migration"):
            yield from (tree.source / folder).glob("*.[ch]")


# ------------------------------------------------------------------- building


def _build(place: _Place) -> Native:
    require_tools()
    work, version = place.work / "build", place.tree.version
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    options = [f"-Dqemu_build={place.tree.build}", "--buildtype=debugoptimized"]
    again = ["--reconfigure"] if (work / "build.ninja").exists() else []
    sources = _sources(place.work / "source")
    _run([*meson, "setup", *again, *options, str(work), str(sources)], place, quiet=True)
    targets = [f"_native-{version}.abi3.so", f"_bench-{version}.abi3.so"]
    targets.append(f"libqemu-vmstate-{version}.so")
    print(f"QEMU {version}: compiling the native parts", file=sys.stderr, flush=True)
    _run([_ninja(), "--quiet", "-C", str(work), *targets], place)
    _publish(place, [work / target for target in targets])
    return Native(version, place.folder, place.tree.build)


def _publish(place: _Place, files: Sequence[Path]) -> None:
    """Replace the folder of the native parts by one with *files*."""
    data_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_folder()) as made:
        folder = Path(made) / place.name
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        record = {
            "build": str(place.tree.build),
            "sources": source_digest(),
            "work": str(place.work),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if place.folder.exists():
            place.folder.rename(Path(made) / "old")
        folder.rename(place.folder)


def _sources(folder: Path) -> Path:
    """Return a source folder for meson: the checkout, or *folder* with links to the package's."""
    if source() == PACKAGE.parent:
        return source()
    folder.mkdir(parents=True, exist_ok=True)
    parts = [*source().iterdir(), PACKAGE]
    for part in parts:
        link = folder / part.name
        link.unlink(missing_ok=True)
        link.symlink_to(part)
    return folder


def require_tools() -> None:
    """Raise ``NativeError`` if a tool that :func:`build` needs is missing."""
    if find_spec("mesonbuild") is None or _ninja() == "":
        raise NativeError(
            "qemu-vmstate build needs meson and ninja, which are not installed in "
            f"{sys.prefix}: run `{sys.executable} -m pip install 'qemu-vmstate[build]'`"
        )
    for program, package in (("cc", "gcc"), ("pkg-config", "pkg-config"), ("nm", "binutils")):
        if shutil.which(program) is None:
            raise NativeError(
                f"qemu-vmstate build needs the program {program}, which is not there: install it, "
                f"on Debian by `apt-get install {package}`"
            )


def _path() -> str:
    """Return PATH with the folder of this Python's programs first."""
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])


def _ninja() -> str:
    return shutil.which("ninja", path=_path()) or ""


def _run(command: Sequence[str], place: _Place, *, quiet: bool = False) -> None:
    done = subprocess.run(
        command,
        env=os.environ | {"PATH": _path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else sys.stderr.fileno(),
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        errors="replace",
    )
    if done.returncode:
        sys.stderr.write((done.stdout or "")[-4000:])
        raise NativeError(
            f"the native parts for QEMU {place.tree.version} in {place.tree.build} cannot be built "
            f"(see above); to begin anew, remove {place.work}"
        )
