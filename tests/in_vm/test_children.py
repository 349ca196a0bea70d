# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that Python starts inside QEMU block only the signals that the script has blocked."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .conftest import Emulator, StartVM, script

CHILDREN = r"""
import asyncio, multiprocessing, os, re, signal, subprocess, sys, threading, time
from qemu_vmstate import *

STATUS = "/proc/self/status"
GREP = ["grep", "SigBlk", STATUS]
# A child of the shell's own would have no mask: the shell clears it.
SHELL = "exec " + " ".join(GREP)

def mask(text):
    return int(re.search(r"SigBlk:\s*(\w+)", text)[1], 16)

def from_file(start):
    path = f"{OUT}.{threading.get_native_id()}"
    start(path)
    with open(path) as file:
        text = file.read()
    os.unlink(path)
    return mask(text)

def forked(path):
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
    else:
        with open(path, "w") as file:
            file.write(open(STATUS).read())
        os._exit(0)

def spawned(function):
    def start(path):
        flags = os.O_WRONLY | os.O_CREAT
        actions = [(os.POSIX_SPAWN_OPEN, 1, path, flags, 0o600)]
        program = "grep" if function is os.posix_spawnp else "/bin/grep"
        pid = function(program, GREP, os.environ, file_actions=actions)
        assert os.waitpid(pid, 0)[1] == 0
    return start

def multi(path):
    def write():
        with open(path, "w") as file:
            file.write(open(STATUS).read())
    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()

async def asynchronous():
    process = await asyncio.create_subprocess_exec(*GREP, stdout=asyncio.subprocess.PIPE)
    return mask((await process.communicate())[0].decode())

def ways():
    run = dict(capture_output=True, text=True, check=True)
    return {
        "subprocess": mask(subprocess.run(GREP, **run).stdout),
        "shell": mask(subprocess.run(SHELL, shell=True, **run).stdout),
        "open descriptors": mask(subprocess.run(GREP, close_fds=False, **run).stdout),
        "preexec_fn": mask(subprocess.run(GREP, preexec_fn=lambda: None, **run).stdout),
        "popen": mask(os.popen(SHELL).read()),
        "system": from_file(lambda path: os.system(f"{SHELL} > {path}")),
        "spawn": from_file(lambda path: os.spawnlp(
            os.P_WAIT, "sh", "sh", "-c", f"{SHELL} > {path}")),
        "posix_spawn": from_file(spawned(os.posix_spawn)),
        "posix_spawnp": from_file(spawned(os.posix_spawnp)),
        "fork": from_file(forked),
        "multiprocessing": from_file(multi),
    }

def ends():
    # What terminate() and then wait() must end, at once.
    child = subprocess.Popen(["sleep", "1000"])
    child.terminate()
    status = child.wait(60)
    # This one executes nothing, and so would keep QEMU's handlers.
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join(60)
    return [status, process.exitcode]

seen = {}
def look(place):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    seen[place] = ways() | {"terminate": ends()}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before

class Regs(VMStruct):
    n: u32 = 0

class Dev(Device, name="pychildren"):
    regs: Migratable[Mutex[Regs]]
    def pre_save(self):
        look("pre_save")
    def post_load(self, version_id):
        look("post_load")

def in_thread(function, *arguments):
    def run():
        try:
            function(*arguments)
        except BaseException as error:
            failures.append(repr(error))
    failures = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []

look("script")
in_thread(look, "thread")
dev = Dev()
register(dev)

def blocking():
    # A script's own mask goes on to its children, and to its threads and theirs.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    look("blocking")
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    look("blocking more")
    in_thread(look, "in its thread")
    signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    look("restored")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    look("blocking nothing")
"""

WAYS = {
    *("subprocess", "shell", "open descriptors", "preexec_fn", "popen", "system", "spawn"),
    *("posix_spawn", "posix_spawnp", "fork", "multiprocessing"),
}


def bits(*signals: signal.Signals) -> int:
    return sum(1 << (number - 1) for number in signals)


def expected(*signals: signal.Signals) -> dict[str, object]:
    return dict.fromkeys(WAYS, bits(*signals)) | {"terminate": 2 * [-signal.SIGTERM]}


def children(folder: Path) -> Path:
    return script(folder, CHILDREN.replace("OUT", repr(str(folder / "status"))))


def test_children_block_nothing_that_the_script_has_not_blocked(
    start: StartVM, shim: str, tmp_path: Path
) -> None:
    vm = start(script=children(tmp_path), shim=shim, disk=True, timeout=240.0)
    vm.snapshot_save("good")
    vm.snapshot_load("good")
    seen = vm.python.eval("seen")
    for place in ("script", "thread", "pre_save", "post_load"):
        assert seen.pop(place) == expected(), place
    vm.python.exec("in_thread(blocking)")
    assert vm.python.eval("seen['blocking']") == expected(signal.SIGUSR2)
    both = expected(signal.SIGUSR2, signal.SIGALRM)
    assert vm.python.eval("seen['blocking more']") == both
    assert vm.python.eval("seen['in its thread']") == both
    assert vm.python.eval("seen['restored']") == expected(signal.SIGUSR2)
    assert vm.python.eval("seen['blocking nothing']") == expected()
    assert vm.quit() == 0


def test_children_of_a_migrations_thread(
    start: StartVM, emulator: Emulator, tmp_path: Path
) -> None:
    """It blocks nearly everything; a child of QEMU's own, behind ``exec:``, blocks nothing."""
    vm = start(script=children(tmp_path), timeout=240.0)
    status, stream = tmp_path / "own", tmp_path / "stream"
    vm.migrate(f"exec:grep SigBlk /proc/self/status > {status}; cat > {stream}")
    assert vm.wait_migration()["status"] == "completed"
    assert vm.python.eval("seen['pre_save']") == expected()
    assert int(status.read_text().split()[1], 16) == 0
    assert vm.quit() == 0


@pytest.mark.one_emulator
def test_asyncios_children(start: StartVM, tmp_path: Path) -> None:
    vm = start(script=children(tmp_path), timeout=240.0)
    vm.python.exec("in_thread(lambda: seen.update(asyncio=asyncio.run(asynchronous())))")
    assert vm.python.eval("seen['asyncio']") == 0
