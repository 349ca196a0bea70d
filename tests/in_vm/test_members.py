# SPDX-License-Identifier: GPL-2.0-or-later
"""priority, unmigratable, early_setup and needed of a registered device, in a VM."""

from __future__ import annotations

from pathlib import Path

import pytest

from qemu_vmstate.stream.reader import read
from qemu_vmstate.vm.vm import VMError

from .conftest import SCRIPTS, Emulator, StartVM

MEMBERS = SCRIPTS / "members.py"


def test_higher_priority_is_loaded_first(start: StartVM) -> None:
    here = start("here", script=MEMBERS)
    there = start("there", script=MEMBERS, incoming=True)
    here.migrate_to(there)
    assert there.python.eval("loaded") == ["high", "low"]


def test_unmigratable_blocks_until_it_is_gone(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=MEMBERS, disk=True)
    vm.python.call("stay")
    with pytest.raises(Exception, match="stays"):
        vm.migrate_to_file(tmp_path / "out.mig")
    with pytest.raises(VMError, match="stays"):
        vm.snapshot_save("one")
    vm.python.call("go")
    vm.migrate_to_file(tmp_path / "out.mig")
    assert read(tmp_path / "out.mig").section("low").field("x").value == 1


def test_early_setup_is_written_before_ram(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    here = start("here", script=MEMBERS, args=["early"]) if has_early_setup(emulator) else None
    if here is None:
        with pytest.raises(VMError, match="early_setup: this QEMU does not have it"):
            start("none", script=MEMBERS, args=["early"])
        return
    file = tmp_path / "early.mig"
    here.migrate_to_file(file)
    names = [section.name for section in read(file) if section.name]
    first_pages = names.index("ram", names.index("ram") + 1)
    assert names.index("at-once") < first_pages < names.index("low")
    there = start("there", script=MEMBERS, args=["early"], incoming=True)
    there.load_from_file(file)
    assert there.python.eval("loaded") == ["at-once", "high", "low"]


@pytest.mark.parametrize("left_out", ["Optional", "OptionalHooks"])
def test_a_device_that_is_not_needed_is_not_in_the_stream(
    start: StartVM, left_out: str, tmp_path: Path
) -> None:
    here, there = start("here", script=MEMBERS), start("there", script=MEMBERS, incoming=True)
    here.python.call("offer", {left_out: False})
    there.python.call("offer", {})
    file = tmp_path / "out.mig"
    here.migrate_to_file(file)
    names = {"Optional": "optional", "OptionalHooks": "optional-hooks"}
    there_is = {section.name for section in read(file)} & set(names.values())
    assert there_is == set(names.values()) - {names[left_out]}
    calls = here.python.eval("{name: device.calls for name, device in optional.items()}")
    called = {"Optional": ["needed"], "OptionalHooks": ["needed", "pre_save"]}
    assert calls == called | {left_out: ["needed"]}
    there.load_from_file(file)
    loaded = there.python.eval("optional['OptionalHooks'].calls")
    # The one that was left out is loaded from its defaults, with its hooks.
    assert loaded == ["post_load"]


@pytest.mark.parametrize("which", ["Optional", "OptionalHooks"])
@pytest.mark.parametrize("answer", ["ZeroDivisionError('no idea')", "Undecided()"])
def test_a_needed_that_fails_fails_the_migration(
    start: StartVM, which: str, answer: str, tmp_path: Path
) -> None:
    vm = start(script=MEMBERS)
    vm.python.exec(
        "class Undecided:\n    def __bool__(self):\n        raise ZeroDivisionError('no idea')\n"
        f"offer({{{which!r}: {answer}}})"
    )
    name = {"Optional": "optional", "OptionalHooks": "optional-hooks"}[which]
    with pytest.raises(VMError, match=rf"{name}.needed\(\): ZeroDivisionError: no idea"):
        vm.migrate_to_file(tmp_path / "out.mig")
    assert vm.python.eval(f"optional[{which!r}].calls") == ["needed"]
    vm.python.exec(f"optional[{which!r}].wanted = False")
    vm.migrate_to_file(tmp_path / "good.mig")
    assert name not in {section.name for section in read(tmp_path / "good.mig")}


def has_early_setup(emulator: Emulator) -> bool:
    """Return whether this QEMU's VMStateDescription has early_setup."""
    return int(emulator["version"].split(".")[0]) >= 10
