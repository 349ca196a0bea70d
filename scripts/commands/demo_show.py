# SPDX-License-Identifier: GPL-2.0-or-later
"""The demonstration of scripts/demo, after everything is set up."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import demo_device
from rich.console import Console
from rich.json import JSON
from rich.table import Table

import qemu_vmstate
from qemu_vmstate.vm.vm import VM, VMError

SCRIPT = Path(demo_device.__file__)
CHECKOUT = Path(__file__).resolve().parents[2]
Steps = tuple[int, int, int]

console = Console(highlight=False)
checks: list[tuple[str, str | None]] = []


def check(what: str, wrong: str | None) -> None:
    """Record and print a check's result: ``wrong`` is the error message, or ``None``."""
    checks.append((what, wrong))
    console.print(f"  [{'red]WRONG' if wrong else 'green]ok'}[/]  {what}", soft_wrap=True)
    if wrong:
        console.print(f"         {wrong}", soft_wrap=True, markup=False)


def in_process() -> None:
    """Save, describe and load without any VM."""
    built_for = qemu_vmstate.capabilities().qemu
    console.rule(f"1. In process: the C vmstate code of QEMU {built_for}, no VM")
    card = demo_device.Nic()
    for i in range(100):
        card.step(with_link=i % 10 == 0)
    wire = qemu_vmstate.save(card)
    description = qemu_vmstate.describe(card)
    console.print("  its fields:")
    show_fields({"saved": fields_of(card)})
    console.print(f"  {len(wire)} bytes on the wire, big endian:")
    for at in range(0, len(wire), 24):
        console.print(f"    {at:4}  {wire[at : at + 24].hex(' ', -4)}")
    console.print("  what QEMU's JSONWriter says of them (the first part's fields):")
    console.print(JSON(json.dumps(description["fields"][1]["struct"]["fields"]), indent=None))
    copy = demo_device.Nic()
    qemu_vmstate.load(copy, wire)
    same = qemu_vmstate.save(copy) == wire
    check("a second card, loaded from them, saves the same bytes", None if same else "it does not")
    check("they are the bytes of 100 steps", demo_device.fault(wire, card.steps()))
    before = qemu_vmstate.save(copy)
    try:
        qemu_vmstate.load(copy, wire[:77])
        wrong: str | None = "it was accepted"
    except qemu_vmstate.StreamError as error:
        console.print(f"  a stream cut short: {error}", markup=False, soft_wrap=True)
        wrong = None if qemu_vmstate.save(copy) == before else "it changed the card"
    check("a stream cut short is refused, and the card is as it was", wrong)


def fields_of(card: demo_device.Nic) -> dict[str, Any]:
    """Return a card's fields in the form of ``demo_device.state()``."""
    with qemu_vmstate.bql_lock_guard(), card.link.borrow() as state:
        link = qemu_vmstate.asdict(state)
    with card.regs.lock() as regs, card.stats.lock() as stats:
        return {
            "serial": card.serial,
            "regs": qemu_vmstate.asdict(regs),
            "link": link,
            "stats": qemu_vmstate.asdict(stats.to_migration_state()),
        }


def show_fields(columns: dict[str, dict[str, Any]]) -> None:
    """Show a table of fields, a column for each state."""
    table = Table(box=None, padding=(0, 2), show_header=len(columns) > 1)
    table.add_column("field")
    for name in columns:
        table.add_column(name, max_width=48)
    rows: dict[str, list[str]] = {}
    for number, state in enumerate(columns.values()):
        for part, value in state.items():
            inner = value if isinstance(value, dict) else {"": value}
            for name, shown in inner.items():
                if isinstance(shown, bytes):
                    shown = shown.hex(":")
                row = rows.setdefault(f"{part}.{name}".rstrip("."), [""] * len(columns))
                row[number] = str(shown)
    for path, values in rows.items():
        table.add_row(f"    {path}", *values)
    console.print(table)


def wait_for_steps(vm: VM, more: int) -> Steps:
    """Wait until the card's thread has done that many more steps, and return its steps."""
    start: Steps = vm.python.eval("dev.steps()")

    def far_enough() -> Steps | None:
        steps: Steps = vm.python.eval("dev.steps()")
        return steps if steps[0] >= start[0] + more and steps[1] > start[1] else None

    reached: Steps = vm.wait_until(far_enough, f"{more} more steps of the card's thread")
    return reached


def arrived(where: str, before: Steps, after: Steps, vm: VM, left: dict[str, Any]) -> Steps:
    """Check and show the state that a VM has received; ``left`` is the source's state now."""
    steps: Steps
    wire, steps, fields = vm.python.eval("state()")
    show_fields({"left behind, ran on": left, f"arrived {where}": fields})
    console.print(
        f"    the thread was {before[0]:,} steps far when it began, {steps[0]:,} when the state "
        f"was taken, {after[0]:,} when it was over",
    )
    check(f"every byte {where} is right, no part is torn", demo_device.fault(wire, steps))
    between = all(a <= b <= c for a, b, c in zip(before, steps, after, strict=True))
    check(
        f"what is {where} was taken while the thread ran",
        None if between else f"{steps} is not between {before} and {after}",
    )
    return steps


def migrate(source: VM, target: VM, via: Any, where: str) -> Steps:
    """Migrate while the thread runs, and check the state that arrives."""
    before = wait_for_steps(source, 500)
    info = source.migrate_to(target, via=via)
    after: Steps = source.python.eval("dev.steps()")
    source.python.exec("dev.stop()")
    console.print(
        f"  completed over {via}: downtime {info['downtime']} ms, {info['total-time']} ms in all"
    )
    left = source.python.eval("state()")[2]
    return arrived(where, before, after, target, left)


def in_vms(emulator: dict[str, Any]) -> None:
    """Run two live migrations and a snapshot."""
    common: dict[str, Any] = {
        "script": SCRIPT,
        "qemu": emulator["path"],
        "extra": emulator["args"],
        "env": emulator["env"],
        "timeout": 30,
    }
    with (
        VM(name="here", **common) as here,
        VM(name="there", incoming=True, **common) as there,
        VM(name="here-again", incoming=True, disk=True, **common) as again,
    ):
        console.rule(f"2. In QEMU {emulator['version']} ({emulator['name']}): live migration")
        here.python.exec("dev.start()")
        there_steps = migrate(here, there, "unix", "there")

        console.rule("3. It goes on there, and migrates back")
        there.python.exec("dev.start()")
        steps = wait_for_steps(there, 500)
        console.print(f"  there, {steps[0] - there_steps[0]:,} steps later")
        migrate(there, again, "tcp", "here again")

        console.rule("4. Snapshot, and back to it")
        again.python.exec("dev.start()")
        before = wait_for_steps(again, 500)
        again.snapshot_save("demo")
        saved: Steps = again.python.eval("dev.steps()")
        wait_for_steps(again, 500)
        again.python.exec("dev.stop()")
        left = again.python.eval("state()")[2]
        again.snapshot_load("demo")
        arrived("after the reload", before, saved, again, left)


def main() -> int:
    """Run everything, and return the exit status."""
    began = time.monotonic()
    environment = json.loads((CHECKOUT / "build" / "demo-environment.json").read_text())
    in_process()
    usable = [e for e in environment["emulators"] if e["native"]]
    failed = None
    if usable:
        try:
            in_vms(usable[0])
        except VMError as error:
            failed = str(error)
            console.print_exception()
    else:
        failed = "no qemu-system-x86_64 of this version was found: " + " ".join(
            environment["missing"]
        )
    console.rule("Summary")
    wrong = [what for what, error in checks if error]
    console.print(f"  {len(checks) - len(wrong)} of {len(checks)} checks passed", style="bold")
    for what in wrong:
        console.print(f"  WRONG: {what}", style="red")
    if failed:
        console.print(f"  not finished: {failed}", style="red", markup=False)
    if not wrong and not failed:
        console.print(
            "  A Python device's locked state crossed two live migrations and a snapshot of an "
            f"unmodified QEMU, byte for byte ({time.monotonic() - began:.1f} s). It works on "
            "your machine.",
            style="green",
        )
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
