# SPDX-License-Identifier: GPL-2.0-or-later
"""Timers of QEMU's main loop with Python callbacks, and their migration."""

from __future__ import annotations

from .conftest import SCRIPTS, StartVM

ALARM = SCRIPTS / "alarm.py"
HOUR = 3600 * 10**9


def test_timer_expires_in_the_main_loop_and_its_errors_go_to_the_log(start: StartVM) -> None:
    vm = start(script=ALARM)
    assert vm.python.eval("(dev.first.pending, dev.first.get())") == (False, -1)
    vm.python.exec("soon(dev.first); soon(dev.second)")
    vm.wait_until(lambda: vm.python.eval("dev.rung == 1"), "the timer's callback")
    vm.wait_until(lambda: "boom in the callback" in vm.log, "the other one's error in the log")
    assert vm.python.eval("dev.first.pending") is False


def test_what_is_armed_expires_on_the_other_side(start: StartVM) -> None:
    here = start("here", script=ALARM)
    there = start("there", script=ALARM, incoming=True)
    there.python.exec("dev.second.mod_ns(5)")
    here.python.exec(f"dev.first.mod_ns(clock_get_ns() + {HOUR})")
    expires = here.python.eval("dev.first.get()")
    here.migrate_to(there)
    assert there.python.eval("dev.first.get()") == expires
    assert there.python.eval("dev.second.pending") is False
    there.python.exec("soon(dev.first)")
    there.wait_until(lambda: there.python.eval("dev.rung == 1"), "the timer's callback")


def test_timers_without_an_owner_do_not_expire_and_are_released(start: StartVM) -> None:
    vm = start(script=ALARM)
    assert vm.python.call("drop_many") == 100
    vm.wait_until(lambda: vm.python.eval("dev.rung == 1"), "the timer's callback")
    vm.wait_until(lambda: vm.python.call("unreleased") == 0, "the release of the timers")
    assert vm.python.eval("dev.rung") == 1
