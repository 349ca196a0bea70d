# SPDX-License-Identifier: GPL-2.0-or-later
"""``breakpoint()`` in a script: pdb for the user who attaches, wherever it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qemu_vmstate.vm.vm import VM

from ..conftest import PATIENCE, Running
from .conftest import Emulator, StartVM, script
from .terminals import Terminal

DEVICE = """
import os, sys, threading
from qemu_vmstate import *

class Regs(VMStruct):
    count: u32 = 0

class Dev(Device, name="pydev"):
    regs: Migratable[Mutex[Regs]]

    def pre_save(self):
        stop(1)
        print("the hook", "goes on")

dev = Dev()
register(dev)
seen = []

def stop(number):
    double = 2 * number
    if number:
        breakpoint()
    seen.append(double)
    return double
"""
WAITING = "waits for a debugger: qemu-vmstate attach "


def wait_for_stop(vm: VM, times: int = 1) -> None:
    vm.wait_until(
        lambda: len(re.findall(WAITING + r"\d+\n", vm.log)) >= times or None, "breakpoint()"
    )


def in_thread(vm: VM, statement: str, name: str = "worker") -> None:
    vm.python.exec(f"threading.Thread(target=lambda: {statement}, name={name!r}).start()")


def test_a_breakpoint_in_a_thread_waits_for_a_user_who_debugs_it(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, DEVICE), shim=shim)
    in_thread(vm, "[stop(1), stop(0), stop(3)]")
    wait_for_stop(vm)
    assert f"spaces.py:22, in stop (thread worker) {WAITING}{vm.pid}\n" in vm.log
    assert vm.python.eval("seen") == []
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        assert "stop()\n-> " in terminal.read()
        assert terminal.enter("p double, number") == "(2, 1)"
        assert terminal.enter("!double = 40; print('written')") == "written"
        assert "ZeroDivisionError" in terminal.enter("p 1 / 0")
        terminal.enter("break 20")
        shown = terminal.enter("continue")
        assert "The script goes on. Ctrl-C detaches." in shown
        assert "stop()" in shown
        assert terminal.enter("p number, seen") == "(0, [40])"
        # The next breakpoint() comes to the same terminal.
        terminal.enter("clear 1")
        terminal.enter("continue")
        assert terminal.enter("p number, seen") == "(3, [40, 0])"
        assert terminal.detach() == 0
    vm.wait_until(lambda: vm.python.eval("seen") == [40, 0, 6] or None, "the thread's end")
    assert vm.log.count(WAITING) == 1
    assert "written" not in vm.log
    assert vm.quit() == 0


def test_a_breakpoint_in_a_hook_in_qemus_main_loop(
    start: StartVM, shim: str, tmp_path: Path, run: object
) -> None:
    """snapshot-save calls pre_save() there; QMP then does not answer, but the prompt does."""
    assert callable(run)
    vm = start(script=script(tmp_path, DEVICE), shim=shim, disk=True)
    saving: Running = run(lambda: vm.snapshot_save("one"))
    wait_for_stop(vm)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        assert "pre_save" in terminal.enter("where")
        assert terminal.enter("p bql_locked()") == "True"
        with Terminal.attached(vm.pid, tmp_path) as second:  # a prompt, as a user debugs already
            second.read()
            assert second.enter("seen, bql_locked()") == "([], False)"
        terminal.enter("next")
        terminal.enter("next")
        terminal.process.sendline("quit")
        assert terminal.end() == 0
    saving.result()
    assert vm.python.eval("seen") == [2]
    assert "the hook goes on" in vm.log
    assert "BdbQuit" not in vm.log


def test_a_breakpoint_while_the_script_starts(emulator: Emulator, tmp_path: Path) -> None:
    """The machine does not exist yet; the monitor is on QEMU's own terminal, and stays there."""
    path = script(tmp_path, DEVICE + "stop(5)\nprint('the script', 'ran')\n")
    env = {**emulator["env"]}
    command = ["-m", "qemu_vmstate", "run", str(path), "--", emulator["path"], *emulator["args"]]
    command += ["-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    with Terminal(*command, home=tmp_path, env=env) as qemu:
        qemu.process.expect(WAITING + r"(\d+)\r\n")
        found = qemu.process.match
        assert isinstance(found, re.Match)
        qemu.process.send("info status\r")  # nobody may read this but the monitor
        with Terminal.attached(found[1], tmp_path) as terminal:
            terminal.read()
            assert terminal.enter("p number") == "5"
            assert terminal.detach() == 0
        qemu.process.expect("the script ran")
        qemu.process.expect("VM status: ")
        qemu.process.send("quit\r")
        assert qemu.end() == 0


def test_a_breakpoint_in_what_is_typed_stops_on_the_same_terminal(
    start: StartVM, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, DEVICE))
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.enter("stop(4)")
        assert terminal.enter("p double") == "8"
        assert terminal.enter("continue") == "8"
        assert terminal.enter("import pdb; pdb.pm").startswith("<function")
        assert "ZeroDivisionError" in terminal.enter("1 / 0")
        assert terminal.detach() == 0
    assert WAITING not in vm.log


def test_ctrl_c_in_the_debugger(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, DEVICE + "spun = 0\n"))
    in_thread(vm, "stop(1)")
    wait_for_stop(vm)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.process.sendline("!while True: globals()['spun'] = 1")
        vm.wait_until(lambda: vm.python.eval("spun") or None, "the loop")
        terminal.process.sendintr()
        assert "KeyboardInterrupt" in terminal.read()
        terminal.process.send("p nothing")
        terminal.process.expect("p nothing")
        terminal.interrupt()
        assert "KeyboardInterrupt" in terminal.read()
        assert terminal.enter("p double") == "2"
        terminal.process.sendline("continue")
        terminal.process.expect("goes on")
        vm.wait_until(lambda: vm.python.eval("seen") == [2] or None, "the thread's end")
        terminal.process.sendintr()
        assert terminal.end() == 0
    assert vm.python.eval("len(seen)") == 1


def test_a_user_whose_terminal_is_gone_lets_the_script_go_on(
    start: StartVM, tmp_path: Path
) -> None:
    vm = start(script=script(tmp_path, DEVICE))
    in_thread(vm, "stop(1)")
    wait_for_stop(vm)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        terminal.enter("break stop")
        terminal.process.kill(9)
    vm.wait_until(lambda: vm.python.eval("seen") == [2] or None, "the thread's end")
    in_thread(vm, "stop(2)")
    wait_for_stop(vm, 2)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        assert terminal.enter("p double") == "4"


def test_several_threads_stop_in_turn(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, DEVICE))
    for number in (1, 2):
        in_thread(vm, f"stop({number})", f"worker {number}")
        wait_for_stop(vm, number)
    with Terminal.attached(vm.pid, tmp_path) as terminal:
        terminal.read()
        first = terminal.enter("p number")
        terminal.enter("continue")
        assert {first, terminal.enter("p number")} == {"1", "2"}
        assert terminal.detach() == 0
    vm.wait_until(lambda: len(vm.python.eval("seen")) == 2 or None, "both threads")


def test_commands_that_are_not_typed(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=script(tmp_path, DEVICE))
    in_thread(vm, "stop(1)")
    wait_for_stop(vm)
    ended = subprocess.run(
        [sys.executable, "-m", "qemu_vmstate", "attach", str(vm.pid)],
        input="p double\nup\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\n(Pdb) 2\n(Pdb) > " in ended.stdout
    vm.wait_until(lambda: vm.python.eval("seen") == [2] or None, "the thread's end")


@pytest.mark.parametrize("how", ["forbidden", "switched off", "forked", "another hook"])
def test_a_breakpoint_that_cannot_or_must_not_wait(
    start: StartVM, emulator: Emulator, tmp_path: Path, how: str
) -> None:
    env = {**emulator["env"]}
    if how == "switched off":
        env["PYTHONBREAKPOINT"] = "0"
    elif how == "another hook":
        env["PYTHONBREAKPOINT"] = "os.getpid"
    elif how == "forbidden":
        env["QEMU_VMSTATE_ATTACH"] = "no"
    text = DEVICE + "child = os.fork()\nif not child:\n    stop(1)\n    os._exit(0)\n"
    vm = start(script=script(tmp_path, text if how == "forked" else DEVICE), env=env)
    if how == "forked":
        assert vm.python.eval("os.waitpid(child, 0)[1]") == 0
        assert "does not stop: nobody can attach to a process that was forked" in vm.log
    elif how == "forbidden":
        in_thread(vm, "stop(1)")
        hint = "waits for a debugger: call vm.python.interact() in the program that started this VM"
        vm.wait_until(lambda: hint in vm.log or None, "breakpoint()")
    else:
        assert vm.python.eval("stop(1)") == 2
        assert "breakpoint()" not in vm.log


def test_a_breakpoint_where_nobody_can_attach_goes_on(emulator: Emulator, tmp_path: Path) -> None:
    path = script(tmp_path, DEVICE + "stop(1)\nprint('goes', 'on')\nos._exit(0)\n")
    env = {**os.environ, "QEMU_VMSTATE_ATTACH": "no"}
    command = [sys.executable, "-m", "qemu_vmstate", "run", str(path), "--", emulator["path"]]
    command += [*emulator["args"], "-M", "none", "-nodefaults", "-display", "none"]
    ended = subprocess.run(
        command,
        env={**env, **emulator["env"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.stdout == "goes on\n"
    assert "does not stop: nobody can attach to this QEMU: QEMU_VMSTATE_ATTACH=no" in ended.stderr
