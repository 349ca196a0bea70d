# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading and saving a migration file's devices with the classes of ``scaffold``.

    report = roundtrip(read("vm.mig"))
    print(report.summary)

QEMU's C code loads each section's payload into a new object of its class and saves it again; the
bytes must be the same.  This shows that Python can represent everything in the stream.
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
from ..stream.source import printable
from .generator import Made, Scaffold, sections_named

__all__ = ["Outcome", "Report", "Result", "roundtrip", "show_roundtrip", "write_roundtrip_json"]

Outcome: TypeAlias = Literal["identical", "differs", "cannot"]


@dataclass(frozen=True)
class Result:
    """The result of one section."""

    section: Section
    outcome: Outcome
    why: str
    """The first difference, or the reason why it cannot be loaded; empty if it is identical."""
    opaque: Counter[str]
    """The number of its bytes that only the device's code understands, by type."""


@dataclass(frozen=True)
class Report:
    """The results of a file's device sections."""

    path: str
    results: tuple[Result, ...]

    @property
    def identical(self) -> int:
        """The number of sections whose bytes are identical."""
        return sum(result.outcome == "identical" for result in self.results)

    @property
    def opaque(self) -> Counter[str]:
        """The number of bytes in all sections that only the device's code understands, by type."""
        return sum((result.opaque for result in self.results), Counter[str]())

    @property
    def size(self) -> int:
        """The number of bytes of all sections."""
        return sum(result.section.payload_size for result in self.results)

    @property
    def summary(self) -> str:
        """One line with the figures of all sections."""
        return (
            f"identical: {self.identical} of {len(self.results)} sections, "
            f"{self.opaque.total()} bytes opaque of {self.size}"
        )


def roundtrip(stream: Stream) -> Report:
    """Load every section of a device and save it again.

    The result of a section has its errors.  Raises ``StreamError`` or OSError if the file has
    changed since it was read.
    """
    sections = sections_named(stream)
    with stream.origin.open() as source:
        results = tuple(
            _tried(made, cls, source.at(made.section.payload_offset, size, made.section.name))
            for made, cls in _classes(sections)
            for size in [made.section.payload_size]
        )
    return Report(stream.path, results)


def _classes(sections: Sequence[Section]) -> Iterator[tuple[Made, Any]]:
    """Yield each section with its class, or with the error that prevents one."""
    complete = Scaffold(sections)
    try:
        module = _imported(complete.text())
    except VMStateError:
        for section in sections:
            alone = Scaffold([section])
            try:
                yield alone.made[0], getattr(_imported(alone.text()), alone.made[0].cls)
            except VMStateError as error:
                yield alone.made[0], error
        return
    for made in complete.made:
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
        obj = cls()
        load(obj, payload, made.section.version_id)
        again = save(obj)
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
    """Write one line for each section, and the summary."""
    for result in report.results:
        section, opaque = result.section, result.opaque.total()
        details = result.why or f"{section.payload_size} bytes"
        if opaque and not result.why:
            details += f", {opaque} opaque ({', '.join(result.opaque)})"
        line = f"{result.outcome:9}  {section.name}/{section.instance_id}: {details}"
        out.write(printable(line) + "\n")
    out.write(report.summary + "\n")


def write_roundtrip_json(report: Report, out: TextIO) -> None:
    """Write one JSON object and a newline."""
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
