# SPDX-License-Identifier: GPL-2.0-or-later
"""Unnamed temporary files for what cannot be read by offset: pipes and unpacked streams."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Iterable

__all__ = ["Held", "copied"]


class Held:
    """An open file, closed when nothing refers to this object any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)


def copied(pieces: Iterable[bytes]) -> Held:
    """Return an unnamed temporary file with *pieces* in it; pieces of zeros are holes."""
    folder = _folder()
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        size = 0
        try:
            for piece in pieces:
                if piece.count(0) < len(piece):
                    _write(file.fileno(), piece, size)
                size += len(piece)
            os.ftruncate(file.fileno(), size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            reason = f"{os.strerror(error.errno)}, for its copy in {folder}; TMPDIR names another"
            raise OSError(error.errno, reason) from error
        return Held(os.dup(file.fileno()))


def _folder() -> str:
    # /tmp may be in memory, and a stream may be larger.
    if not os.environ.get("TMPDIR") and os.access("/var/tmp", os.W_OK | os.X_OK):
        return "/var/tmp"
    return tempfile.gettempdir()


def _write(fd: int, piece: bytes, at: int) -> None:
    view = memoryview(piece)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done
