# SPDX-License-Identifier: GPL-2.0-or-later
"""Collections and text in classes that ``migrates()`` gives their conversions."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any

import pytest

from qemu_vmstate import InvalidError, Mutex, field, i64, load, migrates, save, u8, u32


class Receiver:
    def __init__(self) -> None:
        self.fifo: deque[int] = deque(maxlen=8)


class Uart:
    """Somebody else's: a nested path, a property and a dict that functions reach."""

    def __init__(self) -> None:
        self.rx = Receiver()
        self._log: list[str] = []
        self.registers: dict[str, list[int]] = {"scratch": []}
        self.names: dict[str, int] = {}

    @property
    def log(self) -> list[str]:
        return list(self._log)

    @log.setter
    def log(self, lines: list[str]) -> None:
        if "bad" in lines:
            raise ValueError("bad line")
        self._log = list(lines)


def set_scratch(uart: Uart, value: list[int]) -> None:
    if 0xFF in value:
        raise ValueError("0xff")
    uart.registers["scratch"] = value


migrates(
    Uart,
    int_type=i64,
    max_length=4,
    fields={
        "names": dict[Annotated[str, field(max_length=4)], u32],
        "fifo": field(deque[u8], max_length=8, attribute="rx.fifo"),
        "log": field(list[Annotated[str, field(max_length=4)]]),
        "scratch": field(list[u8], attribute=(lambda uart: uart.registers["scratch"], set_scratch)),
    },
)


def filled() -> Uart:
    uart = Uart()
    uart.names["a"] = 1
    uart.rx.fifo.extend([1, 2])
    uart.log = ["x"]
    uart.registers["scratch"] = [5]
    return uart


WIRE = b"".join(
    [
        *(b"\1", (1).to_bytes(4, "big"), b"a", (1).to_bytes(4, "big")),
        b"\2\1\2",
        *(b"\1", (1).to_bytes(4, "big"), b"x"),
        b"\1\5",
    ]
)


def values(uart: Uart) -> tuple[Any, ...]:
    return dict(uart.names), list(uart.rx.fifo), uart.log, uart.registers


def test_collections_of_a_foreign_class_migrate() -> None:
    assert save(Mutex(filled())) == WIRE
    uart = Uart()
    names, fifo = uart.names, uart.rx.fifo
    load(Mutex(uart), WIRE)
    assert values(uart) == values(filled())
    assert uart.names is names
    assert uart.rx.fifo is fifo
    assert fifo.maxlen == 8


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (WIRE[:-1] + b"\xff", "scratch: .* could not be stored: ValueError: 0xff"),
        (WIRE.replace(b"\1x", b"\3bad"), "log: .* could not be stored: ValueError: bad line"),
        (WIRE.replace(b"\1a", b"\1\xff"), "names: the stream has no UTF-8 here"),
    ],
)
def test_setter_that_refuses_leaves_every_collection_as_it_was(wire: bytes, message: str) -> None:
    uart = Uart()
    uart.names["old"] = 7
    uart.rx.fifo.append(9)
    uart.log = ["old"]
    uart.registers["scratch"] = [3]
    before = values(uart)
    names, fifo, scratch = uart.names, uart.rx.fifo, uart.registers["scratch"]
    with pytest.raises(InvalidError, match=message):
        load(Mutex(uart), wire)
    assert values(uart) == before
    assert (uart.names, uart.rx.fifo) == (names, fifo)
    assert uart.names is names
    assert uart.rx.fifo is fifo
    assert scratch == [3]
