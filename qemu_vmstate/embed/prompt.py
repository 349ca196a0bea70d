# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside QEMU: a Python prompt in the script's namespace, for a user who has attached."""

from __future__ import annotations

import ast
import code
import os
import sys
from types import CodeType

from .remote_terminal import Namespace, RemoteTerminal

__all__ = ["run_prompt"]


class _Console(code.InteractiveConsole):
    """Python's own console, whose statements Ctrl-C interrupts."""

    def __init__(self, terminal: RemoteTerminal, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._terminal = terminal
        self.failed = False
        """Whether the last statement raised an exception."""

    def runcode(self, code: CodeType) -> None:
        self.failed = False
        self._terminal.interruptible(lambda: super(_Console, self).runcode(code))

    def write(self, data: str) -> None:
        self._terminal.stderr.write(data)

    def showtraceback(self) -> None:
        self.failed = True
        super().showtraceback()

    def show_syntax_error(self, name: str) -> None:
        """Show the SyntaxError that is being handled, of the source called *name*."""
        self.failed = True
        super().showsyntaxerror(name)


def run_prompt(terminal: RemoteTerminal, namespace: Namespace) -> int:
    """Run what is typed on *terminal* in *namespace*, and return the exit status.

    That is what ``exit()`` names; 0 at the input's end; and 1 when a statement of an input that
    nobody types raises an exception, after which the rest of that input does not run.
    """
    terminal.namespaces = lambda: (namespace,)
    console = _Console(terminal, namespace)
    with terminal.turn():
        try:
            if terminal.interactive:
                _converse(terminal, console)
            else:
                _run_all(terminal.ask("", everything=True), console)
        except EOFError:
            return 0
        except SystemExit as end:
            return _status(end.code)
    return int(console.failed)


def _converse(terminal: RemoteTerminal, console: _Console) -> None:
    terminal.stdout.write(
        f"Python {sys.version.split()[0]} in QEMU, process {os.getpid()}, script {sys.argv[0]}\n"
        "Ctrl-D detaches, and the VM goes on.\n"
    )
    more = False
    while True:
        try:
            more = console.push(terminal.ask("... " if more else ">>> "))
        except KeyboardInterrupt:
            terminal.stdout.write("\nKeyboardInterrupt\n")
            console.resetbuffer()
            more = False


def _run_all(source: str, console: _Console) -> None:
    """Run *source* statement by statement, each as if it were typed, up to the first that fails."""
    try:
        statements = ast.parse(source, "<stdin>").body
        codes = [
            compile(ast.Interactive([statement]), "<stdin>", "single") for statement in statements
        ]
    except (SyntaxError, ValueError, OverflowError):
        console.show_syntax_error("<stdin>")
        return
    for compiled in codes:
        console.runcode(compiled)
        if console.failed:
            return


def _status(code: object) -> int:
    """Return the exit status of ``exit(code)``, after printing one that is a message."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1
