# SPDX-License-Identifier: GPL-2.0-or-later
"""The folders of the native parts, and the QEMU versions that they have.

The *root* has what is independent of QEMU's version, ``_state`` and the shim, and for each QEMU
version ``_native-VERSION.abi3.so``, ``_bench-VERSION.abi3.so`` and ``libqemu-vmstate-VERSION.so``.
It is ``qemu_vmstate/bindings`` of an installed package and ``build/native`` of a checkout.
The user's data folder has the parts that ``qemu-vmstate build`` made, in a folder for each tree.
Nothing compiled is imported here.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "PACKAGE",
    "Native",
    "all_natives",
    "data_folder",
    "packaged_natives",
    "release_of",
    "root",
    "source",
    "source_digest",
    "user_natives",
    "version_numbers",
]

PACKAGE = Path(__file__).absolute().parents[1]
"""The folder of this package's Python."""

RECORD = "build.json"
"""The file of a user's native parts that has the QEMU build directory and the digest."""

_ROOT_VARIABLE = "QEMU_VMSTATE_NATIVE"
_DEVELOPMENT_MICRO = 50


class Native(NamedTuple):
    """The native parts of one QEMU version.

    *qemu* is the version, such as ``"10.0.13"``, and *folder* where the files are.  *build* is the
    QEMU build directory, for those that ``qemu-vmstate build`` made; *usable* is false if
    they were made from other C sources than this package's, and must be built again.
    """

    qemu: str
    folder: Path
    build: Path | None = None
    usable: bool = True

    def module(self, name: str) -> Path:
        """Return the path of a compiled module, ``_native`` or ``_bench``."""
        return self.folder / f"{name}-{self.qemu}.abi3.so"

    @property
    def library(self) -> Path:
        """The path of the library of QEMU's migration code."""
        return self.folder / f"libqemu-vmstate-{self.qemu}.so"


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the start of a version, ``(10, 0, 13)``; empty if there are none."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def release_of(version: str) -> str:
    """Return the release that a version belongs to: ``"10.0"``, or ``"10.0-dev"``.

    A tree under development has a micro version of 50 or more, and the declarations of
    the next release.
    """
    numbers = version_numbers(version)
    release = ".".join(str(number) for number in numbers[:2])
    return f"{release}-dev" if numbers[2:] and numbers[2] >= _DEVELOPMENT_MICRO else release


def root() -> Path:
    """Return the folder of ``_state`` and the shim, whether or not they are there."""
    named = os.environ.get(_ROOT_VARIABLE)
    if named:
        return Path(named).absolute()
    installed = PACKAGE / "bindings"
    built = PACKAGE.parent / "build" / "native"
    return built if not any(installed.glob("_state*.so")) and built.is_dir() else installed


def data_folder() -> Path:
    """Return the folder of the user's native parts, in ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "qemu-vmstate" / "native"


def source() -> Path:
    """Return the folder of meson.build and the C sources: the checkout's, or the package's copy."""
    installed = PACKAGE / "natives" / "source"
    return installed if installed.is_dir() else PACKAGE.parent


@cache
def source_digest() -> str:
    """Return a digest of the C sources, which tells whether native parts were built from them."""
    # Imported here, because only a user's own native parts need it, and it takes 3 ms.
    import hashlib

    folder = source() / "cdefs"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.[ch]")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def packaged_natives() -> list[Native]:
    """Return the native parts in the root, the newest QEMU first."""
    return _newest_first([Native(version, root()) for version in _versions(root())])


def user_natives() -> list[Native]:
    """Return the native parts that ``qemu-vmstate build`` made, the newest QEMU first."""
    found = []
    for record in data_folder().glob(f"*/{RECORD}"):
        try:
            build, sources = _read_record(record)
            usable = sources == source_digest()
        except (OSError, ValueError, KeyError, TypeError):
            continue
        versions = _versions(record.parent)
        found += [Native(version, record.parent, build, usable) for version in versions]
    return _newest_first(found)


def _read_record(record: Path) -> tuple[Path, str]:
    """Return the QEMU build directory and the digest of the C sources."""
    # Imported here, because most users have no record, and it takes 2 ms.
    import json

    written = json.loads(record.read_text())
    return Path(written["build"]), written["sources"]


def all_natives() -> list[Native]:
    """Return all native parts, the package's before the user's."""
    return packaged_natives() + user_natives()


def _versions(folder: Path) -> list[str]:
    names = (path.name for path in folder.glob("_native-*.so"))
    return [match[1] for name in names if (match := re.match(r"_native-(.+?)\.abi3\.so$", name))]


def _newest_first(natives: list[Native]) -> list[Native]:
    return sorted(natives, key=lambda native: version_numbers(native.qemu), reverse=True)
