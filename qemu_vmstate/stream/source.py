# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a large file by offset, a window at a time, with sentences for its end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ..errors import StreamError

__all__ = ["Memory", "Source", "printable", "shown"]

WINDOW = 1 << 18
LONGEST_SENTENCE = 2000


def shown(raw: bytes) -> str:
    """Return a name of the stream as text; names are ASCII, and what is not stays visible."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Text of the stream that moves no cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Source:
    """A file to read from.  It is never mapped: one that shrinks meanwhile just ends early."""

    noun = "file"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        # A pipe would otherwise wait here for its writer.
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(self._fd).st_mode
            self.permissions = stat.S_IMODE(mode)
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise self.error(
                    "this is neither a file nor a disk, so it cannot be read by offset"
                )
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except BaseException:
            os.close(self._fd)
            raise
        self._base = 0
        self._window = b""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)

    def error(self, reason: str) -> StreamError:
        """Return the error for this file; its quotes of the stream are made harmless and short."""
        text = printable(reason)
        if len(text) > LONGEST_SENTENCE:
            text = f"{text[: LONGEST_SENTENCE // 2]} ... {text[-LONGEST_SENTENCE // 2 :]}"
        return StreamError(text, self.path)

    def at(self, offset: int, length: int, what: str) -> bytes:
        """Return the *length* bytes of *what* at *offset*."""
        begin = offset - self._base
        if begin >= 0 and begin + length <= len(self._window):
            return self._window[begin : begin + length]
        if offset + length > self.size:
            raise self.cut(offset, length, what)
        if length >= WINDOW:
            data = self._pread(offset, length)
        else:
            self._base, self._window = offset, self._pread(offset, WINDOW)
            data = self._window[:length]
        if len(data) < length:
            raise self.cut(offset, length, what)
        return data

    def window(self, offset: int) -> bytes:
        """Return what is at *offset*, as far as it is convenient; empty at the end."""
        return self._pread(offset, WINDOW)

    def cut(self, offset: int, length: int, what: str) -> StreamError:
        """Return the error for a file that ends inside *what*."""
        return self.error(
            f"the {self.noun} of {self.size} bytes ends inside {what}, "
            f"whose {length} byte(s) begin at byte {offset}"
        )

    def _pread(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) == min(length, self.size - offset):
            return data
        # One read gives 2 GiB at most.
        parts = [data]
        while data and (missing := length - sum(map(len, parts))) > 0:
            data = os.pread(self._fd, missing, offset + sum(map(len, parts)))
            parts.append(data)
        return b"".join(parts)

    def byte(self, offset: int, what: str) -> int:
        """Return an unsigned byte."""
        return self.at(offset, 1, what)[0]

    def be16(self, offset: int, what: str) -> int:
        """Return an unsigned big-endian number of 16 bits."""
        return int.from_bytes(self.at(offset, 2, what))

    def be32(self, offset: int, what: str) -> int:
        """Return an unsigned big-endian number of 32 bits."""
        return int.from_bytes(self.at(offset, 4, what))

    def be64(self, offset: int, what: str) -> int:
        """Return an unsigned big-endian number of 64 bits."""
        return int.from_bytes(self.at(offset, 8, what))

    def find(self, needle: bytes, start: int, end: int) -> Iterator[int]:
        """Where *needle* lies, whole, from *start* to *end*; each byte is read once."""
        overlap = len(needle) - 1
        while start + len(needle) <= end:
            chunk = self._pread(start, min(WINDOW, end - start))
            at = chunk.find(needle)
            while at >= 0:
                yield start + at
                at = chunk.find(needle, at + 1)
            if len(chunk) <= overlap:
                return
            start += len(chunk) - overlap

    def rfind(self, needle: bytes, start: int, end: int) -> int:
        """Where *needle* lies last, whole, from *start* to *end*; -1 if it does not."""
        while end - start >= len(needle):
            begin = max(start, end - WINDOW)
            if (at := self._pread(begin, end - begin).rfind(needle)) >= 0:
                return begin + at
            if begin == start:
                break
            end = begin + len(needle) - 1
        return -1


class Memory(Source):
    """Bytes to read from, which errors call a *noun*."""

    def __init__(self, data: bytes, noun: str) -> None:
        self.path, self.noun, self.size = "", noun, len(data)
        self._base, self._window = 0, data

    def __exit__(self, *_exc: object) -> None:
        pass

    def _pread(self, offset: int, length: int) -> bytes:
        return self._window[offset : offset + length]
