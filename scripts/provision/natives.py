# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the checkout's native parts, of all QEMU trees in one folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .console import path_with, run

CHECKOUT = Path(__file__).resolve().parents[2]

# The package reads QEMU's build directories; its import needs nothing that is installed.
sys.path.insert(0, str(CHECKOUT))

from qemu_vmstate.natives.folders import version_numbers  # noqa: E402
from qemu_vmstate.natives.qemu_build import Tree, TreeError, open_tree  # noqa: E402

__all__ = ["Tree", "TreeError", "build_natives", "open_tree", "version_numbers"]


def build_natives(trees: Sequence[Tree], python: Path, cache: Path, sanitize: str = "") -> Path:
    """Build the native parts for ``trees``, and return their directory; quick if nothing changed.

    Those of other versions that were built before are kept.  QEMU's objects are in the folder
    ``cache``, for all checkouts.  ``sanitize`` is the argument of the compiler's ``-fsanitize``;
    such a build has its own directory.
    """
    directory = CHECKOUT / "build" / ("sanitized" if sanitize else "native")
    stamp = directory / "setup.json"
    present = _read(stamp)
    same = {"python": str(python.resolve()), "sanitize": sanitize}
    if any(present.get(name) != value for name, value in same.items()):
        shutil.rmtree(directory, ignore_errors=True)
        present = {}
    builds = _kept(present.get("trees", {})) | {tree.version: str(tree.build) for tree in trees}
    builds = {version: builds[version] for version in sorted(builds, key=version_numbers)}
    tools = python.parent
    env = path_with(tools)
    if present.get("trees") != builds:
        options = [f"-Dqemu_build={','.join(builds.values())}"]
        if sanitize:
            # A module gets the sanitizer's functions only when it is loaded.
            options += [f"-Db_sanitize={sanitize}", "-Db_lundef=false"]
        else:
            options += [f"-Dscratch={cache / 'scratch'}"]
        _configure(directory, options, tools, env)
        _remove_others(directory, list(builds))
        stamp.write_text(json.dumps(same | {"trees": builds}))
    run(
        [tools / "ninja", "-C", directory],
        f"building the native parts for QEMU {', '.join(builds)} (a minute each the first time)",
        remedy=f"to begin anew, remove {directory} and try again.",
        env=env,
        quiet=present.get("trees") == builds,
    )
    return directory


def _read(stamp: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(stamp.read_text()))
    except (OSError, ValueError):
        return {}


def _kept(builds: dict[str, str]) -> dict[str, str]:
    """Return those of the build directories that still have the same version."""
    kept = {}
    for version, build in builds.items():
        try:
            if open_tree(build).version == version:
                kept[version] = build
        except TreeError:
            continue
    return kept


def _configure(directory: Path, options: Sequence[str], tools: Path, env: dict[str, str]) -> None:
    again = ["--reconfigure"] if (directory / "build.ninja").exists() else []
    run(
        [
            *(str(tools / "meson"), "setup", *again, str(directory), str(CHECKOUT)),
            *("--buildtype=debugoptimized", "-Dwerror=true"),
            *options,
        ],
        f"configuring build/{directory.name}",
        remedy=f"see {directory / 'meson-logs' / 'meson-log.txt'}.",
        env=env,
    )


def _remove_others(directory: Path, versions: Sequence[str]) -> None:
    """Remove the native parts of versions that are not built any more."""
    for kind in ("_native", "_bench", "libqemu-vmstate"):
        names = [f"{kind}-{version}." for version in versions]
        for path in directory.glob(f"{kind}-*.so"):
            if not path.name.startswith(tuple(names)):
                path.unlink()
