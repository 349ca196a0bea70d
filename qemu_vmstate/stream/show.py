# SPDX-License-Identifier: GPL-2.0-or-later
"""Output of a migration file's sections, as a table or as JSON."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO

from ..errors import StreamError
from .content import CONTENTS, ContentError, Limit
from .decoder import Field
from .sections import Section, Stream
from .source import printable

__all__ = ["as_json", "show", "write_json"]

_COLUMNS = ("offset", "size", "kind", "id", "name", "instance", "version", "contents")
_RIGHT = {"offset", "size", "id", "instance", "version"}


def as_json(stream: Stream, error: StreamError | None = None) -> dict[str, Any]:
    """Return all of a stream as values for JSON: bytes are hexadecimal digits, ints are exact.

    Bytes of the types in ``CONTENTS`` are what they contain, or, where they cannot be read as that,
    hexadecimal digits with an ``error``.
    *error* is the one that ended it, if it is only the beginning of one.
    """
    configuration = stream.configuration
    limit = Limit()
    return {
        "path": stream.path,
        "container": stream.origin.container,
        "size": stream.size,
        "page_size": stream.page_size,
        "ram_blocks": dict(stream.ram_blocks),
        "footers": stream.footers,
        "configuration": configuration
        and {**asdict(configuration), "capabilities": list(configuration.capabilities)},
        "like": stream.like,
        "sections": [_section(section, limit) for section in stream],
        "error": error and str(error),
    }


def _section(section: Section, limit: Limit) -> dict[str, Any]:
    return {
        "kind": section.kind,
        "offset": section.offset,
        "size": section.size,
        "payload_offset": section.payload_offset,
        "payload_size": section.payload_size,
        "name": section.name,
        "vmsd_name": section.vmsd_name,
        "section_id": section.section_id,
        "instance_id": section.instance_id,
        "version_id": section.version_id,
        "opaque": section.opaque,
        "pages": section.pages and asdict(section.pages),
        "fields": None if section.fields is None else [_field(f, limit) for f in section.fields],
    }


def _field(field: Field, limit: Limit) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": field.name,
        "type": field.type,
        "offset": field.offset,
        "size": field.size,
    }
    if field.version_id is not None:
        out["version_id"] = field.version_id
    if field.vmsd_name is not None:
        out["vmsd_name"] = field.vmsd_name
    if field.children:
        out["fields"] = [_field(child, limit) for child in field.children]
    elif field.type in CONTENTS and isinstance(field.value, bytes):
        out |= _content(field.type, field.value, limit)
    else:
        out["value"] = _value(field.value)
    return out


def _content(type_: str, data: bytes, limit: Limit) -> dict[str, Any]:
    try:
        return {"value": CONTENTS[type_](data, limit)}
    except ContentError as error:
        return {"value": data.hex(), "error": f"the {type_} is shown as its bytes: {error}"}


def _value(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [_value(one) for one in value] if isinstance(value, tuple) else value


def write_json(stream: Stream, out: TextIO, error: StreamError | None = None) -> None:
    """Write one JSON object and a newline, in pieces."""
    for text in json.JSONEncoder().iterencode(as_json(stream, error)):
        out.write(text)
    out.write("\n")


def show(stream: Stream, out: TextIO) -> None:
    """Write a table of the sections: with ``rich`` if *out* is a terminal, else as plain text."""
    configuration = stream.configuration
    described = "described" if stream.description else "not described"
    if stream.like:
        described = f"decoded like those of {printable(stream.like)}"
    size = f"{stream.size} bytes"
    if stream.end < stream.size:
        size = f"read up to byte {stream.end} of {size}"
    machine = f"machine {printable(configuration.machine)}, " if configuration else ""
    container = f" ({printable(stream.origin.container)})" if stream.origin.container else ""
    out.write(
        f"{printable(stream.path)}{container}: {machine}{size}, "
        f"pages of {stream.page_size} bytes, {len(stream.sections)} sections, devices {described}\n"
    )
    rows = [_row(section) for section in stream]
    if out.isatty() and _show_rich(rows, out):
        return
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in [_COLUMNS, *rows]:
        cells = zip(_COLUMNS, row, widths, strict=True)
        line = "  ".join(
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, cell, width in cells
        )
        out.write(line.rstrip() + "\n")


def _show_rich(rows: list[tuple[str, ...]], out: TextIO) -> bool:
    try:
        console = importlib.import_module("rich.console").Console(file=out)
        table = importlib.import_module("rich.table").Table(box=None, padding=(0, 1))
        text = importlib.import_module("rich.text").Text
    except ImportError:
        return False
    for column in _COLUMNS:
        # On a narrow terminal only these columns are folded; nothing is cut off.
        no_wrap = column not in ("name", "contents")
        justify = "right" if column in _RIGHT else "left"
        table.add_column(column, justify=justify, no_wrap=no_wrap, overflow="fold")
    for row in rows:
        # As Text, because rich reads a name in brackets as markup.
        table.add_row(*map(text, row))
    console.print(table)
    return True


def _row(section: Section) -> tuple[str, ...]:
    numbers = (section.instance_id, section.version_id)
    instance, version = ("" if number is None else str(number) for number in numbers)
    section_id = "" if section.section_id is None else str(section.section_id)
    return (
        str(section.offset),
        str(section.size),
        section.kind,
        section_id,
        printable(section.name),
        instance,
        version,
        "; ".join(_contents(section)),
    )


def _contents(section: Section) -> Iterator[str]:
    if section.pages is not None:
        pages = section.pages
        yield f"pages: {pages.normal} normal, {pages.zero} zero"
        if pages.xbzrle or pages.compressed:
            yield f"{pages.xbzrle} XBZRLE, {pages.compressed} compressed"
    if section.fields is not None:
        yield f"{sum(1 for field in section.walk() if not field.children)} fields"
    if section.opaque:
        yield f"{section.payload_size} bytes, not described"
