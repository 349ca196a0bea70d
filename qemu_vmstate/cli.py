# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``qemu-vmstate``, also ``python -m qemu_vmstate``.

Each verb imports its modules when it runs, because some verbs work where nothing was compiled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeAlias

from .errors import NativeError, StreamError, VMStateError

if TYPE_CHECKING:
    from .stream.sections import Stream

__all__ = ["main"]

_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]
"""``add_parser`` of argparse's subparsers."""
_Result: TypeAlias = tuple[int, Callable[[TextIO], object]]
"""An exit status, and a function that writes the verb's output."""

# ------------------------------------------------------------------ info


def _add_info(add_parser: _AddParser) -> None:
    parser = add_parser("info", help="list the QEMU versions that there are native parts for")
    parser.set_defaults(run_verb=_info)


def _info(_options: argparse.Namespace) -> int:
    from .natives import all_natives, chosen
    from .natives.folders import root

    in_process = chosen()
    print(f"qemu_vmstate  {root()}")
    for native in all_natives():
        notes = ["in process"] if native == in_process else []
        notes += [f"built for {native.build}"] if native.build else []
        notes += [] if native.usable else ["outdated: run `qemu-vmstate build` for it again"]
        print(f"QEMU {native.qemu:<9}{', '.join(notes)}".rstrip())
    return 0


# ----------------------------------------------------------------- build


def _add_build(add_parser: _AddParser) -> None:
    parser = add_parser(
        "build",
        usage="qemu-vmstate build [-h] (DIRECTORY | --list | --remove QEMU)",
        help="compile the native parts for a QEMU build directory of yours",
        description="Compile the native parts for a configured or built QEMU tree, in which "
        "nothing is changed, into the user's data folder. They are used for the QEMUs of that "
        "directory, and for a release that the package has none for. It needs a C compiler and "
        "qemu-vmstate[build], and takes a minute the first time.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("directory", nargs="?", help="the build directory: where QEMU's ninja runs")
    what.add_argument("--list", action="store_true", help="show what was built")
    what.add_argument(
        "--remove", metavar="QEMU", help="remove what was built for this directory or version"
    )
    parser.set_defaults(run_verb=_build)


def _build(options: argparse.Namespace) -> int:
    from .natives import build
    from .natives.folders import user_natives

    if options.directory is not None:
        native = build.build(options.directory)
        print(f"QEMU {native.qemu} of {native.build}: {native.folder}")
        return 0
    named = user_natives()
    if options.remove is not None:
        directory = os.path.realpath(options.remove)
        named = [one for one in named if options.remove == one.qemu or directory == str(one.build)]
        if not named:
            raise NativeError(
                f"nothing was built for {options.remove}: "
                "`qemu-vmstate build --list` shows what was"
            )
    for native in named:
        state = "outdated" if build.is_outdated(native) else "up to date"
        if options.remove is not None:
            build.remove(native)
            state = "removed"
        print(f"QEMU {native.qemu} of {native.build}: {native.folder} ({state})")
    return 0


# ---------------------------------------------------------------- doctor


def _add_doctor(add_parser: _AddParser, selected: bool) -> None:
    parser = add_parser(
        "doctor",
        help="tell what of this machine will work, with a remedy for what will not",
        description="Check Python, the native parts, the extras and KVM, and in each emulator "
        "whether a device of one field migrates. The status is 0 if it does in one of them.",
    )
    if selected:
        from .doctor import command

        command.add_arguments(parser)
        parser.set_defaults(run_verb=command.run)


# ---------------------------------------------------- verbs on a migration file


def _add_file(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], _Result]
) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--offset",
        type=_offset,
        default=0,
        metavar="N",
        help="the byte of the file at which the stream begins, in decimal or 0x...: that of "
        "`migrate file:PATH,offset=N`",
    )
    where.add_argument(
        "--snapshot", metavar="NAME", help="the snapshot of that name, or id, in a qcow2 image"
    )
    parser.add_argument(
        "file",
        help="what `migrate file:...` or `migrate exec:cat>...` wrote, also compressed; a save "
        "image of libvirt's; a qcow2 image with --snapshot; - is the standard input",
    )
    parser.set_defaults(run_verb=partial(_run_on_file, run))


def _offset(text: str) -> int:
    number = int(text, 0)
    if number < 0:
        raise ValueError
    return number


_offset.__name__ = "offset"  # argparse's messages have it


def _read(options: argparse.Namespace, like: Stream | None = None) -> Stream:
    from .stream.reader import read

    if options.file == "-" and sys.stdin is None:
        raise StreamError("the standard input is closed", "-")
    file = sys.stdin.buffer if options.file == "-" else options.file
    return read(file, offset=options.offset, snapshot=options.snapshot, like=like)


def _run_on_file(run: Callable[[argparse.Namespace], _Result], options: argparse.Namespace) -> int:
    try:
        status, write = run(options)
    except OSError as error:
        name = error.filename or options.file
        print(f"qemu-vmstate: {name} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe; Python's flush at exit would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _add_inspect(add_parser: _AddParser) -> None:
    parser = add_parser(
        "inspect",
        help="show the contents of a migration file",
        description="Show the sections of a migration file of any QEMU; --json shows every field.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object with every field")
    parser.add_argument(
        "--like",
        metavar="OTHER",
        help="a migration file of the same machine, by whose description the devices are decoded "
        "if FILE has none",
    )
    _add_file(parser, _inspect)


def _inspect(options: argparse.Namespace) -> _Result:
    from .stream.reader import read
    from .stream.show import show, write_json

    like = read(options.like) if options.like else None
    try:
        stream = _read(options, like)
    except StreamError as error:
        if error.partial is None:
            raise
        return 1, partial(_show_partial, error, options.json)
    return 0, partial(write_json if options.json else show, stream)


def _show_partial(error: StreamError, as_json: bool, out: TextIO) -> None:
    """Show what could be read, and then the reason why it ends there."""
    from .stream.show import show, write_json

    if as_json:
        write_json(error.partial, out, error)
    else:
        show(error.partial, out)
    out.flush()
    print(f"qemu-vmstate: {error}", file=sys.stderr)


def _add_scaffold(add_parser: _AddParser) -> None:
    parser = add_parser(
        "scaffold",
        help="write Python classes for a migration file's devices",
        description="Write a Python module with a Device class for each section of a device, as "
        "the file's own description has them.",
    )
    parser.add_argument(
        "--section", metavar="NAME", help="only those of this name: e1000, cpu/1, ..."
    )
    _add_file(parser, _scaffold)


def _scaffold(options: argparse.Namespace) -> _Result:
    from .scaffold.generator import scaffold

    source = scaffold(_read(options), options.section)
    return 0, lambda out: out.write(source)


def _add_roundtrip(add_parser: _AddParser) -> None:
    parser = add_parser(
        "roundtrip",
        help="load and save every device's section by QEMU's code, and compare",
        description="Make the classes that scaffold writes, load each section into a fresh object "
        "through QEMU's C code and save it again. The status is 0 if all are identical.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object with every section")
    _add_file(parser, _roundtrip)


def _roundtrip(options: argparse.Namespace) -> _Result:
    # Imported after the read, so that an error of the file is reported before missing modules.
    stream = _read(options)
    from .scaffold.roundtrip import roundtrip, show_roundtrip, write_roundtrip_json

    report = roundtrip(stream)
    status = 0 if report.identical == len(report.results) else 1
    return status, partial(write_roundtrip_json if options.json else show_roundtrip, report)


# --------------------------------------------------------------- bench, fuzz


def _add_bench(add_parser: _AddParser, selected: bool) -> None:
    parser = add_parser(
        "bench",
        help="measure what saving and loading costs, beside C devices of the same fields",
        description="Measure what saving and loading costs beside C devices of the same fields, in "
        "process and in a QEMU, and what ordinary work costs. Takes some two minutes.",
    )
    if selected:  # the import needs the compiled modules
        from .bench import command

        command.add_arguments(parser)
        parser.set_defaults(run_verb=command.run)


def _add_fuzz(add_parser: _AddParser, selected: bool) -> None:
    parser = add_parser(
        "fuzz",
        help="load malformed streams into declarations drawn at random, or into your devices",
        description="Load streams that are nearly valid into declarations drawn at random, or "
        "into objects of yours. Each must be refused and change nothing, or give a valid state.",
    )
    if selected:  # the import needs the compiled modules
        from .fuzz import command

        command.add_arguments(parser)
        parser.set_defaults(run_verb=command.run)


# ----------------------------------------------------------- run, describe


def _add_script(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument(
        "--shim",
        choices=["plugin", "preload"],
        default="plugin",
        help="how the shim is loaded: as a TCG plugin, or by LD_PRELOAD, which also works under "
        "KVM and in a QEMU without plugins",
    )
    parser.add_argument("script", help="the Python script")
    parser.add_argument("args", nargs="*", default=[], help="its arguments")
    parser.set_defaults(run_verb=run)


def _add_run(add_parser: _AddParser) -> None:
    parser = add_parser(
        "run",
        usage="qemu-vmstate run [--shim {plugin,preload}] SCRIPT [ARG ...] -- QEMU [QEMU-ARG ...]",
        help="start a QEMU with a Python script inside",
        description="Start a QEMU of your own with a Python script inside; the QEMU takes this "
        "process's place. Example: qemu-vmstate run dev.py -- qemu-system-x86_64 -M none",
    )
    _add_script(parser, _run)


def _run(options: argparse.Namespace) -> NoReturn:
    from .vm.launch import Script, VMLaunchError

    script = Script(options.script, options.args, options.shim)
    command = [*options.qemu_command, *script.qemu_arguments()]
    try:
        os.execvpe(command[0], command, script.environment(os.environ))
    except OSError as error:
        raise VMLaunchError(
            f"{command[0]} cannot be started: {error.strerror}; after -- comes the name or the "
            "path of an emulator, which Debian has in the package qemu-system"
        ) from error


def _add_describe(add_parser: _AddParser) -> None:
    parser = add_parser(
        "describe",
        usage="qemu-vmstate describe [--shim {plugin,preload}] SCRIPT [ARG ...] "
        "[-- QEMU [QEMU-ARG ...]]",
        help="print the descriptions of a script's devices as -dump-vmstate prints those in C",
        description="Run a script in a QEMU, by default in qemu-system-x86_64 -M none, and print "
        "the descriptions of the devices that it registers in the form of QEMU's -dump-vmstate, "
        "for scripts/vmstate-static-checker.py of QEMU's source tree. The machine does not run.",
    )
    _add_script(parser, _describe)


def _describe(options: argparse.Namespace) -> int:
    from .vm.dump_vmstate import dump_vmstate, write_dump

    command = options.qemu_command
    dump = dump_vmstate(options.script, options.args, options.shim, command, sys.stderr)
    write_dump(dump, sys.stdout)
    return 0


# ---------------------------------------------------------------- attach


def _add_attach(add_parser: _AddParser) -> None:
    parser = add_parser(
        "attach",
        help="open a Python prompt in the script of a running QEMU",
        description="Open a Python prompt in the script of a running QEMU, or pdb where its "
        "breakpoint() waits. Input that is not typed on a terminal runs up to the first statement "
        "that raises an exception, and the status is then 1.",
    )
    parser.add_argument("target", metavar="PID|SOCKET", help="QEMU's process id, or its socket")
    parser.set_defaults(run_verb=_attach)


def _attach(options: argparse.Namespace) -> int:
    from .embed import attach_socket, user_terminal

    return user_terminal.converse(attach_socket.connect(options.target))


# ------------------------------------------------------------------ main


def _parser(selected: str) -> argparse.ArgumentParser:
    """Return the parser of all verbs; some have their options only when *selected*."""
    parser = argparse.ArgumentParser(
        prog="qemu-vmstate", description="Python objects in QEMU's migration stream."
    )
    add_parser = parser.add_subparsers(dest="verb", required=True).add_parser
    _add_info(add_parser)
    _add_build(add_parser)
    _add_doctor(add_parser, selected == "doctor")
    _add_inspect(add_parser)
    _add_scaffold(add_parser)
    _add_roundtrip(add_parser)
    _add_bench(add_parser, selected == "bench")
    _add_fuzz(add_parser, selected == "fuzz")
    _add_run(add_parser)
    _add_describe(add_parser)
    _add_attach(add_parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status.

    The status is 0, or 1 after a message on stderr; SystemExit(2) is raised for wrong usage.
    *arguments* default to those of the command line.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    mark = given.index("--") if "--" in given else len(given)
    command = given[mark + 1 :]
    try:
        verb = given[0] if given else ""
        parser = _parser(verb)
        asks_for_help = {"-h", "--help"}.intersection(given[:mark])
        # Before parsing, which would complain about the options of a QEMU without the -- instead.
        if verb == "run" and not command and not asks_for_help:
            parser.error(
                "`run` needs a QEMU's command line after --, as in "
                "`qemu-vmstate run dev.py -- qemu-system-x86_64 -M none`"
            )
        options = parser.parse_args(given[:mark], argparse.Namespace(qemu_command=command))
        if command and options.verb not in ("run", "describe"):
            parser.error(
                "`run SCRIPT -- QEMU ...` and `describe SCRIPT -- QEMU ...` take a QEMU's command "
                f"line after --, and `{options.verb}` does not"
            )
        status: int = options.run_verb(options)
        return status
    except VMStateError as error:
        print(f"qemu-vmstate: {error}", file=sys.stderr)
    return 1
