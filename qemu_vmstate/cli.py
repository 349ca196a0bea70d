# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``qemu-vmstate``, also ``python -m qemu_vmstate``.

A verb imports what it needs itself: some work where nothing was compiled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, TextIO, TypeAlias

from .errors import VMStateError
from .scaffold.generator import scaffold
from .stream.reader import read
from .stream.sections import Stream
from .stream.show import show, write_json
from .vm.launch import Script, VMLaunchError, shim_path

__all__ = ["main"]


def _info() -> int:
    from .bindings import folder, native

    capabilities = native.capabilities()
    print(f"built for QEMU   {capabilities.qemu}")
    print(f"native parts     {folder.native_folder()}")
    print(f"shim             {shim_path()}")
    print(f"hooks' errors    {'with' if capabilities.errp_hooks else 'without'} Error **errp")
    return 0


_Answer: TypeAlias = tuple[int, Callable[[TextIO], object]]
"""An exit status, and what writes the rest."""


def _inspect(stream: Stream, options: argparse.Namespace) -> _Answer:
    return 0, partial(write_json if options.json else show, stream)


def _scaffold(stream: Stream, options: argparse.Namespace) -> _Answer:
    source = scaffold(stream, options.section)
    return 0, lambda out: out.write(source)


def _roundtrip(stream: Stream, options: argparse.Namespace) -> _Answer:
    from .scaffold.roundtrip import roundtrip, show_roundtrip, write_roundtrip_json

    report = roundtrip(stream)
    status = 0 if report.identical == len(report.results) else 1
    return status, partial(write_roundtrip_json if options.json else show_roundtrip, report)


_ON_FILES = {"inspect": _inspect, "scaffold": _scaffold, "roundtrip": _roundtrip}


def _on_file(options: argparse.Namespace) -> int:
    try:
        status, write = _ON_FILES[options.verb](read(options.file), options)
    except OSError as error:
        print(f"qemu-vmstate: {options.file} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has enough; Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _run(options: argparse.Namespace, command: Sequence[str]) -> NoReturn:
    script = Script(options.script, options.args, options.door)
    whole = [*command, *script.qemu_arguments()]
    try:
        os.execvpe(whole[0], whole, script.environment(os.environ))
    except OSError as error:
        raise VMLaunchError(f"{whole[0]} cannot be started: {error.strerror}") from error


def _parser(asked: str) -> argparse.ArgumentParser:
    """The parser of all verbs; bench's and fuzz's options it has when they are *asked* for."""
    parser = argparse.ArgumentParser(
        prog="qemu-vmstate", description="Python objects in QEMU's migration stream."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("info", help="say what QEMU this was built for, and where its parts are")
    inspect = verbs.add_parser(
        "inspect",
        help="show what a migration file holds",
        description="Show the sections of a migration file of any QEMU; --json shows every field.",
    )
    inspect.add_argument("--json", action="store_true", help="one JSON object with every field")
    scaffolding = verbs.add_parser(
        "scaffold",
        help="write Python classes for a migration file's devices",
        description="Write a Python module with a Device class for each section of a device, as "
        "the file's own description has them.",
    )
    scaffolding.add_argument(
        "--section", metavar="NAME", help="only those of this name: e1000, cpu/1, ..."
    )
    rounds = verbs.add_parser(
        "roundtrip",
        help="load and save every device's section by QEMU's code, and compare",
        description="Make the classes that scaffold writes, load each section into a fresh object "
        "through QEMU's C code and save it again. The status is 0 if all are identical.",
    )
    rounds.add_argument("--json", action="store_true", help="one JSON object with every section")
    for verb in (inspect, scaffolding, rounds):
        verb.add_argument("file", help="what `migrate file:...` or `migrate exec:cat>...` wrote")
    measured = verbs.add_parser(
        "bench",
        help="measure what saving and loading costs, beside C devices of the same fields",
        description="Measure what saving and loading costs beside C devices of the same fields, in "
        "process and in a QEMU, and what ordinary work costs. Takes some two minutes.",
    )
    if asked == "bench":
        from .bench import command as bench

        bench.add_arguments(measured)
        measured.set_defaults(run_verb=bench.run)
    fuzzed = verbs.add_parser(
        "fuzz",
        help="try streams that mean harm on declarations drawn at random, or on devices of yours",
        description="Load streams that are nearly valid into declarations drawn at random, or "
        "into objects of yours. Each must be refused and change nothing, or give a valid state.",
    )
    if asked == "fuzz":
        from .fuzz import command as fuzz

        fuzz.add_arguments(fuzzed)
        fuzzed.set_defaults(run_verb=fuzz.run)
    run = verbs.add_parser(
        "run",
        usage="qemu-vmstate run [--door DOOR] SCRIPT [ARG ...] -- QEMU [QEMU-ARG ...]",
        help="start a QEMU with a Python script inside",
        description="Start a QEMU of your own with a Python script inside; the QEMU takes this "
        "process's place. Example: qemu-vmstate run dev.py -- qemu-system-x86_64 -M none",
    )
    run.add_argument(
        "--door",
        choices=["plugin", "preload"],
        default="plugin",
        help="a TCG plugin, or LD_PRELOAD: under KVM, and in a QEMU without plugins",
    )
    run.add_argument("script", help="the Python script")
    run.add_argument("args", nargs="*", help="its arguments")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status: 0, 1 after a sentence on stderr, 2 for wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    mark = given.index("--") if "--" in given else len(given)
    command = given[mark + 1 :]
    try:
        parser = _parser(given[0] if given else "")
        options = parser.parse_args(given[:mark])
        if (options.verb == "run") != bool(command):
            parser.error("`run SCRIPT -- QEMU ...` takes a QEMU's command line after --, no other")
        if options.verb in _ON_FILES:
            return _on_file(options)
        if options.verb in ("bench", "fuzz"):
            status: int = options.run_verb(options)
            return status
        return _info() if options.verb == "info" else _run(options, command)
    except VMStateError as error:
        print(f"qemu-vmstate: {error}", file=sys.stderr)
    return 1
