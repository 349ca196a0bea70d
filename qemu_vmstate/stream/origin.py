# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a stream is: at an offset of a file, in a container such as libvirt's, or in a pipe."""

from __future__ import annotations

import io
import os
import select
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import StreamError
from . import compression, libvirt, qcow2
from .source import Source
from .temporary import Held, copied

__all__ = ["Origin"]

_PIECE = 1 << 18
_LONGEST_MAGIC = 16
_MOST_LAYERS = 4
"""A save image in a compressed file in a snapshot has three."""


class Origin:
    """Opens a stream, as often as needed.

    *file* is a path or a binary file object, *offset* where in it the stream begins, or its
    container, and *snapshot* the name or the id of a snapshot in a qcow2 image.  What cannot be
    read by offset is copied to an unnamed temporary file, which is kept as long as this object.
    """

    def __init__(
        self, file: str | os.PathLike[str] | BinaryIO, offset: int = 0, snapshot: str | None = None
    ) -> None:
        if offset < 0:
            raise ValueError(f"the offset {offset} is negative")
        self._held: Held | None = None
        self._offset, self._snapshot = offset, snapshot
        self._unpacked: dict[int, tuple[Held, str]] = {}
        self._layers: list[str] = []
        self._faults: list[str] = []
        self._counted = ""
        if isinstance(file, str | os.PathLike):
            self.path = os.fspath(file)
        else:
            name = getattr(file, "name", None)
            self.path = name if isinstance(name, str) else "<file object>"
            self._held, position = _from_file_object(file)
            self._offset = offset or position

    @property
    def container(self) -> str:
        """What is around the stream, once it was opened; empty for a plain file."""
        counted = f"; offsets are those of {self._counted}" if self._counted else ""
        return ", ".join(self._layers) + counted

    def check_in_place(self) -> None:
        """Raise :class:`StreamError` if the stream's bytes are not those of the file itself."""
        if self._counted:
            raise StreamError(
                f"sections are replaced only where the stream itself is in the file, and this one "
                f"is in a container ({self.container}): write it to a file of its own first",
                self.path,
            )

    def open(self) -> Source:
        """Return the source of the stream, whose ``start`` is the stream's first byte."""
        self._layers, self._faults, self._counted = [], [], ""
        source, at, snapshot = self._open_file(), self._offset, self._snapshot
        try:
            for depth in range(_MOST_LAYERS):
                begin = self._beginning(source, at)
                if begin.startswith(libvirt.MAGICS):
                    at = self._pass_save_image(source, at)
                elif name := compression.named(begin):
                    source, at = self._unpack(source, at, name, depth), 0
                elif begin.startswith(qcow2.MAGIC):
                    source, layer = qcow2.open_snapshot(source, at, snapshot)
                    self._add_layer(source, layer, counted="its VM state")
                    at, snapshot = 0, None
                else:
                    break
            if snapshot is not None:
                raise source.error(
                    f"the snapshot {snapshot!r} is looked for in a qcow2 image, and at byte {at} "
                    f"begins none ({self._beginning(source, at)[:4].hex()})"
                )
        except BaseException:
            source.__exit__()
            raise
        source.start = at
        return source

    def _open_file(self) -> Source:
        if self._held is None:
            # O_NONBLOCK, because opening a pipe would wait for its writer.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                return Source(self.path, fd)
            try:
                self._held = copied(_from_pipe(fd))
            finally:
                os.close(fd)
        return Source(self.path, os.dup(self._held.fd))

    def _beginning(self, source: Source, at: int) -> bytes:
        if at > source.size:
            raise source.error(f"the {source.noun} of {source.size} bytes has no byte {at}")
        return source.at(at, min(_LONGEST_MAGIC, source.size - at), "the beginning")

    def _pass_save_image(self, source: Source, at: int) -> int:
        """Return where the stream, or what it is compressed to, begins in libvirt's save image."""
        image = libvirt.read_save_image(source, at)
        fault = "" if image.complete else "libvirt did not finish writing this image"
        self._add_layer(source, str(image), fault)
        if image.format not in ("raw", "sparse"):
            begin = self._beginning(source, image.stream_offset)
            if begin and compression.named(begin) is None:
                raise source.error(
                    f"libvirt's header says that the stream is compressed by {image.format}, and "
                    f"at byte {image.stream_offset} begins nothing compressed ({begin.hex()})"
                )
        return image.stream_offset

    def _unpack(self, source: Source, at: int, name: str, depth: int) -> Source:
        """Return the source of what is unpacked, and close *source*."""
        if depth not in self._unpacked:
            self._unpacked[depth] = compression.unpack(source, at, name)
        held, fault = self._unpacked[depth]
        unpacked = Source(self.path, os.dup(held.fd))
        source.__exit__()
        self._add_layer(unpacked, name, fault, "what is unpacked")
        return unpacked

    def _add_layer(self, source: Source, layer: str, fault: str = "", counted: str = "") -> None:
        self._layers.append(layer + (f" ({fault})" if fault else ""))
        self._counted = counted or self._counted
        if fault:
            self._faults.append(fault)
        remarks = [f"offsets are those of {self._counted}"] if self._counted else []
        source.remark = "".join(f"; {remark}" for remark in [*remarks, *self._faults])


def _from_pipe(fd: int) -> Iterator[bytes]:
    """Yield what comes out of a pipe that was opened without waiting for its writer."""
    # Until a writer came, a read would find the pipe's end.
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    waiting.poll()
    os.set_blocking(fd, True)
    while piece := os.read(fd, _PIECE):
        yield piece


def _from_file_object(file: BinaryIO) -> tuple[Held, int]:
    """Return a file object's file, or a copy of it, and the position in it."""
    raw = getattr(file, "raw", file)
    # Other objects with a number, such as gzip's, have content of their own.
    if isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom) and isinstance(
        raw, io.FileIO
    ):
        mode = os.fstat(raw.fileno()).st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            file.flush()
            return Held(os.dup(raw.fileno())), file.tell()
    if not file.seekable():
        return copied(_from_reads(file)), 0
    position = file.tell()
    file.seek(0)
    held = copied(_from_reads(file))
    file.seek(position)
    return held, position


def _from_reads(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        if not isinstance(piece, bytes):
            raise TypeError(f"{file!r} is not a binary file: it reads {type(piece).__name__}")
        yield piece
