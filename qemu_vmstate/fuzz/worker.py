# SPDX-License-Identifier: GPL-2.0-or-later
"""One process of the fuzzer: tries streams, and writes down what it is about to try.

A batch is one declaration with some thousand streams; all of it follows from the seed and
the batch's number.  What comes of it goes to stdout, a JSON object a line.
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

from ..device.device import Device
from ..errors import DeclarationError, InvalidError, StreamError
from ..inprocess import describe, load, save
from ..layout.vmstruct import VMStruct, asdict
from ..process_memory import resident_memory
from ..state.bql import bql_lock_guard
from ..state.cells import BqlCell
from .devices import Drawn, draw, make
from .mutate import (
    LARGEST,
    Mutator,
    Payload,
    held_structs,
    held_values,
    is_ambiguous,
    live_structs,
    mark,
    randomize,
)

__all__ = ["Journal", "drawn_declaration", "main"]

STATES = 4
"""Objects of each declaration, each with a random state of its own."""

MEMORY_LIMIT = 2 << 30
"""Bytes of address space that a stream may make this process take beyond what it has."""

GROWTH_LIMIT = 96 << 20
"""Bytes that one batch may leave resident, and so many copies of the state more."""

COPIES = 256


class Journal:
    """A mapped file: what is being tried outlives the process that tries it.

    ``number`` counts the streams that were begun, ``batch`` is which one this is of.
    """

    _HEAD = struct.Struct("=QQqq")

    def __init__(self, path: Path) -> None:
        size = self._HEAD.size + LARGEST
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def write(self, number: int, batch: int, version: int | None, data: bytes) -> None:
        """Write down what is tried next; ``version`` ``None``: the newest."""
        marked = -2 if version is None else version
        self._HEAD.pack_into(self._map, 0, number, batch, marked, len(data))
        self._map[self._HEAD.size : self._HEAD.size + len(data)] = data

    def read(self) -> tuple[int, int, int | None, bytes]:
        """Return number, batch, version and bytes of the last one."""
        number, batch, version, length = self._HEAD.unpack_from(self._map, 0)
        data = self._map[self._HEAD.size : self._HEAD.size + length]
        return number, batch, None if version == -2 else version, data


def drawn_declaration(seed: str, batch: int) -> Drawn:
    """Return the declaration of a batch."""
    return draw(f"{seed}/{batch}/declaration")


class Finding(Exception):
    """An input that was neither refused as it must be nor taken as it must be."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def _shown(exc: BaseException) -> str:
    notes = "; ".join(getattr(exc, "__notes__", ()))
    return f"{type(exc).__name__}: {exc}{f' ({notes})' if notes else ''}"


class Subject:
    """An object, and whether it keeps to the rules."""

    def __init__(self, obj: Any) -> None:
        self.obj = obj
        self.accepted = 0
        self.rejected = 0
        self.corpus: list[Payload] = []
        self._structs = list(live_structs(obj))
        self._cells: list[BqlCell[Any]] = []
        if isinstance(obj, Device):
            values = (getattr(obj, attribute) for attribute in obj.__parts__)
            self._cells = [value for value in values if isinstance(value, BqlCell)]
        self.keep(save(obj))

    def keep(self, data: bytes) -> None:
        """Remember a stream of the object's own."""
        self.corpus.append(mark(self.obj, data))

    def memory(self) -> list[Any]:
        """Return the live state, byte for byte."""
        found: list[Any] = [bytes(value) for value in self._structs]
        for cell in self._cells:
            # Compared as it lies there, whatever guards it.
            value = cell._value  # noqa: SLF001
            found.append(repr(asdict(value) if isinstance(value, VMStruct) else value))
        # What a state of its own shape took back is the same value, if not the same bytes.
        found += [repr(asdict(value)) for value in held_structs(self.obj)]
        with bql_lock_guard():
            found += [repr(value) for value in held_values(self.obj)]
        return found

    def attempt(self, data: bytes, version: int | None) -> None:
        """Load ``data``; raises ``Finding``."""
        before = self.memory()
        try:
            load(self.obj, data, version)
        except InvalidError as exc:
            self.rejected += 1
            if self.memory() != before:
                raise Finding("changed", f"refused, and changed all the same: {exc}") from exc
            if self.rejected % 64 == 0:
                self._save("after a load that was refused")
            return
        except BaseException as exc:
            raise Finding("exception", f"load() raised {_shown(exc)}") from exc
        self.accepted += 1
        first = self._save("what was loaded")
        try:
            load(self.obj, first)
        except BaseException as exc:
            if isinstance(exc, StreamError) and is_ambiguous(self.obj.Migrated, first):
                return
            text = f"what was loaded saves as {first.hex()}, which is refused: {_shown(exc)}"
            raise Finding("unloadable", text) from exc
        second = self._save("what was loaded a second time")
        if first != second:
            text = f"saves as {first.hex()}, and when that is loaded as {second.hex()}"
            raise Finding("unstable", text)
        if self.accepted % 64 == 0:
            describe(self.obj)
        if len(self.corpus) < 8 and self.accepted % 8 == 0:
            self.keep(second)

    def _save(self, what: str) -> bytes:
        try:
            return save(self.obj)
        except BaseException as exc:
            raise Finding("unsaveable", f"{what} cannot be saved: {_shown(exc)}") from exc


def subjects(drawn: Drawn, rng: random.Random) -> list[Subject]:
    """Objects of a declaration with random states."""
    found = []
    for index in range(STATES):
        obj = make(drawn)
        if index:
            with bql_lock_guard():
                randomize(obj, rng)
        with contextlib.suppress(InvalidError):  # its own validator's
            found.append(Subject(obj))
    return found


def example(name: str) -> Any:
    """Return the object that ``module:attribute`` names, or makes."""
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    return found() if callable(found) else found


class Worker:
    """Batches, one after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.journal = Journal(options.journal)
        self.number = 0

    def run(self) -> None:
        """Run the batches; stops before one when the time is over."""
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
            result["finding"] = {"kind": "exception", "text": _shown(exc)}
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
            return [Subject(example(name))]
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
        if growth > GROWTH_LIMIT + COPIES * size:
            raise Finding("memory", f"{growth >> 20} MiB more than before the batch")
        if os.environ.get("QEMU_VMSTATE_FUZZ_LEAKS"):
            _look_for_leaks()


def _look_for_leaks() -> None:
    """LeakSanitizer's look at what nothing points to; what it finds it writes to stderr."""
    look = getattr(ctypes.CDLL(None), "__lsan_do_recoverable_leak_check")
    if look():
        raise Finding("leak", "LeakSanitizer found memory that nothing points to; see stderr")


def _limit_memory() -> None:
    """Make a wild allocation fail; a sanitizer's own address space is beyond any limit."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if taken < 1 << 40:
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_LIMIT,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the batches that the driver wants."""
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
