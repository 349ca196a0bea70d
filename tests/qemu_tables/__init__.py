# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of QEMU's tests/unit/test-vmstate.c, read from the tree.

They are not repeated here: every expectation comes from the tree that the native parts were built
for.
"""

from __future__ import annotations

import re
from functools import cache

from .. import c_reference

_ARRAY = re.compile(r"\buint8_t(?: const)? (\w+)\[\] = \{(.*?)\};", re.DOTALL)
_FUNCTION = re.compile(r"^(?:static )?(?:void|int) (\w+)\(", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_NAMED = {
    "QEMU_VM_EOF": 0,
    "VMS_NULLPTR_MARKER": 0x30,
    # As 11.1 calls them.
    "VMS_MARKER_PTR_NULL": 0x30,
    "VMS_MARKER_PTR_VALID": 0x31,
}


@cache
def _source() -> str:
    path = c_reference.tree_source() / "tests" / "unit" / "test-vmstate.c"
    return _COMMENT.sub("", path.read_text())


@cache
def wires() -> dict[str, bytes]:
    """Return its byte arrays by name, which is ``function.name`` if local to a function."""
    found: dict[str, bytes] = {}
    starts = [(match.start(), match.group(1)) for match in _FUNCTION.finditer(_source())]
    for match in _ARRAY.finditer(_source()):
        name = match.group(1)
        before = _source()[: match.start()]
        line = before.rpartition("\n")[2]
        if line[:1].isspace():
            name = f"{[function for at, function in starts if at < match.start()][-1]}.{name}"
        words = [word.strip() for word in match.group(2).split(",") if word.strip()]
        assert name not in found
        found[name] = bytes(_NAMED[word] if word in _NAMED else int(word, 0) for word in words)
    return found


def section(name: str) -> bytes:
    """Return one of :func:`wires` without the end-of-file byte."""
    data = wires()[name]
    if "expected" not in name:
        assert data[-1] == 0
        data = data[:-1]
    return data


@cache
def cases() -> list[str]:
    """Return the paths of its test cases."""
    return re.findall(r'g_test_add_func\("([^"]+)"', _source())
