# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/vocabulary.md has every VMSTATE_* macro of the tree, with a correct declaration.

The declaration is compared with a C device that uses the macro: the bytes and the description that
it saves, the values that it loads, and the members of its VMStateField.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qemu_vmstate import StreamError, VMStateError, VMStruct, describe, load, save
from qemu_vmstate.bindings.native import ffi as native_ffi
from qemu_vmstate.inprocess import description_text
from qemu_vmstate.natives.folders import version_numbers
from qemu_vmstate.vmsd.description import VMStateDescription, walked

from .. import c_reference
from ..pages import blocks, run
from ..release import release

VMS_POINTER, VMS_ARRAY, VMS_STRUCT, VMS_VARRAY_UINT32 = 0x2, 0x4, 0x8, 0x800
VMS_MUST_EXIST, VMS_ALLOC, VMS_MULTIPLY_ELEMENTS = 0x1000, 0x2000, 0x4000
# Here every value is in the struct itself: there is no pointer and no allocation.
NOT_INLINE = VMS_POINTER | VMS_ALLOC
FLAGS = {
    # QEMU's macro reads the uint32_t as an int32_t, without a type check.
    "VMSTATE_STRUCT_VARRAY_POINTER_UINT32": VMS_STRUCT | VMS_VARRAY_UINT32,
    "VMSTATE_TIMER_PTR_ARRAY": VMS_ARRAY,
}

PAGE = Path(__file__).resolve().parents[2] / "docs" / "vocabulary.md"
ROW = re.compile(
    r"^\| `(VMSTATE_\w+)` \| (?:`([^`]+)`)? ?\| ([^|]*) \| ([^|]*?) ?\|$", re.MULTILINE
)


@dataclass(frozen=True)
class Spelling:
    """A row of the table."""

    macro: str
    python: str
    versions: str
    note: str

    @property
    def here(self) -> bool:
        """Return whether the row is for the version that the native parts were built for."""
        if self.versions == "all":
            return True
        word, limit = self.versions.split()
        of_row = version_numbers(limit)
        return {"from": of_row <= release(), "to": release() <= of_row}[word]


def spellings() -> dict[str, Spelling]:
    found = [Spelling(*row) for row in ROW.findall(PAGE.read_text())]
    assert len({one.macro for one in found}) == len(found)
    return {one.macro: one for one in found}


def in_python() -> list[str]:
    """Return the macros of this version that have a declaration in Python."""
    return [one.macro for one in spellings().values() if one.python and one.here]


@cache
def vocabulary() -> ModuleType:
    return run(PAGE.name, blocks(PAGE, "python table"))


def declare(spelling: Spelling) -> type[VMStruct]:
    """Return the class with the row's declaration."""
    body = textwrap.indent(spelling.python.replace("; ", "\n"), "    ")
    namespace = dict(vars(vocabulary()))
    versions = "version_id=3, minimum_version_id=1"
    source = f'class S(VMStruct, name="s", {versions}):\n{body}\n'
    exec(compile(source, str(PAGE), "exec", dont_inherit=True), namespace)
    made: type[VMStruct] = namespace["S"]
    return made


# --------------------------------------------------------------------------- what is in them
def pair(n: int) -> dict[str, int]:
    return {"x": n, "y": n * 0x01010101}


PAIRS = [pair(n) for n in range(1, 5)]
VALUES: dict[str, dict[str, Any]] = {
    "Bool": {"a": True},
    **{
        f"{s}{n}": {"a": 2 ** (n - 1) - 0x12} for n in (8, 16, 32, 64) for s in ("I", "U", "LinuxU")
    },
    "Bools": {"a": [True, False, True, True, True, False, False, True]},
    **{
        f"{s}{n}s": {"a": [2 ** (n - 1) - 1 - i for i in range(8)]}
        for n in (8, 16, 32, 64)
        for s in "IU"
    },
    **{f"U{n}Grid": {"a": [[1, 2, 3], [2**n - 1, 5, 6]]} for n in (8, 16, 32, 64)},
    "Doubles": {"a": [1.5, -2.25e300, 5e-324]},
    "Nested": {"a": pair(1)},
    "NestedPointer": {"a": pair(1)},
    "Pairs": {"a": PAIRS},
    "PairGrid": {"a": [[pair(1), pair(2), pair(3)], [pair(4), pair(5), pair(6)]]},
    "PairPointers": {"a": [pair(1), None, None, pair(4)]},
    "PairsKnown": {"a": PAIRS},
    **{f"Pairs{n}": {"n": 3, "a": PAIRS[:3]} for n in ("U8", "I32", "U32")},
    **{f"PairsPointer{n}": {"n": 3, "a": PAIRS[:3]} for n in ("U16", "I32", "U32")},
    "U16Pointer": {"a": [0xABCD]},
    "U16Pointers": {"a": [1, None, 0xFFFF, 4]},
    "U16PointersU32": {"n": 3, "a": [None, 7, None]},
    **{f"U16sInline{n}": {"n": 4, "a": [1, 2, 3, 0xFFFF]} for n in ("I32", "U16")},
    "U16sInlineU32": {"n": 2, "a": [1, 2, 3, 0xFFFF]},  # twice n, by VMS_MULTIPLY_ELEMENTS
    **{f"U16s{n}": {"n": 4, "a": [1, 2, 3, 0xFFFF]} for n in ("I32", "U16", "U32")},
    "BytesPointer": {"a": b"12345678"},
    **{f"Bytes{n}": {"n": 5, "a": b"\0\1hi\xff"} for n in ("I32", "U32", "U64")},
    "Bits": {"n": 70, "a": [2**64 - 2, 0x15]},
    "Count": {"n": 3},
}
LISTED = {1: pair(2), 3: pair(4), 2**40: pair(6)}


def c_values(row: c_reference.Row) -> dict[str, Any]:
    values = VALUES[row.reference.type]
    if "WITH_TMP" in row.macro:
        return {"a": 0x2468}
    if row.macro == "VMSTATE_VBUFFER_MULTIPLY":  # twice n
        return {"n": 2, "a": values["a"][:4]}
    return values


def c_object(row: c_reference.Row) -> Any:
    """Return a C struct with values; a list or a tree has LISTED in it."""
    if row.reference.type in ("List", "Tree"):
        made = row.reference.make({})
        lib = c_reference.library()
        for key, value in LISTED.items():
            pair_value = c_reference.ffi.new("Pair *", value)[0]
            if row.macro == "VMSTATE_QTAILQ_V":
                lib.reference_qtailq_append(made, pair_value)
            elif row.macro == "VMSTATE_QLIST_V":
                lib.reference_qlist_append(made, pair_value)
            elif row.macro == "VMSTATE_GTREE_V":
                key_value = c_reference.ffi.new("Pair *", {"x": 5, "y": key % 2**32})[0]
                lib.reference_tree_insert_pair(made, key_value, pair_value)
            else:
                lib.reference_tree_insert(made, key, pair_value)
        return made
    return row.reference.make(c_values(row))


def python_values(row: c_reference.Row) -> dict[str, Any]:
    """Return the same values in the form of the Python class."""
    if "Q" in row.macro and row.reference.type == "List":
        return {"a": list(LISTED.values())}
    if row.macro == "VMSTATE_GTREE_V":
        return {"a": {(5, key % 2**32): value for key, value in LISTED.items()}}
    if row.reference.type == "Tree":
        return {"a": LISTED}
    values = c_values(row)
    if "WITH_TMP" in row.macro:
        return {"tmp": {"half": values["a"] // 2}}
    if row.reference.type == "U16Pointer":
        return {"a": values["a"][0]}
    return values


def assign(obj: Any, values: Mapping[str, Any]) -> None:
    """Set attributes from plain values, which may contain ``None`` and pairs."""
    for name, value in values.items():
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            assign(getattr(obj, name), value)
        elif isinstance(value, list) and value and isinstance(value[0], list):
            for i, line in enumerate(value):
                getattr(obj, name)[i] = [_element(one) for one in line]
        elif isinstance(value, list):
            setattr(obj, name, [_element(one) for one in value])
        elif isinstance(value, dict):
            setattr(obj, name, {key: _element(one) for key, one in value.items()})
        else:
            setattr(obj, name, value)


def _element(value: Any) -> Any:
    return vocabulary().Pair(**value) if isinstance(value, dict) else value


def read(obj: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the current values of the attributes in ``values``, as plain values."""
    return {name: _plain(getattr(obj, name), value) for name, value in values.items()}


def _plain(found: Any, like: Any) -> Any:
    if found is None or isinstance(found, bool | int | float):
        return found
    if isinstance(like, bytes):
        return bytes(found)
    if isinstance(like, dict) and all(isinstance(key, str) for key in like):
        return read(found, like)
    if isinstance(like, dict):
        return {key: _plain(one, PAIRS[0]) for key, one in found.items()}
    return [_plain(one, like[0] or PAIRS[0]) for one in found]


def blank(value: Any) -> Any:
    """Return ``value`` with zeros for all numbers; what is NULL in it remains NULL."""
    if isinstance(value, list):
        return [blank(one) for one in value]
    if isinstance(value, dict):
        return {key: blank(one) for key, one in value.items()}
    return None if value is None else type(value)(len(value) if isinstance(value, bytes) else 0)


def live(row: c_reference.Row, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the object before the load."""
    compared = ("_EQUAL", "POSITIVE_LE", "SINGLE_FULL")
    return values if any(word in row.macro for word in compared) else blank(values)


def python_object(spelling: Spelling, values: Mapping[str, Any]) -> Any:
    obj = declare(spelling)()
    assign(obj, values)
    return obj


# -------------------------------------------------------------------------------- the tests
def test_every_macro_of_the_header_is_in_the_table() -> None:
    listed = {macro for macro, spelling in spellings().items() if spelling.here}
    assert c_reference.header_macros() - listed == set()
    assert listed - c_reference.header_macros() == set()


def test_what_has_no_python_has_a_reason() -> None:
    for spelling in spellings().values():
        assert spelling.python or len(spelling.note) > 10, spelling.macro


def test_every_macro_with_a_python_is_compared_with_c() -> None:
    assert set(in_python()) == set(c_reference.rows())


@pytest.fixture
def spelling(request: pytest.FixtureRequest) -> Spelling:
    return spellings()[request.param]


@pytest.fixture
def row(spelling: Spelling) -> c_reference.Row:
    return c_reference.rows()[spelling.macro]


per_macro = pytest.mark.parametrize("spelling", in_python(), indirect=True)
# In C a timer needs a main loop: only the field and the 64 bits on the wire are compared.
per_struct = pytest.mark.parametrize(
    "spelling", [one for one in in_python() if "_TIMER" not in one], indirect=True
)
# 11.1 cannot load into an array with None.
per_loaded = pytest.mark.parametrize(
    "spelling",
    [
        one
        for one in in_python()
        if "_TIMER" not in one and ("OF_POINTER" not in one or release() < (11, 1))
    ],
    indirect=True,
)
per_timer = pytest.mark.parametrize(
    "spelling", [one for one in in_python() if "_TIMER" in one], indirect=True
)


# The members of a VMStateField that affect the stream and its description.
MEMBERS = ("name", "info", "vmsd", "version_id", "struct_version_id", "tested")


@per_macro
def test_field_is_as_the_macro_fills_it(spelling: Spelling, row: c_reference.Row) -> None:
    with walked():
        description = VMStateDescription(declare(spelling), "s", 3, 1)
    found = c_reference.fields(int(native_ffi.cast("uintptr_t", description.cdata)))
    expected = c_reference.fields(row.reference.vmsd)
    if spelling.macro == "VMSTATE_VALIDATE":
        assert expected.pop().flags & VMS_MUST_EXIST
    assert len(found) == len(expected)
    for mine, its in zip(found, expected, strict=True):
        for member in MEMBERS:
            mine_is, its_is = (getattr(field, member) for field in (mine, its))
            if isinstance(mine_is, int):
                assert mine_is == its_is, member
            else:
                assert c_reference.text(mine_is) == c_reference.text(its_is), member
        flags = its.flags & ~NOT_INLINE
        if its is expected[-1]:
            flags = FLAGS.get(spelling.macro, flags)
        assert mine.flags == flags
        if mine.flags & (VMS_ARRAY | VMS_MULTIPLY_ELEMENTS):
            assert mine.num == its.num
        if its.err_hint != c_reference.ffi.NULL:
            assert c_reference.text(mine.err_hint) == c_reference.text(its.err_hint)


@per_struct
def test_bytes_and_description_are_as_c_has_them(spelling: Spelling, row: c_reference.Row) -> None:
    data, description = row.reference.save(c_object(row))
    obj = python_object(spelling, python_values(row))
    assert save(obj) == data
    assert describe(obj) == description
    assert description_text(obj) == row.reference.save_as_text(c_object(row))[1]


@per_loaded
def test_loads_what_c_saved(spelling: Spelling, row: c_reference.Row) -> None:
    data, _ = row.reference.save(c_object(row))
    values = python_values(row)
    obj = python_object(spelling, live(row, values))
    load(obj, data)
    assert save(obj) == data
    if row.reference.type in ("List", "Tree"):
        assert read(obj, values) == values
        return
    loaded = row.reference.make(live(row, c_values(row)))
    row.reference.load(loaded, data)
    expected = c_reference.read(loaded, c_values(row))
    if "WITH_TMP" in row.macro:
        expected = {"tmp": {"half": expected["a"] // 2}}
    elif row.reference.type == "U16Pointer":
        expected = {"a": expected["a"][0]}
    assert read(obj, values) == expected


@per_loaded
def test_refuses_what_c_refuses(spelling: Spelling, row: c_reference.Row) -> None:
    """Both refuse every proper prefix of the data, and Python's object does not change."""
    data, _ = row.reference.save(c_object(row))
    obj = python_object(spelling, live(row, python_values(row)))
    before = bytes(obj)
    for length in range(len(data)):
        if row.reference.type not in ("List", "Tree"):
            with pytest.raises(c_reference.CError):
                row.reference.load(row.reference.make(live(row, c_values(row))), data[:length])
        # A tree's keys may be equal only because the last one is incomplete.
        with pytest.raises(
            StreamError, match=f"the stream of {length} bytes ends (inside s.|early)"
        ):
            load(obj, data[:length])
        assert bytes(obj) == before


@per_loaded
def test_is_there_since_the_version_that_c_has_it_since(
    spelling: Spelling, row: c_reference.Row
) -> None:
    old, _ = row.reference.save(c_object(row), version_id=1)
    obj = python_object(spelling, live(row, python_values(row)))
    load(obj, old, version_id=1)
    with pytest.raises(VMStateError):
        load(obj, old + b"\0", version_id=1)


@per_timer
def test_timers_are_their_expiry(spelling: Spelling) -> None:
    times = [1, -1, 2**40] if "ARRAY" in spelling.macro else [-1]
    wire = b"".join(time.to_bytes(8, "big", signed=True) for time in times)
    obj = python_object(spelling, {"a": times if len(times) > 1 else times[0]})
    assert save(obj) == wire
    assert [one["type"] for one in describe(obj)["fields"]] == ["timer"]
    loaded = declare(spelling)()
    load(loaded, wire)
    assert bytes(loaded) == bytes(obj)
