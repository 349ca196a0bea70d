# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration section at the beginning of a migration file, which describes the machine.

Its fields are known here, because QEMU before 9 does not describe them in the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from .decoder import Budget, Decoder, Field
from .source import Source, shown
from .vmdesc import Description

__all__ = ["Configuration", "read_configuration"]

_SUBSECTION = 0x05


@dataclass(frozen=True, slots=True)
class Configuration:
    """The properties of the source machine, with which a destination compares its own."""

    machine: str
    """The name of the machine type, for example ``pc-i440fx-7.2``."""
    target_page_bits: int | None = None
    """The logarithm to base 2 of the target's page size; ``None`` if it is not in the stream."""
    capabilities: tuple[str, ...] = ()
    """The names of the migration capabilities that the destination must have too."""
    uuid: str | None = None
    """The machine's UUID, 32 hexadecimal digits; ``None`` if it is not in the stream."""


def read_configuration(
    source: Source, begin: int, limit: int, budget: Budget
) -> tuple[int, Configuration, tuple[Field, ...]]:
    """Return the end of the configuration, its content and its fields, from payload *begin* on."""
    decoder = Decoder(source, begin, limit, budget)
    length = source.be32(begin, "the configuration")
    fields: list[Description] = [
        {"name": "len", "type": "uint32"},
        {"name": "name", "type": "buffer", "size": length},
    ]
    out = list(decoder.described({"fields": fields}, "configuration"))
    while decoder.at < limit and source.byte(decoder.at, "a section") == _SUBSECTION:
        subsections = [_subsection(source, decoder.at)]
        out.extend(decoder.described({"subsections": subsections}, "configuration"))
    page_bits, capabilities, uuid = None, [], None
    for field in (inner for top in out for inner in top.walk()):
        if field.name == "target_page_bits" and isinstance(field.value, int):
            page_bits = field.value
        elif field.type == "capability" and not field.children:
            capabilities.append(str(field.value))
        elif field.name == "uuid.data" and isinstance(field.value, tuple):
            uuid = bytes(v for v in field.value if isinstance(v, int)).hex()
    machine = shown(source.at(begin + 4, min(length, 1 << 10), "the machine's name"))
    return (
        decoder.at,
        Configuration(machine, page_bits, tuple(capabilities), uuid),
        tuple(out),
    )


def _subsection(source: Source, at: int) -> Description:
    """Return the description of the subsection at *at*."""
    what = "a subsection of the configuration"
    length = source.byte(at + 1, what)
    name = shown(source.at(at + 2, length, what))
    fields: list[Description]
    if name == "configuration/target-page-bits":
        fields = [{"name": "target_page_bits", "type": "uint32"}]
    elif name == "configuration/capabilities":
        count = source.be32(at + 6 + length, f"the subsection {name!r}")
        fields = [{"name": "caps_count", "type": "uint32"}]
        if count:
            fields.append({"name": "capabilities", "array_len": count, "type": "capability"})
    elif name == "configuration/uuid":
        fields = [{"name": "uuid.data", "array_len": 16, "type": "uint8"}]
    else:
        raise source.error(
            f"the configuration has the subsection {name!r} at byte {at}, whose fields are "
            "not known"
        )
    return {"vmsd_name": name, "fields": fields}
