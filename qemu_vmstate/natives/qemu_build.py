# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a QEMU build directory: checks, version, and compile commands.

The directory is only read, and no command is run in it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NativeError
from .folders import version_numbers

OLDEST = (7, 2)
CONFIGURE = "configure --target-list=x86_64-softmmu"


class TreeError(NativeError):
    """A QEMU build directory cannot be used; the message has the remedy."""


@dataclass(frozen=True)
class Tree:
    """A configured QEMU build directory."""

    build: Path
    source: Path
    version: str

    @property
    def minor_version(self) -> str:
        """The version's first two numbers, such as ``10.2``."""
        return ".".join(self.version.split(".")[:2])


def load_json(path: Path) -> Any:
    """Read a JSON file of meson; raise ``TreeError`` with a remedy if that fails."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TreeError(
            f"{path} cannot be read ({error}): configure this QEMU again, "
            f"with `cd {path.parent.parent} && ninja reconfigure` or its configure script."
        ) from error


def _config_version(build: Path) -> str:
    header = build / "config-host.h"
    text = header.read_text(errors="replace") if header.is_file() else ""
    match = re.search(r'^#define QEMU_VERSION "([^"]+)"', text, re.MULTILINE)
    if not match:
        raise TreeError(
            f"{build} was not configured to its end (no QEMU_VERSION in {header}): "
            f"run QEMU's `{CONFIGURE}` there again."
        )
    return match.group(1)


def _refuse_unconfigured(build: Path) -> None:
    if not build.is_dir():
        raise TreeError(
            f"{build} is not a directory: name a QEMU build directory, the one QEMU's "
            f"`{CONFIGURE}` was run in or made (usually `build` in its source)."
        )
    if (build / "migration" / "vmstate.c").is_file() and (build / "configure").is_file():
        inner = build / "build"
        if (inner / "build.ninja").is_file():
            raise TreeError(
                f"{build} is QEMU's source, not its build directory: name {inner} instead."
            )
        raise TreeError(
            f"{build} is QEMU's source, not its build directory: run "
            f"`cd {build} && ./{CONFIGURE}` and name {inner}."
        )
    if not (build / "build.ninja").is_file() or not (build / "meson-info").is_dir():
        if (build / "config-host.mak").is_file() or (build / "config.log").is_file():
            raise TreeError(
                f"{build} was not configured to its end (it has no build.ninja): "
                f"run QEMU's `{CONFIGURE}` there again."
            )
        raise TreeError(
            f"{build} is not a QEMU build directory (no build.ninja and meson-info in it): "
            f"run `cd {build} && PATH-TO-QEMU-SOURCE/{CONFIGURE}`, or name another directory."
        )


def open_tree(build: str | os.PathLike[str]) -> Tree:
    """Check that ``build`` is a usable QEMU build directory, and return its properties.

    Raises ``TreeError`` with a message that has the remedy.
    """
    path = Path(os.path.realpath(build))
    _refuse_unconfigured(path)
    project = load_json(path / "meson-info" / "intro-projectinfo.json")
    if project.get("descriptive_name") != "qemu":
        name = project.get("descriptive_name")
        raise TreeError(
            f"{path} is the build directory of {name!r}, not of QEMU: name one that QEMU's "
            f"`{CONFIGURE}` made."
        )
    directories = load_json(path / "meson-info" / "meson-info.json")["directories"]
    source = Path(directories["source"])
    if os.path.realpath(directories["build"]) != str(path):
        raise TreeError(
            f"{path} was configured as {directories['build']} and has been moved since: "
            f"run `cd {path} && PATH-TO-QEMU-SOURCE/{CONFIGURE}` again."
        )
    if not (source / "migration" / "vmstate.c").is_file():
        raise TreeError(
            f"{path} was configured from the source in {source}, which is not there any more: "
            f"put it back, or run QEMU's `{CONFIGURE}` in a new directory."
        )
    version = _config_version(path)
    if version_numbers(version)[:2] < OLDEST:
        oldest = ".".join(str(number) for number in OLDEST)
        raise TreeError(
            f"{path} is QEMU {version}; {oldest} or later is needed: get a later source and "
            f"run its `{CONFIGURE}`."
        )
    checked_out = (source / "VERSION").read_text().strip()
    if checked_out != version:
        raise TreeError(
            f"{path} was configured for QEMU {version}, but its source is now {checked_out}: "
            f"run `ninja -C {path} build.ninja` or QEMU's `{CONFIGURE}` again."
        )
    tree = Tree(path, source, version)
    vmstate_entry(tree)
    return tree


def vmstate_entry(tree: Tree) -> dict[str, str]:
    """Return the migration library's compile command of migration/vmstate.c, which has two."""
    commands = tree.build / "compile_commands.json"
    entries = load_json(commands)
    found = [entry for entry in entries if entry["file"].endswith("migration/vmstate.c")]
    for entry in found:
        if "libmigration." in entry.get("output", entry["command"]):
            return dict(entry)
    raise TreeError(
        f"{tree.build} does not build QEMU's migration code (no libmigration entry for "
        f"migration/vmstate.c in {commands}): configure one with a system emulator, "
        f"`{tree.source}/{CONFIGURE}`."
    )
