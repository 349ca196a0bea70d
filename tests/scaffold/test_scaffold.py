# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules that scaffold writes, from streams written by hand."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import Device, VMStateError, VMStruct, cli, load, save
from qemu_vmstate.scaffold.generator import scaffold
from qemu_vmstate.scaffold.module import ATTRIBUTES
from qemu_vmstate.scaffold.text import class_name
from qemu_vmstate.stream.reader import read

from ..stream.streams import (
    EOF,
    HEADER,
    Parse,
    be32,
    be64,
    counted,
    described,
    described_by,
    entry,
    full,
    list_entry,
    stream_of,
    vmsd,
)

ROOT = Path(__file__).absolute().parents[2]


def imported(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "models"}
    exec(compile(source, "models.py", "exec", dont_inherit=True), names)
    return names


def declared(source: str, cls: str = "Dev") -> str:
    """Return the lines of a class without its docstring."""
    (node,) = (
        one for one in ast.parse(source).body if isinstance(one, ast.ClassDef) and one.name == cls
    )
    assert node.end_lineno is not None
    lines = source.splitlines()[node.body[0].end_lineno or 0 : node.end_lineno]
    return "\n".join(line.removeprefix("    ") for line in lines).strip()


def test_a_complete_module(parse: Parse) -> None:
    inner = vmsd("point", entry("x", "uint8", 1))
    section = stream_of(
        b"\x01\x02\x05" + counted("dev/more") + be32(1) + b"\x03",
        entry("size", "uint8", 1),
        entry("at", "struct", 1, struct=inner),
        subsections=[vmsd("dev/more", entry("y", "bool", 1))],
    )
    assert scaffold(parse(section)) == (
        '''\
"""The devices of a migration file, to start from.

Each class loads and saves its section as it stands there. The stream does not say which
field counts another's elements and how many there can be (VArray, VBuffer: both are
guesses), which version added a field, or when a subsection is needed.
"""

from qemu_vmstate import Device, Subsection, VMStruct, field, u8, zeroed


class Point(VMStruct, name="point"):
    """The struct point."""

    x: u8 = 0


class DevMore(VMStruct, name="dev/more"):
    """The subsection dev/more."""

    y: bool = False


class Dev(Device, name="dev"):
    """The section dev/0: 17 bytes in this stream."""

    size: u8 = 0
    at: Point = zeroed()
    more: Subsection[DevMore] = field(needed=True)


SECTIONS: dict[tuple[str, int], type[Device]] = {
    ("dev", 0): Dev,
}
"""The class of each section, by its name and instance."""
'''
    )


@pytest.mark.parametrize(
    ("type_", "payload", "more", "declaration"),
    [
        ("bool", "01", {}, "f: bool = False"),
        ("uint8", "01", {}, "f: u8 = 0"),
        ("int64", "ffffffffffffffff", {}, "f: i64 = 0"),
        ("timer", "ffffffffffffffff", {}, "f: timer = -1"),
        ("CPU_Double_U", "3ff0000000000000", {}, "f: cpudouble = 0.0"),
        ("uint16", "00010002", {"array_len": 2}, "f: Array[u16, Literal[2]] = zeroed()"),
        ("bool", "0100", {"array_len": 2}, "f: Array[bool, Literal[2]] = zeroed()"),
        ("timer", 32 * "f", {"array_len": 2}, "f: Array[timer, Literal[2]] = field(default=-1)"),
        ("buffer", "616263", {}, "f: Buffer[Literal[3]] = zeroed()"),
        ("bitmap", 16 * "0" + 16 * "f", {}, "f: Bitmap[Literal[128]] = zeroed()"),
        ("unused_buffer", "0000", {}, "f: Unused[Literal[2]] = zeroed()"),
        # Otherwise bytes that are not zero would be lost.
        ("unused_buffer", "0001", {}, "f: Buffer[Literal[2]] = zeroed()"),
        ("uint8 equal", "07", {}, "f: Equal[u8] = 7"),
        ("int32 equal", "fffffffe", {}, "f: Equal[i32] = -2"),
        ("int64 equal", "0000000000000009", {}, "f: Equal[u64] = 9"),
        ("int32 le", "00000005", {}, "f: i32_positive_le = 5"),
        (
            *("uint8 equal", "0702", {"array_len": 2}),
            "f: Array[Equal[u8], Literal[2]] = field(default=[7, 2])",
        ),
        (
            *("nullptr", "303030", {"array_len": 3}),
            "# All are NULL, so the stream does not describe their type.\n"
            "f: PointerArray[u8, Literal[3]] = field(default=[None] * 3)",
        ),
        (
            *("tlb_entry", "010203", {}),
            '# Of the type "tlb_entry", which only its device\'s code understands.\n'
            "f: Buffer[Literal[3]] = zeroed()",
        ),
        (
            *("fpr", "01020304", {"array_len": 2}),
            '# 2 of "fpr", which only its device\'s code understands.\n'
            "f: Buffer[Literal[4]] = zeroed()",
        ),
        ("buffer", "01020304", {"array_len": 2}, "f: Buffer[Literal[4]] = zeroed()"),
        (
            *("struct", "30aa30", {"array_len": 3, "struct": {}}),
            "# The stream does not describe these bytes.\nf: Buffer[Literal[3]] = zeroed()",
        ),
        ("buffer", "", {}, ""),
    ],
)
def test_types(
    parse: Parse, type_: str, payload: str, more: dict[str, Any], declaration: str
) -> None:
    raw = bytes.fromhex(payload)
    size = 1 if more.get("struct") == {} else len(raw) // more.get("array_len", 1)
    source = scaffold(parse(stream_of(raw, entry("f", type_, size, **more))))
    assert declared(source) == declaration
    imported(source)["Dev"]()


def test_structs_of_all_kinds(parse: Parse) -> None:
    inner = vmsd("in", entry("x", "uint8", 1))
    source = scaffold(
        parse(
            stream_of(
                bytes(5),
                entry("t", "tmp", 1) | inner | {"version": 0},
                entry("v", "vstruct", 1) | inner | {"version": 3},
                entry("a", "struct", 1, array_len=2, struct=inner | {"version": 2}),
                entry("e.s", "struct", 1, struct=inner | {"version": 2}),
            )
        )
    )
    assert declared(source).splitlines() == [
        "t: Tmp[In] = zeroed()",
        "v: DevIn = field(struct_version_id=3)",
        "a: Array[DevA, Literal[2]] = zeroed()",
        'e_s: DevA = field(name="e.s")',
    ]
    for cls, version in (("In", 0), ("DevIn", 3), ("DevA", 2)):
        head = f'class {cls}(VMStruct, name="in", version_id={version}, minimum_version_id='
        assert f"{head}{version}):\n" in source


@pytest.mark.parametrize("type_", ["messagepack", "utf8"])
@pytest.mark.parametrize("size_name", ["size_data", "class"])
def test_a_content_after_its_size_is_a_buffer_of_any_length(
    parse: Parse, type_: str, size_name: str
) -> None:
    payload = be32(3) + b"\xa2ab" + b"\7"
    fields = entry(size_name, "uint32", 4), entry("data", type_, 3), entry("end", "uint8", 1)
    source = scaffold(parse(stream_of(payload, *fields)))
    lines = declared(source).splitlines()
    note = " ".join(line.removeprefix("# ") for line in lines[1:-2])
    assert note.startswith("TODO: up to 3 bytes in this stream, which does not say how many")
    assert f'Of the type "{type_}"; a dataclass declares it as ' in note
    size = lines[0].partition(":")[0]
    assert "VBuffer[Literal[16]] = field(" in lines[-2]
    assert f'size="{size}")' in lines[-2]
    device = imported(source)["Dev"]()
    load(device, payload)
    assert save(device) == payload
    other = be32(5) + b"\xa4abcd" + b"\7"
    load(device, other)
    assert save(device) == other


def test_a_content_without_its_size_is_bytes(parse: Parse) -> None:
    for type_, size in (("uint32", 9), ("uint16", 3), ("buffer", 3)):
        width = 2 if type_ == "uint16" else 4
        fields = entry("n", type_, width), entry("data", "messagepack", 3)
        source = scaffold(parse(stream_of(be32(size)[-width:] + b"\xa2ab", *fields)))
        assert "data: Buffer[Literal[3]] = zeroed()" in declared(source)
    source = scaffold(parse(stream_of(b"\xa2ab", entry("data", "messagepack", 3))))
    assert "data: Buffer[Literal[3]] = zeroed()" in declared(source)


def test_an_array_of_structs_with_contents_of_other_sizes(parse: Parse) -> None:
    inner = vmsd("in", entry("n", "uint32", 4), entry("s", "utf8", 1))
    payload = be32(1) + b"a" + be32(0) + be32(2) + b"bc"
    fields = entry("a", "struct", 5, array_len=3, struct=inner)
    source = scaffold(parse(stream_of(payload, fields)))
    assert declared(source) == "a: Array[In, Literal[3]] = zeroed()"
    device = imported(source)["Dev"]()
    load(device, payload)
    assert save(device) == payload


def test_an_array_whose_elements_differ_is_several_fields(parse: Parse) -> None:
    short = vmsd("e", entry("v", "uint8", 1))
    long = vmsd("e", entry("v", "uint8", 1), entry("w", "uint8", 1))
    shapes = [short, short, long, short]
    entries = [entry("s", "struct", 1, index=i, struct=one) for i, one in enumerate(shapes)]
    source = scaffold(parse(stream_of(bytes(5), *entries)))
    assert declared(source).splitlines() == [
        "# Not all elements of s are alike.",
        's_0_2: Array[E, Literal[2]] = field(name="s[0:2]")',
        's_2: DevE = field(name="s[2]")',
        's_3: E = field(name="s[3]")',
    ]


def test_pointers_of_which_some_are_null(parse: Parse) -> None:
    inner = vmsd("e", entry("v", "uint8", 1))
    pointers = [
        entry("p", "nullptr", 1, array_len=2),
        entry("p", "struct", 1, struct=inner),
        entry("p", "nullptr", 1),
    ]
    source = scaffold(parse(stream_of(b"\x30\x30\x07\x30", *pointers)))
    pattern = "[None] * 2 + [E()] + [None]"
    assert declared(source) == f"p: PointerArray[E, Literal[4]] = field(default={pattern})"
    assert list(imported(source)["Dev"]().p)[1] is None


@pytest.mark.parametrize("type_", ["qtailq", "qlist", "gtree"])
def test_lists(parse: Parse, type_: str) -> None:
    names = {"qtailq": "QTailQ[", "qlist": "QList[", "gtree": "GTree[u64, "}

    def body(payload: bytes, *elements: Any) -> str:
        head = '{"devices": [{"name": "dev", "instance_id": 0, "vmsd_name": "dev", "fields": ['
        text = head + list_entry("q", type_, list(elements)) + "]}]}"
        data = HEADER + full("dev", payload) + EOF + described_by(text.encode())
        source = scaffold(parse(data))
        imported(source)
        return declared(source)

    first, other = (vmsd("e", entry(name, "uint8", 1)) for name in ("v", "w"))
    key = [be64(5), be64(6)] if type_ == "gtree" else [b"", b""]
    count = [be32(n) if type_ == "gtree" else b"" for n in range(3)]
    two = b"\1" + key[0] + b"\7\1" + key[1] + b"\7\0"
    assert body(count[2] + two, first, first) == f"q: {names[type_]}E, Literal[16]] = zeroed()"
    assert body(count[0] + b"\0").splitlines() == [
        "# It is empty, so the stream does not describe its elements.",
        f"q: {names[type_]}QElement, Literal[16]] = zeroed()",
    ]
    expected = f'# Of the type "{type_} of elements that differ", which only its device\'s code'
    size = len(count[2] + two)
    found = body(count[2] + two, first, other).splitlines()
    assert found[0] == expected
    assert found[-1] == f"q: Buffer[Literal[{size}]] = zeroed()"


def test_trees_with_keys(parse: Parse) -> None:
    key, value = vmsd("k", entry("low", "uint16", 2)), vmsd("v", entry("x", "uint8", 1))
    head = '{"devices": [{"name": "dev", "instance_id": 0, "vmsd_name": "dev", "fields": ['
    text = head + list_entry("t", "gtree", [key, value]) + "]}]}"
    payload = be32(1) + b"\1\0\5\6\0"
    data = HEADER + full("dev", payload) + EOF + described_by(text.encode())
    assert declared(scaffold(parse(data))) == "t: GTree[K, V, Literal[16]] = zeroed()"


def test_names_that_python_does_not_take(parse: Parse) -> None:
    names = [
        *("env.regs[4]", "class", "2d", "timer", "timer_", "pre_save", "Dev", "__x", "_y", "a-b"),
        *("a.b", "Literal", "\u00fc", ".", "u8", "bool", "zeroed"),
    ]
    source = scaffold(
        parse(stream_of(bytes(len(names)), *(entry(name, "uint8", 1) for name in names)))
    )
    cls = imported(source)["Dev"]
    lines = declared(source).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("env_regs_4", "class_", "n_2d", "timer_", "timer_2", "pre_save_", "Dev_", "x", "y"),
        *("a_b", "a_b_", "Literal_", "field_", "field_2", "u8_", "bool_", "zeroed_"),
    ]
    layout = cls.Migrated.__layout__
    assert [info.name for info in layout.fields] == names


@pytest.mark.parametrize("name", sorted(ATTRIBUTES["Device"] | ATTRIBUTES["VMStruct"]))
def test_a_field_with_the_name_of_a_classs_attribute_gets_another(parse: Parse, name: str) -> None:
    """A device's fields are those of its Migrated, a layout class, too."""
    source = scaffold(parse(stream_of(b"\0", entry(name, "uint8", 1))))
    assert declared(source).startswith(f"{name}_: u8")
    assert imported(source)["Dev"].Migrated.__layout__.fields[0].name == name


@pytest.mark.parametrize("cls", [Device, VMStruct])
def test_names_that_the_classes_have_themselves(cls: type) -> None:
    """A field of such a name would hide the attribute; no name begins with an underscore."""
    own = {name for name in dir(cls) if not name.startswith("_")}
    assert own == ATTRIBUTES[cls.__name__]


def test_equal_classes_are_one_and_others_have_their_own_names(parse: Parse) -> None:
    same = [entry("x", "uint8", 1)]
    other = [entry("x", "uint8", 1), entry("y", "uint8", 1)]
    shapes = {("cpu", 0): same, ("cpu", 1): same, ("cpu", 2): other, ("1:2/cpu", 0): other}
    data = b"".join(
        full(name, bytes(len(fields)), 5, instance) for (name, instance), fields in shapes.items()
    )
    text = described(
        *(
            {"name": name, "instance_id": instance} | vmsd("cpu", *fields)
            for (name, instance), fields in shapes.items()
        )
    )
    source = scaffold(parse(HEADER + data + EOF + text))
    names = imported(source)
    cpu, cpu2 = names["Cpu"], names["Cpu2"]
    assert issubclass(cpu, Device)
    assert list(names["SECTIONS"].items()) == [
        (("cpu", 0), cpu),
        (("cpu", 1), cpu),
        (("cpu", 2), cpu2),
        (("1:2/cpu", 0), cpu2),
    ]
    assert cpu.__doc__ == "The sections cpu/0, cpu/1: 1 bytes in this stream."


def test_a_device_has_its_name_whatever_its_structs_are_called(parse: Parse) -> None:
    inner = vmsd("dev", entry("x", "uint8", 1))
    source = scaffold(parse(stream_of(b"\1", entry("state", "struct", 1, struct=inner))))
    assert declared(source) == "state: DevState = zeroed()"


def test_sections_are_chosen_by_their_names(parse: Parse) -> None:
    nic = {"instance_id": 0} | vmsd("nic", entry("x", "uint8", 1))
    data = (
        HEADER
        + full("0000:00:03.0/nic", b"\1")
        + full("0000:00:04.0/nic", b"\1", 6)
        + full("old", b"abc", 7, instance=1)
        + EOF
        + described(nic | {"name": "0000:00:03.0/nic"}, nic | {"name": "0000:00:04.0/nic"})
    )
    stream = parse(data)

    def sections(name: str | None) -> list[tuple[str, int]]:
        return list(imported(scaffold(stream, name))["SECTIONS"])

    both = [("0000:00:03.0/nic", 0), ("0000:00:04.0/nic", 0)]
    assert sections(None) == [*both, ("old", 1)]
    assert sections("nic") == both
    assert sections("0000:00:04.0/nic") == both[1:]
    assert sections("old/1") == sections("old") == [("old", 1)]
    with pytest.raises(
        VMStateError, match=r"no section of a device 'NIC'; it has 0000:00:03.0/nic, 0000"
    ):
        scaffold(stream, "NIC")
    undescribed = scaffold(stream, "old")
    assert declared(undescribed, "Old").splitlines() == [
        "# The stream does not describe these bytes.",
        "data: Buffer[Literal[3]] = zeroed()",
    ]


def wide(parse: Parse) -> str:
    """Return a module with lines to wrap, names to sort and characters to escape."""
    long = "a_rather_long_name." * 2 + "with_an_end"
    head = [entry(f"has_{long}", "bool", 1), entry("size_key", "uint32", 4)]
    varying = [
        vmsd("varying", *head, entry("key", "buffer", 1)),
        vmsd("varying", *head, entry("key", "buffer", 0), entry(long, "uint8", 1)),
    ]
    inner = vmsd(f'{long}/it\'s "q"', entry(long, "uint32", 4), entry("b", "bool", 1))
    return scaffold(
        parse(
            stream_of(
                b"\0\0\0\0\1k"
                + b"\1\0\0\0\0v"
                + bytes(5 * 9 + 4 + 8 + 8 + 1)
                + b"\x30\x05"
                + counted("dev/x")
                + be32(0)
                + bytes(4),
                entry("varying", "struct", 6, index=0, struct=varying[0]),
                entry("varying", "struct", 6, struct=varying[1]),
                entry(f"{long}.structs", "struct", 5, array_len=9, struct=inner),
                entry(long, "uint32", 4),
                entry("t", "timer", 8),
                entry("d", "CPU_Double_U", 8),
                entry("q", "qtailq", 1),
                entry("n", "nullptr", 1),
                subsections=[vmsd("dev/x", entry("p.q", "int32 le", 4)) | {"version": 0}],
            )
        )
    )


def test_what_is_written_is_formatted_and_linted(parse: Parse, tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    module = tmp_path / "models.py"
    module.write_text(wide(parse))
    rules = "E,F,I,UP,W,B,N801"
    for words in (["format", "--diff"], ["check", "--select", rules]):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", str(module)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_written_is_typed(parse: Parse, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    module = tmp_path / "models.py"
    module.write_text(wide(parse))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml"]
    command.append(str(module))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["True", "true", "None", "False"])
def test_a_struct_of_a_keywords_name_is_a_class_with_an_underscore(name: str) -> None:
    assert class_name(name) == f"{name.capitalize()}_"


NAME = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["True", "none", "class"]),
    st.sampled_from(['"""', "\\", "\n    x = 1 #", "'", "{x}", "\0", "dev/", "a" * 200, "\u2028"]),
)


@given(NAME, NAME, NAME, NAME)
def test_a_hostile_name_is_only_ever_a_name(
    tmp_path_factory: pytest.TempPathFactory, name: str, field: str, type_: str, sub: str
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "vm.mig"
    inner = vmsd(name, entry(field, "uint8", 1), entry(sub, "uint8", 1))
    fields = [entry(field, type_, 2), entry(sub, "struct", 2, struct=inner)]
    payload = 4 * b"\0"
    file.write_bytes(stream_of(payload, *fields))
    try:
        stream = read(file)
    except VMStateError:
        return  # scalar types that have not two bytes
    tree = ast.parse(scaffold(stream))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bases = {"Device", "VMStruct"}
    assert {one.id for one in calls if isinstance(one, ast.Name)} <= {"field", "zeroed"}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            assert next(one.id for one in node.bases if isinstance(one, ast.Name)) in bases
            assert all(isinstance(one, ast.AnnAssign | ast.Expr) for one in node.body)
        else:
            assert isinstance(node, ast.Expr | ast.ImportFrom | ast.AnnAssign)
    cls = imported(scaffold(stream))["Dev"]
    assert all(issubclass(one, VMStruct) for one in [cls.Migrated])


def test_the_command_writes_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vm.mig"
    file.write_bytes(stream_of(b"\1", entry("x", "uint8", 1)))
    assert cli.main(["scaffold", str(file), "--section", "dev"]) == 0
    assert "class Dev(Device" in capsys.readouterr().out
    assert cli.main(["scaffold", str(file), "--section", "nix"]) == 1
    assert "there is no section of a device 'nix'; it has dev" in capsys.readouterr().err
    assert cli.main(["scaffold", str(tmp_path / "none")]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err
