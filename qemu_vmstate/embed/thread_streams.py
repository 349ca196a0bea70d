# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard streams that one thread can have redirected while all others keep theirs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol, TextIO

__all__ = ["Streams", "current", "redirected"]


class Streams(Protocol):
    """Where a redirected thread reads and writes."""

    @property
    def stdin(self) -> TextIO:
        """What it reads from."""

    @property
    def stdout(self) -> TextIO:
        """What it prints to."""

    @property
    def stderr(self) -> TextIO:
        """What errors are written to."""


class _Redirection(threading.local):
    streams: Streams | None = None


_redirection = _Redirection()


class _ThreadStream:
    """The standard stream *name* of the thread that uses it: where others have *usual*."""

    def __init__(self, name: str, usual: Any) -> None:
        self._name = name
        self._usual = usual

    def _target(self) -> Any:
        streams = _redirection.streams
        return self._usual if streams is None else getattr(streams, self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._target(), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._target())


def _install() -> None:
    """Let the standard streams be ones of the thread that uses them."""
    for name in ("stdin", "stdout", "stderr"):
        present = getattr(sys, name)
        if isinstance(present, _ThreadStream):
            continue
        if present is None:
            present = open(os.devnull, "r+")  # noqa: SIM115 - the process owns it
        # A new one each time: what the script has put there may write to the one before.
        setattr(sys, name, _ThreadStream(name, present))


@contextlib.contextmanager
def redirected(streams: Streams) -> Iterator[None]:
    """Let this thread's standard streams be *streams*."""
    _install()
    before, _redirection.streams = _redirection.streams, streams
    try:
        yield
    finally:
        _redirection.streams = before


def current() -> Streams | None:
    """Return the streams of this thread if they are redirected."""
    return _redirection.streams
