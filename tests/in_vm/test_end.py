# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a QEMU with Python in it; ends of threads and forks, and signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate.embed.control import ControlError
from qemu_vmstate.vm.vm import VMError

from ..conftest import PATIENCE
from .conftest import (
    BUSY_DEVICE,
    Emulator,
    LaunchError,
    StartVM,
    busy,
    enable,
    environment,
    script,
    wait_status,
)

# ----------------------------------------------------------- ways to the end


@pytest.mark.guest
def test_a_guest_that_switches_itself_off_ends_qemu_as_ever(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, rom: Path
) -> None:
    extra = [*emulator["args"], "-bios", str(rom), "-m", "16"]
    vm = start(script=busy(tmp_path), shim=shim, machine="pc", extra=extra)
    vm.qmp("send-key", keys=[{"type": "qcode", "data": "ret"}])
    assert vm.wait() == 0
    (event,) = [event for event in vm.events if event["event"] == "SHUTDOWN"]
    assert event["data"] == {"guest": True, "reason": "guest-shutdown"}
    assert (tmp_path / "log").read_text().endswith("atexit ran")


@pytest.mark.guest
def test_a_guest_that_ends_qemu_from_its_processors_thread_has_its_status(
    start: StartVM, emulator: Emulator, shim: str, tmp_path: Path, rom: Path
) -> None:
    """In 7.2 isa-debug-exit calls exit() in the guest's thread."""
    extra = [
        *emulator["args"],
        "-bios",
        str(rom),
        "-m",
        "16",
        "-device",
        "isa-debug-exit,iobase=0xf4",
    ]
    vm = start(script=busy(tmp_path), shim=shim, machine="pc", extra=extra)
    # exit() can come before the main thread has answered.
    with contextlib.suppress(VMError):
        vm.qmp("send-key", keys=[{"type": "qcode", "data": "esc"}])
    assert vm.wait() == 2 * 0x10 + 1
    assert (tmp_path / "log").read_text().endswith("atexit ran")


@pytest.mark.parametrize(
    ("last_words", "status"),
    [
        ("os.abort()", -signal.SIGABRT),
        ("os._exit(42)", 42),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGHUP); threading.Event().wait()", 0),
    ],
)
@pytest.mark.parametrize("where", ["thread", "hook"])
def test_the_exit_status_is_what_the_script_asked_for(
    start: StartVM, shim: str, tmp_path: Path, last_words: str, status: int, where: str
) -> None:
    text = f"""
import os, signal, threading
from qemu_vmstate import *
class Plain(VMStruct):
    n: u8 = 0
class State(ToMigrationState[Plain]):
    def snapshot_migration_state(self, target):
        {last_words.partition(";")[0]}
    def restore_migrated_state_mut(self, source, version_id):
        pass
class Dev(Device, name="pydev"):
    state: Migratable[Mutex[State]]
dev = Dev()
register(dev)
def last_words():
    {last_words}
"""
    vm = start(script=script(tmp_path, text), shim=shim)
    # QEMU may end before it answers.
    with contextlib.suppress(ControlError, VMError):
        if where == "thread":
            vm.python.exec("threading.Thread(target=last_words, daemon=True).start()")
        else:
            vm.migrate(f"exec:cat > {tmp_path}/stream")
    assert vm.wait() == status


def test_an_abort_while_the_script_runs_ends_qemu_by_its_signal(
    launch_error: LaunchError, shim: str, tmp_path: Path
) -> None:
    assert "SIGABRT" in launch_error(script=script(tmp_path, "import os\nos.abort()"), shim=shim)


def test_a_thread_that_raises_or_exits_ends_alone(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    text = f"""
import sys, threading
from qemu_vmstate import *
def raises(): 1 / 0
def exits(): sys.exit(3)
def raises_with_the_bql():
    with bql_lock_guard(): 1 / 0
def ended(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join({PATIENCE})
    return not thread.is_alive()
"""
    vm = start(script=script(tmp_path, text), shim=shim)
    for call in ("raises", "exits", "raises_with_the_bql"):
        assert vm.python.eval(f"ended({call})")
    assert vm.log.count("ZeroDivisionError") == 2
    assert vm.qmp("query-status")
    assert vm.quit() == 0


def test_qemu_may_quit_in_the_middle_of_a_migration(start: StartVM, shim: str) -> None:
    vm = start(script=BUSY_DEVICE, shim=shim)
    vm.python.exec("dev.start(pause=0.001)")
    enable(vm, "pause-before-switchover")
    vm.migrate("exec:cat > /dev/null")
    wait_status(vm, "pre-switchover")
    assert vm.quit() == 0


@pytest.mark.one_emulator
@pytest.mark.parametrize("how", ["wait", "wait_event"])
def test_events_that_precede_the_end_are_received(
    start: StartVM, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = []
    new_event_loop = asyncio.new_event_loop

    def recorded() -> asyncio.AbstractEventLoop:
        loops.append(new_event_loop())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", recorded)
    vm = start()
    [loop] = loops
    late_reader = threading.Event()
    # Delay the monitor's loop, as on a busy machine.
    loop.call_soon_threadsafe(late_reader.wait)
    os.kill(vm.pid, signal.SIGTERM)
    with os.fdopen(os.pidfd_open(vm.pid)) as process:
        assert select.select([process], [], [], PATIENCE)[0]
    late = threading.Timer(0.2, late_reader.set)
    late.start()
    if how == "wait":
        assert vm.wait() == 0
        assert [event["event"] for event in vm.events] == ["SHUTDOWN"]
    else:
        assert vm.wait_event("SHUTDOWN")["data"]["reason"] == "host-signal"
    late.join()


# ------------------------------------------------------------- ownership


DROPPED = """
import gc, threading, weakref
from qemu_vmstate import *
class Regs(VMStruct):
    n: u32 = 0x11223344
class Dev(Device, name="pydev"):
    regs: Migratable[Mutex[Regs]]
    shared: Migratable[Arc[Mutex[Regs]]]
def fill():
    for number in range(20):
        register(Dev(), number)
    register(Migratable(Mutex(Regs())), name="pybare")
    with register(Dev(), 99): pass
fill()
del Dev
for _ in range(3):
    gc.collect()
    waste = [bytearray(200) for _ in range(10000)]
"""


def test_what_c_points_at_lives_as_long_as_its_registration(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    path = script(tmp_path, DROPPED)
    here, there = start("here", script=path, shim=shim), start("there", script=path, shim=shim)
    for vm in (here, there):
        vm.python.exec("fill = None; gc.collect()")
    here.migrate_to_file(tmp_path / "stream")
    stream = (tmp_path / "stream").read_bytes()
    assert stream.count(bytes.fromhex("11223344")) == 41
    assert stream.count(b"\x05pydev") == 20
    assert stream.count(b"\x06pybare") == 1


def test_a_thread_registers_while_the_script_still_runs(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    text = """
import threading
from qemu_vmstate import *
class Dev(Device, name="pydev"):
    n: u32 = 0x11223344
registrations = []
def work(first):
    for number in range(first, first + 10):
        registrations.append(register(Dev(), number))
workers = [threading.Thread(target=work, args=(10 * number,)) for number in range(4)]
for worker in workers: worker.start()
"""
    vm = start(script=script(tmp_path, text), shim=shim)
    vm.python.exec("for worker in workers: worker.join(120)")
    vm.migrate_to_file(tmp_path / "stream")
    assert (tmp_path / "stream").read_bytes().count(bytes.fromhex("11223344")) == 40


# ------------------------------------------------------------------------ forks


FORKS = """
import atexit, os, sys, threading
from qemu_vmstate import *
class Dev(Device, name="pydev"):
    n: u32 = 5
dev = Dev()
register(dev)
qemu = os.getpid()
atexit.register(lambda: print("exit function in", "QEMU" if os.getpid() == qemu else "a fork"))
ended = {}
def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def in_a_fork(call):
    pid = os.fork()
    if pid:
        return status(pid)
    try:
        call()
        os._exit(0)
    except BqlError as error:
        print(error, flush=True)
        os._exit(5)
def ends_its_thread():
    if (pid := os.fork()) == 0:
        return
    ended["thread"] = status(pid)
for name, last_words in (("exit", lambda: sys.exit(7)), ("exception", lambda: 1 / 0)):
    if (pid := os.fork()) == 0:
        last_words()
    ended[name] = status(pid)
if (pid := os.fork()) == 0:
    print("a fork runs to the script's end")
else:
    ended["end"] = status(pid)
"""


def test_a_fork_ends_where_the_script_ends_and_is_no_second_qemu(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    pidfile = tmp_path / "pid"
    vm = start(script=script(tmp_path, FORKS), shim=shim, extra=["-pidfile", str(pidfile)])
    vm.python.exec("thread = threading.Thread(target=ends_its_thread)")
    vm.python.exec("thread.start(); thread.join(120)")
    assert vm.python.eval("ended") == {"exit": 7, "exception": 1, "end": 0, "thread": 0}
    # QEMU's own exit functions would have removed it.
    assert int(pidfile.read_text()) == vm.pid
    for call in ("save(dev)", "bql_locked()", "unregister(dev)", "register(Dev(), 2)"):
        assert vm.python.eval(f"in_a_fork(lambda: {call})") == 5, call
    assert f"forked by the script in QEMU (process {vm.pid})" in vm.log
    assert vm.python.eval("save(dev)") == b"\0\0\0\5"
    vm.migrate_to_file(tmp_path / "stream")
    assert vm.quit() == 0
    assert vm.log.count("exit function in a fork") == 3
    assert vm.log.count("exit function in QEMU") == 1


# ---------------------------------------------------------------------- signals


def signals(pid: int) -> dict[str, int]:
    """Return the signals that a process catches and ignores, and that its first thread blocks."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return {kind: int(lines[kind], 16) for kind in ("SigCgt", "SigIgn", "SigBlk")}


def test_python_changes_nothing_about_qemus_signals(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    text = """
import asyncio, concurrent.futures, multiprocessing, signal, subprocess, threading
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(3)]
for thread in threads: thread.start()
subprocess.run(["true"])
"""
    plain, vm = start("plain"), start("vm", script=script(tmp_path, text), shim=shim)
    assert signals(vm.pid) == signals(plain.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_qemu_while_threads_run_and_its_exit_functions_run(
    start: StartVM, shim: str, tmp_path: Path, number: signal.Signals
) -> None:
    vm = start(script=busy(tmp_path), shim=shim)
    os.kill(vm.pid, number)
    assert vm.wait() == 0
    assert f"terminating on signal {number:d}" in vm.log
    assert (tmp_path / "log").read_text().endswith("atexit ran")


# ------------------------------------------------------- deep on a coroutine's stack


DEEP = """
from qemu_vmstate import *
def look(depth):
    deep = []
    for _ in range(depth):
        deep = [deep]
    try:
        return len(repr(deep))
    except RecursionError:
        return "RecursionError"
def exists(state, version_id):
    if state.depth and bql_locked():
        dev.deep.into_inner().asked = look(state.depth)
    return True
class Depth(VMStruct):
    depth: u32 = 0
    more: u8 = field(default=0, field_exists=exists)
class Deep(ToMigrationState[Depth]):
    depth = 0
    said = asked = None
    def snapshot_migration_state(self, target):
        target.depth = self.depth
        if self.depth:
            self.said = look(self.depth)
    def restore_migrated_state_mut(self, source, version_id):
        assert bql_locked()
        save(inner)
        self.said = look(source.depth)
class Dev(Device, name="pydeep"):
    deep: Migratable[Mutex[Deep]]
inner = Dev()
dev = Dev()
register(dev)
"""


def pythons() -> list[Any]:
    later = environment().get("later_python")
    return [None, *([str(later)] if later else [])]


@pytest.mark.parametrize("python", pythons(), ids=["python", "later-python"][: len(pythons())])
def test_deep_c_recursion_in_a_hook_stays_within_its_stack(
    start: StartVM, shim: str, tmp_path: Path, python: str | None
) -> None:
    """The incoming coroutine's stack has 1 MiB; from 3.13 on 9,000 levels of repr() need more."""
    options = {"script": script(tmp_path, DEEP), "shim": shim}
    if python:
        options["python"] = python
    for depth in (9000, 500_000):
        here = start(f"here{depth}", **options)
        there = start(f"there{depth}", **options, incoming=True)
        here.python.exec(f"dev.deep.into_inner().depth = {depth}")
        here.migrate_to(there)
        said = there.python.eval("dev.deep.into_inner().said")
        # On the source the hook runs in a thread with its own stack.
        assert said == here.python.eval("dev.deep.into_inner().said")
        assert said == there.python.eval("dev.deep.into_inner().asked")
        assert said in (2 * (depth + 1), "RecursionError")
        assert depth == 9000 or said == "RecursionError"
        assert there.quit() == here.quit() == 0
