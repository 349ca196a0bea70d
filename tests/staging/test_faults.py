# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks that fail: the exceptions of save() and load(), and that nothing has changed."""

from __future__ import annotations

import gc
import re
import signal
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pytest

from qemu_vmstate import (
    Array,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    OutOfRangeError,
    PoisonError,
    QTailQ,
    Subsection,
    VArray,
    VMStruct,
    describe,
    field,
    load,
    save,
    u8,
    u16,
    u32,
    validate,
    zeroed,
)
from qemu_vmstate.device.device import staging_of

from ..conftest import memory_growth
from ..in_vm.scripts import faulty
from .states import Own, Word, messages, raising_signal

RAISED: dict[str, type[Exception]] = {
    "pre_save": KeyError,
    "post_load": OSError,
    "needed": ZeroDivisionError,
    "restore": ValueError,
    "poisoned": PoisonError,
}


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    faulty.mend(faulty.First())


def text_of(caught: pytest.ExceptionInfo[BaseException]) -> str:
    return "\n".join(messages(caught.value))


@pytest.mark.parametrize("hook", faulty.SAVING)
def test_a_hook_that_fails_fails_the_save_and_the_next_one_succeeds(hook: str) -> None:
    dev = faulty.make(faulty.First)
    faulty.change(dev, 5)
    good, before = save(dev), faulty.as_seen(dev)
    faulty.break_it(dev, hook)
    for call in (save, describe):
        with pytest.raises(RAISED.get(hook, InvalidError)) as caught:
            call(dev)
        assert f"no {hook} now" in str(caught.value) or hook in ("validate", "poisoned")
        assert place(hook) in text_of(caught)
        assert in_hook(hook, "pre_save") in text_of(caught)
    assert faulty.as_seen(dev) == before
    faulty.mend(dev)
    assert save(dev) == good


@pytest.mark.parametrize("hook", faulty.LOADING)
def test_a_hook_that_fails_fails_the_load_and_the_next_one_succeeds(hook: str) -> None:
    wire = source_bytes()
    dev = faulty.make(faulty.First)
    faulty.change(dev, 5)
    load(dev, save(dev))
    before, copies = faulty.as_seen(dev), faulty.copies()
    faulty.break_it(dev, hook)
    with pytest.raises(RAISED.get(hook, InvalidError)) as caught:
        load(dev, wire)
    assert place(hook) in text_of(caught)
    assert in_hook(hook, "post_load") in text_of(caught)
    assert faulty.as_seen(dev) == before
    del caught
    assert faulty.copies() == copies
    faulty.mend(dev)
    load(dev, wire)
    assert save(dev) == wire


def source_bytes() -> bytes:
    source = faulty.make(faulty.First)
    faulty.change(source, 77)
    return save(source)


def place(hook: str) -> str:
    """Return the place in a message about pyfirst."""
    return faulty.expected_message("pyfirst", hook).partition(": ")[0]


def in_hook(hook: str, conversions_in: str) -> str:
    own = {"snapshot", "restore", "validate", "poisoned", "needed"}  # called in pre_save
    return f"in the {conversions_in if hook in own else hook} hook of pyfirst"


def test_an_error_with_a_path_has_that_path_in_its_message() -> None:
    dev = faulty.make(faulty.First)
    dev.cups.into_inner().total = 2**32
    with pytest.raises(OutOfRangeError) as caught:
        save(dev)
    assert str(caught.value) == (
        "pyfirst.cups.total: 4294967296 is out of range for u32 (0 to 4294967295)"
    )


def test_of_two_failures_the_first_is_raised_and_the_second_noted() -> None:
    dev = faulty.make(faulty.First)
    faulty.break_it(dev, "field_exists")
    faulty.break_it(dev, "post_save")
    with pytest.raises(InvalidError, match="no field_exists now") as caught:
        save(dev)
    assert "and then, in the post_save hook of pyfirst" in text_of(caught)
    faulty.mend(dev)
    save(dev)


# --------------------------------------------------------- predicates, deep inside


def _is_here(_state: Any, _version_id: int) -> bool:
    if Leaf.answers == 0:
        raise InvalidError("no answer")
    Leaf.answers -= 1
    return True


class Leaf(VMStruct):
    answers: ClassVar[int] = -1
    """The number of calls after which its predicate fails; negative: never."""
    here: u16 = field(field_exists=_is_here)
    rest: u8 = 0


class Bush(VMStruct, name="bush"):
    leaves: Array[Leaf, Literal[3]] = zeroed()
    queue: QTailQ[Leaf, Literal[4]] = zeroed()


class Garden(Device, name="garden"):
    bush: Migratable[Mutex[Bush]]
    more: Subsection[Leaf] = field(name="garden/more", needed=True)


@pytest.mark.parametrize(
    ("answers", "where"),
    [(0, "bush.leaves[0]"), (2, "bush.leaves[2]"), (3, "bush.queue[0]"), (4, "more")],
)
@pytest.mark.parametrize("saves", [True, False], ids=["save", "load"])
def test_a_predicate_that_fails_names_its_field_in_the_device(
    answers: int, where: str, saves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = Garden()
    dev.bush.into_inner().queue = [Leaf(here=1, rest=2)]
    wire = save(dev)
    copy = Garden()
    before = save(copy)
    with monkeypatch.context() as patch:
        patch.setattr(Leaf, "answers", answers)
        with pytest.raises(InvalidError) as caught:
            save(dev) if saves else load(copy, wire)
    assert str(caught.value) == f"garden.{where}.here.field_exists(): no answer"
    assert "in the field_exists hook of garden" in text_of(caught)
    assert save(copy) == before


def test_a_default_needed_that_cannot_compare_fails_the_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Long(VMStruct):
        count: u8 = 0
        items: VArray[u8, Literal[4]] = field(num="count")

    class Lazy(Device, name="lazy"):
        more: Subsection[Long] = field(name="lazy/more")

    dev = Lazy()
    save(dev)

    def no_memory(_struct: Any) -> bytes:
        raise MemoryError

    from qemu_vmstate.vmsd import predicates

    monkeypatch.setattr(predicates, "bytes", no_memory, raising=False)
    with pytest.raises(MemoryError) as caught:
        save(dev)
    monkeypatch.undo()
    assert "lazy.more.needed()" in text_of(caught)


def test_an_exception_outside_of_a_predicates_try_fails_the_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler may raise between the call from C and the first line of the try."""
    from qemu_vmstate.vmsd import predicates

    dev = faulty.make(faulty.First)

    def interrupted(*_arguments: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(predicates, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(dev)
    monkeypatch.undo()
    save(dev)


def test_a_hook_of_a_device_that_is_gone_is_no_success() -> None:
    staging = staging_of(faulty.make(faulty.First))
    gc.collect()
    failure = staging.bridge_object.save()
    assert isinstance(failure, tuple)
    ret, message, _ = failure
    assert ret < 0
    assert "the device of this hook was freed" in message


def test_a_callback_whose_staging_struct_is_gone_is_no_success(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from qemu_vmstate.bindings.native import ffi, lib

    class Gone:
        pass

    handle = ffi.new_handle(weakref.ref(Gone()))
    errmsg = ffi.new("char **")
    assert lib().qv_py_snapshot(handle, 0, errmsg) < 0
    assert lib().qv_py_restore(handle, 1, errmsg) < 0
    assert lib().qv_py_hook(handle, lib().QV_HOOK_PRE_LOAD, errmsg) < 0
    assert "Traceback" in capfd.readouterr().err


def test_a_signal_that_raises_inside_a_hook_fails_the_save() -> None:
    class Slow(Own):
        def snapshot_migration_state(self, target: Word) -> None:
            signal.raise_signal(signal.SIGUSR1)
            target.value = 1

    with raising_signal(), pytest.raises(KeyboardInterrupt) as caught:
        save(Migratable(Mutex(Slow())))
    assert "in the pre_save hook of" in text_of(caught)


# ----------------------------------------------------------------- two that agree


class Bank(Device, name="bank"):
    """Has a number of accounts; ``Ledger``, which is loaded later, must have the same."""

    accounts: u32 = 2


class Ledger(Device, name="ledger"):
    count: u32 = 2
    bank: Any = field(omit=True)

    @validate("as many as the bank's accounts")
    def agrees(self, source: Any) -> bool:
        agree: bool = source.count == self.bank.accounts
        return agree


def test_two_devices_that_must_agree_are_checked() -> None:
    bank = Bank()
    ledger = Ledger(bank=bank)
    load(bank, (3).to_bytes(4, "big"))
    with pytest.raises(InvalidError, match=r"(?m)^ledger: as many as the bank's accounts$"):
        load(ledger, (2).to_bytes(4, "big"))
    assert ledger.count == 2
    load(ledger, (3).to_bytes(4, "big"))
    assert ledger.count == 3


@pytest.mark.parametrize("hook", sorted({*faulty.SAVING, *faulty.LOADING}))
def test_failures_leak_no_memory(hook: str) -> None:
    """2,000 of them; 128 KiB would be 65 bytes each."""
    wire = source_bytes()
    dev = faulty.make(faulty.First)
    faulty.break_it(dev, hook)

    def fail(times: int) -> None:
        for _ in range(times):
            if hook in faulty.SAVING:
                with pytest.raises(Exception, match=re.compile("")):
                    save(dev)
            if hook in faulty.LOADING:
                with pytest.raises(Exception, match=re.compile("")):
                    load(dev, wire)

    try:
        assert memory_growth(fail, 500, 2000) < 128 * 1024
    finally:
        faulty.mend(dev)
