# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate attach`` and ``VM.python.interact()``: a prompt in a running script."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from qemu_vmstate.embed.attach_socket import AttachError
from qemu_vmstate.embed.control import Control, ControlError
from qemu_vmstate.vm.launch import libpython_of, shim_path, without_python

from ..conftest import PATIENCE
from .conftest import CHECKOUT, Emulator, LaunchError, StartVM, script
from .terminals import Terminal

COUNTER = """
import threading
from qemu_vmstate import *

class Regs(VMStruct):
    count: u32 = 0

class Counter(Device, name="pycounter"):
    regs: Migratable[Mutex[Regs]]

    def risen(self, by):
        with self.regs.lock() as regs:
            regs.count += by
            return regs.count

    def name_of(self, number):
        return number + 1

dev = Counter()
register(dev)
print("the script", "ran")
"""


def attach(
    target: object, program: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``qemu-vmstate attach`` with *program* as its input."""
    return subprocess.run(
        [sys.executable, "-m", "qemu_vmstate", "attach", str(target)],
        input=program,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=env,
    )


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new XDG_RUNTIME_DIR, in which the sockets are then made."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


# ------------------------------------------------------------- the prompt


def test_a_user_works_at_a_prompt_in_the_script(start: StartVM, shim: str, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER), shim=shim)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        banner = terminal.read()
        assert f"in QEMU, process {vm.pid}, script " in banner
        assert terminal.enter("dev.risen(by=7)") == "7"
        assert vm.python.eval("dev.risen(1)") == 8
        assert terminal.enter("for number in range(2):") == ""
        assert terminal.enter("    print('number', number)") == ""
        assert terminal.enter("") == "number 0\nnumber 1"
        terminal.process.sendline("x = input('name: ')")
        terminal.process.expect("\rname: ")
        assert terminal.enter("Jane") == ""
        assert terminal.enter("x, _, __name__") == "('Jane', 7, '__main__')"
        assert terminal.detach() == 0
    assert vm.python.eval("x") == "Jane"
    assert "number 0" not in vm.log
    assert vm.quit() == 0


def test_an_exception_shows_its_traceback_with_notes_and_the_script_goes_on(
    start: StartVM, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        shown = terminal.enter("dev.name_of('no')")
        assert shown.startswith("Traceback (most recent call last):\n")
        assert 'spaces.py", line 17, in name_of\n    return number + 1\n' in shown
        assert "TypeError: " in shown
        assert "embed" not in shown
        terminal.enter("error = ValueError('far'); error.add_note('too far')")
        assert terminal.enter("raise error").endswith("ValueError: far\ntoo far")
        assert "SyntaxError" in terminal.enter("1 +")
        assert terminal.enter("dev.risen(2)") == "2"
    assert "Traceback" not in vm.log


def test_ctrl_c_interrupts_the_statement_and_not_qemu(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER + "here = 0\n"))
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        for _ in range(3):
            terminal.process.sendline("while True: here += 1")
            terminal.read()
            terminal.process.sendline("")
            vm.wait_until(lambda: vm.python.eval("here > 0") or None, "the loop")
            terminal.process.sendintr()
            assert terminal.read().endswith("KeyboardInterrupt")
            vm.python.exec("here = 0")
        terminal.process.send("half a line")
        terminal.process.expect("half a line")
        terminal.interrupt()
        assert terminal.read().endswith("KeyboardInterrupt")
        terminal.enter("def unfinished():")
        terminal.interrupt()
        assert terminal.read().endswith("KeyboardInterrupt")
        # In the script's own except, and again while input() waits.
        terminal.enter("caught = []")
        terminal.process.sendline("caught.append(input('wait '))")
        terminal.process.expect("\rwait ")
        terminal.interrupt()
        assert "KeyboardInterrupt" in terminal.read()
        assert terminal.enter("dev.risen(3), caught") == "(3, [])"
    assert vm.qmp("query-status")["status"]


def test_a_second_ctrl_c_detaches_from_what_cannot_be_interrupted(
    start: StartVM, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, COUNTER + "held = threading.Lock()\nheld.acquire()\n"))
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.process.sendline("here = True; held.acquire(); after = 1")
        vm.wait_until(lambda: vm.python.eval("'here' in globals()"), "the statement")
        terminal.process.sendintr()
        # Two signals that are pending at the same time are one.
        while terminal.process.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=1):
            terminal.process.sendintr()
        assert "detached" in str(terminal.process.before)
        assert terminal.end() == 1
    vm.python.exec("held.release()")
    # Its KeyboardInterrupt comes as soon as it is in Python again.
    names = "[t.name for t in threading.enumerate()]"
    vm.wait_until(lambda: "qemu_vmstate prompt" not in vm.python.eval(names) or None, "the end")
    assert not vm.python.eval("'after' in globals()")


def test_completion_and_history(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.process.send("dev.ris\t")
        terminal.process.expect(r"dev\.risen\(")
        assert terminal.enter("1)").endswith("1")
        assert terminal.detach() == 0
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.process.send("\x10\n")  # Ctrl-P is the line before
        assert terminal.read() == "dev.risen(1)\n2"
    assert (tmp_path / "qemu-vmstate" / "history").stat().st_mode & 0o777 == 0o600


def test_prompts_do_not_disturb_each_other_nor_the_log(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    with (
        Terminal.attached(vm.pid, tmp_path) as one,
        Terminal.attached(vm.pid, tmp_path) as other,
    ):
        one.read(), other.read()
        assert one.enter("one = 1; print('first')") == "first"
        assert other.enter("print('second', one)") == "second 1"
        vm.python.exec("print('third', file=__import__('sys').stdout)")
        assert one.enter("import sys; _ = sys.stderr.write('fourth' + chr(10))") == "fourth"
        assert other.enter("print('fifth')") == "fifth"
    assert "third" in vm.log
    assert not any(word in vm.log for word in ("first", "second", "fourth", "fifth"))


def test_a_script_may_replace_the_standard_streams(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER + TEE))
    assert attach(vm.pid, "print('first')\nsys.stdout = Tee(sys.stdout)\n").stdout == "first\n"
    assert attach(vm.pid, "print('second')\n").stdout == "second\n"
    vm.python.exec("print('third')")
    assert attach(vm.pid, "seen").stdout == "['third', '\\n']\n"
    assert "third\n" in vm.log


TEE = """
import sys
seen = []

class Tee:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        seen.append(text)
        self.stream.write(text)
    def flush(self):
        self.stream.flush()
"""


def test_exit_ends_the_prompt_and_not_qemu(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.process.sendline("exit(5)")
        assert terminal.end() == 5
    ended = attach(vm.pid, "import sys\nsys.exit('not today')\n")
    assert (ended.returncode, ended.stderr) == (1, "not today\n")
    assert vm.python.eval("dev.risen(1)") == 1


def test_what_is_not_typed_runs_up_to_the_first_exception(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    program = "def twice(n):\n    return 2 * n\ntwice(dev.risen(4))\n"
    ended = attach(vm.pid, program)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "8\n", "")
    ended = attach(vm.pid, "print('out')\n1 / 0\nprint('never')\n")
    assert (ended.returncode, ended.stdout) == (1, "out\n")
    assert 'File "<stdin>", line 2, in <module>\nZeroDivisionError' in ended.stderr
    ended = attach(vm.pid, "print('never')\ndef (\n")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "SyntaxError" in ended.stderr
    assert attach(vm.pid, "").returncode == 0


def test_a_vm_that_ends_ends_the_prompt_with_a_message(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    ended = attach(vm.pid, "import os; os._exit(0)\n")
    assert ended.returncode == 1
    assert ended.stderr.startswith("qemu-vmstate: the VM is not attached any more: ")
    assert vm.wait() == 0


# ----------------------------------------------------- ways to start and to attach


@pytest.fixture
def by_hand(emulator: Emulator) -> Iterator[object]:
    """Return a function that starts a QEMU with a command of one's own, until the test ends."""
    running: list[subprocess.Popen[str]] = []

    def begin(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "the script ran\n", line + process.stdout.read()
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_a_qemu_of_run_can_be_attached_to_and_removes_its_socket(
    by_hand: object, emulator: Emulator, shim: str, tmp_path: Path, runtime: Path
) -> None:
    command = [
        *(sys.executable, "-m", "qemu_vmstate", "run", "--shim", shim),
        *(str(script(tmp_path, COUNTER)), "--", emulator["path"], *emulator["args"]),
        *("-M", "none", "-nodefaults", "-display", "none"),
    ]
    env = {**os.environ, **emulator["env"]}
    assert callable(by_hand)
    process = by_hand(command, env)
    path = runtime / "qemu-vmstate" / f"{process.pid}.sock"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert attach(process.pid, "dev.risen(2)").stdout == "2\n"
    assert attach(path, "dev.risen(2)").stdout == "4\n"
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert not path.exists()


def test_a_bare_plugin_can_be_attached_to(
    by_hand: object, emulator: Emulator, tmp_path: Path, runtime: Path
) -> None:
    (tmp_path / "dev.py").write_text(COUNTER)
    library = shim_path()
    python = sys.executable.replace(",", ",,")
    plugin = f"{library},python={python},libpython={libpython_of(sys.executable)}"
    plugin += f",script={tmp_path / 'dev.py'}"
    command = [emulator["path"], *emulator["args"], "-M", "none", "-display", "none"]
    env = without_python(os.environ) | {
        "PYTHONPATH": str(CHECKOUT),
        **emulator["env"],
    }
    assert callable(by_hand)
    process = by_hand([*command, "-nodefaults", "-plugin", plugin], env)
    assert attach(process.pid, "dev.risen(2)").stdout == "2\n"


@pytest.mark.parametrize(
    "options", [{"daemonize": True}, {"paused": True}, {"incoming": True}], ids=str
)
def test_daemons_and_machines_that_do_not_run_can_be_attached_to(
    start: StartVM, shim: str, tmp_path: Path, options: dict[str, bool]
) -> None:
    vm = start(script=script(tmp_path, COUNTER), shim=shim, **options)
    assert attach(vm.pid, "dev.risen(2)").stdout == "2\n"


def test_a_sandbox_without_spawn_leaves_the_prompt(
    start: StartVM, launch_error: LaunchError, emulator: Emulator, shim: str, tmp_path: Path
) -> None:
    extra = [*emulator["args"], "-sandbox", "on,spawn=deny,obsolete=deny,elevateprivileges=deny"]
    if emulator["name"].startswith("minimal"):  # Debian's are built with seccomp
        assert "-sandbox support is not enabled" in launch_error(extra=extra)
        return
    vm = start(script=script(tmp_path, COUNTER), shim=shim, extra=extra)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        assert terminal.enter("dev.risen(2)") == "2"


def test_a_script_that_holds_the_bql_leaves_the_prompt(start: StartVM, tmp_path: Path) -> None:
    held = COUNTER + (
        "let_go = threading.Event(); got = threading.Event()\n"
        "def hold():\n    with bql_lock_guard():\n        got.set(); let_go.wait()\n"
        "thread = threading.Thread(target=hold)\n"
    )
    vm = start(script=script(tmp_path, held))
    assert attach(vm.pid, "thread.start(); got.wait()").stdout == "True\n"
    assert attach(vm.pid, "bql_locked(), let_go.set()").stdout == "(False, None)\n"


def test_other_roots_and_users_can_be_attached_to(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path
) -> None:
    """QEMU changes its root and its user after the script has run."""
    if os.geteuid() != 0:
        pytest.skip("only root can change QEMU's user: run as root")
    (tmp_path / "root").mkdir()
    root = str(tmp_path / "root")
    if tuple(map(int, emulator["version"].split(".")[:2])) < (9, 1):
        changed = ["-chroot", root, "-runas", "nobody"]
    else:
        changed = ["-run-with", f"chroot={root},user=nobody"]
    extra = [*emulator["args"], *changed]
    vm = start(script=script(tmp_path, COUNTER), shim=shim, extra=extra)
    program = "import os, sys; print(os.getuid() > 0, os.path.exists(sys.argv[0]))\n"
    assert attach(vm.pid, program).stdout == "True False\n"
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        assert "<console>(1)<module>()" in terminal.enter("breakpoint()")
        terminal.process.sendline("q")
        terminal.read()


def test_interact_opens_the_prompt_on_the_hosts_terminal(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    path = script(tmp_path, COUNTER)
    host = tmp_path / "host.py"
    host.write_text(
        "from qemu_vmstate.vm import VM\n"
        f"with VM(script={str(path)!r}, qemu={emulator['path']!r}, extra={emulator['args']!r},\n"
        f"        env={emulator['env']!r}) as vm:\n"
        "    vm.python.interact()\n"
        "    print('count', vm.python.eval('dev.risen(0)'), input('then: '))\n"
    )
    with Terminal(str(host), home=tmp_path) as terminal:
        terminal.read()
        assert terminal.enter("dev.risen(5)") == "5"
        terminal.process.sendeof()
        terminal.process.expect("then: ")
        terminal.process.sendline("on")
        assert terminal.end() == 0
        assert "count 5 on" in terminal.rest


def test_a_qemu_that_must_not_be_attached_to_says_so(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, runtime: Path
) -> None:
    env = {**emulator["env"], "QEMU_VMSTATE_ATTACH": "no"}
    vm = start(script=script(tmp_path, COUNTER), shim=shim, env=env)
    ended = attach(vm.pid, "dev")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"qemu-vmstate: process {vm.pid} cannot be attached to: ")
    assert "QEMU_VMSTATE_ATTACH=no" in ended.stderr
    assert not (runtime / "qemu-vmstate").exists()
    assert vm.python.eval("dev.risen(1)") == 1


def test_a_wrong_word_for_attach_is_refused(launch_error: LaunchError, emulator: Emulator) -> None:
    env = {**emulator["env"], "QEMU_VMSTATE_ATTACH": "of course"}
    assert "QEMU_VMSTATE_ATTACH is 'of course'" in launch_error(script=os.devnull, env=env)


def test_other_users_are_refused(start: StartVM, tmp_path: Path, runtime: Path) -> None:
    """Even if someone opened the folder, which the operating system guards first."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user: run as root")
    vm = start(script=script(tmp_path, COUNTER))
    folder = runtime / "qemu-vmstate"
    (folder / f"{vm.pid}.sock").chmod(0o666)
    folder.chmod(0o711)
    program = (
        "import os, sys; from qemu_vmstate.embed import attach_socket, user_terminal\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "try: user_terminal.converse(attach_socket.connect(sys.argv[2]))\n"
        "except attach_socket.AttachError as error: sys.exit(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder), f"{vm.pid}.sock"],
        input="dev.risen(1)\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "the VM refuses: user 65534 may not attach to a QEMU of user 0: only that "
        "user and root may\n"
    )
    assert vm.python.eval("dev.risen(1)") == 1


def test_interact_needs_the_key(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, COUNTER), folder=tmp_path / "files")
    # QEMU may have closed the connection before the request for a prompt is sent.
    refused = pytest.raises((AttachError, ControlError), match=r"not attached|cannot be reached")
    with refused:
        Control(tmp_path / "files" / "vm.control", b"another VM's").interact()
    with pytest.raises(ControlError, match="cannot be reached for a prompt"):
        Control(tmp_path / "nowhere").interact()
    assert vm.python.eval("dev.risen(1)") == 1


def test_what_is_no_user_at_the_socket_disturbs_nothing(
    start: StartVM, tmp_path: Path, runtime: Path
) -> None:
    vm = start(script=script(tmp_path, COUNTER))
    path = runtime / "qemu-vmstate" / f"{vm.pid}.sock"
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(7) + b"\x02[]", bytes(7) + b"\x01{"):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(str(path))
            peer.sendall(noise)
            peer.shutdown(socket.SHUT_WR)
            assert peer.recv(100) == b""
    assert attach(vm.pid, "dev.risen(1)").stdout == "1\n"
    assert "Traceback" not in vm.log


def test_a_process_without_a_script_says_so(start: StartVM) -> None:
    ended = attach(start().pid, "")
    assert ended.returncode == 1
    assert "no script runs in it; `qemu-vmstate run SCRIPT -- QEMU ...` starts" in ended.stderr
