# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of layout classes that are refused when the class is made."""

from __future__ import annotations

from typing import Any

import pytest

from qemu_vmstate import (
    Array,
    Bitmap,
    DeclarationError,
    Equal,
    GTree,
    QTailQ,
    Subsection,
    Tmp,
    Unused,
    VArray,
    VBuffer,
    VMStruct,
    cpudouble,
    field,
    i64,
    load,
    save,
    u8,
    u16,
    u32,
    u64,
    zeroed,
)


class Item(VMStruct):
    a: u8 = 0
    b: u16 = 7


def refused(annotation: Any, options: Any = None, before: Any = None) -> str:
    namespace: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
    if before is not None:
        namespace["__annotations__"]["n"] = before
    namespace["__annotations__"]["it"] = annotation
    if options is not None:
        namespace["it"] = options
    metaclass: Any = type(VMStruct)
    with pytest.raises(DeclarationError) as caught:
        metaclass("Bad", (VMStruct,), namespace)
    return str(caught.value)


at_run_time: Any = VArray


@pytest.mark.parametrize(
    ("annotation", "options", "before", "message"),
    [
        (at_run_time[u8, 4], None, u32, "a VArray needs the name of the field"),
        (at_run_time[u8, 4], field(num="m"), u32, "'m' is no field that is declared before it"),
        (at_run_time[u8, 4], field(num="n"), i64, "'n' must be a u8, u16, u32 or i32"),
        (at_run_time[u8, 4], field(num="n", size=3), u32, "size has no meaning"),
        (at_run_time[u8, 4], field(num="n", multiply=0), u32, "multiply is 1 or more"),
        (VBuffer[4], field(size="n"), u16, "'n' must be a u32, u64 or i32"),  # type: ignore[valid-type]
        (VBuffer[4], None, None, "a VBuffer needs the name"),  # type: ignore[valid-type]
        (Bitmap[4], field(size="n"), u8, "'n' must be a u32 or i32"),  # type: ignore[valid-type]
        (Unused[4], field(num="n"), u32, "give 'n' a maximum="),  # type: ignore[valid-type]
        (Unused[4], field(default=0), None, "unused bytes have no value"),  # type: ignore[valid-type]
        (Array[u8, 4], field(start=3, num=2), None, "elements 3 to 5 of 4"),  # type: ignore[valid-type]
        (Array[u8, 4], field(num="n"), u8, "take a VArray or VBuffer"),  # type: ignore[valid-type]
        (u8, field(needed=True), None, "needed has no meaning"),
        (u8, field(minimum=3), None, "0 is not within 3 to 255"),
        (u8, field(maximum=256), None, r"0 to 256: they must lie within u8"),
        (cpudouble, field(maximum=2), None, "for whole numbers"),
        (Item, field(num="n"), u8, "num has no meaning"),
        (Subsection[Item], None, None, "must be called 'Bad/...'"),
    ],
)
def test_refused_at_class_creation(
    annotation: Any, options: Any, before: Any, message: str
) -> None:
    assert message in refused(annotation, options, before)


@pytest.mark.parametrize(
    ("annotate", "message"),
    [
        (lambda: Equal[i64], None),
        (lambda: at_run_time[Tmp[Item], 4], "C has no arrays of these"),
        (lambda: at_run_time[Array[u8, 2], 4], "C has no arrays of these"),  # type: ignore[valid-type]
        (lambda: QTailQ[u8, 4], "u8"),  # type: ignore[valid-type]
        (lambda: GTree[u32, Item, 4], "a key is a u64 or a layout class"),  # type: ignore[valid-type]
        (lambda: GTree[u64, Item], "GTree takes a key, an element and a length"),  # type: ignore[misc]
    ],
)
def test_refused_annotations(annotate: Any, message: str | None) -> None:
    if message is None:
        assert "Equal takes u8, u16, u32, u64 or i32" in refused(annotate())
        return
    with pytest.raises(DeclarationError):
        annotate()


class Ab(VMStruct, name="p/ab"):
    x: u8 = 0


class Wall(VMStruct, name="p/wall"):
    pass


class Abc(VMStruct, name="p/abc"):
    pass


def test_subsection_names_that_begin_alike_are_refused() -> None:
    with pytest.raises(DeclarationError, match="'p/ab' and 'p/abc' begin alike"):

        class Bad(VMStruct, name="p"):
            one: Subsection[Ab] = zeroed()
            two: Subsection[Abc]

    with pytest.raises(DeclarationError, match="begin alike"):

        class NotAlways(VMStruct, name="p"):
            one: Subsection[Ab] = field(needed=True)
            wall: Subsection[Wall] = zeroed()
            two: Subsection[Abc] = field(needed=True)


def test_subsection_names_that_qemu_can_distinguish_are_accepted() -> None:
    # A subsection that is always between them separates them, as in the section of an ARM CPU.
    class Apart(VMStruct, name="p"):
        one: Subsection[Ab] = field(needed=True)
        wall: Subsection[Wall] = field(needed=True)
        two: Subsection[Abc] = field(needed=True)

    class Backwards(VMStruct, name="p"):
        two: Subsection[Abc] = field(needed=True)
        one: Subsection[Ab] = field(needed=True)

    # As in arm_gic: QEMU compares the beginning of the name only, and needs no slash.
    class NoSlash(VMStruct, name="p/a"):
        one: Subsection[Ab] = field(needed=True)

    for cls in (Apart, Backwards, NoSlash):
        wire = save(cls())
        copied = cls()
        copied.one.x = 9
        load(copied, wire)
        assert (save(copied), copied.one.x) == (wire, 0)


def test_subsection_named_as_its_struct_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"'p/ab' must be called 'p/ab/...'"):

        class Same(VMStruct, name="p/ab"):
            one: Subsection[Ab] = field(needed=True)


def test_subsection_behind_a_struct_that_could_read_it_is_refused() -> None:
    class Last(VMStruct, name="p/a"):
        x: u8 = 0

    with pytest.raises(DeclarationError, match="its last field is a struct named 'p/a'"):

        class Worse(VMStruct, name="p"):
            last: Last = zeroed()
            one: Subsection[Ab] = zeroed()

    class Fine(VMStruct, name="p"):
        last: Last = zeroed()
        after: u8 = 0
        one: Subsection[Ab] = zeroed()

    assert save(Fine()) == bytes([0, 0])
