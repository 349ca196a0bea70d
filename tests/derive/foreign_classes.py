# SPDX-License-Identifier: GPL-2.0-or-later
"""Classes as others write them, without a thought of migration, and what migrates of each."""

from __future__ import annotations

import sys
import types
from collections import deque
from typing import Any

import attrs
import pydantic

from qemu_vmstate import field, migrates, u8, u16, u32

WIRE = ">BI3H"
"""Each of the classes in ``KINDS`` has a mode, a level and three words on the wire."""
FIRST = (1, 70000, 1, 2, 3)
OTHER = (2, 80000, 4, 5, 6)
REFUSED = 66
"""The level that every class which can refuse one refuses."""


def refuse(value: int) -> None:
    if value == REFUSED:
        raise ValueError(f"no level of {REFUSED}")


class Plain:
    def __init__(self) -> None:
        self.mode, self.level, self.words = 1, 70000, [1, 2, 3]
        self.seen = {"boot"}


class Slotted:
    __slots__ = ("__private", "level", "mode", "words")

    def __init__(self) -> None:
        self.mode, self.level, self.words = 1, 70000, [1, 2, 3]
        self.__private = 5


@attrs.define
class Defined:
    mode: int = 1
    level: int = 70000
    words: list[int] = attrs.field(factory=lambda: [1, 2, 3])


def _validate(_instance: Any, _attribute: Any, value: int) -> None:
    refuse(value)


@attrs.define
class Validated:
    mode: int = 1
    level: int = attrs.field(default=70000, validator=_validate)
    words: list[int] = attrs.field(factory=lambda: [1, 2, 3])


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_assignment=True)

    mode: int = 1
    level: int = 70000
    words: list[int] = [1, 2, 3]

    @pydantic.field_validator("level")
    @classmethod
    def _accepted(cls, value: int) -> int:
        refuse(value)
        return value


class Lax(pydantic.BaseModel):
    """A model that validates nothing when it is assigned to."""

    mode: int = 1
    level: int = 70000
    words: list[int] = [1, 2, 3]


FIRST_MODELS: list[Any] = []
if sys.version_info < (3, 14):  # the end of pydantic 1
    import pydantic.v1

    class FirstModel(pydantic.v1.BaseModel):
        """A model of pydantic 1."""

        mode: int = 1
        level: int = 70000
        words: list[int] = [1, 2, 3]

        class Config:
            validate_assignment = True

        @pydantic.v1.validator("level")
        def _accepted(cls, value: int) -> int:  # noqa: N805 - as pydantic 1 has it
            refuse(value)
            return value

    FIRST_MODELS.append(FirstModel)


class Computed:
    """Every value is behind a property, whose setters change more than the value."""

    def __init__(self) -> None:
        self._mode, self._level = 1, 70000
        self._words: tuple[int, ...] = (1, 2, 3)
        self.writes = 0
        self.history: tuple[str, ...] = ()

    @property
    def mode(self) -> int:
        return self._mode

    @mode.setter
    def mode(self, value: int) -> None:
        self.writes += 1
        self._mode = value
        self._level = 0  # another mode begins at level 0
        self.cached = value

    @property
    def level(self) -> int:
        return self._level

    @level.setter
    def level(self, value: int) -> None:
        self.writes += 1
        self.history = (*self.history, "level")
        refuse(value)
        self._level = value

    @level.deleter
    def level(self) -> None:
        raise RuntimeError("there is always a level")

    @property
    def words(self) -> list[int]:
        return list(self._words)

    @words.setter
    def words(self, value: list[int]) -> None:
        self.writes += 1
        self._words = tuple(value)


class Careful:
    """A class with a ``__setattr__`` of its own."""

    def __init__(self) -> None:
        self.mode, self.level, self.words = 1, 70000, [1, 2, 3]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "level":
            refuse(value)
        super().__setattr__(name, value)


class Fifo:
    def __init__(self) -> None:
        self.words = [1, 2, 3]


class Receiver:
    __slots__ = ("_level", "fifo")

    def __init__(self) -> None:
        self._level = 70000
        self.fifo = Fifo()

    @property
    def level(self) -> int:
        return self._level

    @level.setter
    def level(self, value: int) -> None:
        refuse(value)
        self._level = value


class Nested:
    def __init__(self) -> None:
        self.mode, self.rx = 1, Receiver()


class Registers:
    """A register file, read and written by number."""

    def __init__(self) -> None:
        self._file = {0: 1, 4: 70000}
        self._words = deque([1, 2, 3])

    def read(self, number: int) -> int:
        return self._file[number]

    def write(self, number: int, value: int) -> None:
        if number == 4:
            refuse(value)
        self._file[number] = value

    def drain(self) -> list[int]:
        return list(self._words)

    def fill(self, words: list[int]) -> None:
        self._words.clear()
        self._words.extend(words)


class Namespace(types.SimpleNamespace):
    """A class of the standard library, whose ``__setattr__`` is C's."""

    def __init__(self) -> None:
        super().__init__(mode=1, level=70000, words=[1, 2, 3])


_FIELDS = {"mode": u8, "level": u32, "words": field(list[u16], length=3)}
for _cls in (Plain, Slotted, Defined, Validated, Model, Lax, Computed, Careful, *FIRST_MODELS):
    migrates(_cls, fields=_FIELDS)
migrates(Namespace, fields=_FIELDS)
migrates(
    Nested,
    fields={
        "mode": u8,
        "level": field(u32, attribute="rx.level"),
        "words": field(list[u16], length=3, attribute="rx.fifo.words"),
    },
)
migrates(
    Registers,
    fields={
        "mode": field(u8, attribute=(lambda regs: regs.read(0), lambda regs, v: regs.write(0, v))),
        "level": field(
            u32, attribute=(lambda regs: regs.read(4), lambda regs, v: regs.write(4, v))
        ),
        "words": field(list[u16], length=3, attribute=(Registers.drain, Registers.fill)),
    },
)

KINDS: list[Any] = [
    Plain,
    Slotted,
    Defined,
    Validated,
    Model,
    Lax,
    *FIRST_MODELS,
    Computed,
    Careful,
    Nested,
    Registers,
    Namespace,
]
REFUSING: list[Any] = [Validated, Model, *FIRST_MODELS, Computed, Careful, Nested, Registers]


def picture(value: Any) -> Any:
    """Return all that an object refers to, with the identity of what could be another object."""
    if isinstance(value, int | str | bytes | None):
        return value
    if isinstance(value, tuple):
        return [picture(item) for item in value]
    if isinstance(value, list | deque):
        return id(value), [picture(item) for item in value]
    if isinstance(value, set):
        return id(value), sorted(value)
    if isinstance(value, dict):
        return id(value), {key: picture(item) for key, item in value.items()}
    names = {
        name
        for base in type(value).__mro__
        for name, kind in vars(base).items()
        if isinstance(kind, types.MemberDescriptorType)
    }
    names |= set(getattr(value, "__dict__", ()))
    return id(value), {
        name: picture(getattr(value, name)) for name in sorted(names) if hasattr(value, name)
    }
