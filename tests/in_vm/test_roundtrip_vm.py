# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections of stock emulators are identical after a round trip through generated models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import load
from qemu_vmstate.scaffold.generator import scaffold
from qemu_vmstate.scaffold.roundtrip import Report, roundtrip
from qemu_vmstate.stream.reader import read
from qemu_vmstate.stream.sections import Stream
from qemu_vmstate.vm.vm import VM

from .conftest import Emulator, StartVM, environment
from .test_stream_vm import check, has_machines

CUSTOM = {
    *("avr", "cpsr", "cpu/altivec/vscr", "fpr", "fpscr", "msix state", "not described"),
    *("pci config", "pci irq state", "powered_off", "scsi-requests", "slbe", "tlb_entry"),
    *("virtio", "virtio-gpu", "vsr"),
}
"""The types that only QEMU's own code can decode, and bytes without a type."""


def drives(count: int) -> list[str]:
    words = []
    for number in range(count):
        options = f"null-co,node-name=d{number},read-zeroes=on,size=67108864"
        words += ["-blockdev", options]
    return words


def devices(*names: str) -> list[str]:
    return [word for name in names for word in ("-device", name)]


SMALL = ["-m", "32"]
SCSI = [
    *drives(7),
    *devices("virtio-blk-pci,drive=d0", "virtio-scsi-pci,id=vs", "scsi-hd,drive=d1,bus=vs.0"),
    *devices("lsi53c895a,id=lsi", "scsi-hd,drive=d2,bus=lsi.0", "megasas,id=mg"),
    *devices("scsi-hd,drive=d3,bus=mg.0", "am53c974,id=am", "scsi-hd,drive=d4,bus=am.0"),
    *devices("pvscsi,id=pv", "scsi-hd,drive=d5,bus=pv.0", "mptsas1068,id=mpt"),
    *devices("scsi-cd,drive=d6,bus=mpt.0"),
]
NETWORK = devices(
    *("e1000", "e1000e", "rtl8139", "pcnet", "i82559er", "ne2k_pci", "vmxnet3", "virtio-net-pci")
)
VIRTIO = devices(
    *("virtio-serial-pci,id=vser", "virtserialport,bus=vser.0", "virtio-rng-pci"),
    *("virtio-balloon-pci", "virtio-keyboard-pci", "virtio-tablet-pci", "virtio-gpu-pci"),
)
USB = [
    *drives(2),
    *devices("nec-usb-xhci,id=x", "usb-kbd,bus=x.0", "usb-mouse,bus=x.0", "usb-tablet,bus=x.0"),
    *devices("usb-storage,drive=d0,bus=x.0", "usb-ccid,bus=x.0", "usb-ehci,id=e"),
    *devices("usb-storage,drive=d1,bus=e.0", "pci-ohci", "qemu-xhci,id=q", "usb-hub,bus=q.0"),
    *devices("piix3-usb-uhci"),
]
SOUND = [
    *("-audiodev", "none,id=a"),
    *devices("AC97,audiodev=a", "ES1370,audiodev=a", "intel-hda", "hda-duplex,audiodev=a"),
    *devices("ich9-intel-hda,id=ih", "hda-output,bus=ih.0,audiodev=a"),
]
ISA = devices("sb16,audiodev=a", "gus,audiodev=a", "adlib,audiodev=a", "cs4231a,audiodev=a")
OTHER = [
    *drives(1),
    *devices("sdhci-pci", "sd-card,drive=d0", "edu", "pci-testdev", "pci-serial", "i6300esb"),
    *devices("ioh3420,chassis=1,id=r1", "x3130-upstream,id=up,bus=r1"),
    *devices("xio3130-downstream,id=dn,bus=up,chassis=2", "pxb-pcie,bus_nr=40"),
]
DISKS = [
    *drives(2),
    *devices("ahci,id=more", "ide-hd,drive=d0,bus=more.0", "ide-hd,drive=d1,bus=ide.0"),
    *devices("ide-cd,bus=ide.1"),
]

WITH_ALL = {"timer", "globalstate"}
WITH_PCS = {"cpu", "apic", "ioapic", "mc146818rtc", "i8254", "i8259", "hpet", "PCIBUS", "fw_cfg"}
WITH_BUSY = {
    *("virtio-blk", "virtio-scsi", "scsi-disk", "lsiscsi", "megasas", "pciespscsi", "pvscsi"),
    *("mptsas", "e1000", "e1000e", "rtl8139", "pcnet", "i82559er", "ne2000", "vmxnet3"),
    *("virtio-net", "virtio-console", "virtio-rng", "virtio-balloon", "virtio-input"),
    "virtio-gpu",
}

PCS: dict[str, tuple[str, list[str], set[str]]] = {
    "pc": ("pc", SMALL, {*WITH_PCS, "I440FX", "PIIX3", "ide", "piix4_pm", "fdc"}),
    "q35": ("q35", SMALL, {*WITH_PCS, "mch", "ICH9LPC", "ich9_ahci"}),
    "microvm": (
        *("microvm,rtc=on", [*SMALL, *devices("virtio-net-device", "virtio-rng-device")]),
        {"cpu", "apic", "ioapic", "mc146818rtc", "virtio-net", "virtio-rng"},
    ),
    "isapc": ("isapc", SMALL, {"cpu", "mc146818rtc", "i8254", "i8259", "fdc"}),
    "pc, busy": ("pc", [*SMALL, "-smp", "4", *SCSI, *NETWORK, *VIRTIO], WITH_BUSY),
    "q35, busy": ("q35", [*SMALL, "-smp", "2", *SCSI, *NETWORK, *VIRTIO], WITH_BUSY),
    "pc, USB and sound": (
        *("pc", [*SMALL, *USB, *SOUND, *ISA]),
        {
            *("xhci", "usb-kbd", "usb-ptr", "usb-storage", "usb-ccid", "ehci", "ohci", "usb-hub"),
            *("uhci", "ac97", "es1370", "intel-hda", "hda-audio", "sb16", "gus", "cs4231a"),
        },
    ),
    "q35, bridges and more": (
        *("q35", [*SMALL, *OTHER, *devices("intel-iommu")]),
        {
            *("sdhci", "sd-card", "pci-serial", "i6300esb_wdt", "ioh-3240-express-root-port"),
            *("xio3130-express-upstream-port", "xio3130-express-downstream-port", "iommu-intel"),
        },
    ),
    "q35, AHCI": ("q35", [*SMALL, *DISKS], {"ich9_ahci"}),
}
"""A machine, its arguments, and descriptions that its stream must contain."""

PCI = devices("e1000", "virtio-net-pci", "virtio-scsi-pci", "qemu-xhci", "usb-kbd", "pci-ohci")
WITH_PCI = {"e1000", "virtio-net", "virtio-scsi", "xhci", "usb-kbd", "ohci", "PCIBUS"}
MORE = devices("virtio-rng-pci", "virtio-balloon-pci", "virtio-keyboard-pci")
GICV3 = ["-cpu", "max", "-smp", "2", *PCI]

TARGETS: dict[str, tuple[str, list[str], set[str]]] = {
    "aarch64 virt": ("virt", ["-smp", "2", *PCI, *MORE], {"arm_gic", "pl011", *WITH_PCI}),
    "aarch64 virt,gic-version=3,virtualization=on,secure=on": (
        *("virt,gic-version=3,virtualization=on,secure=on", GICV3),
        {"arm_gicv3", "cpu", *WITH_PCI},
    ),
    "aarch64 raspi3b": ("raspi3b", [], {"cpu", "bcm2835_gpio", "sdhci", "pl011"}),
    "aarch64 xlnx-zcu102": ("xlnx-zcu102", [], {"cpu", "arm_gic", "cadence_gem"}),
    "aarch64 ast2600-evb": ("ast2600-evb", [], {"cpu", "arm_gic", "aspeed.i2c"}),
    "aarch64 mps2-an505": ("mps2-an505", [], {"cpu", "armv7m_nvic", "iotkit-secctl", "or-irq"}),
    "ppc mac99": ("mac99", ["-device", "pci-ohci"], {"cpu", "openpic", "ohci"}),
    "ppc g3beige": ("g3beige", ["-device", "e1000"], {"cpu", "heathrow_pic", "e1000"}),
    "ppc64 pseries": ("pseries", ["-smp", "2", *PCI], {"cpu", "spapr", "xive-tctx", *WITH_PCI}),
    "ppc64 powernv9": ("powernv9", [], {"cpu"}),
    "mips malta": ("malta", PCI, {"cpu", "gt64120", "PIIX4", *WITH_PCI}),
    "riscv64 virt": ("virt", ["-smp", "2", *PCI], {"cpu", "riscv_mtimer", *WITH_PCI}),
    "riscv64 sifive_u": ("sifive_u", [], {"cpu", "riscv_mtimer"}),
    "s390x s390-ccw-virtio": (
        *("s390-ccw-virtio", ["-smp", "2", *devices("virtio-net-ccw", "virtio-rng-ccw")]),
        {"cpu", "s390_css", "virtio-net", "virtio-rng", "qemu-s390-flic"},
    ),
    "m68k virt": (
        *("virt", devices("virtio-net-device", "virtio-keyboard-device")),
        {"cpu", "goldfish_pic", "goldfish_rtc", "virtio-net", "virtio-input"},
    ),
}
"""The same by target and machine."""


def proven(stream: Stream, file: Path, names: set[str]) -> Report:
    """Check that every section is identical, and that no describable bytes are opaque."""
    assert {*names, *WITH_ALL} <= {s.vmsd_name or s.name for s in stream}
    data = file.read_bytes()
    check(stream, data)
    report = roundtrip(stream)
    problems = [f"{r.section.name}: {r.why}" for r in report.results if r.outcome != "identical"]
    assert problems == []
    assert set(report.opaque) <= CUSTOM
    assert report.size == sum(s.payload_size for s in stream if s.kind == "full")
    return report


@pytest.mark.parametrize("name", PCS)
def test_pcs(
    start: StartVM, emulator: Emulator, tmp_path: Path, name: str, record_property: Any
) -> None:
    if not has_machines(emulator):
        if name == "pc":
            assert emulator["name"].startswith(("minimal", "user"))
        return
    machine, arguments, names = PCS[name]
    file = tmp_path / "vm.mig"
    start(machine=machine, extra=[*emulator["args"], *arguments]).migrate_to_file(file)
    report = proven(read(file), file, names)
    record_property(name, report.summary)


def test_the_smallest_emulator(start: StartVM, tmp_path: Path) -> None:
    file = tmp_path / "vm.mig"
    start(machine="none").migrate_to_file(file)
    report = proven(read(file), file, set())
    assert not report.opaque


def target_machines() -> list[Any]:
    found = {one["name"]: one for one in environment().get("targets", [])}
    why = "no emulator of {} was set up: run scripts/setup --for test on Debian"
    out = []
    for name in TARGETS:
        target = name.partition(" ")[0]
        marks = [] if target in found else [pytest.mark.skip(reason=why.format(target))]
        out.append(pytest.param(found.get(target), name, id=name, marks=marks))
    return out


@pytest.mark.parametrize(("target", "name"), target_machines())
def test_machines_of_other_targets(
    target: dict[str, Any], name: str, tmp_path: Path, record_property: Any
) -> None:
    machine, arguments, names = TARGETS[name]
    file = tmp_path / "vm.mig"
    extra = [*target["args"], *arguments]
    with VM(machine=machine, qemu=target["path"], extra=extra, paused=True, timeout=60) as vm:
        vm.migrate_to_file(file)
    stream = read(file)
    report = proven(stream, file, names)
    record_property(name, report.summary)
    # Import it where only the module is available.
    module = tmp_path / "models.py"
    module.write_text(scaffold(stream))
    count = "import models; print(len(models.SECTIONS))"
    done = subprocess.run(
        [sys.executable, "-c", count], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stderr, int(done.stdout)) == ("", len(report.results))


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("aarch64")])
def test_arm_in_other_versions(
    start: StartVM, emulator: Emulator, tmp_path: Path, name: str, record_property: Any
) -> None:
    path = str(Path(emulator["path"]).with_name("qemu-system-aarch64"))
    if not emulator["name"].startswith("backports"):
        return  # the distribution's is tested above, and a tree's emulator has no Arm machine
    machine, arguments, names = TARGETS[name]
    file = tmp_path / "vm.mig"
    # Without defaults there is no sound backend, which some of the machines need.
    extra = [*emulator["args"], "-audio", "none", *arguments]
    start(qemu=path, machine=machine, extra=extra, paused=True).migrate_to_file(file)
    record_property(name, proven(read(file), file, names).summary)


@pytest.mark.one_emulator
def test_a_model_of_a_real_clock_has_its_time(start: StartVM, tmp_path: Path) -> None:
    file = tmp_path / "vm.mig"
    clock = ["-rtc", "base=2001-02-03T04:05:06,clock=vm", "-S", *SMALL]
    start(machine="pc", extra=clock).migrate_to_file(file)
    stream = read(file)
    names: dict[str, Any] = {}
    source = scaffold(stream, "mc146818rtc")
    exec(compile(source, "model", "exec", dont_inherit=True), names)
    model = names["SECTIONS"]["mc146818rtc", 0]()
    section = stream.section("mc146818rtc")
    begin = section.payload_offset
    load(model, file.read_bytes()[begin : begin + section.payload_size], section.version_id)
    # Seconds, minutes, hours, day, month, year in BCD.
    assert [model.cmos_data[at] for at in (0, 2, 4, 7, 8, 9)] == [6, 5, 4, 3, 2, 1]
