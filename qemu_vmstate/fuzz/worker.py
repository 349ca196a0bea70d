# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker process of the fuzzer, which writes each stream into a journal before it loads it.

A batch is one declaration with some thousand streams, determined by the seed and the number of
the batch.  The result of each batch goes to stdout, as a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import importlib
import json
import mmap
import os
import random
import resource
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DeclarationError, InvalidError
from ..process_memory import resident_memory
from ..state.bql import bql_lock_guard
from .devices import Drawn, draw, make
from .mutate import LARGEST, Mutator
from .states import randomize
from .subject import Finding, Subject, short_repr

__all__ = ["Journal", "drawn_declaration", "main"]

STATES = 4
"""The number of objects of each declaration, each with another random state."""

MEMORY_LIMIT = 2 << 30
"""The address space in bytes that loading streams may add to that of this process."""

GROWTH_LIMIT = 96 << 20
"""The bytes that one batch may add to the resident memory, besides ``COPIES`` of the state."""

COPIES = 256


class Journal:
    """A mapped file with the current stream, which survives a crash of the process.

    ``number`` is the count of streams so far, ``batch`` the number of the current batch.
    """

    _HEAD = struct.Struct("=QQqq")

    def __init__(self, path: Path) -> None:
        size = self._HEAD.size + LARGEST
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def write(self, number: int, batch: int, version: int | None, data: bytes) -> None:
        """Write the stream that is loaded next; a ``version`` of ``None`` is the newest."""
        marked = -2 if version is None else version
        self._HEAD.pack_into(self._map, 0, number, batch, marked, len(data))
        self._map[self._HEAD.size : self._HEAD.size + len(data)] = data

    def read(self) -> tuple[int, int, int | None, bytes]:
        """Return number, batch, version and bytes of the last stream."""
        number, batch, version, length = self._HEAD.unpack_from(self._map, 0)
        data = self._map[self._HEAD.size : self._HEAD.size + length]
        return number, batch, None if version == -2 else version, data


def drawn_declaration(seed: str, batch: int) -> Drawn:
    """Return the declaration of a batch."""
    return draw(f"{seed}/{batch}/declaration")


def subjects(drawn: Drawn, rng: random.Random) -> list[Subject]:
    """Return objects of a declaration with random states."""
    found = []
    for index in range(STATES):
        obj, twin = make(drawn), make(drawn)
        if index:
            drawing = rng.getstate()
            for one in (obj, twin):
                rng.setstate(drawing)
                with bql_lock_guard():
                    randomize(one, rng)
        with contextlib.suppress(InvalidError):  # raised by a validator of the declaration
            subject = Subject(obj, twin)
            subject.check_state(rng)
            found.append(subject)
    return found


def example(name: str) -> Any:
    """Return the object ``module:attribute``, or what it returns if it is callable."""
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    return found() if callable(found) else found


class Worker:
    """Runs batches one after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.journal = Journal(options.journal)
        self.number = 0

    def run(self) -> None:
        """Run the batches; stop before the next one when the time is over."""
        for batch in range(self.options.first, self.options.first + self.options.batches):
            if self.options.until and time.time() > self.options.until:
                return
            self._batch(batch)

    def _batch(self, batch: int) -> None:
        self.journal.write(self.number, batch, None, b"")
        rng = random.Random(f"{self.options.seed}/{batch}/streams")
        result: dict[str, Any] = {"batch": batch, "accepted": 0, "rejected": 0}
        found: list[Subject] = []
        before = self.number
        try:
            found = self._subjects(batch, rng)
            self._try(batch, found, rng, result)
        except DeclarationError as exc:
            result["refused"] = str(exc)
        except Finding as exc:
            result["finding"] = {"kind": exc.kind, "text": exc.text}
        except Exception as exc:
            result["finding"] = {"kind": "exception", "text": short_repr(exc)}
        if "finding" in result:
            _, _, version, data = self.journal.read()
            result["finding"] |= {"version": version, "input": data.hex()}
        result["accepted"] = sum(subject.accepted for subject in found)
        result["rejected"] = sum(subject.rejected for subject in found)
        result["tried"] = self.number - before
        print(json.dumps(result), flush=True)

    def _subjects(self, batch: int, rng: random.Random) -> list[Subject]:
        if self.options.targets:
            name = self.options.targets[batch % len(self.options.targets)]
            subject = Subject(example(name))
            subject.check_state(rng)
            return [subject]
        return subjects(drawn_declaration(self.options.seed, batch), rng)

    def _try(
        self, batch: int, found: list[Subject], rng: random.Random, result: dict[str, Any]
    ) -> None:
        if not found:
            return
        before = resident_memory()
        mutators = [Mutator(subject.obj, rng) for subject in found]
        for index in range(self.options.per_batch):
            which = index % len(found)
            subject, mutator = found[which], mutators[which]
            data, version = mutator.stream(subject.corpus), mutator.version()
            self.number += 1
            self.journal.write(self.number, batch, version, data)
            subject.attempt(data, version)
        growth = resident_memory() - before
        size = max(subject.obj.Migrated.__layout__.size for subject in found)
        # An emulator, such as qemu-aarch64, has its translated code in this process.
        emulator = int(os.environ.get("QEMU_VMSTATE_FUZZ_EMULATOR_MIB", "0")) << 20
        if growth > GROWTH_LIMIT + emulator + COPIES * size:
            raise Finding("memory", f"{growth >> 20} MiB more than before the batch")
        if os.environ.get("QEMU_VMSTATE_FUZZ_LEAKS"):
            _check_for_leaks()


def _check_for_leaks() -> None:
    """Run LeakSanitizer's check, which writes its findings to stderr; raises ``Finding``."""
    check = getattr(ctypes.CDLL(None), "__lsan_do_recoverable_leak_check")
    if check():
        raise Finding("leak", "LeakSanitizer found memory that nothing points to; see stderr")


def _limit_memory() -> None:
    """Make excessive allocations fail, except under a sanitizer, which reserves far more."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if size < 1 << 40:
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_LIMIT,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the batches that the options select."""
    parser = argparse.ArgumentParser(prog="python -m qemu_vmstate.fuzz.worker")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--per-batch", type=int, required=True)
    parser.add_argument("--until", type=float, default=0)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    _limit_memory()
    Worker(options).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
