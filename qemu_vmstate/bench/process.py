# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark in process: every shape by every path, in turn with its reference device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..inprocess import save
from .calls import SAMPLE_US, TimedCalls
from .native import ffi, lib
from .samples import rounds
from .serializers import serializers
from .shapes import PATHS, SHAPES, Python, ReferenceDevice, Subject

__all__ = ["OPERATIONS", "REFERENCE", "in_process", "ratio_to"]

REFERENCE = "reference"
OPERATIONS = ("save", "load")

_STREAM_BYTES = 1 << 20


class _Runner:
    """A subject, and the stream that it saves to and loads from."""

    def __init__(self, subject: Subject, size: int, stream: Any) -> None:
        self._subject, self._size, self._stream = subject, size, stream
        self._count = 1
        self._most = max(1, min(20_000, _STREAM_BYTES // max(1, size)))
        us = min(subject.save(self._count, stream) for _ in range(3))
        self._count = max(1, min(self._most, int(SAMPLE_US / us)))

    def fill(self) -> None:
        """Fill the stream with the greatest number of saves that a subject loads."""
        self._subject.save(self._most, self._stream)

    def save(self) -> float:
        return self._subject.save(self._count, self._stream)

    def load(self) -> float:
        return self._subject.load(self._count, self._stream, self._size)


def ratio_to(path: str) -> str:
    """Return the key of a row's ratio to the reference device or a serializer."""
    return f"ratio_to_{path.lower().replace(' ', '_')}"


def in_process(
    turns: int, seconds: float, shapes: Iterable[str] = SHAPES
) -> Iterator[dict[str, Any]]:
    """Measure every shape, and yield the rows of the benchmark's ``in_process``.

    Each has ``turns`` samples, or fewer if an operation of the shape takes ``seconds``.  Without
    msgspec its rows, and the ratios to it, are left out.
    """
    for name in shapes:
        shape = SHAPES[name]()
        wire = len(save(Python(shape, "native").device))
        room = max(_STREAM_BYTES, wire) + wire + lib().QV_TIMED_TAIL
        stream = ffi.new("unsigned char[]", room)
        runners: dict[str, Any] = {REFERENCE: _Runner(ReferenceDevice(shape), wire, stream)}
        for path in PATHS:
            runners[path] = _Runner(Python(shape, path), wire, stream)
        others = {path: TimedCalls(each.save, each.load) for path, each in serializers(shape)}
        runners |= others
        for operation in OPERATIONS:
            runners[REFERENCE].fill()
            calls = {path: getattr(runner, operation) for path, runner in runners.items()}
            measured = rounds(calls, turns, seconds)
            for path in runners:
                yield {
                    "shape": name,
                    "bytes": shape.bytes,
                    "path": path,
                    "op": operation,
                    "us": measured.median(path),
                    **{ratio_to(to): measured.ratio(path, to) for to in (REFERENCE, *others)},
                    "noise": measured.noise(path),
                }
