# SPDX-License-Identifier: GPL-2.0-or-later
"""The stack switch of hooks, in this processor's assembly and as every other has it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

CDEFS = Path(__file__).resolve().parents[2] / "cdefs"
SIZE = 4 << 20

HELPERS = """
#include <errno.h>
#include <stdint.h>
#include "bridge/stack_switch.h"

uintptr_t address_of_frame;

int note_frame(void *handle, int argument, char **errmsg)
{
    char here;

    address_of_frame = (uintptr_t)&here;
    *(int *)handle += argument;
    *errmsg = handle;
    errno = EXDEV;
    return -argument;
}

/* Values that the compiler keeps in registers which a call preserves, or on the old stack. */
double mix(char *stack, size_t size, QvPythonHook *hook, long a, double b)
{
    long c = a * 3, d = a * 5, e = a * 7, f = a * 11, g = a * 13, h = a * 17;
    double i = b * 3, j = b * 5, k = b * 7, l = b * 11, m = b * 13, n = b * 17;
    int value = 0;
    char *text = 0;
    int ret = qv_call_on_stack(stack, size, hook, &value, 1000000, &text);

    return a + c + d + e + f + g + h + b + i + j + k + l + m + n + ret + value;
}
"""

Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Switch:
    """The compiled switch, with a stack for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lib = ctypes.CDLL(str(path), use_errno=True)
        self.lib.mix.restype = ctypes.c_double
        self.memory = mmap.mmap(-1, SIZE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.end = self.start + SIZE

    def call(self, hook: Any, handle: Any = None, argument: int = 0, errmsg: Any = None) -> int:
        start, size = ctypes.c_void_p(self.start), ctypes.c_size_t(SIZE)
        return int(self.lib.qv_call_on_stack(start, size, hook, handle, argument, errmsg))

    def python(self, function: Callable[[], int]) -> int:
        """Call a Python function on the stack."""
        return self.call(Hook(lambda *_: function()))


@pytest.fixture(scope="module", params=["own", "portable"])
def switch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Switch:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install build-essential")
    folder = tmp_path_factory.mktemp("switch")
    helpers = folder / "helpers.c"
    helpers.write_text(HELPERS)
    define = ["-DQV_PORTABLE_STACK"] if request.param == "portable" else []
    subprocess.run(
        [
            *(compiler, "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"),
            *("-D_GNU_SOURCE", f"-I{CDEFS}", *define, str(helpers)),
            *(str(CDEFS / "bridge" / "stack_switch.c"), "-o", str(folder / "switch.so")),
        ],
        check=True,
        timeout=120,
    )
    return Switch(folder / "switch.so")


def test_the_hook_runs_on_the_stack_with_its_arguments_and_its_result(switch: Switch) -> None:
    value, text = ctypes.c_int(40), ctypes.c_char_p()
    address = ctypes.c_size_t.in_dll(switch.lib, "address_of_frame")
    hook = switch.lib.note_frame
    assert switch.call(hook, ctypes.byref(value), 2, ctypes.byref(text)) == -2
    assert value.value == 42
    assert switch.start <= address.value < switch.end
    assert ctypes.cast(text, ctypes.c_void_p).value == ctypes.addressof(value)
    hook(ctypes.byref(value), 2, ctypes.byref(text))
    assert not switch.start <= address.value < switch.end


def test_the_caller_keeps_its_registers_and_gets_errno(switch: Switch) -> None:
    stack = (ctypes.c_void_p(switch.start), ctypes.c_size_t(SIZE))
    factors = 1 + 3 + 5 + 7 + 11 + 13 + 17
    ctypes.set_errno(0)
    mixed = switch.lib.mix(*stack, switch.lib.note_frame, ctypes.c_long(3), ctypes.c_double(0.5))
    assert mixed == 3.5 * factors
    assert ctypes.get_errno() == errno.EXDEV


def test_python_runs_and_raises_and_recurses_on_it(switch: Switch) -> None:
    seen: list[Any] = []

    def work() -> int:
        seen.append(threading.get_ident())
        deep: list[Any] = []
        for _ in range(9000):
            deep = [deep]
        try:
            seen.append(len(repr(deep)))
        except RecursionError:
            seen.append(18002)
        try:
            raise KeyError("inside")
        except KeyError as error:
            seen.append(error.args)
        return 7

    assert switch.python(work) == 7
    assert seen == [threading.get_ident(), 18002, ("inside",)]


def test_calls_follow_each_other_and_other_threads_have_their_own(switch: Switch) -> None:
    for number in range(100):
        assert switch.python(partial(int, number)) == number
    inside, leave = threading.Event(), threading.Event()

    def stay() -> int:
        inside.set()
        assert leave.wait(60)
        return 5

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(switch.python(stay)))
    thread.start()
    assert inside.wait(60)
    own = Switch(switch.path)
    assert own.python(lambda: 3) == 3
    leave.set()
    thread.join(60)
    assert results == [5]


@pytest.mark.parametrize("how", [signal.SIG_BLOCK, signal.SIG_UNBLOCK])
def test_a_signal_mask_that_the_hook_sets_stays(switch: Switch, how: int) -> None:
    opposite = signal.SIG_UNBLOCK if how == signal.SIG_BLOCK else signal.SIG_BLOCK
    before = signal.pthread_sigmask(opposite, {signal.SIGUSR2})
    try:
        switch.python(lambda: len(signal.pthread_sigmask(how, {signal.SIGUSR2})))
        now = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert (signal.SIGUSR2 in now) == (how == signal.SIG_BLOCK)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
