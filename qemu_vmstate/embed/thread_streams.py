# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard streams that one thread can have redirected while all others keep theirs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol, TextIO, cast

__all__ = ["Streams", "current", "redirected", "standard"]


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
    """A standard stream of the thread that uses it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._usual: Any = None

    def install(self) -> None:
        """Put this in the place of the standard stream, which the other threads keep."""
        present = getattr(sys, self._name)
        if present is not self:
            # A stream that is None cannot be delegated to.
            self._usual = open(os.devnull, "r+") if present is None else present  # noqa: SIM115
            setattr(sys, self._name, self)

    def _target(self) -> Any:
        streams = _redirection.streams
        return self._usual if streams is None else getattr(streams, self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._target(), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._target())


_all = {name: _ThreadStream(name) for name in ("stdin", "stdout", "stderr")}


def standard(name: str) -> TextIO:
    """Return the object that stands for the stream *name* of whichever thread uses it."""
    return cast(TextIO, _all[name])


@contextlib.contextmanager
def redirected(streams: Streams) -> Iterator[None]:
    """Let this thread's standard streams be *streams*."""
    for stream in _all.values():
        stream.install()
    before, _redirection.streams = _redirection.streams, streams
    try:
        yield
    finally:
        _redirection.streams = before


def current() -> Streams | None:
    """Return the streams of this thread if they are redirected."""
    return _redirection.streams
