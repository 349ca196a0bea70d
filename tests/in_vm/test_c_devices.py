# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock QEMUs' C devices load what their Python models wrote, and the other way round.

These VMs contain no Python unless a test starts a script.  They are paused, so that no guest
changes what qtest and the models write; one is resumed at the end, so that its clock runs.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import InvalidError, describe, load, save
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.replace import replace
from qemu_vmstate.stream.sections import Stream
from qemu_vmstate.stream.vmdesc import by_device
from qemu_vmstate.vm.vm import VM, MigrationError

from .conftest import DEMO, Emulator, StartVM
from .model_registers import CLOCK, HPET_AT, PL011_AT, PORT, SERIAL, TIMERS, UART, Model, of_hpet
from .qtest import QTest
from .test_stream_vm import DEVICES

sys.path.insert(0, str(DEMO.parent))
from qemu_devices.hpet import ENABLE, HPET, LEGACY
from qemu_devices.pl011 import PL011, LineControl

HPET_SCRIPT = DEMO.parent / "qemu_devices" / "hpet.py"

pytestmark = pytest.mark.guest

SMALL = ["-m", "16"]
NO_LINE = ["-chardev", "null,id=line", "-serial", "chardev:line"]


@dataclass(frozen=True)
class Machine:
    """A machine and its arguments."""

    name: str
    arguments: list[str]


PC = Machine("pc", [*SMALL, *NO_LINE])
VIRT = Machine("virt", [*SMALL, *NO_LINE])


# --------------------------------------------------------------------- VMs


@dataclass
class Bench:
    """An emulator, and the paused VMs that a test starts one after another."""

    start: StartVM
    emulator: Emulator
    folder: Path

    @contextmanager
    def vm(self, name: str, machine: Machine, **options: Any) -> Iterator[tuple[VM, QTest]]:
        path = self.folder / f"{name}.qtest"
        extra = [*self.emulator["args"], *machine.arguments, *QTest.options(path)]
        vm = self.start(name, machine=machine.name, extra=extra, paused=True, **options)
        with QTest(path) as q:
            yield vm, q

    @contextmanager
    def line(self, machine: str) -> Iterator[tuple[Machine, Callable[[VM, bytes], None]]]:
        """Yield a machine with a serial line, and a function that sends characters to it."""
        path = self.folder / "line"
        chardev = f"socket,id=line,path={path},server=on,wait=off"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:

            def send(vm: VM, data: bytes) -> None:
                peer.connect(str(path))
                peer.sendall(data)

            options = [*SMALL, "-chardev", chardev, "-serial", "chardev:line"]
            yield Machine(machine, options), send

    def migrated(self, vm: VM) -> Stream:
        """Return the stream of a VM; the next call overwrites its file."""
        file = self.folder / "vm.mig"
        vm.migrate_to_file(file)
        return read(file)

    def changed(self, stream: Stream, section: str, dev: Any) -> Path:
        """Return the file with the section and the description that the model *dev* saves."""
        key, file = (section, 0), self.folder / "changed.mig"
        replace(stream.path, file, {key: save(dev)}, {key: describe(dev)})
        return file

    @property
    def older(self) -> bool:
        """Whether this is QEMU 7.2, in which HPET and PL011 check less."""
        return bool(self.emulator["version"].startswith("7.2"))


def loaded(model: Model, stream: Stream) -> Any:
    """Load the C device's section into a new model, which must save the same bytes."""
    dev = model.make()
    payload = stream.payload(model.section)
    load(dev, payload, stream.section(model.section).version_id)
    assert save(dev) == payload
    return dev


@pytest.fixture
def pc(start: StartVM, emulator: Emulator, tmp_path: Path) -> Bench:
    return Bench(start, emulator, tmp_path)


@pytest.fixture
def virt(start: StartVM, emulator: Emulator, tmp_path: Path) -> Bench:
    """Return the bench of the Arm emulator in the folder of the test's emulator."""
    path = Path(emulator["path"]).with_name("qemu-system-aarch64")
    if not path.exists():
        assert emulator["name"] == "user", f"there is no {path}: run scripts/setup"
        pytest.skip(f"there is no {path}: `ninja {path.name}` builds it")

    def begin(name: str, **options: Any) -> VM:
        return start(name, qemu=str(path), **options)

    return Bench(begin, emulator, tmp_path)


# ------------------------------------------------------------ all models


def circle(bench: Bench, machine: Machine, model: Model) -> None:
    """Write registers in the C device, read and change them in Python, and read them in C."""
    registers = model.registers.values()
    with bench.vm("here", machine) as (vm, q):
        for register in registers:
            assert register.read(q) not in register.values
            register.write(q, register.values[0])
        stream = bench.migrated(vm)
    fresh, dev = model.make(), loaded(model, stream)
    for register in registers:
        assert register.get(fresh) not in register.values
        assert register.get(dev) == register.values[0]
        register.set(dev, register.values[1])
    # The fields are the same, so the description in the file is still valid.
    file = bench.folder / "changed.mig"
    replace(stream.path, file, {(model.section, 0): save(dev)})
    with bench.vm("there", machine, incoming=True) as (vm, q):
        for register in registers:
            assert register.read(q) not in register.values
        vm.load_from_file(file)
        assert {name: r.read(q) for name, r in model.registers.items()} == {
            name: r.values[1] for name, r in model.registers.items()
        }
        for register in registers:
            register.write(q, register.values[0])
        dev = loaded(model, bench.migrated(vm))
    for register in registers:
        assert register.get(dev) == register.values[0]


def test_a_stream_whose_sections_are_replaced_by_themselves(pc: Bench) -> None:
    busy = Machine("pc", [*PC.arguments, *DEVICES])
    with pc.vm("here", busy) as (vm, _):
        stream = pc.migrated(vm)
    described = by_device(stream.description)
    sections = [s for s in stream if s.kind == "full" and s.fields is not None]
    keys = [(s.name, s.instance_id or 0) for s in sections]
    assert len(keys) > 40
    payloads = {key: stream.payload(*key) for key in keys}
    file, again = pc.folder / "same.mig", pc.folder / "described.mig"
    replace(stream.path, file, payloads)
    assert file.read_bytes() == Path(stream.path).read_bytes()
    replace(stream.path, again, payloads, {key: described[key][0] for key in keys})
    # The JSON is the same except for spaces, and everything else byte for byte.
    same = read(again)
    assert [(s.fields, s.payload_offset) for s in same] == [
        (s.fields, s.payload_offset) for s in stream
    ]
    assert same.description == stream.description
    with pc.vm("there", busy, incoming=True) as (vm, _):
        vm.load_from_file(again)


@pytest.mark.parametrize("model", [SERIAL, CLOCK, TIMERS], ids=lambda model: model.section)
def test_registers_of_a_pc_go_in_a_circle(pc: Bench, model: Model) -> None:
    circle(pc, PC, model)


def test_registers_of_a_pl011_go_in_a_circle(virt: Bench) -> None:
    circle(virt, VIRT, UART)


@pytest.mark.parametrize("model", [SERIAL, TIMERS], ids=lambda model: model.section)
def test_a_pcs_devices_begin_as_their_models(pc: Bench, model: Model) -> None:
    with pc.vm("here", PC) as (vm, _):
        assert pc.migrated(vm).payload(model.section) == save(model.make())


def test_a_pl011_begins_as_its_model(virt: Bench) -> None:
    with virt.vm("here", VIRT) as (vm, _):
        assert virt.migrated(vm).payload("pl011") == save(PL011())


def wire_of(description: Mapping[str, Any]) -> list[tuple[str, str, int | None]]:
    """Return name, type and length of every field with bytes, also inside structs."""
    out: list[tuple[str, str, int | None]] = []
    for entry in description["fields"]:
        if entry["type"] == "struct":
            inner = wire_of(entry["struct"])
            out += inner if "array_len" not in entry else inner * entry["array_len"]
        else:
            out.append((entry["name"], entry["type"], entry.get("array_len")))
    for subsection in description.get("subsections", []):
        out += [(subsection["vmsd_name"], "subsection", None), *wire_of(subsection)]
    return out


def check_description(bench: Bench, stream: Stream, model: Model) -> None:
    assert stream.description is not None
    [theirs] = [d for d in stream.description["devices"] if d["name"] == model.section]
    ours = describe(loaded(model, stream))
    other_names = {"num_timers_save": "num_timers", "readbuff": "unused"}
    other_types = {"readbuff": "unused_buffer"}
    assert wire_of(ours) == [
        (other_names.get(name, name), other_types.get(name, kind), length)
        for name, kind, length in wire_of(theirs)
    ]
    assert [ours["vmsd_name"], ours["version"]] == [theirs["vmsd_name"], theirs["version"]]


def test_a_pcs_devices_describe_themselves_as_their_models(pc: Bench) -> None:
    with pc.vm("here", PC) as (vm, q):
        q.writel(HPET_AT + 0x10, ENABLE)
        stream = pc.migrated(vm)
    for model in (SERIAL, CLOCK, TIMERS):
        check_description(pc, stream, model)


def test_a_pl011_describes_itself_as_its_model(virt: Bench) -> None:
    with virt.vm("here", VIRT) as (vm, _):
        stream = virt.migrated(vm)
    check_description(virt, stream, UART)


# ------------------------------------------------------------ serial lines


def test_what_a_serial_port_received_is_read_and_added_to(pc: Bench) -> None:
    with pc.line("pc") as (machine, send), pc.vm("here", machine) as (vm, q):
        q.outb(PORT + 1, 0x01)  # an interrupt for what is received
        q.outb(PORT + 2, 0x41)  # FIFOs on, and the interrupt at the fourth character
        send(vm, b"typd")
        vm.wait_until(lambda: q.inb(PORT + 2) & 0x0F == 0x04, "four characters")
        stream = pc.migrated(vm)
    assert {"serial/recv_fifo", "serial/fifo_timeout_timer"} <= {
        field.name for field in stream.section("serial").walk() if field.type == "subsection"
    }
    dev = loaded(SERIAL, stream)
    with dev.state.lock() as regs:
        fifo = regs.recv_fifo.recv_fifo
        assert (fifo.head, fifo.num, bytes(fifo.data[:4])) == (0, 4, b"typd")
        assert regs.fifo_timeout_timer.fifo_timeout_timer > 0
        fifo.data = b"typed!" + bytes(fifo.data[6:])
        fifo.num = 6
    with pc.vm("there", PC, incoming=True) as (vm, q):
        vm.load_from_file(pc.changed(stream, "serial", dev))
        read_back = b""
        while q.inb(PORT + 5) & 0x01:
            read_back += bytes([q.inb(PORT)])
        assert read_back == b"typed!"
        dev = loaded(SERIAL, pc.migrated(vm))
    with dev.state.lock() as regs:
        # No subsection for a FIFO that is empty.
        assert regs.recv_fifo.recv_fifo.num == 0


def test_what_a_pl011_received_is_read_and_added_to(virt: Bench) -> None:
    with virt.line("virt") as (machine, send), virt.vm("here", machine) as (vm, q):
        q.writel(PL011_AT + 0x2C, LineControl.FEN)
        send(vm, b"sixteen letters!")
        vm.wait_until(lambda: q.readl(PL011_AT + 0x18) & 0x40, "a full FIFO")
        assert bytes(q.readl(PL011_AT) for _ in range(8)) == b"sixteen "
        stream = virt.migrated(vm)
    dev = loaded(UART, stream)
    dev.receive(b" or so")
    with dev.regs.lock() as regs:
        # The position wrapped at the end of the ring.
        assert (regs.read_pos, regs.read_count) == (8, 14)
    with virt.vm("there", VIRT, incoming=True) as (vm, q):
        vm.load_from_file(virt.changed(stream, "pl011", dev))
        read_back = b""
        while not q.readl(PL011_AT + 0x18) & 0x10:
            read_back += bytes([q.readl(PL011_AT) & 0xFF])
        assert read_back == b"letters! or so" == dev.read()
        again = loaded(UART, virt.migrated(vm))
    # Both have read the same, and ended in the same state.
    with again.regs.lock() as theirs, dev.regs.lock() as ours:
        assert theirs == ours


def test_a_pl011_without_its_clock(virt: Bench) -> None:
    without = Machine("virt", [*VIRT.arguments, "-global", "pl011.migrate-clk=off"])
    with virt.vm("here", without) as (vm, q):
        q.writel(PL011_AT + 0x24, 0x21)
        stream = virt.migrated(vm)
    assert not [f for f in stream.section("pl011").walk() if f.type == "subsection"]
    dev = PL011()
    load(dev, stream.payload("pl011"))
    # The model always saves its clock, and C loads it.
    with virt.vm("there", without, incoming=True) as (vm, q):
        vm.load_from_file(virt.changed(stream, "pl011", dev))
        assert q.readl(PL011_AT + 0x24) == 0x21


@pytest.mark.parametrize("wrong", [{"read_pos": 16}, {"read_count": 17}])
def test_a_fifo_that_is_fuller_than_full(virt: Bench, wrong: dict[str, int]) -> None:
    with virt.vm("here", VIRT) as (vm, _):
        stream = virt.migrated(vm)
    section, payload = stream.section("pl011"), bytearray(stream.payload("pl011"))
    for name, value in wrong.items():
        at = section.field(name).offset - section.payload_offset
        payload[at : at + 4] = value.to_bytes(4)
    with pytest.raises(InvalidError, match="inside"):
        load(PL011(), payload)
    file = virt.folder / "hostile.mig"
    replace(stream.path, file, {("pl011", 0): bytes(payload)})
    with virt.vm("there", VIRT, incoming=True) as (vm, _):
        if virt.older:
            vm.load_from_file(file)
        else:
            with pytest.raises(MigrationError) as caught:
                vm.load_from_file(file)
            assert "pl011" in vm.log + str(caught.value)


# ------------------------------------------------------------------- HPET


def test_the_hpets_subsections(pc: Bench) -> None:
    with pc.vm("here", PC) as (vm, q):
        q.writel(HPET_AT + 0x10, ENABLE | LEGACY)
        stream = pc.migrated(vm)
    names = [f.name for f in stream.section("hpet").walk() if f.type == "subsection"]
    assert names == ["hpet/offset"]
    dev = loaded(TIMERS, stream)
    # The model's counter runs until it is saved; a tick is 10 ns.
    before, offset = dev.hpet_counter, dev.hpet_offset.hpet_offset
    moment = before * 10 - offset
    dev.now = lambda: moment + 12_345_678_90
    dev.rtc_irq_level.rtc_irq_level = 1
    file = pc.changed(stream, "hpet", dev)
    assert dev.hpet_counter == before + 123_456_789
    with pc.vm("there", PC, incoming=True) as (vm, q):
        vm.load_from_file(file)
        again = pc.migrated(vm)
    names = [f.name for f in again.section("hpet").walk() if f.type == "subsection"]
    assert names == ["hpet/rtc_irq_level", "hpet/offset"]
    back = loaded(TIMERS, again)
    assert back.rtc_irq_level.rtc_irq_level == 1
    assert back.hpet_offset.hpet_offset == offset
    assert back.config == ENABLE | LEGACY


def test_a_timer_that_python_armed_fires_in_c(pc: Bench) -> None:
    with pc.vm("here", PC) as (vm, q):
        q.writel(HPET_AT + 0x100, 0x6)  # timer 0 interrupts, and its bit stays in the status
        q.writeq(HPET_AT + 0x108, 3_000_000)
        q.writel(HPET_AT + 0x10, ENABLE)
        stream = pc.migrated(vm)
    dev = loaded(TIMERS, stream)
    with dev.timer[0].lock() as one:
        # C has armed it. A tick is 10 ns; the offset is the counter's lead over the clock.
        ahead = dev.hpet_offset.hpet_offset - (dev.hpet_offset.hpet_offset >> 63 << 64)
        assert 0 <= one.qemu_timer + ahead - 30_000_000 < 10
        one.cmp += 2_000_000
        one.qemu_timer += 20_000_000
    with pc.vm("there", PC, incoming=True) as (vm, q):
        vm.load_from_file(pc.changed(stream, "hpet", dev))
        assert q.readl(HPET_AT + 0x20) == 0
        vm.cont()
        vm.wait_until(lambda: q.readl(HPET_AT + 0x20) & 1, "the interrupt of timer 0")
        assert q.readq(HPET_AT + 0xF0) >= 5_000_000


def timers_of(q: QTest) -> int:
    """Return the number of timers that the capability register has."""
    return (q.readl(HPET_AT) >> 8 & 0x1F) + 1


def test_more_timers(pc: Bench) -> None:
    eight = Machine("pc", [*PC.arguments, "-global", "hpet.timers=8"])
    with pc.vm("eight", eight) as (vm, q):
        assert timers_of(q) == 8
        of_hpet("cmp", 8, (0, 0), 7).write(q, 0xABCD)
        stream = pc.migrated(vm)
    dev = loaded(TIMERS, stream)
    assert dev.num_timers == 8
    last = of_hpet("cmp", 8, (0, 0), 7)
    assert last.get(dev) == 0xABCD
    last.set(dev, 0xBCDE)
    with pc.vm("eight-again", eight, incoming=True) as (vm, q):
        vm.load_from_file(pc.changed(stream, "hpet", dev))
        assert last.read(q) == 0xBCDE
    # Python has more timers than the C device was made with.
    with pc.vm("three", PC) as (vm, q):
        assert timers_of(q) == 3
        stream = pc.migrated(vm)
    dev = loaded(TIMERS, stream)
    dev.num_timers = 5
    of_hpet("cmp", 8, (0, 0), 4).set(dev, 0xCDEF)
    file = pc.changed(stream, "hpet", dev)
    assert len(read(file).payload("hpet")) == len(stream.payload("hpet")) + 2 * 42
    with pc.vm("five", PC, incoming=True) as (vm, q):
        if pc.older:
            vm.load_from_file(file)
            assert timers_of(q) == 5
            assert of_hpet("cmp", 8, (0, 0), 4).read(q) == 0xCDEF
        else:
            with pytest.raises(MigrationError) as caught:
                vm.load_from_file(file)
            assert "num_timers must match" in vm.log + str(caught.value)


@pytest.mark.parametrize("count", [2, 33])
def test_both_refuse_a_wrong_number_of_timers(pc: Bench, count: int) -> None:
    with pc.vm("here", PC) as (vm, _):
        stream = pc.migrated(vm)
    section, payload = stream.section("hpet"), stream.payload("hpet")
    field = section.field("num_timers" if pc.older else "num_timers_save")
    at = field.offset - section.payload_offset
    hostile = payload[:at] + bytes([count]) + payload[at + 1 :]
    dev = HPET()
    with pytest.raises(InvalidError):
        load(dev, hostile)
    assert save(dev) == save(HPET())
    file = pc.folder / "hostile.mig"
    replace(stream.path, file, {("hpet", 0): hostile})
    with pc.vm("there", PC, incoming=True) as (vm, _), pytest.raises(MigrationError) as caught:
        vm.load_from_file(file)
    assert "num_timers" in vm.log + str(caught.value)


def test_a_python_hpet_replaces_the_c_one_and_the_c_one_it(pc: Bench, emulator: Emulator) -> None:
    count = of_hpet("hpet_counter", 0xF0, (0, 0))
    without = Machine("pc,hpet=off", PC.arguments)
    with (
        pc.vm("c", PC) as (one, q),
        pc.vm("python", without, incoming=True, script=HPET_SCRIPT) as (two, _),
        pc.vm("c-again", PC, incoming=True) as (three, at_the_end),
    ):
        count.write(q, 0x1234_5678)
        q.writel(HPET_AT + 0x10, ENABLE)
        one.migrate_to(two)
        # The counter runs, but the machines' clock, which migrates too, does not.
        assert two.python.eval("dev.hpet_counter") == 0x1234_5678
        two.python.exec("with dev.timer[1].lock() as one: one.cmp = 0xDCBA")
        two.migrate_to(three)
        assert count.read(at_the_end) == 0x1234_5678
        assert at_the_end.readl(HPET_AT + 0x10) == ENABLE
        assert of_hpet("cmp", 8, (0, 0), 1).read(at_the_end) == 0xDCBA
