# SPDX-License-Identifier: GPL-2.0-or-later
"""C devices for comparison with Python's: C structs, the tree's VMSTATE_* macros, QEMU's code.

They are compiled for the tree that the native parts were built for, with its own
flags, and linked to the same copy of its migration code (libqemu-vmstate.so).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cffi import FFI

from qemu_vmstate.bindings.native import lib as bind_qemu
from qemu_vmstate.natives import chosen
from qemu_vmstate.natives.qemu_build import open_tree

HERE = Path(__file__).parent
SOURCES = ("reference.c", "rows.c", "devices.c", "unit.c")

ffi = FFI()
ffi.cdef(
    "typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; "
    "typedef unsigned long long __u64;" + (HERE / "reference.h").read_text()
)


NATIVE = chosen()
FOLDER = NATIVE.folder


@cache
def compile_words() -> list[str]:
    """Return the compiler and flags of the native parts' own C, for this tree."""
    commands = json.loads((FOLDER / "compile_commands.json").read_text())
    (entry,) = (
        one
        for one in commands
        if one["file"].endswith("cdefs/bridge/qemu.c") and f"bridge-{NATIVE.qemu}." in one["output"]
    )
    words = iter(shlex.split(entry["command"]))
    kept: list[str] = []
    for word in words:
        if word in ("-MQ", "-MF", "-o", "-c"):
            next(words)
        elif word not in ("-MD", "-fvisibility=hidden") and not word.startswith("-O"):
            kept.append(word)
    return kept


@cache
def tree_source() -> Path:
    """Return the source of the QEMU tree that the native parts were built for."""
    options = json.loads((FOLDER / "meson-info" / "intro-buildoptions.json").read_text())
    (builds,) = (one["value"] for one in options if one["name"] == "qemu_build")
    (build,) = (one for one in builds if open_tree(one).version == NATIVE.qemu)
    info = json.loads((Path(build) / "meson-info" / "meson-info.json").read_text())
    return Path(info["directories"]["source"])


@cache
def library() -> Any:
    """Return the C devices, compiled and loaded."""
    bind_qemu()  # first, because it loads and starts the migration code
    with TemporaryDirectory() as made:
        output = Path(made) / "reference.so"
        unit = tree_source() / "tests" / "unit" / "test-vmstate.c"
        done = subprocess.run(
            [
                *compile_words(),
                *("-O0", "-shared", f"-DREFERENCE_UNIT_TEST={json.dumps(str(unit))}"),
                *("-o", str(output)),
                *(str(HERE / name) for name in SOURCES),
                str(NATIVE.library),
                *(f"-Wl,-rpath,{FOLDER}", "-lglib-2.0", "-Wl,-z,defs"),
            ],
            cwd=FOLDER,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return ffi.dlopen(str(output), os.RTLD_NOW | os.RTLD_LOCAL)


def text(pointer: Any) -> str | None:
    """Return a C string without freeing it."""
    if pointer == ffi.NULL:
        return None
    found = ffi.string(pointer)
    assert isinstance(found, bytes)
    return found.decode()


def _take_text(pointer: Any) -> str | None:
    found = text(pointer)
    library().reference_free(pointer)
    return found


class CError(Exception):
    """The return value and the message of a failing C function."""

    def __init__(self, ret: int, message: str | None) -> None:
        super().__init__(ret, message)
        self.ret = ret


@dataclass(frozen=True)
class ReferenceDevice:
    """A C struct of ``type`` and its ``VMStateDescription``."""

    vmsd: Any
    type: str
    version_id: int
    make_c: Any = None

    def save_made(self) -> tuple[bytes, dict[str, Any]]:
        """Save QEMU's own object of a table of its tests, as :meth:`save`."""
        return self.save(self.make_c())

    def make(self, values: Mapping[str, Any]) -> Any:
        """Return a struct with these values; it owns what its pointers point to."""
        made = ffi.new(f"{self.type} *")
        fill(made, values)
        return made

    def save(self, struct: Any, version_id: int | None = None) -> tuple[bytes, dict[str, Any]]:
        """Return QEMU's bytes, and the description that its JSON writer emits."""
        data, text_of_it = self.save_as_text(struct, version_id)
        found: dict[str, Any] = json.loads(text_of_it)
        return data, found

    def save_as_text(self, struct: Any, version_id: int | None = None) -> tuple[bytes, str]:
        """Return the same with the description as text, which preserves repeated keys."""
        version = self.version_id if version_id is None else version_id
        saved = library().reference_save(self.vmsd, struct, version)
        error = _take_text(saved.error)
        data = bytes(ffi.buffer(saved.data, saved.size)) if saved.size else b""
        library().reference_free(saved.data)
        description = _take_text(saved.vmdesc)
        if saved.ret:
            raise CError(saved.ret, error)
        assert description is not None
        return data, description

    def load(self, struct: Any, data: bytes, version_id: int | None = None) -> None:
        """Let QEMU load ``data``, all of it, into the struct."""
        version = self.version_id if version_id is None else version_id
        error = ffi.new("char **")
        ret = library().reference_load(self.vmsd, struct, version, data, len(data), error)
        message = _take_text(error[0])
        if ret:
            raise CError(ret, message)


_owned: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def fill(struct: Any, values: Mapping[str, Any], owner: Any = None) -> None:
    """Set a C struct's members from plain Python values; lists also where it has a pointer."""
    owner = struct if owner is None else owner
    kept = _owned.setdefault(owner, [])
    type_of_struct = ffi.typeof(struct)
    if type_of_struct.kind == "pointer":
        type_of_struct = type_of_struct.item
    members = dict(type_of_struct.fields)
    for name, value in values.items():
        type_ = members[name].type
        if type_.kind == "pointer" and isinstance(value, list | bytes | dict):
            setattr(struct, name, _pointed(type_, value, owner, kept))
        elif type_.kind == "array":
            _fill_array(getattr(struct, name), type_.item, value, owner, kept)
        elif type_.kind == "struct":
            fill(getattr(struct, name), value, owner)
        else:
            setattr(struct, name, value)


def _is_pointer(value: Any) -> bool:
    return bool(ffi.typeof(value).kind == "pointer")


def _pointed(type_: Any, value: Any, owner: Any, kept: list[Any]) -> Any:
    items = [value] if isinstance(value, dict) else list(value)
    made = ffi.new(ffi.getctype(type_.item, "[]"), max(len(items), 1))
    kept.append(made)
    _fill_array(made, type_.item, items, owner, kept)
    return made


def _fill_array(array: Any, item: Any, values: Sequence[Any], owner: Any, kept: list[Any]) -> None:
    for i, value in enumerate(values):
        if value is None:
            array[i] = ffi.NULL
        elif item.kind == "pointer":
            array[i] = _pointed(item, value if isinstance(value, dict) else [value], owner, kept)
        elif item.kind == "array":
            _fill_array(array[i], item.item, value, owner, kept)
        elif item.kind == "struct":
            fill(array[i], value, owner)
        else:
            array[i] = value


def read(struct: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the current values of the members in ``values``, in the same form."""
    return {name: _read(getattr(struct, name), value) for name, value in values.items()}


def _read(found: Any, like: Any) -> Any:
    if like is None:
        return None if found == ffi.NULL else found
    if isinstance(like, dict):
        return read(found, like)
    if isinstance(like, bytes):
        return bytes(found[i] for i in range(len(like)))
    if isinstance(like, list):
        return [_read(found[i], like[i]) for i in range(len(like))]
    if isinstance(found, ffi.CData) and _is_pointer(found):
        found = found[0]
    return bool(found) if isinstance(like, bool) else found


@dataclass(frozen=True)
class Row:
    """A use of a ``VMSTATE_*`` macro: the last field of the description."""

    macro: str
    reference: ReferenceDevice


@cache
def rows() -> dict[str, Row]:
    """Return the use of every macro, by its name."""
    found: dict[str, Row] = {}
    while (row := library().reference_row(len(found))) != ffi.NULL:
        macro, type_ = text(row.macro), text(row.type)
        assert macro is not None
        assert macro not in found
        if type_ is not None:
            assert ffi.sizeof(type_) >= row.size, type_
        reference = ReferenceDevice(library().reference_row_vmsd(len(found)), type_ or "", 3)
        found[macro] = Row(macro, reference)
    return found


def fields(vmsd: Any) -> list[Any]:
    """Return the members of each ``VMStateField`` of any ``VMStateDescription``."""
    pointer = ffi.cast("void *", vmsd)
    found: list[Any] = []
    while (one := library().reference_field(pointer, len(found))).name != ffi.NULL:
        found.append(one)
    return found


@cache
def device(name: str) -> ReferenceDevice:
    """Return the device of that name in devices.c, or QEMU's own in unit.c."""
    i = 0
    while (found := library().reference_device(i)) != ffi.NULL:
        if text(found.name) == name:
            type_ = text(found.type) or ""
            assert not type_ or ffi.sizeof(type_) == found.size, type_
            return ReferenceDevice(found.vmsd, type_, found.version_id, found.make)
        i += 1
    raise LookupError(name)


def header_macros() -> set[str]:
    """Return every ``VMSTATE_*`` macro that the tree's migration/vmstate.h defines."""
    header = (tree_source() / "include" / "migration" / "vmstate.h").read_text()
    return set(re.findall(r"^#\s*define\s+(VMSTATE_\w+)", header, re.MULTILINE))
