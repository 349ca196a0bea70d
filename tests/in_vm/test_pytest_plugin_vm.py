# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin's fixtures in projects made on the spot: scopes, names, reports of failures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ..vm.pytest_runs import run_pytest
from .conftest import Emulator

Project = Callable[..., tuple[int, str]]

CONFTEST = """
import pytest
@pytest.fixture
def note():
    def note(*words):
        with open("notes", "a") as notes:
            notes.write(" ".join(map(str, words)) + "\\n")
    return note
"""


@pytest.fixture
def project(tmp_path: Path, emulator: Emulator) -> Project:
    """Return a function that runs pytest on some files with the test's emulator."""

    def run(tests: str | dict[str, str], *arguments: str) -> tuple[int, str]:
        variables = emulator["env"] | {"QEMU_VMSTATE_QEMU": emulator["native"]}
        files = {"test_it.py": tests} if isinstance(tests, str) else tests
        files = {name: f"EXTRA = {emulator['args']!r}\n{text}" for name, text in files.items()}
        option = f"--qemu-vmstate-qemu={emulator['path']}"
        files["conftest.py"] = CONFTEST
        return run_pytest(tmp_path, files, option, *arguments, environment=variables)

    return run


def notes(tmp_path: Path) -> list[list[str]]:
    lines = (tmp_path / "project" / "notes").read_text().splitlines()
    return [line.split() for line in lines]


ONE_OF_EACH = """
import pytest
running = {}
def note_running(note):
    note(*[scope for scope, pid in running.items() if alive(pid)])
def alive(pid):
    try:
        return b"qemu" in open(f"/proc/{pid}/cmdline", "rb").read()
    except FileNotFoundError:
        return False
class TestStart:
    def test_1(self, qemu_vmstate_vm, qemu_vmstate_class_vm, qemu_vmstate_module_vm,
               qemu_vmstate_session_vm):
        for scope, start in list(locals().items())[1:]:
            running[scope.split("_")[-2]] = start(extra=EXTRA).pid
    def test_2(self, note): note_running(note)
def test_3(note): note_running(note)
"""


def test_a_vm_ends_with_the_scope_of_its_fixture(project: Project, tmp_path: Path) -> None:
    later = "import test_1st\ndef test_4(note): test_1st.note_running(note)"
    status, output = project({"test_1st.py": ONE_OF_EACH, "test_2nd.py": later})
    assert status == 0, output
    assert "4 passed" in output
    assert notes(tmp_path) == [["class", "module", "session"], ["module", "session"], ["session"]]


def test_names_and_folders_are_never_those_of_another_vm(project: Project, tmp_path: Path) -> None:
    test = """
import shutil
def test_it(qemu_vmstate_vm, qemu_vmstate_module_vm, tmp_path, note):
    (tmp_path / "vm3").write_text("mine")
    vms = [qemu_vmstate_vm(extra=EXTRA) for _ in range(2)]
    shutil.rmtree(vms[0].folder)
    vms.append(qemu_vmstate_vm(extra=EXTRA))
    vms += [qemu_vmstate_vm(extra=EXTRA, name="vm4"), qemu_vmstate_vm(extra=EXTRA)]
    vms += [qemu_vmstate_vm(extra=EXTRA), qemu_vmstate_module_vm(extra=EXTRA)]
    vms += [qemu_vmstate_vm(extra=EXTRA, name="mine") for _ in range(2)]
    note(*[vm.name for vm in vms])
    note(*[vm.folder for vm in vms])
    assert all(vm.folder.is_dir() for vm in vms[1:])
    assert (tmp_path / "vm3").read_text() == "mine"
"""
    status, output = project(test)
    assert status == 0, output
    names, folders = notes(tmp_path)
    assert names == ["vm0", "vm1", "vm2", "vm4", "vm3", "vm5", "vm0", "mine", "mine"]
    assert len(set(folders)) == len(folders)


def test_an_assertion_shows_the_log_and_the_last_exchanges(
    project: Project, tmp_path: Path
) -> None:
    test = """
import pytest
from pathlib import Path
Path("dev.py").write_text("print('the script has run', flush=True)")
@pytest.fixture(scope="module")
def shared(qemu_vmstate_module_vm):
    return qemu_vmstate_module_vm("dev.py", name="shared", extra=EXTRA)
def test_own(qemu_vmstate_vm):
    vm = qemu_vmstate_vm(script="dev.py", name="own", extra=EXTRA)
    for _ in range(30):
        vm.qmp("query-migrate")
        vm.qmp("query-status")
    vm.stop()
    vm.wait_event("STOP")
    assert vm.qmp("query-status")["status"] == "never"
def test_shared(shared):
    shared.cont()
    assert shared.name == "another"
def test_none(): assert False
"""
    status, output = project(test)
    assert status == 1
    own, shared, none = re.split(r"^_{5,} test_\w+ _{5,}$", output, flags=re.MULTILINE)[1:]
    for text, name in ((own, "own"), (shared, "shared")):
        assert re.search(rf"^-+ The log of VM '{name}' \(/.*\.log\) -+$", text, re.MULTILINE), text
        assert "\nthe script has run\n" in text
        assert re.search(rf"^-+ The last QMP exchanges of VM '{name}' ", text, re.MULTILINE)
    assert '\n-> {"execute": "stop"}\n' in own
    assert re.search(r'^-> \{"execute": "query-migrate"\}  \(sent 30 times', own, re.MULTILINE)
    assert re.search(r'^<- \{.*"event": "STOP"', own, re.MULTILINE)
    assert '"execute": "cont"' in shared
    assert "VM 'shared'" not in own
    assert "VM" not in none


def test_an_error_of_a_vm_shows_them_once(project: Project, tmp_path: Path) -> None:
    test = """
def test_it(qemu_vmstate_vm):
    vm = qemu_vmstate_vm(name="own", extra=EXTRA)
    vm.qmp("quit")
    vm.wait_until(lambda: False, "the end of days")
def test_refused(qemu_vmstate_vm):
    vm = qemu_vmstate_vm(name="own", extra=EXTRA)
    vm.qmp("no-such-command", value=5000 * "x")
"""
    status, output = project(test)
    assert status == 1
    ended, refused = re.split(r"^_{5,} test_\w+ _{5,}$", output, flags=re.MULTILINE)[1:]
    assert ended.count("The last QMP exchanges of VM 'own'") == 1
    assert '-> {"execute": "quit"}' in ended
    assert refused.count("The last QMP exchanges of VM 'own'") == 1
    (sent,) = [line for line in refused.splitlines() if line.startswith('-> {"execute": "no-such')]
    assert len(sent) < 500
    assert sent.endswith("characters)")
    assert re.search(r'^<- \{"error": .*no-such-command', refused, re.MULTILINE)


def test_a_vm_that_does_not_start_shows_its_log_once(project: Project, tmp_path: Path) -> None:
    test = "def test_it(qemu_vmstate_vm): qemu_vmstate_vm(machine='no-such-machine', extra=EXTRA)"
    status, output = project(test)
    assert status == 1
    assert output.count("The log of VM 'vm0'") == 1
    assert "unsupported machine type" in output


def test_processes_of_xdist_have_their_own_folders(project: Project, tmp_path: Path) -> None:
    test = """
import pytest
@pytest.mark.parametrize("number", range(2))
def test_it(number, qemu_vmstate_vm, qemu_vmstate_session_vm, note, worker_id):
    for start in (qemu_vmstate_vm, qemu_vmstate_session_vm):
        note(worker_id, start(extra=EXTRA).folder)
    assert number == 5
"""
    status, output = project(test, "-n", "2", "--dist", "each")
    assert status == 1
    found = notes(tmp_path)
    assert len(found) == 8
    assert {worker for worker, _ in found} == {"gw0", "gw1"}
    assert len({folder for _, folder in found}) == 8
    # The sections of a report reach the process that prints them.
    assert output.count("The last QMP exchanges of VM 'vm0'") == 4 + 4
