# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside QEMU: the terminal of a user who has attached to the script."""

from __future__ import annotations

import contextlib
import ctypes
import io
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeVar, cast

from . import thread_streams
from .frames import Channel

__all__ = ["Namespace", "RemoteTerminal", "without_readline"]

Namespace = dict[str, Any]
T = TypeVar("T")

_COMPLETIONS = 200


@contextlib.contextmanager
def without_readline() -> Iterator[None]:
    """Let ``import readline`` fail, unless the script has imported it."""
    if sys.modules.get("readline") is not None:
        yield
        return
    sys.modules["readline"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop("readline", None)


def _import_completer() -> Any:
    # rlcompleter imports readline, which initialises the terminal; that one is QEMU's.
    with without_readline():
        import rlcompleter
    return rlcompleter.Completer


_Completer = _import_completer()


class _Output(io.TextIOBase):
    """A stream whose text appears on the terminal; it is dropped when nobody is attached."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, channel: Channel, error: bool) -> None:
        self._channel = channel
        self._error = error

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            with contextlib.suppress(OSError):
                self._channel.send("output", text=text, error=self._error)
        return len(text)


class _Input(io.TextIOBase):
    """A stream of the lines that are typed on the terminal."""

    encoding = "utf-8"

    def __init__(self, terminal: RemoteTerminal) -> None:
        self._terminal = terminal

    def readable(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        try:
            return self._terminal.ask("") + "\n"
        except EOFError:
            return ""

    def close(self) -> None:
        """Do nothing: ``exit()`` closes its standard input before it raises SystemExit."""


class RemoteTerminal:
    """The terminal at the other end of *channel*; :meth:`pump` must run in a thread of its own.

    One thread of QEMU uses it at a time, within :meth:`turn`.
    """

    def __init__(self, channel: Channel, interactive: bool) -> None:
        self.interactive = interactive
        """Whether a person types there, who wants to see prompts."""
        self.closed = False
        """Whether nobody is attached any more."""
        self.stdin = cast(TextIO, _Input(self))
        """What is typed there."""
        self.stdout = cast(TextIO, _Output(channel, error=False))
        """What appears there."""
        self.stderr = cast(TextIO, _Output(channel, error=True))
        """What appears there as an error."""
        self.namespaces: Callable[[], tuple[Namespace, ...]] = tuple
        """The namespaces that words are completed from, the innermost first."""
        self._channel = channel
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._turns = threading.RLock()
        self._guard = threading.Lock()
        self._interruptible: int | None = None

    # ------------------------------------------------ the connection's thread

    def pump(self, end_when_idle: bool = False) -> None:
        """Receive messages until the other side is gone.

        With *end_when_idle* Ctrl-C detaches the user when there is nothing to interrupt.
        """
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = self._channel.receive()
                if message["type"] == "interrupt":
                    if not self._interrupt() and end_when_idle:
                        self.end()
                else:
                    self._answers.put(message)
        self.closed = True
        self._answers.put({"type": "end"})
        self._interrupt()

    def _interrupt(self) -> bool:
        """Interrupt what runs, and return whether anything does."""
        with self._guard:
            if self._interruptible is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._interruptible), ctypes.py_object(KeyboardInterrupt)
                )
            return self._interruptible is not None

    # -------------------------------------------------- the thread that uses it

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let this thread alone use the terminal, which its standard streams then are."""
        with self._turns, thread_streams.redirected(self):
            yield

    def interruptible(self, call: Callable[[], T]) -> T:
        """Return ``call()``, in which Ctrl-C or the terminal's end raises KeyboardInterrupt."""
        before = self._interruptible
        try:
            self._let_interrupt(threading.get_ident())
            return call()
        finally:
            # The exception may come here too, even at the start of a called function.
            while True:
                try:
                    self._let_interrupt(before)
                    break
                except KeyboardInterrupt:
                    pass

    def _let_interrupt(self, thread: int | None) -> None:
        """Let Ctrl-C interrupt *thread*; with None also raise here what was on its way."""
        with self._guard:
            self._interruptible = thread
        # The interpreter raises an exception from another thread where a loop jumps back.
        # Taking it back would leave CPython 3.11 in an endless loop if the thread is traced.
        for _ in range(3):
            pass

    def ask(self, prompt: str, everything: bool = False) -> str:
        """Return the next line without its newline, or *everything* up to the input's end.

        Raises EOFError at the end, and KeyboardInterrupt for Ctrl-C.
        """
        before = self._interruptible
        try:
            self._let_interrupt(None)
            return self._answer(prompt, everything)
        finally:
            self._let_interrupt(before)

    def _answer(self, prompt: str, everything: bool) -> str:
        try:
            self._channel.send("read", prompt=prompt, everything=everything)
        except OSError as error:
            raise EOFError from error
        while True:
            message = self._answers.get()
            if message["type"] == "complete":
                self._complete(str(message["text"]))
            elif message["type"] == "line":
                return str(message["text"])
            elif message["type"] == "cancel":
                raise KeyboardInterrupt
            elif message["type"] == "end":
                if self.closed:
                    self._answers.put(message)  # for whoever asks next
                raise EOFError

    def _complete(self, text: str) -> None:
        found: list[str] = []
        try:
            namespace: Namespace = {}
            for names in reversed(self.namespaces()):
                namespace.update(names)
            complete = _Completer(namespace).complete
            for number in range(_COMPLETIONS):
                word = complete(text, number)
                if word is None:
                    break
                found.append(word)
        except Exception:  # a user's __getattr__() or __dir__() may raise anything
            found = []
        with contextlib.suppress(OSError):
            self._channel.send("completions", words=found)

    def end(self, status: int = 0) -> None:
        """Detach the user, whose command ends with *status*."""
        with contextlib.suppress(OSError):
            self._channel.send("end", status=status)
        self.closed = True
        self._channel.close()
