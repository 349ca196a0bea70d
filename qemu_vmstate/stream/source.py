# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a large file by offset, a window at a time, with errors for a file that ends early."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from ..errors import StreamError

__all__ = ["Memory", "Source", "printable", "shown"]

WINDOW = 1 << 18
LONGEST_MESSAGE = 2000


def shown(raw: bytes) -> str:
    """Return a name of the stream as text; bytes that are not UTF-8 are shown as escapes."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Return text of the stream with escapes for control characters, safe for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Source:
    """A file to read from.  It is not mapped, so that one which shrinks causes no SIGBUS.

    *fd* is closed with this object; *path* names it in errors.
    """

    noun = "file"
    start = 0
    """The offset of the stream's first byte."""
    remark = ""
    """What errors end with."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        try:
            found = os.fstat(fd)
            mode = found.st_mode
            self.permissions = stat.S_IMODE(mode)
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise self.error("this is neither a file nor a disk nor a pipe")
            # A disk has no st_size; the position in a file may be that of the caller's object.
            self.size = found.st_size if stat.S_ISREG(mode) else os.lseek(fd, 0, os.SEEK_END)
        except BaseException:
            os.close(fd)
            raise
        self._base = 0
        self._window = b""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)

    def error(self, reason: str) -> StreamError:
        """Return an error for this file; text of the stream in it is escaped and shortened."""
        text = printable(reason)
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
        return StreamError(text + printable(self.remark), self.path)

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
        """Return up to ``WINDOW`` bytes at *offset*; empty at the end."""
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
        # One read returns 2 GiB at most.
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

    def extents(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where there is data; all of it if that cannot be known, as of a disk."""
        if os.fstat(self._fd).st_size != self.size:  # a disk's is 0
            yield begin, end
            return
        while begin < end:
            try:
                first = os.lseek(self._fd, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return  # a hole up to the end
            last = os.lseek(self._fd, first, os.SEEK_HOLE)
            if first < end:
                yield first, min(last, end)
            begin = last

    def find(self, needle: bytes, start: int, end: int) -> Iterator[int]:
        """Yield each offset of *needle* between *start* and *end*; each byte is read once."""
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
        """Return the last offset of *needle* between *start* and *end*, or -1."""
        while end - start >= len(needle):
            begin = max(start, end - WINDOW)
            if (at := self._pread(begin, end - begin).rfind(needle)) >= 0:
                return begin + at
            if begin == start:
                break
            end = begin + len(needle) - 1
        return -1


class Memory(Source):
    """Bytes to read from; *noun* is their name in errors."""

    def __init__(self, data: bytes, noun: str) -> None:
        self.path, self.noun, self.size = "", noun, len(data)
        self._base, self._window = 0, data

    def __exit__(self, *_exc: object) -> None:
        pass

    def _pread(self, offset: int, length: int) -> bytes:
        return self._window[offset : offset + length]
