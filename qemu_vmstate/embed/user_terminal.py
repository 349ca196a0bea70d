# SPDX-License-Identifier: GPL-2.0-or-later
"""Outside QEMU: this process's terminal, for a prompt or a debugger in a running script.

:mod:`qemu_vmstate.embed.attach` is the other side.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .attach_socket import AttachError
from .frames import Channel

__all__ = ["converse"]

_ANSWER_SECONDS = 30.0
_HISTORY_LINES = 1000


def converse(peer: socket.socket) -> int:
    """Let the user work at *peer*, which is closed, and return the exit status of the prompt.

    On a terminal there are line editing, completion and history; other input is sent as it is.
    Raises :class:`AttachError` when the VM refuses, does not answer, or ends.
    """
    channel = Channel(peer)
    try:
        peer.settimeout(_ANSWER_SECONDS)
        user = _User(channel)
        user.greet()
        peer.settimeout(None)
        with user.line_editing(), user.interrupting():
            return user.converse()
    except _Detached:
        print("\nqemu-vmstate: detached", file=sys.stderr)
        return 1
    except TimeoutError as error:
        raise AttachError(
            f"the VM does not answer within {_ANSWER_SECONDS:g} s: is its process stopped, or "
            "does a thread of its script keep the GIL?"
        ) from error
    except (EOFError, OSError) as error:
        raise AttachError(
            f"the VM is not attached any more: {error}; has its QEMU ended, or is this another "
            "program's socket?"
        ) from error
    finally:
        channel.close()


class _Detached(Exception):
    """Ctrl-C was pressed again, before what it interrupts had ended."""


class _User:
    """The user at this process's standard streams."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._interactive = all(
            stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)
        )
        self._readline = _readline() if self._interactive else None
        self._line = ""  # the last, unfinished line of the output
        self._words: list[str] = []
        self._interrupted = False

    def greet(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # a VM that refuses does not wait for this
            self._channel.send("hello", interactive=self._interactive)
        answer = self._channel.receive()
        if answer["type"] == "refused":
            raise AttachError(f"the VM refuses: {answer['reason']}")

    def converse(self) -> int:
        while True:
            message = self._receive()
            if message["type"] == "end":
                return int(message["status"])
            if message["type"] == "read":
                self._read(message["prompt"], message["everything"])

    def _receive(self) -> dict[str, Any]:
        """Return the next message that is no output, and show the output before it."""
        while (message := self._channel.receive())["type"] == "output":
            self._show(message["text"], message["error"])
        return message

    def _show(self, text: str, error: bool) -> None:
        stream = sys.stderr if error else sys.stdout
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
        _, newline, last = text.rpartition("\n")
        self._line = last if newline else self._line + last

    # -------------------------------------------------------------- input

    def _read(self, prompt: str, everything: bool) -> None:
        self._interrupted = False
        if everything:
            self._channel.send("line", text=sys.stdin.read())
            return
        with _default_interrupt():
            try:
                answer = ("line", self._input(prompt))
            except EOFError:
                answer = ("end", "")
                if self._interactive:
                    print()
            except KeyboardInterrupt:
                answer = ("cancel", "")
        self._line = ""
        self._channel.send(answer[0], text=answer[1])

    def _input(self, prompt: str) -> str:
        if not self._interactive:
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.removesuffix("\n")
        if self._line:
            # readline must know what stands before the cursor: let it write that again.
            sys.stdout.write("\r")
            sys.stdout.flush()
        return input(self._line + prompt)

    # ----------------------------------------------------- Ctrl-C, completion

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let Ctrl-C interrupt what runs in the VM, and a second one detach."""
        if threading.current_thread() is not threading.main_thread():
            yield  # other threads never get a signal
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: object) -> None:
        if self._interrupted:
            raise _Detached
        self._interrupted = True
        self._channel.send("interrupt")

    @contextlib.contextmanager
    def line_editing(self) -> Iterator[None]:
        """Have completion from the script and the history of earlier sessions at the prompt."""
        readline = self._readline
        if readline is None:
            yield
            return
        completer, delimiters = readline.get_completer(), readline.get_completer_delims()
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?")
        readline.parse_and_bind("tab: complete")
        with _history(readline):
            try:
                yield
            finally:
                readline.set_completer(completer)
                readline.set_completer_delims(delimiters)

    def _complete(self, text: str, number: int) -> str | None:
        if number == 0:
            self._words = self._ask_for_words(text)
        return self._words[number] if number < len(self._words) else None

    def _ask_for_words(self, text: str) -> list[str]:
        self._channel.send("complete", text=text)
        while (message := self._receive())["type"] != "completions":
            pass
        return list(message["words"])


@contextlib.contextmanager
def _default_interrupt() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _readline() -> Any:
    with contextlib.suppress(ImportError):  # some Pythons are built without it
        import readline

        return readline
    return None


@contextlib.contextmanager
def _history(readline: Any) -> Iterator[None]:
    """Have the file's lines in the history, and add this session's to the file alone."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    file = Path(state, "qemu-vmstate", "history")
    before = readline.get_current_history_length()
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    read = readline.get_current_history_length()
    try:
        yield
    finally:
        _save_history(readline, file, readline.get_current_history_length() - read)
        for number in reversed(range(before, readline.get_current_history_length())):
            readline.remove_history_item(number)


def _save_history(readline: Any, file: Path, lines: int) -> None:
    # Without a history the prompt works as well.
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        readline.append_history_file(max(lines, 0), file)
