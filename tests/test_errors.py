# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree of exceptions is as documented, and every public name has a docstring."""

from __future__ import annotations

import pickle
from typing import get_origin

import pytest

import qemu_vmstate
from qemu_vmstate import errors
from qemu_vmstate.errors import (
    BorrowError,
    BqlError,
    DeclarationError,
    InvalidError,
    LockError,
    NativeError,
    OutOfRangeError,
    PoisonError,
    RegistrationError,
    StreamError,
    VersionError,
    VMStateError,
)
from qemu_vmstate.wire import annotations as wire

TREE: list[tuple[type[Exception], tuple[type[Exception], ...]]] = [
    (VMStateError, (Exception,)),
    (InvalidError, (VMStateError, ValueError)),
    (OutOfRangeError, (InvalidError, ValueError)),
    (StreamError, (InvalidError, ValueError)),
    (VersionError, (InvalidError, ValueError)),
    (DeclarationError, (VMStateError, TypeError)),
    (RegistrationError, (VMStateError, RuntimeError)),
    (BqlError, (VMStateError, RuntimeError)),
    (BorrowError, (VMStateError, RuntimeError)),
    (LockError, (VMStateError, RuntimeError)),
    (PoisonError, (VMStateError, RuntimeError)),
    (NativeError, (VMStateError, ImportError)),
]
ALIASES = (
    *("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"),
    *("i32_positive_le", "timer", "cpudouble", "f32", "f64", "Equal", "Tmp", "Subsection"),
)


@pytest.mark.parametrize(("cls", "bases"), TREE, ids=lambda x: getattr(x, "__name__", ""))
def test_exception_is_of_this_package_and_a_builtin(
    cls: type[Exception], bases: tuple[type[Exception], ...]
) -> None:
    for base in bases:
        assert issubclass(cls, base)
    assert errors.__doc__ is not None
    assert f"{cls.__name__}(" in errors.__doc__ or f" {cls.__name__} " in errors.__doc__


def test_tree_has_no_other_exception() -> None:
    assert {cls.__name__ for cls, _ in TREE} == set(errors.__all__)
    public = {getattr(qemu_vmstate, name) for name in qemu_vmstate.__all__}
    assert {cls for cls, _ in TREE} <= public


def test_invalid_error_has_reason_and_path() -> None:
    bare = InvalidError("reason")
    assert (bare.reason, bare.path, str(bare)) == ("reason", "", "reason")
    placed = InvalidError("reason", "timer.regs.a")
    assert str(placed) == "timer.regs.a: reason"
    assert str(InvalidError())


@pytest.mark.parametrize("cls", [cls for cls, _ in TREE])
def test_exceptions_survive_pickling(cls: type[Exception]) -> None:
    exc = cls("reason")
    if isinstance(exc, InvalidError):
        exc.path = "timer.a"
    copy = pickle.loads(pickle.dumps(exc))
    assert type(copy) is cls
    assert str(copy) == str(exc)


@pytest.mark.parametrize("name", sorted(set(qemu_vmstate.__all__) - set(ALIASES)))
def test_public_name_has_a_docstring_of_its_own(name: str) -> None:
    found = getattr(qemu_vmstate, name)
    assert get_origin(found) is None
    doc = vars(found).get("__doc__") if isinstance(found, type) else found.__doc__
    assert doc
    assert doc.strip()[0].isupper() or doc.strip().startswith("`")


def test_wire_types_are_documented_with_their_module() -> None:
    assert wire.__doc__ is not None
    for line in ("u8 u16 u32 u64", "i8 i16 i32 i64", "bool"):
        assert line in wire.__doc__
    for name in ALIASES:
        assert name in qemu_vmstate.__all__
        assert name in wire.__all__


def test_every_public_name_is_there_and_once() -> None:
    assert len(set(qemu_vmstate.__all__)) == len(qemu_vmstate.__all__)
    for name in qemu_vmstate.__all__:
        assert hasattr(qemu_vmstate, name)
