# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams of real emulators in containers: offsets, libvirt's header, compression, snapshots."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.errors import StreamError
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.sections import Stream
from qemu_vmstate.vm.vm import VM, VMError

from ..stream.containers import save_image
from .conftest import DEMO, Emulator, StartVM, enable

FILE_SINCE = (8, 2, 0)
MAPPED_RAM_SINCE = (9, 0, 0)
RAM = ["-m", "16"]
PROGRAMS = ["gzip", "bzip2", "xz", "zstd"]


def names(stream: Stream) -> list[tuple[Any, ...]]:
    """Return what two streams of one paused machine have in common."""
    return [(s.kind, s.name, s.instance_id, s.payload_size) for s in stream if s.kind == "full"]


def check_demo(stream: Stream, vm: VM) -> None:
    """Check that the demo's section is that of the VM's object."""
    wire, _, _ = vm.python.eval("state()")
    assert stream.payload("pynic") == wire


def run(*words: str | Path, **options: Any) -> bytes:
    for _ in range(20):
        done = subprocess.run(words, capture_output=True, timeout=120, **options)
        # qemu-img measures its hashes for encryption, which may fit into one tick of the clock.
        if b"Unable to get accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    out: bytes = done.stdout
    return out


# ---------------------------------------------------------- files with offsets


@pytest.mark.parametrize("offset", [3, 4096, 0x12345])
def test_a_migration_to_an_offset_of_a_file(start: StartVM, tmp_path: Path, offset: int) -> None:
    vm = start(script=DEMO, extra=RAM)
    if vm.version < FILE_SINCE:
        return  # it has no file transport
    file, plain = tmp_path / "vm.mig", tmp_path / "plain.mig"
    vm.migrate_to_file(plain)
    for capabilities in ([], ["mapped-ram"] if vm.version >= MAPPED_RAM_SINCE else []):
        enable(vm, *capabilities)
        vm.cont()
        vm.migrate(f"file:{file},offset={offset}")
        vm.wait_migration()
        found = read(file, offset=offset)
        assert found.sections[0].offset == offset
        assert names(found) == names(read(plain))
        assert sum(s.size for s in found) == found.size - offset
        check_demo(found, vm)
        with pytest.raises(StreamError, match=f"is at byte {offset}, which --offset {offset} "):
            read(file)
        file.unlink()


# --------------------------------------------------------------------- libvirt


def saved_by_libvirt(vm: VM, file: Path, header: bytes, *capabilities: str) -> None:
    """Write a save image as libvirt does, which gives QEMU a file that begins with its header."""
    file.write_bytes(header)
    if vm.version >= FILE_SINCE:
        enable(vm, *capabilities)
        vm.migrate(f"file:{file},offset={len(header)}")
        vm.wait_migration()
    else:
        plain = file.with_suffix(".plain")
        vm.migrate_to_file(plain)
        file.write_bytes(header + plain.read_bytes())


def test_save_images_of_libvirts(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=DEMO, extra=RAM)
    file = tmp_path / "vm.sav"
    for format_ in ("raw", "sparse"):
        sparse = format_ == "sparse"
        if sparse and vm.version < MAPPED_RAM_SINCE:
            continue
        vm.cont()
        saved_by_libvirt(vm, file, save_image(format_), *(["mapped-ram"] if sparse else []))
        found = read(file)
        assert found.configuration is not None
        assert ("mapped-ram" in found.configuration.capabilities) == sparse
        assert found.sections[0].offset == len(save_image(format_))
        assert not any(s.opaque for s in found)
        check_demo(found, vm)
        # What was cut by hand has no right offsets any more.
        if sparse:
            (tmp_path / "cut").write_bytes(file.read_bytes()[len(save_image(format_)) :])
            with pytest.raises(StreamError):
                read(tmp_path / "cut")


@pytest.mark.parametrize("program", PROGRAMS)
def test_compressed_by_programs(start: StartVM, tmp_path: Path, program: str) -> None:
    vm = start(script=DEMO, extra=RAM)
    plain, file, done = tmp_path / "vm.mig", tmp_path / "vm.sav", tmp_path / "done"
    vm.migrate_to_file(plain)
    vm.cont()
    words = [shlex.quote(str(path)) for path in (file, done)]
    vm.migrate("exec:{} -c > {} && touch {}".format(program, *words))
    vm.wait_migration()
    vm.wait_until(done.exists, "the last bytes")
    found = read(file)
    assert found.origin.container == f"{program}; offsets are those of what is unpacked"
    assert names(found) == names(read(plain))
    check_demo(found, vm)
    header, packed = save_image(program), file.read_bytes()
    file.write_bytes(header + packed)
    assert names(read(file)) == names(found)
    # A cut one is unpacked as far as it goes.
    file.write_bytes(header + packed[: len(packed) * 2 // 3])
    with pytest.raises(StreamError, match=f"; the {program} data ends early"):
        read(file)


def test_through_a_pipe(start: StartVM, tmp_path: Path, emulator: Emulator) -> None:
    vm = start(script=DEMO)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(
        [sys.executable, "-m", "qemu_vmstate", "inspect", str(pipe)],
        stdout=subprocess.PIPE,
        text=True,
    )
    vm.migrate(f"exec:cat > {shlex.quote(str(pipe))}")
    vm.wait_migration()
    shown, _ = reader.communicate(timeout=vm.timeout)
    assert reader.returncode == 0
    assert " pynic " in shown


# ------------------------------------------------------------------- snapshots


def made(disk: Path, size: str, *options: str) -> Path:
    """Return a new qcow2 image."""
    run("qemu-img", "create", "-q", "-f", "qcow2", *options, disk, size)
    return disk


def vm_state(disk: Path, name: str, size: int) -> bytes:
    """Return a snapshot's VM state as QEMU's own block layer reads it."""
    copy = disk.with_suffix(".applied")
    shutil.copy(disk, copy)
    run("qemu-img", "snapshot", "-a", name, copy)
    out = b""
    for at in range(0, size, 1 << 20):
        length = min(1 << 20, -(-(size - at) // 512) * 512)
        dump = run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -b -v {at} {length}", copy)
        lines = [line for line in dump.decode().splitlines() if line[8:11] == ":  "]
        out += b"".join(bytes.fromhex(line[11:].rsplit("  ", 1)[0]) for line in lines)
    copy.unlink()
    assert len(out) - size in range(512)
    return out[:size]


IMAGES: dict[str, tuple[str, list[str]]] = {
    "default": ("16M", []),
    "512": ("1M", ["-o", "cluster_size=512"]),
    "4k": ("16777000", ["-o", "cluster_size=4k"]),
    "2M": ("3G", ["-o", "cluster_size=2M"]),
    "extended": ("5000192", ["-o", "extended_l2=on,cluster_size=16k"]),
    "extended-2M": ("1T", ["-o", "extended_l2=on,cluster_size=2M"]),
    "old": ("16M", ["-o", "compat=0.10"]),
    "empty": ("0", []),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_snapshots_of_images_of_every_kind(start: StartVM, tmp_path: Path, kind: str) -> None:
    size, options = IMAGES[kind]
    disk = made(tmp_path / "d.qcow2", size, *options)
    vm = start(script=DEMO, disk=disk, extra=RAM)
    expected = []
    for name in ("s 1", "2"):
        vm.python.exec("for number in range(100): dev.step(with_link=number % 7 == 0)")
        vm.stop()
        vm.snapshot_save(name)
        wire, _, _ = vm.python.eval("state()")
        expected.append((name, wire))
        vm.cont()
    vm.quit()
    run("qemu-img", "snapshot", "-c", "stateless", disk)
    for number, (name, wire) in enumerate(expected, 1):
        found = read(disk, snapshot=name)
        assert found.origin.container == (
            f"snapshot {name!r} (id {number}) in a qcow2 image; offsets are those of its VM state"
        )
        assert found.payload("pynic") == wire
        assert not any(s.opaque for s in found)
        with found.origin.open() as source:
            assert source.at(0, source.size, "all") == vm_state(disk, name, source.size)
    check_selection(disk)


def check_selection(disk: Path) -> None:
    """Check that names come before ids, and that errors list what there is."""
    first = "'s 1' (id 1, VM state of "
    assert read(disk, snapshot="1").origin.container.startswith("snapshot 's 1' (id 1)")
    assert read(disk, snapshot="2").origin.container.startswith("snapshot '2' (id 2)")
    for name, message in [
        (None, "this qcow2 image is read by the name of a snapshot (--snapshot NAME): it has "),
        ("nix", "this qcow2 image has no snapshot 'nix': it has "),
        ("stateless", "this qcow2 image has no VM state in the snapshot 'stateless': it is in "),
    ]:
        with pytest.raises(StreamError) as caught:
            read(disk, snapshot=name)
        assert message in caught.value.reason
        assert first in caught.value.reason
        assert "'stateless' (id 3, without VM state)" in caught.value.reason


def test_a_snapshot_of_savevm_at_the_command_line(
    start: StartVM, tmp_path: Path, emulator: Emulator
) -> None:
    disk = tmp_path / "d.qcow2"
    vm = start(script=DEMO, disk=disk, extra=RAM)
    vm.qmp("human-monitor-command", command_line="savevm hmp")
    vm.quit()
    command = [sys.executable, "-m", "qemu_vmstate"]
    shown = run(*command, "inspect", "--snapshot", "hmp", disk).decode()
    assert shown.startswith(f"{disk} (snapshot 'hmp' (id 1) in a qcow2 image; offsets are those ")
    assert " pynic " in shown
    assert b"class Pynic(" in run(*command, "scaffold", "--snapshot", "hmp", disk)
    # The image itself may be compressed, and come through a pipe.
    packed = run("gzip", "-c", disk)
    native = os.environ | {"QEMU_VMSTATE_QEMU": emulator["native"]}
    whole = run(*command, "roundtrip", "--snapshot", "hmp", disk, env=native)
    again = run(*command, "roundtrip", "--snapshot", "hmp", "-", input=packed, env=native)
    assert b"pynic" in whole
    assert again.replace(b"<stdin>", str(disk).encode()) == whole
    piped = run(*command, "inspect", "--snapshot", "hmp", "-", input=packed).decode()
    assert piped.splitlines()[1:] == shown.splitlines()[1:]
    run("qemu-img", "snapshot", "-d", "hmp", disk)
    with pytest.raises(StreamError, match=r"\(--snapshot NAME\): it has none"):
        read(disk)


@pytest.mark.one_emulator
def test_an_image_whose_compressed_clusters_are_of_zstd(start: StartVM, tmp_path: Path) -> None:
    """The type of compression changes the header, and no VM state."""
    disk = made(tmp_path / "d.qcow2", "1M", "-o", "compression_type=zstd")
    vm = start(disk=disk)
    vm.snapshot_save("s1")
    vm.quit()
    assert read(disk, snapshot="s1").footers


def test_a_snapshot_with_mapped_ram(start: StartVM, tmp_path: Path) -> None:
    disk = made(tmp_path / "d.qcow2", "16M")
    vm = start(script=DEMO, disk=disk, extra=RAM)
    if vm.version < MAPPED_RAM_SINCE:
        return
    enable(vm, "mapped-ram")
    vm.stop()
    try:
        vm.snapshot_save("s1")
    except VMError:
        assert "Channel does not support pwritev" in vm.log
        assert vm.version < (10, 2, 0)
        return
    wire, _, _ = vm.python.eval("state()")
    vm.quit()
    found = read(disk, snapshot="s1")
    assert found.configuration is not None
    assert found.configuration.capabilities == ("mapped-ram",)
    # QEMU says less than the size of the memory that is in it.
    assert found.size > 16 << 20
    assert found.payload("pynic") == wire


@pytest.mark.one_emulator
def test_an_image_that_was_resized_after_its_snapshot(start: StartVM, tmp_path: Path) -> None:
    for size in ("64M", "3G", "1M"):
        disk = made(tmp_path / f"{size}.qcow2", "16M", "-o", "cluster_size=4k")
        vm = start(f"vm{size}", script=DEMO, disk=disk)
        vm.stop()
        vm.snapshot_save("s1")
        wire, _, _ = vm.python.eval("state()")
        vm.quit()
        run("qemu-img", "resize", "-q", "--shrink", disk, size)
        assert read(disk, snapshot="s1").payload("pynic") == wire


@pytest.mark.one_emulator
def test_images_that_are_not_read_say_why(start: StartVM, tmp_path: Path) -> None:
    secret = ["--object", "secret,id=s,data=password"]
    encrypted = made(
        tmp_path / "luks", "1M", *secret, "-o", "encrypt.format=luks,encrypt.key-secret=s"
    )
    external = made(tmp_path / "external", "1M", "-o", f"data_file={tmp_path / 'raw'}")
    for image, message in [
        (encrypted, "this qcow2 image is encrypted (crypt_method 2), which is not read"),
        (external, "this qcow2 image has its data in another file, and such an image has no"),
    ]:
        with pytest.raises(StreamError) as caught:
            read(image, snapshot="s1")
        assert message in caught.value.reason
    images = made(tmp_path / "images", "1M")
    for _ in range(2):
        run("qemu-img", "snapshot", "-c", "same", images)
    with pytest.raises(StreamError, match="several snapshots 'same', which only their id tells"):
        read(images, snapshot="same")


@pytest.fixture
def image(start: StartVM, tmp_path: Path) -> bytes:
    disk = made(tmp_path / "d.qcow2", "1M", "-o", "cluster_size=4k")
    vm = start(disk=disk)
    vm.snapshot_save("s1")
    vm.quit()
    return disk.read_bytes()


def broken(image: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield images with one wrong number, and a part of the error."""

    def put(at: int, number: int, size: int) -> bytes:
        return image[:at] + number.to_bytes(size) + image[at + size :]

    table = int.from_bytes(image[64:72])
    l1 = int.from_bytes(image[table : table + 8])
    # A disk of 1 MiB has one L1 entry: 512 clusters of 4 KiB in a table.
    l2 = int.from_bytes(image[l1 + 8 : l1 + 16]) & (1 << 56) - 1
    yield put(4, 4, 4), "is of version 4, and 2 and 3 are known"
    yield put(20, 40, 4), "has clusters of 2**40 bytes, and 2**9 to 2**21 are known"
    yield put(72, 1 << 63, 8), "has unknown incompatible features (0x8000000000000000)"
    yield put(72, 16, 8), "has extended L2 entries in clusters of 2**12 bytes"
    yield put(60, 1 << 31, 4), "has 2147483648 snapshots, and 65536 is the most"
    yield put(60, 1 << 16, 4), "ends inside the snapshot table, whose"
    yield put(64, 1 << 62, 8), "ends inside the snapshot table, whose"
    yield put(table + 12, 0xFFFF, 2), "ends inside the snapshot table, whose"
    yield put(table + 36, 1 << 31, 4), "has 2147483648 bytes of extra data in the snapshot table"
    yield put(table, 1 << 40, 8), "ends inside the L1 table of the snapshot 's1', whose"
    yield put(table + 8, 1, 4), "its L1 table of 1 entries (4194304 at most) has room for 0 bytes"
    yield put(table + 8, (1 << 32) - 1, 4), "its L1 table of 4294967295 entries (4194304 at most)"
    yield put(table + 40, 1 << 63, 8), "of VM state"
    yield put(table + 48, 1 << 63, 8), "has room for 0 bytes of VM state"
    yield put(l1 + 8, 1 << 50, 8), "ends inside the L2 table 0, whose"
    yield put(l1 + 8, l2 + 512, 8), "which is inside a cluster of 2**12 bytes"
    yield put(l1 + 8, 0, 8), "it begins with 00000000 instead of 5145564d"
    yield put(l2, 1 << 62 | 7, 8), "has a compressed cluster at its byte 0"
    yield put(l2, 1 << 50, 8), "ends inside the VM state of the snapshot 's1', whose"
    yield put(l2, l2 + 512, 8), "which is inside a cluster of 2**12 bytes"
    yield put(l2, 1, 8), "it begins with 00000000 instead of 5145564d"


def test_broken_images_are_refused_where_they_are_wrong(image: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.qcow2"
    file.write_bytes(image)
    assert read(file, snapshot="s1").footers
    for data, message in broken(image):
        file.write_bytes(data)
        with pytest.raises(StreamError) as caught:
            read(file, snapshot="s1")
        assert message in caught.value.reason


def test_images_broken_at_random_give_a_stream_or_an_error(image: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.qcow2"
    rng = random.Random(3)
    table = int.from_bytes(image[64:72])
    places = [*range(112), *range(table, table + 80)]
    for _ in range(300):
        data = bytearray(image)
        for _ in range(rng.randrange(1, 4)):
            data[rng.choice(places)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        file.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            stream = read(file, snapshot="s1")
        except StreamError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            assert stream.sections
