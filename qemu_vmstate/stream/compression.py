# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed streams: what libvirt or ``migrate exec:gzip...`` wrote is unpacked.

``gzip``, ``bzip2`` and ``xz`` are unpacked by Python's own library, ``zstd`` by that of Python 3.14
or by the package ``zstandard``; of others the error names the program to pipe the file through.
Not every Python is built with every one of these modules.
"""

from __future__ import annotations

import importlib
import io
import shlex
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol

from ..errors import StreamError
from .source import Source
from .temporary import Held, copied

__all__ = ["named", "unpack"]

_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x89LZO\0\r\n\x1a\n": "lzop",
    b"\x04\x22\x4d\x18": "lz4",
}
_PIECE = 1 << 18
# A block of zstd has 4 bytes or more and unpacks to 128 KiB at most: this many bytes to 8 MiB.
_ZSTD_INPUT = 1 << 8


class _Reader(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def named(begin: bytes) -> str | None:
    """Return the name of the compression whose data begins like this, or ``None``."""
    return next((name for magic, name in _MAGICS.items() if begin.startswith(magic)), None)


def unpack(source: Source, at: int, name: str) -> tuple[Held, str]:
    """Return what the compression *name* from *at* on unpacks to, and what is wrong with it.

    If the compressed data ends early or is broken, all that comes before is returned, and a part
    of a sentence that says it; otherwise that is empty.
    """
    fault = ""

    def pieces() -> Iterator[bytes]:
        nonlocal fault
        try:
            while piece := reader.read1(_PIECE):
                yield piece
        except EOFError:
            fault = f"the {name} data ends early"
        except (OSError, broken) as error:
            # An OSError without a number is not of a file: gzip and bz2 raise it for broken data.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            fault = f"the {name} data is broken: {error}"

    reader, broken = _reader(source, at, name)
    return copied(pieces()), fault


def _reader(source: Source, at: int, name: str) -> tuple[_Reader, type[Exception]]:
    """Return a reader of what is unpacked, and the error that it raises for broken data."""
    compressed = io.BufferedReader(_Rest(source, at), _PIECE)
    if name == "gzip" and (module := _module("gzip")):
        return module.GzipFile(fileobj=compressed), importlib.import_module("zlib").error
    if name == "bzip2" and (module := _module("bz2")):
        return module.BZ2File(compressed), OSError
    if name == "xz" and (module := _module("lzma")):
        return module.LZMAFile(compressed), module.LZMAError
    if name == "zstd" and (module := _module("compression.zstd")):
        return module.ZstdFile(compressed), module.ZstdError
    if name == "zstd" and (module := _module("zstandard")):
        return _Zstandard(module, compressed), module.ZstdError
    raise _refusal(source, at, name)


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _refusal(source: Source, at: int, name: str) -> StreamError:
    remedy = (
        "`pip install 'qemu-vmstate[zstd]'` for the package zstandard, or "
        if name == "zstd"
        else ""
    )
    file = shlex.quote(source.path)
    piped = f"{name} -dc < {file}" if not at else f"tail -c +{at + 1} {file} | {name} -dc"
    return source.error(
        f"the stream is compressed by {name} from byte {at} on, which is not unpacked here: "
        f"{remedy}unpack it by the program {name}: `{piped} | qemu-vmstate inspect -`"
    )


class _Rest(io.RawIOBase):
    """The bytes of a source from an offset on, as a file."""

    def __init__(self, source: Source, at: int) -> None:
        self._source, self._at = source, at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        piece = self._source.window(self._at)[: len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class _Zstandard:
    """What the package ``zstandard`` unpacks; its own reader takes an early end for the end."""

    def __init__(self, package: ModuleType, compressed: Any) -> None:
        self._unpacker = package.ZstdDecompressor()
        self._compressed = compressed
        self._frame: Any = None
        self._left = b""

    def read1(self, size: int, /) -> bytes:
        unpacked: list[bytes] = []
        while size > 0 and (piece := self._left or self._compressed.read(_ZSTD_INPUT)):
            self._frame = self._frame or self._unpacker.decompressobj()
            unpacked.append(self._frame.decompress(piece))
            size -= len(unpacked[-1])
            self._left = b""
            if self._frame.eof:
                self._left, self._frame = self._frame.unused_data, None
        if not any(unpacked) and self._frame is not None:
            raise EOFError
        return b"".join(unpacked)
