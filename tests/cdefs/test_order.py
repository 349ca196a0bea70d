# SPDX-License-Identifier: GPL-2.0-or-later
"""The C files have an order: none includes a file above its own, or calls its functions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CDEFS = Path(__file__).resolve().parents[2] / "cdefs"

# From the bottom up; the files in one row are independent of each other.
BRIDGE = (
    ("symbols", "shim_abi", "stack_switch", "byte_order", "numbered"),
    ("qemu",),
    ("bql", "python_call", "object_class", "migration_error", "memory_file", "timer"),
    ("vmstate_infos", "object", "bridge_functions", "varying"),
    ("struct_packer",),
    ("struct_save", "struct_json"),
    ("struct_load",),
    ("struct_info",),
    ("subsections", "undo_log"),
    ("snapshot", "whole_load"),
    ("snapshot_batch", "restore_batch", "inprocess"),
    ("hooks",),
    ("load_end",),
    ("load_watch",),
    ("registration", "vmsd_hooks"),
    ("object_functions",),
)
STATE = (
    ("object_util",),
    ("gil", "types"),
    ("memory",),
    ("values", "cell", "bql"),
    ("guard", "field", "array", "number", "bridge_object"),
    ("number_run", "convert"),
    ("convert_value", "convert_collection", "convert_object"),
    ("conversion", "fast_path"),
    ("module",),
)
# The folders whose headers a folder may include, besides its own.
FOLDERS = {
    "shared": set(),
    "decl": {"decl"},
    "bridge": {"shared", "decl"},
    "state": {"shared"},
    "shim": {"bridge", "shared"},
    "library": {"bridge"},
    "bench": {"bridge"},
}
ORDERS = {"bridge": BRIDGE, "state": STATE}
# The files that may depend on QEMU's version.
PART_OF = {"qemu_version": "qemu", "qemu_internal": "qemu"}
COMMENT = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
DEFINED = re.compile(
    r"^(?!static|extern|typedef)[A-Za-z][\w \t*]*?\b(qv_\w+)\([^;{]*?\)\s*\{", re.M
)


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (CDEFS / folder).iterdir() if path.suffix in (".c", ".h"))


def included(path: Path) -> list[tuple[str, str]]:
    """Return folder and stem of each header of this project that a file includes."""
    found = re.findall(r'^#include "(\w+)/(\w+)\.h"', path.read_text(), re.MULTILINE)
    return [(folder, stem) for folder, stem in found if (CDEFS / folder).is_dir()]


def rank(folder: str, stem: str) -> int:
    for index, row in enumerate(ORDERS[folder]):
        if PART_OF.get(stem, stem) in row:
            return index
    raise AssertionError(f"cdefs/{folder}/{stem} has no place in the order: give it one")


def below(folder: str, user: str, used: str) -> bool:
    """Return whether ``used`` is below ``user``, or the same file."""
    same = PART_OF.get(user, user) == PART_OF.get(used, used)
    return same or rank(folder, used) < rank(folder, user)


def code(path: Path) -> str:
    return COMMENT.sub(" ", path.read_text())


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_includes_only_those_that_it_may(folder: str) -> None:
    for path in sources(folder):
        for other, stem in included(path):
            allowed = other == folder or other in FOLDERS[folder]
            assert allowed, f"{path.name} includes {other}/{stem}.h"


@pytest.mark.parametrize("folder", ORDERS)
def test_no_file_includes_one_above_its_own(folder: str) -> None:
    for path in sources(folder):
        for other, stem in included(path):
            if other == folder and stem != folder:
                assert below(folder, path.stem, stem), f"{path.name} includes {stem}.h"


def definitions(folder: str) -> dict[str, str]:
    """Return the functions that a folder's files show to others, with the file of each."""
    found = {
        name: path.stem
        for path in sources(folder)
        if path.suffix == ".c"
        for name in DEFINED.findall(code(path))
    }
    assert len(found) > 10
    return found


@pytest.mark.parametrize("folder", ORDERS)
def test_no_file_calls_a_function_of_one_above_its_own(folder: str) -> None:
    owner = definitions(folder)
    assert len(owner) > 20
    for path in sources(folder):
        if path.suffix == ".c":
            for name in set(re.findall(r"\bqv_\w+", code(path))) & set(owner):
                assert below(folder, path.stem, owner[name]), (
                    f"{path.name} uses {name}() of {owner[name]}.c"
                )


def test_the_benchmark_has_the_bridge_only_by_the_functions_that_it_is_handed() -> None:
    assert not set(definitions("bench")) & set(definitions("bridge"))
    for path in sources("bench"):
        named = set(re.findall(r"\b(qv_\w+|qv(?=\.))", code(path)))
        assert not named & {*definitions("bridge"), "qv", "qv_internal"}, path.name
