# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin beside the options and fixtures of other projects; no VM starts here."""

from __future__ import annotations

import re
from pathlib import Path

from .pytest_runs import run_pytest

OTHERS_CONFTEST = """
import pytest
def pytest_addoption(parser):
    parser.addoption("--qemu", dest="qemu", default="theirs")
    parser.addini("qemu", "their emulator", default="theirs too")
@pytest.fixture
def qemu_vm(request):
    return request.config.getoption("qemu"), request.config.getini("qemu")
"""
OTHERS_TEST = """
def test_theirs(qemu_vm):
    assert qemu_vm == ("theirs", "theirs too")
"""
OTHERS = {"conftest.py": OTHERS_CONFTEST, "test_it.py": OTHERS_TEST}
NO_QEMU_PACKAGE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "qemu":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def test_the_plugin_is_loaded_by_its_entry_point(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, OTHERS, "--help")
    assert status == 0, output
    assert "--qemu-vmstate-qemu=PATH" in output


def test_another_projects_option_and_fixture_stay_its_own(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, OTHERS)
    assert status == 0, output
    assert "1 passed" in output


def test_another_plugins_option_and_fixture_stay_its_own(tmp_path: Path) -> None:
    files = {"their_plugin.py": OTHERS_CONFTEST, "test_it.py": OTHERS_TEST}
    for arguments in (("-p", "their_plugin"), ("-p", "their_plugin", "--qemu=theirs")):
        folder = tmp_path / str(len(arguments))
        status, output = run_pytest(folder, files, *arguments)
        assert status == 0, output
        assert "1 passed" in output


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    test = "def test_it(qemu_vmstate_vm): pass"
    status, output = run_pytest(tmp_path, {"test_it.py": test}, "-p", "no:qemu_vmstate")
    assert status == 1, output
    assert "fixture 'qemu_vmstate_vm' not found" in output


def test_all_that_it_adds_has_the_packages_prefix(tmp_path: Path) -> None:
    """The names that pytest lists are compared with those of a run without the plugin."""
    listed = {
        "--help": r"^ +(--[\w-]+)|^  (\w+) \(\w+\):",  # options, and settings of the ini-file
        "--fixtures": r"^(\w+)(?: \[| --|$)",
        "--markers": r"^@pytest\.mark\.(\w+)",
    }
    added: dict[str, set[str]] = {}
    for option, name in listed.items():
        found = []
        for without in ([], ["-p", "no:qemu_vmstate"]):
            folder = tmp_path / f"{option}{len(without)}"
            files = {"test_it.py": "def test_it(): pass"}
            _, output = run_pytest(folder, files, option, *without)
            found.append({"".join(words) for words in re.findall(name, output, re.MULTILINE)})
        added[option] = found[0] - found[1]
    assert added == {
        "--help": {"--qemu-vmstate-qemu", "--qemu-build"},
        "--fixtures": {
            "qemu_vmstate_vm",
            *(f"qemu_vmstate_{scope}_vm" for scope in ("class", "module", "session")),
        },
        "--markers": set(),
    }


def test_without_qemu_qmp_only_a_test_that_starts_a_vm_fails(tmp_path: Path) -> None:
    tests = """
def test_without_a_vm(): pass
def test_a_vm(qemu_vmstate_vm): qemu_vmstate_vm()
"""
    files = {"conftest.py": NO_QEMU_PACKAGE, "test_it.py": tests}
    status, output = run_pytest(tmp_path, files)
    assert status == 1
    assert "1 failed, 1 passed" in output
    assert "NativeError: running a VM needs the package qemu.qmp: pip install" in output
