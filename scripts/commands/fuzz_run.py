# SPDX-License-Identifier: GPL-2.0-or-later
"""``scripts/fuzz``: runs the fuzzer with this checkout's builds, sanitizers or valgrind."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.cache import folder
from provision.console import SetupError
from provision.environment import Environment, ensure
from provision.natives import TreeError, build_natives, open_tree

SANITIZERS = "address,undefined"

# A finding ends the process, which the driver reports as a crash. The leak check runs only on
# request, because Python does not free all of its memory at exit.
SANITIZED = {
    "PYTHONMALLOC": "malloc",
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:quarantine_size_mb=16:"
    "max_allocation_size_mb=1024:allocator_may_return_null=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
}


def _runtime_libraries() -> str:
    """Return the compiler's libasan and libubsan, for LD_PRELOAD."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        path = subprocess.run(
            ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if not os.path.isabs(path):
            raise SetupError(f"the compiler has no {name}: install the libasan of your gcc.")
        found.append(path)
    return " ".join(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Run `qemu-vmstate fuzz` against QEMU's code as it is built here. Every other "
        "argument is its own, see `qemu-vmstate fuzz --help`.",
        epilog="Leaks: scripts/fuzz --sanitize --leaks --batch 0. Without a sanitizer: "
        "scripts/fuzz --valgrind --batch 0 --per-batch 200.",
    )
    parser.add_argument("--qemu", metavar="VERSION", help="such as 7.2; default: the newest here")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--sanitize",
        action="store_true",
        help="QEMU's objects and ours with AddressSanitizer and UBSan (builds them first)",
    )
    how.add_argument("--valgrind", action="store_true", help="in this process, under valgrind")
    parser.add_argument(
        "--leaks", action="store_true", help="with --sanitize: look for leaks after every batch"
    )
    return parser


def _command(
    options: argparse.Namespace, rest: Sequence[str], environment: Environment
) -> tuple[list[str], Mapping[str, str]]:
    trees = {tree.name: tree for tree in environment.trees}
    tree = trees.get(options.qemu) if options.qemu else environment.trees[-1]
    if tree is None:
        raise SetupError(f"QEMU {options.qemu} is not here; there are {', '.join(trees)}.")
    settings = {"QEMU_VMSTATE_QEMU": tree.version}
    command = [environment.python, "-m", "qemu_vmstate", "fuzz", *rest]
    if options.sanitize:
        python = Path(environment.python)
        native = build_natives([open_tree(tree.build)], python, folder(), SANITIZERS)
        settings |= SANITIZED | {
            "QEMU_VMSTATE_NATIVE": str(native),
            "LD_PRELOAD": _runtime_libraries(),
        }
        if options.leaks:
            leaks = settings["ASAN_OPTIONS"].replace("detect_leaks=0", "detect_leaks=1")
            settings |= {
                # Only the caller of malloc(): with a longer stack, every leak would match Python.
                "ASAN_OPTIONS": f"{leaks}:leak_check_at_exit=0:malloc_context_size=2",
                "LSAN_OPTIONS": f"suppressions={Path(__file__).with_name('lsan.supp')}",
                "QEMU_VMSTATE_FUZZ_LEAKS": "1",
            }
    if options.valgrind:
        settings["PYTHONMALLOC"] = "malloc"
        valgrind = ["valgrind", "--trace-children=yes", "--error-exitcode=99"]
        valgrind += ["--leak-check=full", "--show-leak-kinds=definite"]
        command = [*valgrind, "--errors-for-leak-kinds=none", *command]
    return command, settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Replace this process by the fuzzer; return 1 after a message if that fails."""
    options, rest = _parser().parse_known_args(arguments)
    if options.leaks and not options.sanitize:
        _parser().error("--leaks goes with --sanitize; valgrind looks for them anyway")
    try:
        command, settings = _command(options, rest, ensure("test"))
        os.execvpe(command[0], command, {**os.environ, **settings})
    except (SetupError, TreeError) as error:
        print(f"fuzz: {error}", file=sys.stderr)
    except OSError as error:
        print(f"fuzz: {command[0]}: {error.strerror}", file=sys.stderr)
    return 1
