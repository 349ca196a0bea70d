# SPDX-License-Identifier: GPL-2.0-or-later
"""Real streams that lie in volumes, have holes, end early, or need the layouts of another."""

from __future__ import annotations

import contextlib
import filecmp
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qemu_vmstate import describe, save
from qemu_vmstate.errors import StreamError
from qemu_vmstate.scaffold.generator import scaffold
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.replace import replace
from qemu_vmstate.stream.sections import Stream
from qemu_vmstate.vm.vm import VM

from ..conftest import PATIENCE
from .conftest import SCRIPTS, Emulator, StartVM, enable, environment, runs_guests
from .scripts.early_list import EarlyList, Leaf
from .test_stream_vm import PLAIN, check

EARLY = SCRIPTS / "early_list.py"
NO_FOOTERS = ("-global", "migration.send-section-footer=off")
NO_CONFIGURATION = ("-global", "migration.send-configuration=off")
HUGE = 2 << 20


def machine_of(emulator: Emulator) -> tuple[str, list[str]]:
    return ("pc", PLAIN) if runs_guests(emulator["path"]) else ("none", [])


def saved(start: StartVM, emulator: Emulator, file: Path, machine: str, *extra: str) -> Stream:
    """Return the stream of a paused machine."""
    vm = start(file.name, machine=machine, extra=[*emulator["args"], *extra], paused=True)
    vm.migrate_to_file(file)
    return read(file)


# ------------------------------------------------------------------- volumes


def test_a_stream_at_the_start_of_a_volume(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    machine, extra = machine_of(emulator)
    plain = saved(start, emulator, tmp_path / "vm.mig", machine, *extra)
    data = Path(plain.path).read_bytes()
    volume, out = tmp_path / "volume", tmp_path / "out"
    name = "mc146818rtc" if machine == "pc" else "timer"
    for rest in (b"what lay here before \0\x06\0\0\0\x09{", data, bytes(100 << 20)):
        volume.write_bytes(data + rest)
        stream = read(volume)
        assert stream.sections[:-1] == plain.sections
        assert stream.sections[-1].kind == "trailing"
        check_fields(stream)
        assert scaffold(stream) == scaffold(plain)
        with pytest.raises(StreamError, match="cannot have these 5 bytes"):
            replace(volume, out, {(name, 0): bytes(5)})
        payload = stream.payload(name)
        changed = payload[:-1] + bytes([payload[-1] ^ 1])
        replace(volume, out, {(name, 0): changed})
        assert out.read_bytes()[len(data) :] == rest
        assert read(out).payload(name) == changed
        replace(out, out, {(name, 0): payload})
        there = start(
            *("there",), machine=machine, extra=[*emulator["args"], *extra], incoming=True
        )
        there.load_from_file(out)
        there.quit()
    without = saved(start, emulator, tmp_path / "bare", f"{machine},suppress-vmdesc=on", *extra)
    volume.write_bytes(Path(without.path).read_bytes() + data)
    stream = read(volume)
    assert stream.sections[:-1] == without.sections
    assert [s.payload_size for s in stream if s.opaque] == [
        s.payload_size for s in plain if s.kind == "full"
    ]
    size = stream.section(name).payload_size
    with pytest.raises(StreamError, match=f"only other {size} bytes can take the place"):
        replace(volume, out, {(name, 0): bytes(size + 1)})


def check_fields(stream: Stream) -> None:
    data = Path(stream.path).read_bytes()
    assert [s.name for s in stream if s.opaque] == []
    check(stream, data)


# ------------------------------------------------------------ other layouts


def test_machines_that_write_neither_footers_nor_descriptions(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    machine, extra = machine_of(emulator)
    file, like = tmp_path / "old", tmp_path / "like"
    names = {one["name"] for one in start("asked").qmp("query-machines")}
    if "pc-i440fx-2.2" in names:
        machine = "pc-i440fx-2.2"
        old, new, off = machine, f"{machine},suppress-vmdesc=off", []
    else:
        old, new, off = f"{machine},suppress-vmdesc=on", machine, [*NO_FOOTERS, *NO_CONFIGURATION]
    with pytest.raises(StreamError, match="neither a description nor a footer") as caught:
        saved(start, emulator, file, old, *extra, *off)
    partial = caught.value.partial
    assert {s.kind for s in partial} >= {"header", "start", "end"}
    whole = saved(start, emulator, like, new, *extra)
    stream = read(file, like=like)
    check(stream, file.read_bytes())
    assert not stream.footers
    assert stream.configuration is None
    assert [s.name for s in stream if s.opaque] == []
    assert fields_of(stream) == fields_of(whole)
    assert stream.ram_blocks == whole.ram_blocks
    if machine == "none":
        return
    broken = tmp_path / "broken"
    at = stream.section("mc146818rtc").payload_offset
    broken.write_bytes(file.read_bytes()[: at + 9] + file.read_bytes()[at + 10 :])
    with pytest.raises(StreamError, match=rf"the layout of '.*' .* in {like} does not fit"):
        read(broken, like=like)
    # A machine with one device more.
    more = ("-device", "e1000,id=more")
    with pytest.raises(StreamError, match="neither a description nor a footer"):
        saved(start, emulator, broken, old, *extra, *off, *more)
    with pytest.raises(StreamError, match=rf"e1000' .* nor a description, .* or in {like}"):
        read(broken, like=like)
    saved(start, emulator, like, new, *extra, *more)
    assert any(s.vmsd_name == "e1000" and s.fields for s in read(broken, like=like))


def fields_of(stream: Stream) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """Return each device's fields, without values, which depend on the time."""
    return [
        (s.name, [(f.name, f.type, f.size) for f in s.walk()]) for s in stream if s.kind == "full"
    ]


@pytest.mark.one_emulator
def test_the_oldest_pseries(emulator: Emulator, tmp_path: Path) -> None:
    found = {one["name"]: one for one in environment().get("targets", [])}
    assert "ppc64" in found, "run scripts/setup"
    target = found["ppc64"]
    extra = [*target["args"], "-m", "256", "-nodefaults"]
    for name, machine in (("old", "pseries-2.1"), ("like", "pseries-2.1,suppress-vmdesc=off")):
        vm = VM(machine=machine, qemu=target["path"], extra=extra, timeout=PATIENCE, paused=True)
        with vm:
            vm.migrate_to_file(tmp_path / name)
    with pytest.raises(StreamError, match="neither a description nor a footer"):
        read(tmp_path / "old")
    stream, whole = read(tmp_path / "old", like=tmp_path / "like"), read(tmp_path / "like")
    assert fields_of(stream) == fields_of(whole)
    assert stream.section("cpu").fields


def test_a_file_that_is_cut_short_shows_what_it_has(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    machine, extra = machine_of(emulator)
    whole = saved(start, emulator, tmp_path / "vm.mig", machine, *extra)
    data = Path(whole.path).read_bytes()
    file = tmp_path / "cut.mig"
    for count, section in enumerate(whole.sections):
        if count < 2 or section.kind == "description":
            continue
        file.write_bytes(data[: section.offset + section.size // 2])
        with pytest.raises(StreamError) as caught:
            read(file)
        partial = caught.value.partial
        sizes = [(s.kind, s.name, s.offset, s.size) for s in whole]
        assert [(s.kind, s.name, s.offset, s.size) for s in partial] == sizes[:count]
        with pytest.raises(StreamError) as caught:
            read(file, like=whole)
        assert caught.value.partial.sections == whole.sections[:count]


# ---------------------------------------------------------------- huge pages


@contextlib.contextmanager
def huge_pages(count: int) -> Iterator[bool]:
    """Have so many huge pages, if the kernel and its administrator allow it."""
    folder = Path(f"/sys/kernel/mm/hugepages/hugepages-{HUGE >> 10}kB")
    number = folder / "nr_hugepages"
    if not folder.exists() or not os.access(number, os.W_OK):
        yield False
        return
    before = int(number.read_text())
    free = int((folder / "free_hugepages").read_text())
    try:
        number.write_text(str(before + max(0, count - free)))
        yield int((folder / "free_hugepages").read_text()) >= count
    except OSError:
        yield False
    finally:
        with contextlib.suppress(OSError):
            number.write_text(str(before))


def captured(vm: VM, file: Path) -> Stream:
    """Return the stream that a VM with a return path sends, to a peer that only confirms it."""
    path = file.with_suffix(".socket")
    shut = b"\0\1\0\4" + bytes(4)  # MIG_RP_MSG_SHUT: all has arrived
    with socket.socket(socket.AF_UNIX) as listener, file.open("wb") as out:
        listener.settimeout(PATIENCE)
        listener.bind(str(path))
        listener.listen()
        vm.migrate(f"unix:{path}")
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            end = b""
            while data := peer.recv(1 << 20):
                out.write(data)
                end = (end + data)[-4:]
                if end.endswith(b"}]}"):
                    peer.sendall(shut)
                    shut = b""
    vm.wait_migration()
    return read(file)


def test_a_postcopys_blocks_of_huge_pages(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    machine, _ = machine_of(emulator)

    def vm_with(name: str, memory: str) -> VM:
        backend = f"memory-backend-memfd,id=memory,size=16M{memory}"
        extra = ["-m", "16", "-object", backend, "-machine", "memory-backend=memory"]
        vm = start(name, machine=machine, extra=[*emulator["args"], *extra], paused=True)
        enable(vm, "postcopy-ram")
        return vm

    plain = captured(vm_with("small", ""), tmp_path / "small.mig")
    assert plain.ram_blocks["memory"] == 16 << 20
    # What ram_save_setup() writes for such a block: the page size behind the length.
    data = Path(plain.path).read_bytes()
    at = data.index(b"\x06memory" + (16 << 20).to_bytes(8)) + 15
    advise = next(s for s in plain if s.name == "POSTCOPY_ADVISE").payload_offset
    sizes = (0x1000).to_bytes(8)
    assert data[advise : advise + 8] == sizes
    # The host's own page size is that of other blocks; without any, that of the machine is all.
    both = HUGE | (0x1000 if len(plain.ram_blocks) > 1 else 0)
    made = data[:advise] + both.to_bytes(8) + data[advise + 8 : at]
    made += HUGE.to_bytes(8) + data[at:]
    file = tmp_path / "made.mig"
    file.write_bytes(made)
    stream = read(file)
    check(stream, made)
    assert stream.ram_blocks == plain.ram_blocks
    assert fields_of(stream) == fields_of(plain)
    with huge_pages(count=8) as can:
        if can:
            vm = vm_with("huge", f",hugetlb=on,hugetlbsize={HUGE}")
            real = captured(vm, tmp_path / "huge.mig")
            vm.quit()
            check(real, Path(real.path).read_bytes())
            assert real.ram_blocks == plain.ram_blocks
            # It is what was made above.
            head = next(s for s in stream if s.kind == "part").offset
            assert Path(real.path).read_bytes()[:head] == made[:head]


# ---------------------------------------------------------------- mapped-ram


def test_a_longer_payload_in_front_of_mapped_ram(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    if int(emulator["version"].split(".")[0]) < 9:
        return  # it has neither mapped-ram nor early_setup

    def vm_with(memory: Path, **options: bool) -> VM:
        backend = f"memory-backend-file,id=memory,size=256M,share=on,mem-path={memory}"
        extra = [*emulator["args"], "-m", "256", "-object", backend]
        extra += ["-machine", "memory-backend=memory"]
        vm = start(memory.name, script=EARLY, extra=extra, paused=True, **options)
        enable(vm, "mapped-ram")
        return vm

    memory = tmp_path / "here"
    with memory.open("wb") as pages:
        pages.truncate(256 << 20)
        for at in (0, 5 << 12, 8 << 12, 99 << 20, (256 << 20) - 4096):
            pages.seek(at)
            pages.write(random.Random(at).randbytes(4096))
    here = vm_with(memory)
    file, out = tmp_path / "vm.mig", tmp_path / "out.mig"
    here.migrate_to_file(file)
    stream = read(file)
    assert stream.payload("early-list") == b"\1\1" + bytes(8191) + b"\0"
    assert stream.section("early-list").offset < stream.section("ram").offset
    mib = 1 << 20
    # The pages are at 1 MiB, behind the bitmap; the last payload has no room in front of them.
    for count, pages_at in ((0, mib), (3, mib), (110, mib), (200, 2 * mib)):
        dev = EarlyList(leaves=[Leaf(size=n % 256) for n in range(count)])
        key = ("early-list", 0)
        replace(file, out, {key: save(dev)}, {key: describe(dev)})
        changed = read(out)
        assert changed.payload("early-list") == save(dev)
        assert changed.ram_blocks == stream.ram_blocks
        assert [s.pages for s in changed] == [s.pages for s in stream]
        assert fields_of(changed)[1:] == fields_of(stream)[1:]
        [block] = changed.mapped_blocks
        assert block.pages_offset == pages_at
        assert out.stat().st_blocks * 512 < 16 * mib
        there = vm_with(tmp_path / f"there{count}", incoming=True)
        there.load_from_file(out)
        assert there.python.eval("[leaf.size for leaf in dev.leaves]") == [
            n % 256 for n in range(count)
        ]
        there.quit()
        assert filecmp.cmp(memory, tmp_path / f"there{count}", shallow=False)


def test_the_holes_of_mapped_ram_remain(start: StartVM, emulator: Emulator, tmp_path: Path) -> None:
    if int(emulator["version"].split(".")[0]) < 9:
        return  # it has no mapped-ram
    machine, _ = machine_of(emulator)
    extra = [*emulator["args"], "-m", "2G"]
    here = start("here", machine=machine, extra=extra, paused=True)
    enable(here, "mapped-ram")
    file, out = tmp_path / "vm.mig", tmp_path / "out.mig"
    here.migrate_to_file(file)
    here.quit()
    stream = read(file)
    replace(file, out, {("timer", 0): stream.payload("timer")})
    assert out.stat().st_size == file.stat().st_size > 2 << 30
    assert out.stat().st_blocks <= file.stat().st_blocks
    there = start("there", machine=machine, extra=extra, incoming=True, paused=True)
    enable(there, "mapped-ram")
    there.load_from_file(out)
