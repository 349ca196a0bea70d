# SPDX-License-Identifier: GPL-2.0-or-later
"""``inspect --json`` shows what is in fields of the types messagepack and utf8."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import StreamError
from qemu_vmstate.stream import replace
from qemu_vmstate.stream.content import CONTENTS, ContentError, Limit
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.show import write_json

from .streams import (
    EOF,
    HEADER,
    Parse,
    be32,
    described,
    device,
    entry,
    full,
    one,
    stream_of,
    vmsd,
)


def shown(file: Path) -> list[dict[str, Any]]:
    """Return the fields of the device ``dev`` as JSON has them."""
    out = io.StringIO()
    write_json(read(file), out)
    sections = json.loads(out.getvalue(), parse_constant=pytest.fail)["sections"]
    fields: list[dict[str, Any]] = next(s["fields"] for s in sections if s["name"] == "dev")
    return fields


def content_of(tmp_path: Path, type_: str, data: bytes) -> dict[str, Any]:
    file = tmp_path / "vm.mig"
    file.write_bytes(
        stream_of(be32(len(data)) + data, entry("n", "uint32", 4), entry("f", type_, len(data)))
    )
    return shown(file)[1]


# The bytes are from the examples and tables of the specification of MessagePack.
@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("82a7636f6d70616374c3a6736368656d6100", {"compact": True, "schema": 0}),
        ("00", 0),
        ("7f", 127),
        ("ff", -1),
        ("e0", -32),
        ("cc80", 128),
        ("cd0100", 256),
        ("ce00010000", 65536),
        ("cfffffffffffffffff", 2**64 - 1),
        ("d0df", -33),
        ("d18000", -(2**15)),
        ("d280000000", -(2**31)),
        ("d38000000000000000", -(2**63)),
        ("c0", None),
        ("c2", False),
        ("ca3fc00000", 1.5),
        ("cb3ff8000000000000", 1.5),
        ("ca7fc00000", {"float": "nan"}),
        ("cbfff0000000000000", {"float": "-inf"}),
        ("a0", ""),
        ("a27ac3", "z\\xc3"),
        ("d90161", "a"),
        ("da000161", "a"),
        ("db0000000161", "a"),
        ("c40100", {"bytes": "00"}),
        ("c500020001", {"bytes": "0001"}),
        ("c600000000", {"bytes": ""}),
        ("93010203", [1, 2, 3]),
        ("dc0001c0", [None]),
        ("dd0000000190", [[]]),
        ("80", {}),
        ("de0001a16101", {"a": 1}),
        ("df0000000101a161", {"map": [[1, "a"]]}),
        ("82a16101a16102", {"map": [["a", 1], ["a", 2]]}),
        ("819101c0", {"map": [[[1], None]]}),
        ("81a3657874c0", {"map": [["ext", None]]}),
        ("82a3657874c0a3746f70c0", {"ext": None, "top": None}),
        ("d40500", {"ext": [5, "00"]}),
        ("d8fd" + 16 * "01", {"ext": [-3, 16 * "01"]}),
        ("c70305010203", {"ext": [5, "010203"]}),
        ("d6ff00000001", {"timestamp": "1970-01-01T00:00:01Z"}),
        ("d7ff0000000400000001", {"timestamp": "1970-01-01T00:00:01.000000001Z"}),
        ("c70cff3b9ac9ffffffffffffffffff", {"timestamp": "1969-12-31T23:59:59.999999999Z"}),
        ("c70cff000000007fffffffffffffff", {"ext": [-1, "000000007fffffffffffffff"]}),
        ("c70cff3b9aca000000000000000000", {"ext": [-1, "3b9aca000000000000000000"]}),
        ("d4ff00", {"ext": [-1, "00"]}),
    ],
)
def test_messagepack_is_shown_as_its_values(tmp_path: Path, data: str, value: object) -> None:
    raw = bytes.fromhex(data)
    assert content_of(tmp_path, "messagepack", raw) == {
        "name": "f",
        "type": "messagepack",
        "offset": 8 + 17 + 4,
        "size": len(raw),
        "value": value,
    }


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=40),
    max_leaves=60,
)


@given(PLAIN)
def test_what_json_has_is_shown_as_it_was_packed(value: object) -> None:
    found = CONTENTS["messagepack"](msgspec.msgpack.encode(value), Limit())
    tags = {"float", "map"}
    if not tags & set(json.dumps(found).split('"')):
        assert found == value


@given(st.binary(max_size=60))  # too few bytes to be nested too deep for us and not for msgspec
def test_any_bytes_are_shown_or_refused(data: bytes) -> None:
    try:
        found = CONTENTS["messagepack"](data, Limit())
    except ContentError:
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
            msgspec.msgpack.decode(data)
        return
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "it ends inside the 1 byte(s) that begin at 0"),
        ("9201", "it ends inside the 1 byte(s) that begin at 2"),
        ("dbffffffff", "it ends inside the 4294967295 byte(s) that begin at 5"),
        ("ddffffffff", "it ends inside the 1 byte(s) that begin at 5"),
        ("c1", "0xc1 at its byte 0 begins no value"),
        ("0102", "1 byte(s) follow the value of 1"),
        (61 * "91" + "c0", "it is nested more than 60 deep"),
    ],
)
def test_what_is_none_is_shown_as_bytes_with_the_reason(
    tmp_path: Path, data: str, reason: str
) -> None:
    found = content_of(tmp_path, "messagepack", bytes.fromhex(data))
    assert found["value"] == data
    assert found["error"] == f"the messagepack is shown as its bytes: {reason}"


def test_utf8_is_shown_as_text_with_escapes_for_other_bytes(tmp_path: Path) -> None:
    found = content_of(tmp_path, "utf8", b"z\xc3\xb6lf\0\xff\xed\xa0\x80")
    assert found["value"] == "zölf\0\\xff\\xed\\xa0\\x80"
    assert "error" not in found


def test_the_values_of_one_file_are_limited(tmp_path: Path) -> None:
    file = tmp_path / "vm.mig"
    half = b"\xdd" + be32(1 << 17) + bytes(1 << 17)
    file.write_bytes(stream_of(3 * half, *(entry(n, "messagepack", len(half)) for n in "abc")))
    first, second, third = shown(file)
    assert first["value"] == [0] * (1 << 17)
    for field in (second, third):
        assert field["value"] == half.hex()
        assert field["error"].endswith("the contents have more than 262144 values")


@pytest.mark.measured
@pytest.mark.parametrize(
    "unit", [b"\x90", b"\xc4\0", b"\x81\xc0\xc0", b"\xd6\xff\0\0\0\0"], ids=bytes.hex
)
def test_hostile_contents_cost_little_time_and_memory(unit: bytes) -> None:
    data = b"\xdd\xff\xff\xff\xff" + unit * ((1 << 24) // len(unit))
    begin = time.process_time()
    with pytest.raises(ContentError, match="more than"):
        CONTENTS["messagepack"](data, Limit())
    assert time.process_time() - begin < 5
    values = 1 << 12
    tracemalloc.start()
    with pytest.raises(ContentError, match="more than"):
        CONTENTS["messagepack"](data, Limit(values))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 512 * values  # bytes, so 128 MiB for all values of a file


# ------------------------------------------------- arrays, of which one element is described


def messages(*contents: bytes) -> bytes:
    return b"".join(be32(len(content)) + content for content in contents)


MESSAGE = vmsd("message", entry("size_data", "uint32", 4), entry("data", "messagepack", 2))


def test_each_struct_of_an_array_has_a_content_of_its_own_size(parse: Parse) -> None:
    payload = messages(b"\x91\1", b"\1", b"\xa3abc") + b"\7"
    section = one(
        parse,
        payload,
        entry("m", "struct", 6, array_len=3, struct=MESSAGE),
        entry("end", "uint8", 1),
    )
    assert [section.field(f"m[{i}].data").value for i in range(3)] == [b"\x91\1", b"\1", b"\xa3abc"]
    assert section.field("end").value == 7


def test_the_description_says_the_size_of_any_other(tmp_path: Path) -> None:
    """A payload that is replaced has to match it, because other readers know nothing else."""
    file, out = tmp_path / "vm.mig", tmp_path / "out.mig"
    fields = (entry("size_data", "uint32", 4), entry("data", "messagepack", 2))
    file.write_bytes(
        HEADER + full("dev", messages(b"\x91\1")) + EOF + described(device("dev", *fields))
    )
    with pytest.raises(StreamError, match="dev"):
        replace(file, out, {("dev", 0): messages(b"\1")})
    replace(file, out, {("dev", 0): messages(b"\x91\2")})
    assert read(out).section("dev").field("data").value == b"\x91\2"
