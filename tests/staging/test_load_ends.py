# SPDX-License-Identifier: GPL-2.0-or-later
"""``load_complete`` and ``load_rolled_back`` of loads in process."""

from __future__ import annotations

from typing import ClassVar

import pytest

from qemu_vmstate import (
    Device,
    InvalidError,
    Migratable,
    Mutex,
    StreamError,
    VMStruct,
    bql_locked,
    load,
    save,
    u32,
)

from .states import Own, messages


class Regs(VMStruct):
    count: u32 = 3


class Told(Device, name="pytold"):
    """A device whose parts C copies, which records what it is told."""

    refusing: ClassVar[set[str]] = set()
    regs: Migratable[Mutex[Regs]]

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def tell(self, hook: str, *arguments: object) -> None:
        assert bql_locked()
        with self.regs.lock() as regs:  # no lock is held
            self.told.append((hook, *arguments, regs.count))
        if hook in self.refusing:
            raise InvalidError(f"no {hook} now")

    def load_complete(self, loaded: bool) -> None:
        self.tell("load_complete", loaded)

    def load_rolled_back(self) -> None:
        self.tell("load_rolled_back")


class Finishing(Told, name="pyfinishing"):
    def post_load(self, version_id: int) -> None:
        self.tell("post_load", version_id)


class Converting(Told, name="pyconverting"):
    """A device with a part that Python converts."""

    own: Migratable[Mutex[Own]]


@pytest.fixture(autouse=True)
def refusing() -> set[str]:
    Told.refusing.clear()
    return Told.refusing


def saved(cls: type[Told], count: int) -> bytes:
    dev = cls()
    with dev.regs.lock() as regs:
        regs.count = count
    return save(dev)


@pytest.mark.parametrize("cls", [Told, Finishing, Converting])
def test_a_load_is_complete_after_all_else(cls: type[Told]) -> None:
    dev = cls()
    load(dev, saved(cls, 7))
    first = [("post_load", 1, 7)] if cls is Finishing else []
    assert dev.told == [*first, ("load_complete", True, 7)]


@pytest.mark.parametrize("cls", [Told, Finishing, Converting])
def test_a_load_that_is_refused_completes_nothing(cls: type[Told]) -> None:
    dev = cls()
    with pytest.raises(StreamError):
        load(dev, saved(cls, 7)[:-1])
    assert dev.told == []


def test_a_device_whose_post_load_raises_is_told_after_it_is_rolled_back(
    refusing: set[str],
) -> None:
    dev = Finishing()
    refusing.add("post_load")
    with pytest.raises(InvalidError, match="no post_load now"):
        load(dev, saved(Finishing, 7))
    assert dev.told == [("post_load", 1, 7), ("load_rolled_back", 3)]
    refusing.add("load_rolled_back")
    with pytest.raises(InvalidError, match="no post_load now") as caught:
        load(dev, saved(Finishing, 7))
    assert any(
        "and then pyfinishing.load_rolled_back() raised InvalidError: no load_rolled_back now"
        in note
        for note in messages(caught.value)
    )


@pytest.mark.parametrize("cls", [Told, Finishing, Converting])
def test_the_error_of_load_complete_is_raised_and_the_state_is_loaded(
    cls: type[Told], refusing: set[str]
) -> None:
    dev = cls()
    refusing.add("load_complete")
    with pytest.raises(InvalidError, match="no load_complete now") as caught:
        load(dev, saved(cls, 7))
    name = dev.__description__[0]
    assert f"in the load_complete hook of {name}, at {name}.load_complete()" in "\n".join(
        messages(caught.value)
    )
    with dev.regs.lock() as regs:
        assert regs.count == 7
    refusing.clear()
    load(dev, saved(cls, 8))
    assert dev.told[-1] == ("load_complete", True, 8)
