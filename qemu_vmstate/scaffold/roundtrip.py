# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration file's devices through QEMU's C code and back, by the classes ``scaffold`` makes.

    report = roundtrip(read("vm.mig"))
    print(report.summary)

Each section's payload is loaded into a fresh object of its class and saved again; the bytes must
be the same.  That shows of a stream that Python has an equivalent of everything in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TextIO, TypeAlias

from ..errors import VMStateError
from ..inprocess import load, save
from ..stream.decoder import Field
from ..stream.sections import Section, Stream
from ..stream.source import Source, printable
from .generator import Made, Scaffold, sections_named

__all__ = ["Outcome", "Report", "Result", "roundtrip", "show_roundtrip", "write_roundtrip_json"]

Outcome: TypeAlias = Literal["identical", "differs", "cannot"]


@dataclass(frozen=True)
class Result:
    """What became of one section."""

    section: Section
    outcome: Outcome
    why: str
    """Where it differs first, or why it cannot be loaded; empty if it is identical."""
    opaque: Counter[str]
    """Its bytes that only its device's code understands, by type."""


@dataclass(frozen=True)
class Report:
    """What became of a file's sections of devices."""

    path: str
    results: tuple[Result, ...]

    @property
    def identical(self) -> int:
        """How many sections came back as they were."""
        return sum(result.outcome == "identical" for result in self.results)

    @property
    def opaque(self) -> Counter[str]:
        """The bytes of all sections that only their device's code understands, by type."""
        return sum((result.opaque for result in self.results), Counter[str]())

    @property
    def size(self) -> int:
        """The bytes of all sections."""
        return sum(result.section.payload_size for result in self.results)

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"identical: {self.identical} of {len(self.results)} sections, "
            f"{self.opaque.total()} bytes opaque of {self.size}"
        )


def roundtrip(stream: Stream) -> Report:
    """Load every section of a device and save it again.

    What goes wrong with a section is in its result.  Raises ``StreamError`` or OSError if the
    file is not there any more as it was read.
    """
    sections = sections_named(stream)
    with Source(stream.path) as source:
        results = tuple(
            _tried(made, cls, source.at(made.section.payload_offset, size, made.section.name))
            for made, cls in _classes(sections)
            for size in [made.section.payload_size]
        )
    return Report(stream.path, results)


def _classes(sections: Sequence[Section]) -> Iterator[tuple[Made, Any]]:
    """Each section with its class, or with the error that there is none."""
    whole = Scaffold(sections)
    try:
        module = _imported(whole.text())
    except VMStateError:
        for section in sections:
            alone = Scaffold([section])
            try:
                yield alone.made[0], getattr(_imported(alone.text()), alone.made[0].cls)
            except VMStateError as error:
                yield alone.made[0], error
        return
    for made in whole.made:
        yield made, getattr(module, made.cls)


def _imported(source: str) -> ModuleType:
    module = ModuleType("scaffold")
    exec(compile(source, "<scaffold>", "exec", dont_inherit=True), vars(module))
    return module


def _tried(made: Made, cls: Any, payload: bytes) -> Result:
    def result(outcome: Outcome, why: str = "") -> Result:
        return Result(made.section, outcome, why, made.opaque)

    if isinstance(cls, VMStateError):
        return result("cannot", str(cls))
    try:
        model = cls()
        load(model, payload, made.section.version_id)
        again = save(model)
    except VMStateError as error:
        return result("cannot", str(error))
    if again == payload:
        return result("identical")
    return result("differs", _difference(made.section, payload, again))


def _difference(section: Section, before: bytes, after: bytes) -> str:
    pairs = enumerate(zip(before, after, strict=False))
    at = next((i for i, (old, new) in pairs if old != new), min(len(before), len(after)))
    offset = section.payload_offset + at
    path = next(_paths(section.fields or (), offset, ""), "")
    where = f"{path} at byte {offset}" if path else f"byte {offset}"
    if at < min(len(before), len(after)):
        return f"{where}: {before[at]:#04x} became {after[at]:#04x}"
    return f"{where}: {len(before)} bytes became {len(after)}"


def _paths(fields: Iterable[Field], offset: int, prefix: str) -> Iterator[str]:
    """Yield the path of the field that has the byte at *offset*, the innermost first."""
    for field in fields:
        if not field.offset <= offset < field.offset + field.size:
            continue
        dot = "" if not prefix or field.name.startswith("[") else "."
        path = f"{prefix}{dot}{field.name}"
        yield from _paths(field.children, offset, path)
        if isinstance(field.value, tuple) and field.value:
            path += f"[{(offset - field.offset) * len(field.value) // field.size}]"
        yield path


def show_roundtrip(report: Report, out: TextIO) -> None:
    """One line for each section, and the summary."""
    for result in report.results:
        section, opaque = result.section, result.opaque.total()
        said = result.why or f"{section.payload_size} bytes"
        if opaque and not result.why:
            said += f", {opaque} opaque ({', '.join(result.opaque)})"
        line = f"{result.outcome:9}  {section.name}/{section.instance_id}: {said}"
        out.write(printable(line) + "\n")
    out.write(report.summary + "\n")


def write_roundtrip_json(report: Report, out: TextIO) -> None:
    """One JSON object and a newline."""
    json.dump(
        {
            "path": report.path,
            "identical": report.identical,
            "sections": len(report.results),
            "opaque": report.opaque.total(),
            "size": report.size,
            "opaque_types": dict(report.opaque.most_common()),
            "results": [
                {
                    "name": result.section.name,
                    "instance_id": result.section.instance_id,
                    "version_id": result.section.version_id,
                    "payload_offset": result.section.payload_offset,
                    "payload_size": result.section.payload_size,
                    "outcome": result.outcome,
                    "why": result.why,
                    "opaque": dict(result.opaque),
                }
                for result in report.results
            ],
        },
        out,
    )
    out.write("\n")
