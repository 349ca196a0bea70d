# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside QEMU: ``breakpoint()`` waits until a user attaches, who then has pdb on their terminal.

The terminal that QEMU was started from is never read, because it may be the monitor's.
"""

from __future__ import annotations

import os
import pdb
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from . import thread_streams
from .remote_terminal import RemoteTerminal, without_readline
from .standard_streams import print_message

__all__ = ["attach", "detach", "install"]


@dataclass
class _Stop:
    """A thread that waits at a breakpoint()."""

    attached: threading.Event = field(default_factory=threading.Event)
    terminal: RemoteTerminal | None = None


_lock = threading.Lock()
_waiting: list[_Stop] = []
_terminals: list[RemoteTerminal] = []


def attach(terminal: RemoteTerminal) -> bool:
    """Give *terminal* to all threads that wait at a breakpoint(), and return whether one did.

    It gets what stops later too, until :func:`detach`.
    """
    with _lock:
        if not _waiting:
            return False
        for stop in _waiting:
            stop.terminal = terminal
            stop.attached.set()
        _waiting.clear()
        _terminals.append(terminal)
    return True


def detach(terminal: RemoteTerminal) -> None:
    """Let *terminal* get no more threads."""
    with _lock:
        _terminals.remove(terminal)


def install(how: str, unreachable: str = "") -> None:
    """Make breakpoint() wait, and print *how* to attach; not if this QEMU is *unreachable*."""
    process = os.getpid()

    def hook(*args: Any, **named: Any) -> Any:
        chosen = os.environ.get("PYTHONBREAKPOINT")
        if chosen == "0":
            return None
        if chosen:
            return sys.__breakpointhook__(*args, **named)
        caller = sys._getframe(1)  # noqa: SLF001 - as pdb.set_trace() does
        reason = (
            "nobody can attach to a process that was forked"
            if os.getpid() != process
            else unreachable
        )
        _break(caller, how, reason, named.get("header"))
        return None

    sys.breakpointhook = hook


def _break(frame: FrameType, how: str, unreachable: str, header: str | None) -> None:
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"
    prompt = thread_streams.current()
    if isinstance(prompt, RemoteTerminal):
        # The user's own statement has come here, and the terminal is theirs already.
        terminal, leave = prompt, _stay
    else:
        if unreachable:
            print_message(f"breakpoint() at {place} does not stop: {unreachable}")
            return
        terminal, leave = _wait(place, how), _leave
    with terminal.turn():
        if header is not None:
            print(header)
        debugger = _Pdb(terminal, leave)
    debugger.set_trace(frame)


def _wait(place: str, how: str) -> RemoteTerminal:
    with _lock:
        for terminal in _terminals:
            if not terminal.closed:
                return terminal
        stop = _Stop()
        _waiting.append(stop)
    thread = threading.current_thread().name
    print_message(f"breakpoint() at {place} (thread {thread}) waits for a debugger: {how}")
    stop.attached.wait()
    assert stop.terminal is not None
    return stop.terminal


def _leave(terminal: RemoteTerminal) -> None:
    terminal.end()


def _stay(terminal: RemoteTerminal) -> None:
    """Do nothing: the user gets their prompt back."""


class _Pdb(pdb.Pdb):
    """Python's debugger on a user's terminal; whoever quits it lets the script go on.

    Python's own would raise BdbQuit, which would end QEMU or make a migration fail.
    """

    def __init__(self, terminal: RemoteTerminal, leave: Callable[[RemoteTerminal], None]) -> None:
        # It assigns its streams to sys.stdin and sys.stdout, which other threads use too; within
        # a turn these are the terminal's for this thread alone.
        with without_readline():
            super().__init__(stdin=sys.stdin, stdout=sys.stdout, nosigint=True)
        self._terminal = terminal
        self._leave = leave

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        self._stop(lambda: super(_Pdb, self).user_call(frame, argument_list))

    def user_line(self, frame: FrameType) -> None:
        self._stop(lambda: super(_Pdb, self).user_line(frame))

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        self._stop(lambda: super(_Pdb, self).user_return(frame, return_value))

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        self._stop(lambda: super(_Pdb, self).user_exception(frame, exc_info))

    def interaction(self, *args: Any, **named: Any) -> None:
        # Called by those above, and since Python 3.13 by set_trace().
        self._stop(lambda: super(_Pdb, self).interaction(*args, **named))

    def _stop(self, interact: Callable[[], None]) -> None:
        with self._terminal.turn():
            if self._terminal.closed:
                self._go_on()
                return
            before, self._terminal.namespaces = self._terminal.namespaces, self._namespaces
            try:
                self._terminal.interruptible(interact)
            except KeyboardInterrupt:
                self.message("--KeyboardInterrupt--")
            finally:
                self._terminal.namespaces = before

    def _namespaces(self) -> tuple[dict[str, Any], ...]:
        frame = self.curframe
        return () if frame is None else (dict(frame.f_locals), frame.f_globals)

    def _go_on(self) -> None:
        self.clear_all_breaks()
        self.set_continue()

    def do_continue(self, arg: str) -> bool:
        """Let the script go on to the next breakpoint."""
        if self._leave is not _stay:
            self.message("The script goes on. Ctrl-C detaches.")
        self.set_continue()
        return True

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> bool:
        """Detach: let the script go on without a debugger."""
        self._go_on()
        self._leave(self._terminal)
        return True

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool:  # noqa: N802 - pdb's name
        """Detach: let the script go on without a debugger."""
        self.message("")
        return self.do_quit(arg)
