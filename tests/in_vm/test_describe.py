# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate describe`` beside QEMU's own ``-dump-vmstate``, and in QEMU's static checker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import CHECKOUT, Emulator, emulators, environment, source_of

Describe = Callable[..., subprocess.CompletedProcess[str]]

MODELS = """
from typing import Literal
from qemu_vmstate import *

# The fields of hw/intc/i8259_common.c, hw/i386/vapic.c and hw/nvram/fw_cfg.c.
class LTIM(VMStruct, name="i8259/ltim"):
    ltim: u8 = 0
class PIC(Device, name="i8259"):
    last_irr: u8 = 0
    irr: u8 = 0
    imr: u8 = 0
    isr: u8 = 0
    priority_add: u8 = 0
    irq_base: u8 = 0
    read_reg_select: u8 = 0
    poll: u8 = 0
    special_mask: u8 = 0
    init_state: u8 = 0
    auto_eoi: u8 = 0
    rotate_on_auto_eoi: u8 = 0
    special_fully_nested_mode: u8 = 0
    init4: u8 = 0
    single_mode: u8 = 0
    elcr: u8 = 0
    ltim: Subsection[LTIM]

class Handlers(VMStruct, name="kvmvapic-handlers"):
    set_tpr: u32 = 0
    set_tpr_eax: u32 = 0
    get_tpr: Array[u32, Literal[8]] = zeroed()
    get_tpr_stack: u32 = 0
class GuestROM(VMStruct, name="kvmvapic-guest-rom"):
    signature: Unused[Literal[8]]
    vaddr: u32 = 0
    fixup_start: u32 = 0
    fixup_end: u32 = 0
    vapic_vaddr: u32 = 0
    vapic_size: u32 = 0
    vcpu_shift: u32 = 0
    real_tpr_addr: u32 = 0
    up: Handlers
    mp: Handlers
class VAPIC(Device, name="kvm-tpr-opt"):
    rom_state: GuestROM
    state: u32 = 0
    real_tpr_addr: u32 = 0
    rom_state_vaddr: u32 = 0
    vapic_paddr: u32 = 0
    rom_state_paddr: u32 = 0

class FWCfg(Device, name="fw_cfg", version_id=2, minimum_version_id=1):
    cur_entry: u16 = 0
    cur_offset_v1: u32 = field(default=0, field_exists=lambda _, v: v == 1)
    cur_offset: u32 = field(default=0, version_id=2)

print("this is no JSON", flush=True)
objects = [PIC(), PIC(), VAPIC(), FWCfg()]
for instance, obj in enumerate(objects):
    register(obj, instance)
"""

DEVICE = """
from typing import Literal
from qemu_vmstate import *
class Regs(VMStruct):
    count: u32 = 0
    fifo: Array[u8, Literal[16]] = zeroed()
class Extra(VMStruct, name="pydev/extra"):
    extra: u8 = 0
class Dev(Device, name="pydev", version_id=1):
    regs: Migratable[Mutex[Regs]]
    irq: u8 = 0
register(Dev())
"""
COMPATIBLE = {
    "nothing": (),
    "a field of a new version": (
        ("version_id=1)", "version_id=2)"),
        ("irq: u8 = 0", "irq: u8 = 0\n    level: u8 = field(default=0, version_id=2)"),
    ),
    "a new subsection": (("irq: u8 = 0", "irq: u8 = 0\n    extra: Subsection[Extra]"),),
}
INCOMPATIBLE = {
    'Field "count" size mismatch': (("count: u32", "count: u64"),),
    'expected field "irq"': (("    irq: u8 = 0\n", ""),),
    "minimum version error: 1 < 2": (("version_id=1)", "version_id=2, minimum_version_id=2)"),),
    'Section "pydev" does not exist in dest': (
        ('"pydev", ', '"another", '),
        ("pydev/", "another/"),
    ),
}


@pytest.fixture
def describe(tmp_path: Path, emulator: Emulator) -> Describe:
    """Return a function that runs ``describe`` on a script in the test's emulator."""
    # Without -- it takes the one in PATH.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qemu-system-x86_64").symlink_to(emulator["path"])
    variables = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        "QEMU_VMSTATE_QEMU": emulator["native"],
        **emulator["env"],
    }

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "dev.py").write_text(script)
        return subprocess.run(
            [sys.executable, "-m", "qemu_vmstate", "describe", "dev.py", *arguments],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


def dump_of_c(emulator: Emulator, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return what ``-dump-vmstate`` writes."""
    file = folder / "c.json"
    command = [emulator["path"], *emulator["args"], "-M", "none", "-display", "none"]
    subprocess.run(
        [*command, "-dump-vmstate", file],
        env=os.environ | emulator["env"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return file.read_text(), json.loads(file.read_text())


def comparable(description: Any) -> Any:
    """Leave out the size of structs in memory, which QEMU's checker ignores."""
    for field in description["Fields"]:
        if "Description" in field:
            del field["size"]
            comparable(field["Description"])
    return description


def test_devices_are_described_as_qemu_describes_those_in_c(
    describe: Describe, tmp_path: Path
) -> None:
    done = describe(MODELS)
    assert done.returncode == 0, done.stderr
    assert "this is no JSON" in done.stderr
    python = json.loads(done.stdout)
    assert list(python) == ["vmschkmachine", "fw_cfg", "i8259", "kvm-tpr-opt"]
    # These devices have not changed from 7.2 to 10.2, which also writes the length of arrays.
    text, c = dump_of_c(emulators()[-1], tmp_path)
    assert python["vmschkmachine"] == c["vmschkmachine"] == {"Name": "none"}
    assert python["i8259"]["Description"] == c["isa-i8259"]["Description"]
    ours, theirs = python["kvm-tpr-opt"]["Description"], c["kvmvapic"]["Description"]
    assert comparable(ours) == comparable(theirs)
    fields = c["fw_cfg"]["Description"]["Fields"]
    # C has two fields of one name.
    fields[1]["field"] += "_v1"
    assert python["fw_cfg"]["Description"]["Fields"] == fields
    assert list(python["i8259"]) == list(c["isa-i8259"])
    # The text is formatted in the same way.
    pic = text[text.index('  "isa-i8259": {') :].partition("\n  }")[0]
    assert pic.replace("isa-i8259", "i8259") in done.stdout


@pytest.mark.guest
@pytest.mark.one_emulator
def test_the_example_models_are_described_as_the_c_devices(
    describe: Describe, emulator: Emulator, tmp_path: Path
) -> None:
    folder = CHECKOUT / "examples" / "qemu_devices"
    script = f"""
import sys
sys.path.insert(0, {str(folder)!r})
from qemu_vmstate import register
from hpet import HPET
from mc146818rtc import RTC
objects = [HPET(), RTC()]
for obj in objects:
    register(obj)
"""
    done = describe(script)
    assert done.returncode == 0, done.stderr
    python, (_, c) = json.loads(done.stdout), dump_of_c(emulator, tmp_path)
    for name in ("hpet", "mc146818rtc"):
        ours, theirs = (comparable(dump[name]["Description"]) for dump in (python, c))
        assert ours == theirs


def test_the_machine_and_the_shim_are_those_of_the_command_line(
    describe: Describe, emulator: Emulator, shim: str
) -> None:
    command = [emulator["path"], *emulator["args"]]
    done = describe(DEVICE, "--shim", shim, "--", *command, "-machine", "none", "-nographic")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["vmschkmachine", "pydev"]


@pytest.mark.guest
def test_the_name_of_a_machine_is_the_one_behind_its_alias(
    describe: Describe, emulator: Emulator
) -> None:
    command = [emulator["path"], *emulator["args"]]
    version = ".".join(emulator["version"].split(".")[:2])
    for options in ([], ["-M", "pc"], ["-M", "pc,vmport=off"]):
        done = describe(DEVICE, "--", *command, *options)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["vmschkmachine"] == {"Name": f"pc-i440fx-{version}"}


def release(*changes: tuple[str, str]) -> str:
    script = DEVICE
    for old, new in changes:
        assert old in script
        script = script.replace(old, new)
    return script


@pytest.mark.parametrize("release_name", [*COMPATIBLE, *INCOMPATIBLE])
def test_qemus_checker_compares_two_releases(
    describe: Describe, tmp_path: Path, release_name: str
) -> None:
    changes = {**COMPATIBLE, **INCOMPATIBLE}[release_name]
    for name, script in (("old", DEVICE), ("new", release(*changes))):
        done = describe(script)
        assert done.returncode == 0, done.stderr
        (tmp_path / f"{name}.json").write_text(done.stdout)
    for tree in environment()["trees"]:
        checker = source_of(tree["build"]) / "scripts" / "vmstate-static-checker.py"
        checked = subprocess.run(
            [sys.executable, checker, "-s", "old.json", "-d", "new.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert checked.stderr == ""
        if release_name in COMPATIBLE:
            assert (checked.returncode, checked.stdout) == (0, "")
        else:
            assert checked.returncode > 0
            assert release_name in checked.stdout


def test_instances_of_other_descriptions_have_members_of_their_own(describe: Describe) -> None:
    other = """
class Other(Device, name="pydev"):
    other: u8 = 0
objects = [Dev(), Other(), Other()]
for instance, obj in enumerate(objects, 1):
    register(obj, instance)
"""
    done = describe(DEVICE + other)
    assert done.returncode == 0, done.stderr
    dump = json.loads(done.stdout)
    assert list(dump) == ["vmschkmachine", "pydev", "pydev/2", "pydev/3"]
    assert dump["pydev/2"]["Description"]["Fields"][0]["field"] == "other"


ERRORS = {
    "the script dev.py has registered no device: it has to call register() for each": "x = 1",
    "dev.py raised ZeroDivisionError: division by zero": "1 / 0",
}


@pytest.mark.one_emulator
@pytest.mark.parametrize("error", ERRORS)
def test_a_script_that_cannot_be_described_is_an_error(describe: Describe, error: str) -> None:
    done = describe(ERRORS[error])
    assert (done.returncode, done.stdout) == (1, "")
    assert error in done.stderr
    assert done.stderr.splitlines()[-1].startswith("qemu-vmstate: ")


@pytest.mark.one_emulator
def test_a_qemu_that_is_none_or_ends_is_an_error(describe: Describe, emulator: Emulator) -> None:
    for command, error in (
        (["/no/such/qemu"], "/no/such/qemu cannot be run: No such file or directory"),
        ([emulator["path"], "-M", "no-such"], "unsupported machine type"),
        (["false"], "ended with status 1"),
    ):
        done = describe(DEVICE, "--", *command)
        assert (done.returncode, done.stdout) == (1, "")
        assert error in done.stderr
        assert "Traceback" not in done.stderr
