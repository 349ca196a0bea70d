# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of real emulators are read completely, and broken ones are refused with the offset."""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.decoder import Field
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.sections import Section, Stream
from qemu_vmstate.vm.machine import DISK_NODE
from qemu_vmstate.vm.vm import VM, VMLaunchError

from .conftest import DEMO, SCRIPTS, Emulator, StartVM, environment, source_of

FORMATS = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "int32 le": "i",
    "int32 equal": "i",
    "uint8 equal": "B",
    "uint16 equal": "H",
    "uint32 equal": "I",
    "int64 equal": "Q",
    "timer": "q",
    "CPU_Double_U": "Q",
    "bitmap": "Q",
}

PLAIN = ["-m", "16"]
DEVICES = [
    *("-smp", "2", "-device", "e1000", "-device", "virtio-serial-pci", "-device", "virtio-net-pci"),
    *("-device", "nec-usb-xhci", "-device", "usb-kbd", "-device", "virtio-rng-pci"),
    *("-device", "megasas", "-device", "pcnet", "-device", "lsi53c895a", "-device", "rtl8139"),
    *("-device", "ich9-intel-hda", "-device", "sdhci-pci", "-device", "vmxnet3"),
    *("-netdev", "user,id=net", "-device", "ne2k_pci,netdev=net"),
]
MACHINES: dict[str, tuple[str, list[str]]] = {
    "none": ("none", []),
    "pc": ("pc", PLAIN),
    "q35": ("q35", PLAIN),
    "microvm": ("microvm", PLAIN),
    "isapc": ("isapc", PLAIN),
    "devices": ("pc", PLAIN + DEVICES),
    "intel-iommu": ("q35", [*PLAIN, "-device", "intel-iommu"]),
    "virtio-iommu": ("q35", [*PLAIN, "-device", "virtio-iommu-pci"]),
}


def encoded(field: Field) -> bytes:
    """Return the bytes that QEMU writes for a decoded value."""
    if field.type == "subsection":
        assert field.version_id is not None
        head = b"\x05" + bytes([len(field.name)]) + field.name.encode()
        return head + struct.pack(">I", field.version_id) + b"".join(map(encoded, field.children))
    if field.children:
        assert field.type not in ("qtailq", "qlist", "gtree"), "no such list has elements here"
        return b"".join(map(encoded, field.children))
    if field.type == "capability":
        assert isinstance(field.value, str)
        return bytes([len(field.value)]) + field.value.encode()
    if field.type in FORMATS:
        values = field.value if isinstance(field.value, tuple) else (field.value,)
        return struct.pack(f">{len(values)}{FORMATS[field.type]}", *values)
    if field.type == "gtree":
        return bytes(5)
    if field.type in ("qtailq", "qlist"):
        return bytes(1)
    if field.type == "nullptr":
        return b"0"
    if field.type in ("struct", "vstruct", "tmp") and field.value is None:
        return b""
    assert isinstance(field.value, bytes), field
    return field.value


def check(stream: Stream, data: bytes) -> None:
    """Check that the sections cover the file, and that their fields are their payloads."""
    at = 0
    for section in stream:
        assert section.offset == at
        at += section.size
        if section.fields is None:
            continue
        payload = data[section.payload_offset : section.payload_offset + section.payload_size]
        assert b"".join(map(encoded, section.fields)) == payload, section.name
        for field in section.walk():
            assert encoded(field) == data[field.offset : field.offset + field.size], field
    assert at == len(data) == stream.size


@pytest.fixture
def saved(start: StartVM, emulator: Emulator, tmp_path: Path) -> Callable[..., Path]:
    """Return ``saved(machine, *arguments)``, which returns the file of a newly started VM."""

    def save(machine: str, *arguments: str, capabilities: tuple[str, ...] = ()) -> Path:
        file = tmp_path / "vm.mig"
        extra = [*emulator["args"], *arguments]
        with_caps = [{"capability": name, "state": True} for name in capabilities]
        vm = start(machine=machine, extra=extra)
        vm.qmp("migrate-set-capabilities", capabilities=with_caps)
        vm.migrate_to_file(file)
        return file

    return save


def has_machines(emulator: Emulator) -> bool:
    """Return whether it has a PC and firmware; built without devices it has only ``none``."""
    if emulator["name"] not in _HAS_MACHINES:
        options = {"extra": [*emulator["args"], *PLAIN], "env": emulator["env"]}
        try:
            with VM(machine="pc", qemu=emulator["path"], **options):
                _HAS_MACHINES[emulator["name"]] = True
        except VMLaunchError:
            _HAS_MACHINES[emulator["name"]] = False
    return _HAS_MACHINES[emulator["name"]]


_HAS_MACHINES: dict[str, bool] = {}


Saved = Callable[..., Path]


def test_every_machine_is_read_completely(
    saved: Saved, emulator: Emulator, record_property: Any
) -> None:
    for name, (machine, arguments) in MACHINES.items():
        if name != "none" and not has_machines(emulator):
            continue
        file = saved(machine, *arguments)
        stream = read(file)
        check(stream, file.read_bytes())
        assert stream.configuration is not None
        assert machine in stream.configuration.machine
        assert stream.footers
        assert [s.name for s in stream if s.opaque] == []
        devices = [s for s in stream if s.kind == "full"]
        assert stream.description is not None
        named = [(d["name"], d["instance_id"]) for d in stream.description["devices"]]
        assert [(s.name, s.instance_id) for s in devices] == named
        leaves = sum(not f.children for s in devices for f in s.walk())
        record_property(name, f"{len(devices)} devices, {leaves} fields")
        assert (len(devices) >= 2) if name == "none" else (leaves > 200)


def test_entries_of_several_sizes_are_read_by_qemus_script_too(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    file = tmp_path / "table.mig"
    start(script=SCRIPTS / "table.py").migrate_to_file(file)
    stream = read(file)
    check(stream, file.read_bytes())
    section = stream.section("table")
    for index in range(1000):
        assert section.field(f"state.table[{index}].key").value == b"k" * (index % 60)
    (build,) = (
        tree["build"] for tree in environment()["trees"] if tree["version"] == emulator["native"]
    )
    script = source_of(build) / "scripts" / "analyze-migration.py"
    command = [sys.executable, str(script), "-d", "state", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]
    sections = json.loads(done.stdout)
    (printed,) = (found for name, found in sections.items() if name.startswith("table ("))
    assert printed["after"] == "0xaabbccdd"
    table = [entry["key"] for entry in printed["state"]["table"]]
    assert table == [(b"k" * (index % 60)).hex(" ") for index in range(1000)]


def test_the_demos_fields_are_those_of_its_state(
    start: StartVM, saved: Saved, tmp_path: Path
) -> None:
    file = tmp_path / "demo.mig"
    vm = start(script=DEMO)
    vm.python.exec("for number in range(100): dev.step(with_link=number % 7 == 0)")
    vm.migrate_to_file(file)
    wire, _, state = vm.python.eval("state()")
    stream = read(file)
    check(stream, file.read_bytes())
    section = stream.section("pynic")
    assert section.payload_size == len(wire)
    assert b"".join(map(encoded, section.fields or ())) == wire
    assert section.field("serial").value == state["serial"]
    for part in ("regs", "link", "stats"):
        for name, value in state[part].items():
            if name == "history":
                for index, event in enumerate(value):
                    for key, expected in event.items():
                        assert section.field(f"link.history[{index}].{key}").value == expected
                continue
            expected = tuple(value) if isinstance(value, (list, tuple)) else value
            assert section.field(f"{part}.{name}").value == expected
    assert section.field("link.mac").value == bytes.fromhex("525400123456")


def test_known_values(saved: Saved, emulator: Emulator) -> None:
    with_pc = has_machines(emulator)
    machine, arguments = MACHINES["pc" if with_pc else "none"]
    stream = read(saved(machine, *arguments, "-rtc", "base=2001-02-03T04:05:06,clock=vm", "-S"))
    runstate = stream.section("globalstate").field("runstate").value
    assert isinstance(runstate, bytes)
    assert runstate.rstrip(b"\0") in (b"prelaunch", b"paused")
    if not with_pc:
        return
    cpu = stream.section("cpu")
    assert cpu.field("env.eip").value == 0xFFF0
    assert cpu.field("env.segs[1].base").value == 0xFFFF0000
    assert len(as_tuple(cpu.field("env.regs"))) == 16
    cmos = stream.section("mc146818rtc").field("cmos_data").value
    assert isinstance(cmos, bytes)
    # Seconds, minutes, hours, day, month, year in BCD.
    assert [cmos[at] for at in (0, 2, 4, 7, 8, 9)] == [0x06, 0x05, 0x04, 0x03, 0x02, 0x01]
    pages = [s.pages for s in stream if s.pages]
    assert sum(p.normal + p.zero for p in pages) >= (16 << 20) / 4096


def as_tuple(field: Field) -> tuple[Any, ...]:
    assert isinstance(field.value, tuple)
    return field.value


def test_streams_without_some_of_their_parts(saved: Saved, emulator: Emulator) -> None:
    machine, arguments = MACHINES["pc"] if has_machines(emulator) else MACHINES["none"]
    # Paused from the start, because the subsections of a running processor vary.
    arguments = [*arguments, "-S"]
    without_footers = ("-global", "migration.send-section-footer=off")

    file = saved(machine, *arguments, *without_footers)
    stream = read(file)
    check(stream, file.read_bytes())
    assert not stream.footers
    assert not any(section.opaque for section in stream)
    expected = [(s.kind, s.name, s.payload_size) for s in stream if s.kind == "full"]

    file = saved(f"{machine},suppress-vmdesc=on", *arguments)
    stream = read(file)
    check(stream, file.read_bytes())
    assert stream.description is None
    # The sections and sizes are the same, found only by their footers.
    assert [(s.kind, s.name, s.payload_size) for s in stream if s.opaque] == expected

    file = saved(f"{machine},suppress-vmdesc=on", *arguments, *without_footers)
    with pytest.raises(StreamError, match="neither a description nor a footer"):
        read(file)


def test_the_oldest_machine_type_that_describes_itself(
    start: StartVM, saved: Saved, emulator: Emulator
) -> None:
    known = start("asked").qmp("query-machines")
    pcs = [re.fullmatch(r"pc-i440fx-(\d+)\.(\d+)", machine["name"]) for machine in known]
    versions = [(int(pc[1]), int(pc[2])) for pc in pcs if pc]
    oldest = min((version for version in versions if version >= (2, 3)), default=None)
    if not (has_machines(emulator) and oldest):
        return
    file = saved("pc-i440fx-{}.{}".format(*oldest), *PLAIN)
    stream = read(file)
    check(stream, file.read_bytes())
    # Machine types before 2.4 send neither.
    assert (stream.configuration is not None) == (oldest >= (2, 4))
    assert stream.footers == (oldest >= (2, 4))
    assert sum(section.fields is not None for section in stream) > 25


def test_capabilities_change_the_stream(saved: Saved, emulator: Emulator) -> None:
    machine, arguments = MACHINES["pc"] if has_machines(emulator) else MACHINES["none"]
    uuid = ("-uuid", "01234567-89ab-cdef-0123-456789abcdef")
    file = saved(machine, *arguments, *uuid, capabilities=("x-ignore-shared", "validate-uuid"))
    stream = read(file)
    check(stream, file.read_bytes())
    assert stream.configuration is not None
    assert stream.configuration.capabilities == ("x-ignore-shared",)
    assert stream.configuration.uuid == "0123456789abcdef0123456789abcdef"
    if int(emulator["version"].split(".")[0]) >= 9:
        # A guest that does not run has the same memory each time.
        plain = read(saved(machine, *arguments, "-S"))
        file = saved(machine, *arguments, "-S", capabilities=("mapped-ram",))
        stream = read(file)
        check(stream, file.read_bytes())
        assert stream.ram_blocks == plain.ram_blocks
        assert _pages(stream)[0] == _pages(plain)[0]
        assert sum(_pages(stream)) == sum(stream.ram_blocks.values()) // stream.page_size
        devices = [[s.name for s in one if s.kind == "full"] for one in (plain, stream)]
        assert devices[0] == devices[1]
        assert not any(s.opaque for s in stream)


def _pages(stream: Stream) -> tuple[int, int]:
    """Return the number of normal and of zero pages."""
    pages = [section.pages for section in stream if section.pages]
    return sum(p.normal for p in pages), sum(p.zero for p in pages)


def test_dirty_bitmaps_are_passed_over(start: StartVM, emulator: Emulator, tmp_path: Path) -> None:
    vm = start(disk=True)
    for name in ("one", "two"):
        vm.qmp("block-dirty-bitmap-add", node=DISK_NODE, name=name)
    on = [{"capability": "dirty-bitmaps", "state": True}]
    vm.qmp("migrate-set-capabilities", capabilities=on)
    file = tmp_path / "vm.mig"
    vm.migrate_to_file(file)
    stream = read(file)
    check(stream, file.read_bytes())
    sections = [s for s in stream if s.name == "dirty-bitmap"]
    assert sections[0].kind == "start"
    assert sections[-1].kind == "end"
    assert sum(s.payload_size for s in sections) > 20
    data = file.read_bytes()
    assert any(b"\x03two" in data[s.offset : s.offset + s.size] for s in sections)


def test_compressed_pages(saved: Saved, emulator: Emulator) -> None:
    if int(emulator["version"].split(".")[0]) >= 9:
        return  # QEMU 9.1 has removed such pages
    machine, arguments = MACHINES["pc"]
    file = saved(machine, *arguments, capabilities=("compress",))
    stream = read(file)
    check(stream, file.read_bytes())
    assert sum(s.pages.compressed for s in stream if s.pages) > 10


# -------------------------------------------------------------- broken files


@pytest.fixture
def real(start: StartVM, saved: Saved, emulator: Emulator, tmp_path: Path) -> tuple[bytes, Stream]:
    """Return a file to break: that of a PC, or of the demo."""
    if has_machines(emulator):
        file = saved("q35", *PLAIN)
    else:
        file = tmp_path / "demo.mig"
        start(script=DEMO).migrate_to_file(file)
    return file.read_bytes(), read(file)


def read_broken(data: bytes, tmp_path: Path) -> str:
    file = tmp_path / "broken.mig"
    file.write_bytes(data)
    with pytest.raises(StreamError) as caught:
        read(file)
    return caught.value.reason


def test_truncated_files(real: tuple[bytes, Stream], tmp_path: Path) -> None:
    data, stream = real
    rng = random.Random(1)
    end = next(s for s in stream if s.kind == "eof")
    cuts = {section.offset for section in stream} | {s.payload_offset for s in stream}
    cuts |= {rng.randrange(len(data)) for _ in range(60)} | {len(data) - 1}
    for cut in sorted(cuts - {end.offset + 1}):
        message = read_broken(data[:cut], tmp_path)
        assert "cut short" in message or "ends inside" in message, cut
    for section in stream:
        if section.kind in ("full", "eof"):
            message = read_broken(data[: section.offset], tmp_path)
            assert f"the file of {section.offset} bytes is cut short" in message
    # A file that ends before the description is valid without it.
    whole = tmp_path / "whole.mig"
    whole.write_bytes(data[: end.offset + 1])
    sections = read(whole).sections
    assert [s.size for s in sections] == [s.size for s in stream][:-1]


def test_flipped_footers_and_ids(real: tuple[bytes, Stream], tmp_path: Path) -> None:
    data, stream = real
    for section in stream:
        if section.section_id is None:
            continue
        end = section.payload_offset + section.payload_size
        broken = bytearray(data)
        broken[end] ^= 0x80
        message = read_broken(bytes(broken), tmp_path)
        where = f"the section {section.section_id} of {section.name!r} ends at byte {end}"
        assert message.startswith(f"{where}, where 0xfe is instead of a footer")
        broken = bytearray(data)
        broken[end + 4] ^= 0x40
        message = read_broken(bytes(broken), tmp_path)
        assert message == f"{where} with the footer of the section {section.section_id ^ 0x40}"


def test_bytes_too_many_and_too_few_in_a_section(
    real: tuple[bytes, Stream], tmp_path: Path
) -> None:
    data, stream = real
    devices = [s for s in stream if s.kind == "full" and s.payload_size > 1]
    rng = random.Random(2)
    for section in devices:
        inside = section.payload_offset + section.payload_size
        for broken in (data[:inside] + b"\x55" + data[inside:], data[: inside - 1] + data[inside:]):
            message = read_broken(broken, tmp_path)
            assert repr(section.name) in message
            assert "footer" in message
        # At any offset, the result is a stream or a StreamError.
        at = section.payload_offset + rng.randrange(section.payload_size)
        assert section.name in read_broken(data[:at] + data[at + 1 :], tmp_path)


def test_a_renamed_device_is_opaque_and_its_neighbours_are_not(
    real: tuple[bytes, Stream], tmp_path: Path
) -> None:
    data, stream = real
    section: Section = stream.section("timer")
    at = data.index(b"\x05timer", section.offset) + 1
    file = tmp_path / "renamed.mig"
    file.write_bytes(data[:at] + b"TIMER" + data[at + 5 :])
    renamed = read(file)
    assert [s.name for s in renamed if s.opaque] == ["TIMER"]
    assert [s.size for s in renamed] == [s.size for s in stream]
