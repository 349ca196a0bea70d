# SPDX-License-Identifier: GPL-2.0-or-later
"""An object under test, and the rules that each load and save of it must follow."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ..device.device import Device, staging_of
from ..errors import InvalidError, StreamError
from ..inprocess import description_text, load, save
from ..layout.traversal import has_predicates, nested
from ..layout.vmstruct import VMStruct, asdict
from ..state.bql import bql_lock_guard
from ..state.cells import BqlCell
from ..vmsd.description import walked
from ..wire.types import BitmapType, CountedType, PointersType, UnusedType
from .described import is_describable, misread
from .mutate import Payload, is_ambiguous, mark
from .places import Place, places
from .python_values import PythonValues, Unfit
from .states import (
    derived_states,
    held_collections,
    held_structs,
    keeps_everything,
    live_structs,
    reordered,
    seen,
)

__all__ = ["Finding", "Subject", "short_repr"]

T = TypeVar("T")

_DELIBERATE = re.compile("as drawn|refused (when half of it|after all) was changed")
"""The errors of validators, conversions and hooks in random declarations."""


class Finding(Exception):
    """A stream that was neither refused nor loaded correctly."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def short_repr(exc: BaseException) -> str:
    """Return an exception in one line."""
    notes = "; ".join(getattr(exc, "__notes__", ()))
    return f"{type(exc).__name__}: {exc}{f' ({notes})' if notes else ''}"


class Held:
    """An object under test, and the places of its state."""

    def __init__(self, obj: Any) -> None:
        self.obj = obj
        self._structs = list(live_structs(obj))
        self._cells: list[BqlCell[Any]] = []
        if isinstance(obj, Device):
            values = (getattr(obj, attribute) for attribute in obj.__parts__)
            self._cells = [value for value in values if isinstance(value, BqlCell)]

    def memory(self) -> list[Any]:
        """Return a comparable copy of all of the object's state."""
        found = self.states()
        for cell in self._cells:
            # Read without the BQL: it is only compared.
            value = cell._value  # noqa: SLF001
            found.append(repr(asdict(value) if isinstance(value, VMStruct) else value))
        return found

    def states(self) -> list[Any]:
        """Return a comparable copy of what each load of the same stream gives the same value."""
        found: list[Any] = [bytes(value) for value in self._structs]
        # States with conversions of their own have equal values, but not always equal bytes.
        found += [repr(asdict(value)) for value in held_structs(self.obj)]
        with bql_lock_guard():
            found += [repr(seen(value)) for value in derived_states(self.obj)]
        return found


class Subject:
    """An object under test, and its corpus of valid streams.

    ``twin`` is an equal object.  All that is done with the first is done with it too, but there
    QEMU walks the structs that are packed in the first, and everything must be the same.
    """

    def __init__(self, obj: Any, twin: Any = None) -> None:
        self.obj = obj
        self.accepted = 0
        self.rejected = 0
        self.corpus: list[Payload] = []
        self._held = Held(obj)
        self._twin = None if twin is None else Held(twin)
        self._is_exact = _is_exact(obj.Migrated) and keeps_everything(obj)
        saved, error = self._both(save)
        if error is not None:
            raise error
        assert saved is not None
        self.add_to_corpus(saved)

    def add_to_corpus(self, data: bytes) -> None:
        """Add a stream that the object has saved to the corpus."""
        self.corpus.append(mark(self.obj, data))

    def memory(self) -> list[Any]:
        """Return a comparable copy of all of the object's state."""
        return self._held.memory()

    # ------------------------------------------------------------------ its own state

    def check_state(self, rng: random.Random) -> None:
        """Save, load and save the object as it is; raises ``Finding``."""
        first = self._save("the state")
        self._load_own(first)
        self._save_reordered()
        if self._save("the state") != first and self._is_exact:
            raise Finding("order", f"saves as {first.hex()}, and not if its sets are filled again")
        with suppress(Unfit):
            self._refuse_beyond(rng)

    def _load_own(self, data: bytes) -> None:
        before, held = self._held.states(), dict(held_collections(self.obj))
        _, error = self._both(load, data)
        if error is not None:
            self._check_deliberate(error, data)
            return
        self._check_same_collections(held)
        after = self._held.states()
        if self._is_exact and (self._save("what was loaded"), after) != (data, before):
            raise Finding("lossy", f"{data.hex()} loads as {after}, and not as {before}")

    def _check_deliberate(self, error: BaseException, data: bytes) -> None:
        ambiguous = isinstance(error, StreamError) and is_ambiguous(self.obj.Migrated, data)
        # A count that is absent is the default in a load, whatever it was in the save.
        varies = isinstance(error, InvalidError) and has_predicates(self.obj.Migrated)
        if not ambiguous and not varies and not _DELIBERATE.search(str(error)):
            text = f"its own stream {data.hex()} is refused: {short_repr(error)}"
            raise Finding("unloadable", text) from error

    def _save_reordered(self) -> None:
        for held in (self._held, self._twin):
            for state in derived_states(held.obj) if held else ():
                for place in _ordinary_places(state):
                    place.set(state, reordered(place.get(state)))

    def _refuse_beyond(self, rng: random.Random) -> None:
        """Put a value that no save accepts into each derived state, and take it out again."""
        twins = derived_states(self._twin.obj) if self._twin else []
        for index, state in enumerate(derived_states(self.obj)):
            found = _ordinary_places(state)
            if not found:
                continue
            name, drawing = rng.choice(found).name, rng.getstate()
            before, shown = [], ""
            for each in (state, *twins[index : index + 1]):
                place = next(one for one in places(type(each)) if one.name == name)
                before.append((place, each, place.get(each)))
                rng.setstate(drawing)
                value = PythonValues(type(each), rng).beyond(place.hint, place.options)
                place.set(each, value)
                shown = f"{name}={value!r}"
            _, error = self._both(save)
            for place, each, previous in before:
                place.set(each, previous)
            if not isinstance(error, InvalidError):
                raise Finding("exception", f"{shown}: save() raised {error!r}")
            if f".{name}" not in error.path and not _DELIBERATE.search(str(error)):
                raise Finding("exception", f"{shown} is refused at {error.path!r}") from error

    # ------------------------------------------------------------------ streams

    def attempt(self, data: bytes, version: int | None) -> None:
        """Load ``data`` and check the result; raises ``Finding``."""
        before, held = self.memory(), dict(held_collections(self.obj))
        _, error = self._both(load, data, version)
        if isinstance(error, InvalidError):
            self.rejected += 1
            if self.memory() != before:
                raise Finding("changed", f"refused, and changed all the same: {error}") from error
            self._check_same_collections(held, filled=False)
            if self.rejected % 64 == 0:
                self._save("after a load that was refused")
        elif error is not None:
            raise Finding("exception", f"load() raised {short_repr(error)}") from error
        else:
            self.accepted += 1
            self._check_same_collections(held)
            self._check_accepted(data, version)

    def _check_accepted(self, data: bytes, version: int | None) -> None:
        first = self._save("what was loaded")
        if self._is_exact and version is None:
            self._check_nothing_is_lost(data)
        _, error = self._both(load, first)
        if isinstance(error, StreamError) and is_ambiguous(self.obj.Migrated, first):
            return
        if error is not None:
            text = f"what was loaded saves as {first.hex()}, which is refused: {short_repr(error)}"
            raise Finding("unloadable", text) from error
        second = self._save("what was loaded a second time")
        if first != second:
            text = f"saves as {first.hex()}, and when that is loaded as {second.hex()}"
            raise Finding("unstable", text)
        if self.accepted % 8 == 0:
            self._check_description(second)
        if len(self.corpus) < 8 and self.accepted % 8 == 0:
            self.add_to_corpus(second)

    def _check_description(self, saved: bytes) -> None:
        text, _ = self._both(description_text)
        if text is None or not is_describable(self.obj.Migrated):
            return
        if reason := misread(saved, text):
            raise Finding("misread", f"saves as {saved.hex()}, is described as {text}: {reason}")

    def _check_same_collections(self, held: dict[str, Any], filled: bool = True) -> None:
        """Check that each collection, or each that a restore fills, is still the same object."""
        now = dict(held_collections(self.obj, filled=filled))
        for name, value in held.items():
            # A restore may have stored None.
            if now.get(name) is not value and (not filled or name in now):
                raise Finding("replaced", f"{name} is another object after a load")

    def _check_nothing_is_lost(self, data: bytes) -> None:
        """Check that what was saved last has all of the values in ``data``."""
        loaded = self.obj.Migrated()
        load(loaded, data)
        expected, found = (_values(asdict(each)) for each in (loaded, _staged(self.obj)))
        if expected != found:
            raise Finding("lossy", f"{expected} was loaded, and {found} is saved")

    def _save(self, what: str) -> bytes:
        saved, error = self._both(save)
        if error is not None:
            raise Finding("unsaveable", f"{what} cannot be saved: {short_repr(error)}") from error
        assert saved is not None
        return saved

    def _both(
        self, call: Callable[..., T], *arguments: Any
    ) -> tuple[T | None, BaseException | None]:
        """Return the result and the exception of ``call(object, *arguments)``.

        Raises ``Finding`` if those of the twin differ.
        """
        result, error = _result(call, self.obj, *arguments)
        if self._twin is not None:
            with walked():
                other, other_error = _result(call, self._twin.obj, *arguments)
            packed = result, error and _comparable(error), self.memory()
            by_qemu = other, other_error and _comparable(other_error), self._twin.memory()
            if packed != by_qemu:
                text = f"{call.__name__}() gives {packed}, and {by_qemu} if QEMU walks the structs"
                raise Finding("differs", text)
        return result, error


def _comparable(exc: BaseException) -> str:
    text = short_repr(exc)
    # The hash of a NaN is that of its address, on which the order of a set depends.
    return f"{type(exc).__name__}: {getattr(exc, 'path', '')}" if "nan" in text.lower() else text


def _result(call: Callable[..., T], *arguments: Any) -> tuple[T | None, BaseException | None]:
    try:
        return call(*arguments), None
    except BaseException as exc:
        return None, exc


def _ordinary_places(state: Any) -> list[Place]:
    """Return the places in which a value can be put without a setter, which may do more."""
    return [place for place in places(type(state)) if place.is_ordinary]


def _staged(obj: Any) -> Any:
    """Return what the last save of an object has put on the wire."""
    if isinstance(obj, Device):
        return staging_of(obj).migration_state
    with bql_lock_guard():
        return obj.to_migration_state()


def _is_exact(cls: type[VMStruct]) -> bool:
    """Return whether all of a struct is in each stream of its newest version."""
    return not has_predicates(cls) and not any(
        info.type.live
        # Which elements of a PointerArray are missing is the object's state.
        or isinstance(info.type, UnusedType | BitmapType | PointersType)
        or (
            info.options.given("keep", "start", "num", "size", "struct_version_id")
            and not isinstance(info.type, CountedType)
        )
        or getattr(info.type, "content", "") == "messagepack"
        for inner in nested(cls)
        for info in inner.__layout__.fields
    )


def _values(value: Any) -> Any:
    """Return comparable plain values of a struct, without those behind a false ``has_...``."""
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, list):
        return [_values(each) for each in value]
    if not isinstance(value, dict):
        return value
    if not all(isinstance(name, str) for name in value):  # the keys of a GTree
        return {key: _values(each) for key, each in value.items()}
    kept: dict[str, Any] = {}
    absent: list[str] = []
    for name, each in value.items():
        behind = rf"((size|num|has)_)?({'|'.join(absent)})(_\d+)*"
        if absent and re.fullmatch(behind, name):
            continue
        kept[name] = _values(each)
        if name.startswith("has_") and each is False:
            absent.append(re.escape(name.removeprefix("has_")))
    return kept
