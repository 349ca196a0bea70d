# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a stream is: at an offset of a file, in a container such as libvirt's, or in a pipe."""

from __future__ import annotations

import io
import os
import select
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from ..errors import StreamError
from . import compression, libvirt, qcow2
from .source import Source, printable
from .temporary import Held, copied

__all__ = ["Origin"]

_PIECE = 1 << 18
_LONGEST_MAGIC = 16
_MOST_LAYERS = 4
"""A save image in a compressed file in a snapshot has three."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a source the next layer begins, and what is around it."""

    at: int
    snapshot: str | None
    layers: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    counted: str = ""
    """What offsets are those of, if not of the file."""

    def inside(self, layer: str, at: int, fault: str = "", counted: str = "") -> _Place:
        """Return the place inside a further layer."""
        return replace(
            self,
            at=at,
            layers=(*self.layers, f"{layer} ({fault})" if fault else layer),
            faults=(*self.faults, fault) if fault else self.faults,
            counted=counted or self.counted,
        )

    def __str__(self) -> str:
        counted = f"; offsets are those of {self.counted}" if self.counted else ""
        return ", ".join(self.layers) + counted

    @property
    def remark(self) -> str:
        """What the errors of a source end with."""
        counted = (f"offsets are those of {self.counted}",) if self.counted else ()
        return "".join(f"; {remark}" for remark in counted + self.faults)


class Origin:
    """Opens a stream, as often as needed.

    *file* is a path or a binary file object, *offset* where in it the stream begins, or its
    container, and *snapshot* the name or the id of a snapshot in a qcow2 image.  What cannot be
    read by offset is copied to an unnamed temporary file, which is kept as long as this object.
    """

    container = ""
    """What is around the stream, once it was opened; empty for a plain file."""

    def __init__(
        self, file: str | os.PathLike[str] | BinaryIO, offset: int = 0, snapshot: str | None = None
    ) -> None:
        if offset < 0:
            raise ValueError(f"the offset {offset} is negative")
        held = None
        if isinstance(file, str | os.PathLike):
            self.path = os.fspath(file)
        else:
            name = getattr(file, "name", None)
            self.path = name if isinstance(name, str) else "<file object>"
            held, position = _from_file_object(file)
            offset = offset or position
        self._in_place = True
        # What is unpacked takes the file's place.
        self._base: tuple[Held | None, _Place] = held, _Place(offset, snapshot)

    def check_in_place(self) -> None:
        """Raise :class:`StreamError` if the stream's bytes are not those of the file itself."""
        if not self._in_place:
            raise StreamError(
                "sections are replaced only where the stream itself is in the file, and this one "
                f"is in a container ({printable(self.container)}): write it to a file of its own "
                "first",
                self.path,
            )

    def open(self) -> Source:
        """Return the source of the stream, whose ``start`` is the stream's first byte."""
        source, place = self._open_base()
        try:
            while len(place.layers) < _MOST_LAYERS:
                source.remark = place.remark
                begin = _beginning(source, place.at)
                if begin.startswith(libvirt.MAGICS):
                    place = _in_save_image(source, place)
                elif name := compression.named(begin):
                    source, place = self._unpack(source, place, name)
                elif begin.startswith(qcow2.MAGIC):
                    source, layer = qcow2.open_snapshot(source, place.at, place.snapshot)
                    place = replace(place.inside(layer, 0, counted="its VM state"), snapshot=None)
                else:
                    break
            source.start, source.remark = place.at, place.remark
            if place.snapshot is not None:
                raise source.error(
                    f"the snapshot {place.snapshot!r} is looked for in a qcow2 image, and at byte "
                    f"{place.at} begins none"
                )
        except BaseException:
            source.__exit__()
            raise
        self.container, self._in_place = str(place), not place.counted
        return source

    def _open_base(self) -> tuple[Source, _Place]:
        held, place = self._base
        if held is None:
            # O_NONBLOCK, because opening a pipe would wait for its writer.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                return Source(self.path, fd), place
            try:
                held = copied(_from_pipe(fd))
            finally:
                os.close(fd)
            self._base = held, place
        return Source(self.path, os.dup(held.fd)), place

    def _unpack(self, source: Source, place: _Place, name: str) -> tuple[Source, _Place]:
        """Return the source of what is unpacked, and close *source*."""
        held, fault = compression.unpack(source, place.at, name)
        unpacked = Source(self.path, os.dup(held.fd))
        source.__exit__()
        place = place.inside(name, 0, fault, "what is unpacked")
        self._base = held, place
        return unpacked, place


def _beginning(source: Source, at: int) -> bytes:
    if at > source.size:
        raise source.error(f"the {source.noun} of {source.size} bytes has no byte {at}")
    return source.at(at, min(_LONGEST_MAGIC, source.size - at), "the beginning")


def _in_save_image(source: Source, place: _Place) -> _Place:
    """Return the place of the stream, or of what it is compressed to, in a save image."""
    image = libvirt.read_save_image(source, place.at)
    fault = "" if image.complete else "libvirt did not finish writing this image"
    if image.format not in ("raw", "sparse"):
        begin = _beginning(source, image.stream_offset)
        if begin and compression.named(begin) is None:
            raise source.error(
                f"libvirt's header says that the stream is compressed by {image.format}, and "
                f"at byte {image.stream_offset} begins nothing compressed ({begin.hex()})"
            )
    return place.inside(str(image), image.stream_offset, fault)


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
