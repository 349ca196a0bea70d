# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples for each kind of user: their state after savevm, loadvm and a live migration."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qemu_vmstate import NativeError
from qemu_vmstate.vm.vm import VM

from .conftest import CHECKOUT, Emulator, StartVM

EXAMPLES = CHECKOUT / "examples"


def carried(here: VM, there: VM, change: Callable[[VM], None], see: Callable[[VM], Any]) -> Any:
    """Check that a snapshot and a migration carry what ``see`` returns, and return that.

    ``change`` changes it, and so does the same to the same state in each VM.
    """
    before = see(here)
    here.snapshot_save("before")
    change(here)
    changed = see(here)
    assert changed != before
    here.snapshot_load("before")
    assert see(here) == before
    assert see(there) != before
    here.migrate_to(there)
    assert see(there) == before
    change(there)
    assert see(there) == changed
    return before


def statement(text: str) -> Callable[[VM], None]:
    return lambda vm: vm.python.exec(text)


def value(text: str) -> Callable[[VM], Any]:
    return lambda vm: vm.python.eval(text)


@pytest.fixture
def pair(start: StartVM, emulator: Emulator) -> Callable[..., tuple[VM, VM]]:
    """Return a function that starts an example in a VM with a disk, and in one that waits."""

    def begin(name: str, **options: Any) -> tuple[VM, VM]:
        script = EXAMPLES / name
        here = start("here", script=script, disk=True, **options)
        return here, start("there", script=script, incoming=True, **options)

    return begin


def test_rehosted_modem(pair: Any) -> None:
    here, there = pair("rehosted_modem.py")
    here.python.exec("dev.transmit('ATD5551234'); dev.transmit('ATH')")
    assert here.python.eval("dev.answer()") == "OK 1"
    requests = "[(one.number, one.command) for one in dev.state.lock().value.requests]"
    log = "dev.state.lock().value.log"
    waiting, text = carried(here, there, statement("dev.answer()"), value(f"({requests}, {log})"))
    assert waiting == [(2, "ATH")]
    assert text == "> ATD5551234\n> ATH\n< OK 1\n"


def test_long_job(pair: Any) -> None:
    here, there = pair("long_job.py")
    assert here.python.eval("dev.work('a')") == 1.0
    names = ("description", "total", "completed", "fields")
    see = value(f"[getattr(dev.task.lock().value, name) for name in {names}]")
    seen = carried(here, there, statement("dev.work('b')"), see)
    assert seen == ["copying", 100.0, 1.0, {"last": "a"}]


def test_random_source(pair: Any) -> None:
    here, there = pair("random_source.py")
    row = random.Random(1234)
    first = [row.getrandbits(32) for _ in range(5)]
    here.python.exec("dev.seed(1234)")
    assert [here.python.eval("dev.read()") for _ in range(5)] == first
    state = "dev.source.lock().value.getstate()"
    assert carried(here, there, statement("dev.read()"), value(state)) == row.getstate()
    row.getrandbits(32)
    assert there.python.eval("dev.read()") == row.getrandbits(32)


def test_numpy_frame(pair: Any) -> None:
    here, there = pair("numpy_frame.py")
    here.python.exec("dev.draw(2.0)")
    see = "(dev.mean(), dev.view[3, 4].item(), dev.frame.lock().value.pixels[511][511])"
    seen = carried(here, there, statement("dev.draw(0.5)"), value(see))
    # The mean of 0 to 511 is 255.5, of the sum of two such numbers 511.
    assert seen == (2 * 511, 2 * 7, 2 * 1022)


def asked(path: Path, line: str) -> str:
    """Send a line to the server that listens on ``path``, and return its answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"{line}\n".encode())
        with client.makefile() as answers:
            return answers.readline().rstrip("\n")


def test_session_server(start: StartVM, tmp_path: Path) -> None:
    script = EXAMPLES / "session_server.py"
    paths = {name: tmp_path / name for name in ("here", "there")}
    here = start("here", script=script, args=[str(paths["here"])], disk=True)
    there = start("there", script=script, args=[str(paths["there"])], incoming=True)
    here.wait_until(paths["here"].exists, "the server")
    there.wait_until(paths["there"].exists, "the server")
    assert asked(paths["here"], "t1 tea") == "tea"
    assert asked(paths["here"], "t2 milk") == "milk"
    sessions = value("{t: s.items for t, s in dev.sessions.lock().value.by_token.items()}")
    answers = []

    def buy_rice(vm: VM) -> None:
        answers.append(asked(paths[vm.name], "t1 rice"))

    assert carried(here, there, buy_rice, sessions) == {"t1": ["tea"], "t2": ["milk"]}
    assert answers == ["tea rice", "tea rice"]
    assert asked(paths["there"], "t2 salt") == "milk salt"


@pytest.mark.guest
def test_block_counter(pair: Any, emulator: Emulator, rom: Path) -> None:
    extra = [*emulator["args"], "-bios", str(rom), "-m", "16"]
    here, there = pair("block_counter.py", machine="pc", extra=extra)
    counts = value("dict(dev.blocks.lock().value.counts)")

    def run_on(vm: VM) -> None:
        executed = sum(counts(vm).values())
        vm.wait_until(
            lambda: sum(counts(vm).values()) > executed + 100 or None, "more executed blocks"
        )

    run_on(here)
    here.qmp("stop")
    before = counts(here)
    here.snapshot_save("before")
    here.cont()
    run_on(here)
    here.qmp("stop")
    assert sum(counts(here).values()) > sum(before.values())
    here.snapshot_load("before")
    assert counts(here) == before
    here.cont()
    run_on(here)
    assert counts(there) == {}
    here.migrate_to(there)
    run_on(there)
    left, arrived = counts(here), counts(there)
    # The jump at the reset vector, and the firmware's beginning, which only the source has run.
    for once in (0xFFFF_FFF0, 0xF_0000):
        assert before[once] == left[once] == arrived[once] == 1
    assert all(arrived[address] >= count for address, count in left.items())
    assert sum(arrived.values()) > sum(left.values())


@pytest.mark.one_emulator
def test_a_preloaded_shim_is_no_plugin(start: StartVM) -> None:
    vm = start(script=EXAMPLES / "rehosted_modem.py", shim="preload")
    with pytest.raises(NativeError, match="this Python is no TCG plugin: start a QEMU that has"):
        vm.python.eval("__import__('qemu_vmstate').plugin_id()")
