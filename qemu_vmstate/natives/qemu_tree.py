#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Command that prepares a QEMU build directory for compiling and linking this project.

``info`` prints the tree's version and paths, ``headers`` the compile flags of its migration code,
and ``library`` links its migration objects into one shared library.

Nothing is ever written to the build directory or to its source. The objects of an
ordinary QEMU build are position independent for an executable only (``-fPIE``), so they are
compiled again with ``-fPIC``, in a scratch directory.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

# Meson runs this file by its path, without the package on Python's path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from qemu_vmstate.natives.qemu_build import (
    CONFIGURE,
    Tree,
    TreeError,
    load_json,
    open_tree,
    vmstate_entry,
)
from qemu_vmstate.natives.qemu_scratch import (
    Scratch,
    ninja_environment,
    ninja_words,
    open_scratch,
    run_ninja,
)

SONAME = "libqemu-vmstate.so"

# The parts of the library, as meson's target names, which are the same in every version.
LIBRARIES = ("migration", "io", "qom", "qemuutil")
# The needed part of the last one, which is several times as large as the others together.
PARTIAL = "libqemuutil-part.a"

# Options whose argument is a path, joined to the option or in the next word.
PATH_OPTIONS = ("-I", "-iquote", "-isystem", "-idirafter", "-include", "-imacros")


def _split_word(option: str) -> tuple[str, str] | None:
    for prefix in PATH_OPTIONS:
        if option.startswith(prefix):
            return prefix, option[len(prefix) :]
    return None


def absolute_flags(command: str, directory: Path) -> list[str]:
    """Return the flags of a compile command, for use with any file in any directory.

    Paths, which are relative to ``directory``, become absolute.  The compiler, input, outputs and
    link-time optimisation are removed, and ``-fPIC`` is added.
    """
    words = deque(shlex.split(command))
    while words and not words[0].startswith("-"):
        words.popleft()
    flags: list[str] = []
    while words:
        word = words.popleft()
        if word in ("-o", "-MQ", "-MF", "-MT", "-c"):
            if words:
                words.popleft()
            continue
        if word in ("-MD", "-MMD", "-fPIE", "-fpie", "-fno-pie", "-fPIC") or "-flto" in word:
            continue
        split = _split_word(word)
        if split is None:
            flags.append(word)
            continue
        option, path = split
        if path:
            flags.append(option + os.path.normpath(directory / path))
        elif words:
            flags += [option, os.path.normpath(directory / words.popleft())]
    return [*flags, "-fPIC"]


def _generated_headers(text: str, target: str) -> list[str]:
    """Return the generated headers that ``target`` depends on and our C includes."""
    match = re.search(rf"^build {re.escape(target)}: (.*)$", text, re.MULTILINE)
    words = ninja_words(match.group(1)) if match else []
    return [
        word
        for word in words
        if word.endswith(".h")
        and (word == "config-poison.h" or word.startswith(("qapi/qapi-types", "qapi/qapi-builtin")))
    ]


def make_headers(scratch: Scratch) -> list[str]:
    """Generate the headers that our C includes, and return its compile flags."""
    entry = vmstate_entry(scratch.tree)
    text = (scratch.build / "build.ninja").read_text()
    target = entry.get("output") or re.findall(r" -o (\S+)", entry["command"])[0]
    run_ninja(scratch, _generated_headers(text, target), "the generated headers")
    build = re.escape(str(scratch.tree.build))
    command = re.sub(rf"{build}(?![\w.+-])", lambda _: str(scratch.build), entry["command"])
    return absolute_flags(command, scratch.build)


def _archives(tree: Tree) -> list[str]:
    """Return the paths of the static libraries to link, relative to the build directory."""
    targets = load_json(tree.build / "meson-info" / "intro-targets.json")
    found = {
        target["name"]: os.path.relpath(target["filename"][0], tree.build)
        for target in targets
        if target["type"] == "static library"
    }
    missing = [name for name in LIBRARIES if name not in found]
    if missing:
        raise TreeError(
            f"QEMU {tree.version} in {tree.build} has no static library {', '.join(missing)}: "
            f"this version is built in another way, use one of those the README names."
        )
    return [found[name] for name in LIBRARIES]


def _binutils(scratch: Scratch, program: str, *arguments: str) -> str:
    """Run a program of binutils in the scratch, and return its output."""
    path = shutil.which(program)
    if path is None:
        raise TreeError(
            f"{program} was not found: install binutils, for instance with build-essential."
        )
    result = subprocess.run(
        [path, *arguments], cwd=scratch.build, capture_output=True, text=True, errors="replace"
    )
    if result.returncode:
        raise TreeError(f"{program} fails in {scratch.build}: {result.stderr.strip()}")
    return result.stdout


def _defined_symbols(scratch: Scratch, archives: Sequence[str]) -> set[str]:
    options = ("--defined-only", "--extern-only", "--format=posix")
    lines = _binutils(scratch, "nm", *options, *archives).splitlines()
    return {line.split()[0] for line in lines if len(line.split()) > 1}


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Return the names in a file that has one per line and comments after ``#``."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise TreeError(f"the list {path} cannot be read: {error.strerror}.") from error
    names = (line.partition("#")[0].strip() for line in lines)
    return list(dict.fromkeys(name for name in names if name))


def _external_libraries(tree: Tree) -> list[str]:
    """Return linker arguments for the libraries that QEMU's objects need, or more of them.

    They are not QEMU's own lists, in which meson may name a static glib.
    """
    places: list[str] = []
    words: list[str] = []
    for dependency in load_json(tree.build / "meson-info" / "intro-dependencies.json"):
        for word in dependency.get("link_args", []):
            if word.startswith(("-L", "-Wl,-rpath")):
                places.append(word)
            elif word.startswith("/") and word.endswith((".so", ".a")):
                places.append(f"-L{os.path.dirname(word)}")
                if word.endswith(".so"):
                    words.append(word)
            elif word.startswith("-l"):
                words.append(word)
    basic = ["-lglib-2.0", "-lgmodule-2.0", "-lz", "-lm", "-pthread"]
    return list(dict.fromkeys(places)) + basic + list(dict.fromkeys(words))


def _compiler(scratch: Scratch) -> list[str]:
    """Return the tree's C compiler with its machine options, such as ``cc -m64``."""
    text = (scratch.build / "build.ninja").read_text()
    match = re.search(r"^rule c_COMPILER\n command = (.*?) \$ARGS", text, re.MULTILINE)
    return shlex.split(match.group(1)) if match else ["cc"]


def _part(scratch: Scratch, archive: str, sources: Sequence[str]) -> list[str]:
    """Return the objects of *archive* that are compiled from *sources*, which are patterns."""
    text = (scratch.build / "build.ninja").read_text()
    match = re.search(rf"^build {re.escape(archive)}: \S+ (.*)$", text, re.MULTILINE)
    # Meson names an object after its source, and marks a generated one.
    wanted = re.compile(
        r"(?:.*/)?(?:meson-generated_\.\._)?"
        rf"(?:{'|'.join(fnmatch.translate(name.replace('/', '_') + '.o') for name in sources)})"
    )
    return [word for word in ninja_words(match[1]) if wanted.match(word)] if match else []


def _make_part(scratch: Scratch, archives: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Build the archives, but only a part of the last, and return their paths."""
    objects = _part(scratch, archives[-1], sources)
    run_ninja(
        scratch, [*archives[:-1], *objects], "its migration library (half a minute the first time)"
    )
    (scratch.build / PARTIAL).unlink(missing_ok=True)
    _binutils(scratch, "ar", "rcs", PARTIAL, *objects)
    return [*archives[:-1], PARTIAL]


def _link(
    scratch: Scratch,
    archives: Sequence[str],
    wanted: Sequence[str],
    objects: Sequence[Path],
    options: Sequence[str],
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the linker, and return its result and which of the *wanted* symbols are missing."""
    defined = _defined_symbols(scratch, archives)
    command = [
        *_compiler(scratch),
        *("-shared", "-fPIC", "-Wl,-Bsymbolic", f"-Wl,-soname,{SONAME}"),
        *scratch.sanitizer_flags,
        *("-Wl,-z,defs", "-Wl,-z,text", "-Wl,--as-needed"),
        *(f"-Wl,-u,{name}" for name in wanted if name in defined),
        *(str(path.absolute()) for path in objects),
        *("-Wl,--start-group", *archives, "-Wl,--end-group"),
        *_external_libraries(scratch.tree),
        *options,
    ]
    result = subprocess.run(
        command, cwd=scratch.build, env=ninja_environment(), capture_output=True, text=True
    )
    return result, [name for name in wanted if name not in defined]


def make_library(
    scratch: Scratch,
    symbols: Sequence[str],
    output: Path,
    objects: Sequence[Path] = (),
    *,
    util: Sequence[str],
    strip: bool = False,
) -> list[str]:
    """Link the tree's migration objects and ours, and return the missing symbols.

    Our objects come before QEMU's archives, so a function in them replaces QEMU's.  Of libqemuutil
    what *util* names is compiled, and the rest too if the linker misses something.  With *strip*
    the library has no symbols but the dynamic ones.
    """
    archives = _archives(scratch.tree)
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".qemu-", suffix=".so", dir=output.parent)
    os.close(handle)
    options = ["-o", temporary, *(["-Wl,--strip-all"] if strip else [])]
    try:
        part = _make_part(scratch, archives, util)
        result, absent = _link(scratch, part, symbols, objects, options)
        if result.returncode:
            run_ninja(scratch, archives, "all of libqemuutil, because it needs another part of it")
            result, absent = _link(scratch, archives, symbols, objects, options)
        if result.returncode:
            sys.stderr.write(result.stderr[-4000:])
            raise TreeError(
                f"the migration objects of QEMU {scratch.tree.version} do not link into "
                f"{output.name} (see above): configure a build directory without sanitizers, "
                f"coverage or control-flow integrity, `{scratch.tree.source}/{CONFIGURE}`."
            )
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)
        os.replace(temporary, output)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return absent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="What this project compiles against and links, from a QEMU build directory."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="print version, source and build directory")
    headers = commands.add_parser("headers", help="generate headers, print compile flags")
    library = commands.add_parser("library", help="link the migration objects")
    for command in (info, headers, library):
        command.add_argument("--build", required=True, help="QEMU's build directory")
    for command in (headers, library):
        command.add_argument("--scratch", required=True, help="a directory of ours, made if absent")
        command.add_argument("--sanitize", default="", help="as the compiler's -fsanitize")
    library.add_argument("--symbols", required=True, help="file of names to link in, one a line")
    library.add_argument("--util", required=True, help="file of sources of libqemuutil, one a line")
    library.add_argument("--output", required=True, type=Path, help="the shared library to write")
    library.add_argument("--strip", action="store_true", help="without symbols for a debugger")
    library.add_argument(
        *("--object", "--objects"),
        dest="objects",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="objects of ours to link in",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return 0, or 1 after a message on stderr."""
    options = _parser().parse_args(arguments)
    try:
        tree = open_tree(options.build)
        if options.command == "info":
            print(f"version={tree.version}\nsource={tree.source}\nbuild={tree.build}")
            return 0
        with open_scratch(tree, options.scratch, options.sanitize) as scratch:
            if options.command == "headers":
                print("\n".join(make_headers(scratch)))
            else:
                absent = make_library(
                    scratch,
                    read_list(options.symbols),
                    options.output,
                    options.objects,
                    util=read_list(options.util),
                    strip=options.strip,
                )
                if absent:
                    print(f"not in QEMU {tree.version}: {' '.join(absent)}", file=sys.stderr)
    except TreeError as error:
        print(f"qemu_tree: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"qemu_tree: {error.filename}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
