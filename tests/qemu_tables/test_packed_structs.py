# SPDX-License-Identifier: GPL-2.0-or-later
"""Structs that are packed as a whole are saved, described, loaded and refused as QEMU walks them.

Every declaration of docs/vocabulary.md is a part of a device here, because QEMU itself walks the
fields of a section.  It is compared with the C device of the macro, and with the same device whose
structs QEMU walks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from qemu_vmstate import (
    Array,
    Buffer,
    Device,
    Equal,
    Migratable,
    Mutex,
    Unused,
    VArray,
    VBuffer,
    VMStruct,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)
from qemu_vmstate.bindings.native import ffi
from qemu_vmstate.device.device import staging_of
from qemu_vmstate.inprocess import description_text
from qemu_vmstate.vmsd.description import walked

from .. import c_reference
from . import test_macros
from .test_macros import Spelling, per_loaded, per_struct, row, spelling

__all__ = ["row", "spelling"]  # fixtures

# What has pointers or a form of its own is walked by QEMU, as is what has a predicate.  Of
# VMSTATE_UNUSED_VARRAY_UINT32 a stream says how many bytes to skip.
WALKED = (
    *("OF_POINTER", "BITMAP", "QTAILQ", "QLIST", "GTREE", "WITH_TMP", "VSTRUCT"),
    "UNUSED_VARRAY",
)


def device_of(cls: type[VMStruct]) -> type[Any]:
    """Return a device class with one part of a layout class."""

    class Outer(Device, name="outer"):
        part: Migratable[Mutex[cls]]  # type: ignore[valid-type]

    return Outer


def is_packed(device: Device) -> bool:
    (nested,) = staging_of(device).description.nested
    return bool(nested.packer != ffi.NULL)


@dataclass(frozen=True)
class Outcome:
    """Everything that a load can show: its exception, and what the object saves afterwards."""

    error: str
    memory: bytes
    saved: bytes
    described: str


def outcome(device: Any, data: bytes, version_id: int | None = None) -> Outcome:
    error = ""
    try:
        load(device, data, version_id)
    except Exception as exc:
        error = f"{type(exc).__name__}: {exc} {getattr(exc, '__notes__', '')}"
    memory = bytes(device.part.lock().value)
    return Outcome(error, memory, save(device), description_text(device))


@dataclass
class Pair:
    """Two equal devices: one that is packed, and one whose structs QEMU walks."""

    packed: Any
    walked: Any

    def compare(self, data: bytes) -> Outcome:
        """Load ``data`` into both; return the outcome, which is the same."""
        found = outcome(self.packed, data)
        with walked():
            expected = outcome(self.walked, data)
        assert found == expected, data.hex()
        return found


def pair(make: Callable[[], Device]) -> Pair:
    made = Pair(make(), make())
    assert is_packed(made.packed)
    with walked():
        data, text = save(made.walked), description_text(made.walked)
        assert not any(each.flags == 1 for each in _struct_fields(made.walked))
    assert save(made.packed) == data
    assert description_text(made.packed) == text
    return made


def _struct_fields(device: Device) -> Iterator[Any]:
    fields = staging_of(device).description.cdata.fields
    while fields.name != ffi.NULL:
        if fields.vmsd != ffi.NULL:
            yield fields[0]
        fields += 1


def damaged(data: bytes) -> Iterator[bytes]:
    """Yield every prefix of ``data``, and ``data`` with each byte changed, inserted and removed."""
    for index in range(len(data)):
        yield data[:index]
        for byte in {0, 5, 0xFF, data[index] ^ 1}:
            yield data[:index] + bytes([byte]) + data[index + 1 :]
        yield data[:index] + b"\5" + data[index:]
    yield data + b"\0"


# ----------------------------------------------------------------------------- the vocabulary
def device_of_row(spelling: Spelling, values: dict[str, Any]) -> Any:
    device: Any = device_of(test_macros.declare(spelling))()
    with device.part.lock() as part:
        test_macros.assign(part, values)
    return device


@per_struct
def test_saves_the_bytes_and_the_description_of_c(spelling: Spelling, row: c_reference.Row) -> None:
    data, text = row.reference.save_as_text(test_macros.c_object(row))
    device = device_of_row(spelling, test_macros.python_values(row))
    assert save(device) == data
    part = f'{{"name": "part", "type": "struct", "struct": {text}, "size": {len(data)}}}'
    found = description_text(device)
    assert found == f'{{"vmsd_name": "outer", "version": 1, "fields": [{part}]}}'
    with walked():
        other = device_of_row(spelling, test_macros.python_values(row))
        assert description_text(other) == found


@per_loaded
def test_loads_and_refuses_what_qemu_does(spelling: Spelling, row: c_reference.Row) -> None:
    data, _ = row.reference.save(test_macros.c_object(row))
    values = test_macros.live(row, test_macros.python_values(row))
    both = Pair(device_of_row(spelling, values), device_of_row(spelling, values))
    assert both.compare(data).error == ""
    for stream in damaged(data):
        both.compare(stream)
    by_qemu = "field_exists" in spelling.python or any(word in spelling.macro for word in WALKED)
    assert is_packed(both.packed) is not by_qemu


# ------------------------------------------------------------------------- what looks like a head
class Point(VMStruct, name="pt"):
    a: u8 = 0
    b: u8 = 0
    c: u8 = 0
    d: u8 = 0


class Mixed(VMStruct, name="mix"):
    a: u8 = 0
    b: u16 = 0


class Heads(VMStruct, name="heads"):
    points: Array[Point, Literal[4]]
    one: Point
    mixed: Array[Mixed, Literal[3]]
    n: u8 = 0
    counted: VArray[Mixed, Literal[5]] = field(num="n")
    last: Point


HeadsDevice = device_of(Heads)
HEADS = (b"\5\3pt/", b"\5\2pt", b"\5\4ptpt", b"\5\6mix/xx", b"\5\7heads/x", b"\5\6heads/", b"\5\1p")
HEADS_SIZE = len(save(HeadsDevice()))


def test_a_head_anywhere_is_found_where_qemu_finds_it() -> None:
    errors = set()
    for head in HEADS:
        both = pair(HeadsDevice)
        for at in range(HEADS_SIZE):
            data = bytes(at) + head + bytes(max(0, HEADS_SIZE - at - len(head)))
            errors.add(both.compare(data).error.partition(":")[0])
            both.compare(data[: at + len(head)])
    # Both kinds must have been met, or the test says nothing.
    assert {"", "StreamError"} <= errors


@given(st.binary(min_size=HEADS_SIZE - 4, max_size=HEADS_SIZE + 20), st.data())
@settings(max_examples=300, deadline=None)
def test_random_bytes_with_heads(data: bytes, draw: st.DataObject) -> None:
    both = pair(HeadsDevice)
    stream = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 3))):
        at = draw.draw(st.integers(0, len(stream)))
        stream[at:at] = draw.draw(st.sampled_from(HEADS))
    both.compare(bytes(stream))


# ------------------------------------------------------------------------- the end of the stream
class Before(VMStruct, name="before"):
    number: u32 = 0x01020304


class Numbers(VMStruct, name="numbers"):
    limited: u16 = field(default=2, minimum=2, maximum=9)
    numbers: Array[u16, Literal[170]]


class TwoParts(Device, name="two"):
    before: Migratable[Mutex[Before]]
    part: Migratable[Mutex[Numbers]]


def test_a_stream_that_ends_behind_other_bytes_of_its_buffer() -> None:
    """QEMU moves what is buffered when it looks for more, and there is no more."""
    source: Any = TwoParts()
    with source.part.lock() as part:
        part.numbers = range(1000, 1170)
    data = save(source)
    both = Pair(TwoParts(), TwoParts())
    for length in range(len(data)):
        assert both.compare(data[:length]).error.startswith("StreamError")


# ------------------------------------------------------------------------------------ the JSON
class Gaps(VMStruct, name="gaps", version_id=2):
    before: Unused[Literal[3]]
    number: u32 = 0
    between: Unused[Literal[0x20]]
    count: u8 = 0
    none: VArray[u16, Literal[4]] = field(num="count")
    newest: u8 = field(default=0, version_id=2)


def test_names_that_are_not_the_only_ones_get_a_number() -> None:
    text = description_text(pair(device_of(Gaps)).packed)
    assert re.findall(r'"name": "(\w+(?:\[\d\])?)"', text) == [
        *("part", "unused[0]", "number", "unused[1]", "count", "newest")
    ]


class Fixed(VMStruct, name='fi"xed'):
    point: Point
    points: Array[Point, Literal[2]]
    numbers: Array[u16, Literal[3]]


class AmongOthers(Device, name="outer"):
    before: u8 = 1
    part: Migratable[Mutex[Fixed]]
    after: u8 = 2


def test_the_json_of_a_struct_of_fixed_size_is_the_same_each_time() -> None:
    both = pair(AmongOthers)
    with walked():
        expected = description_text(both.walked)
    assert expected.count('"vmsd_name": "fi\\"xed"') == 1
    # The first time it is written member by member, and then at once.
    assert [description_text(device) for device in (both.packed, AmongOthers())] == 2 * [expected]


# ---------------------------------------------------------------------------------- large structs
class Large(VMStruct, name="large"):
    numbers: Array[u64, Literal[5000]]
    flags: Array[bool, Literal[17000]]
    points: Array[Point, Literal[5000]]
    n: u32 = 6000
    mixed: VArray[Mixed, Literal[6000]] = field(num="n")
    gap: Unused[Literal[70000]]
    size: u32 = 100000
    data: VBuffer[Literal[100000]] = field(size="size")
    fixed: Buffer[Literal[40000]] = zeroed()
    same: Equal[u16] = 7
    limited: u16 = field(default=2, minimum=2, maximum=9)


LargeDevice = device_of(Large)


def large() -> Any:
    device: Any = LargeDevice()
    numbers = random.Random(5)
    with device.part.lock() as part:
        part.numbers = [numbers.getrandbits(64) for _ in range(5000)]
        part.flags = [bool(numbers.getrandbits(1)) for _ in range(17000)]
        part.data, part.fixed = numbers.randbytes(100000), numbers.randbytes(40000)
        for index in range(0, 5000, 7):
            part.points[index] = Point(a=numbers.choice((5, 6)), b=index % 256)
        for index in range(0, 6000, 5):
            part.mixed[index] = Mixed(a=numbers.choice((5, 6)), b=index)
    return device


def test_large_structs() -> None:
    source = large()
    data = save(source)
    both = pair(LargeDevice)
    assert both.compare(data).error == ""
    assert both.packed.part.lock().value == source.part.lock().value
    sizes = [40000, 17000, 20000, 4, 18000, 70000, 4, 100000, 40000, 2, 2]
    edges = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    assert edges[-1] == len(data)
    # Where a window of 16 KiB or QEMU's buffer of 32 KiB begins anew, too.
    cuts = {edge + near for edge in edges for near in (-1, 0)}
    cuts |= {step + near for step in range(16384, len(data), 16384) for near in (0, 1)}
    for cut in sorted(cut for cut in cuts if 0 <= cut < len(data)):
        assert both.compare(data[:cut]).error.startswith("StreamError"), cut
    for edge, byte in ((edges[3], 0xFF), (edges[6], 0xFF), (edges[9], 0xEE), (edges[10], 0xDD)):
        changed = data[:edge] + bytes([byte]) + data[edge + 1 :]
        assert both.compare(changed).error
        # Refused before the stream is found to be short.
        both.compare(changed[: edge + 4])
