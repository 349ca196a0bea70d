# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrays, of a fixed length or with a count in another field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import DeclarationError
from .base import Descriptors, FieldInfo, FieldWriter, Limits, WireType
from .field_options import FieldOptions
from .record import record
from .scalar import Scalar

__all__ = ["ArrayType", "CountedType", "Row"]


@record()
class Row(WireType):
    """Room for ``length`` elements in a row; the base of all types with elements."""

    element: WireType
    length: int

    @property
    def counted_room(self) -> int:
        """The greatest count of elements."""
        return self.length

    def elements(self, make: Descriptors, info: FieldInfo, where: str) -> Any:
        """Return the descriptor of all elements that there is room for."""
        return make.row(where, self.element, self.length, info.data)

    @property
    def live(self) -> bool:
        """Whether a load compares the elements with those of the object."""
        return bool(self.element.live)

    @property
    def varies(self) -> bool:
        """Whether an element can differ from another one in its size or fields."""
        return bool(self.element.varies)

    @property
    def inline_struct(self) -> type[Any] | None:
        """The ``inline_struct`` of the elements."""
        return self.element.inline_struct

    @property
    def repeats(self) -> bool:
        """Whether there can be more than one element."""
        return self.length > 1 or self.element.repeats

    def structs(self) -> Iterator[type[Any]]:
        """Yield the layout class of the elements."""
        return self.element.structs()

    def struct_places(self, base: int) -> Iterator[int]:
        """Yield the offset of each element's struct."""
        for index in range(self.length):
            yield from self.element.struct_places(base + index * self.element.size)

    def structs_in(self, value: Any) -> Iterator[Any]:
        """Yield the struct of each element that is present."""
        for item in value:
            if item is not None:
                yield from self.element.structs_in(item)

    def plain(self, value: Any) -> Any:
        """Return a list."""
        return [item if item is None else self.element.plain(item) for item in value]

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Walk the elements that ``struct`` has now."""
        for index, item in enumerate(getattr(struct, info.attribute)):
            yield from self.element.walk_value(item, f"{path}[{index}]")


@record()
class _Elements(Row):
    """A row whose memory has nothing but its elements."""

    is_buffer: bool = False

    @property
    def counting_option(self) -> str:
        """The option of ``field()`` for the number of elements on the wire."""
        return "size" if self.is_buffer else "num"

    @property
    def size(self) -> int:
        """The size in memory, in bytes."""
        size: int = self.element.size * self.length
        return size

    @property
    def align(self) -> int:
        """The alignment in memory, in bytes."""
        align: int = self.element.align
        return align

    def initial(self) -> bytes:
        """Return the initial memory of each element."""
        return self.element.initial() * self.length

    def plain(self, value: Any) -> Any:
        """Return a list, or the bytes of a buffer."""
        return bytes(value) if self.is_buffer else super().plain(value)


class ArrayType(_Elements):
    """``length`` elements; with ``is_buffer``, bytes that C reads and writes at once."""

    @property
    def options(self) -> frozenset[str]:  # type: ignore[override]
        """The options that select the part on the wire."""
        return frozenset({"start", self.counting_option})

    def _check_own_options(self, options: FieldOptions, where: str) -> None:
        option = self.counting_option
        count = getattr(options, option)
        if isinstance(count, str):
            raise DeclarationError(
                f"{where}: {option}={count!r}: the length of this type is fixed; take a VArray or "
                "VBuffer, or give a number"
            )
        start = options.start
        end = start + (count if isinstance(count, int) else self.length - start)
        if start < 0 or not start < end <= self.length:
            raise DeclarationError(
                f"{where}: elements {start} to {end} of {self.length} do not lie within the array"
            )

    def filled(self, value: Any) -> Any:
        """Return a number once for each element; return anything else as it is."""
        if isinstance(value, int | float):
            return [self.element.filled(value)] * self.length
        return value

    def element_descriptor(self, make: Descriptors, where: str, offset: int) -> Any:
        """Return the descriptor of a fixed array."""
        return make.row(where, self.element, self.length, offset)

    def fully_overwritten(self) -> bool:
        """Return whether every stream has every byte of an element."""
        return self.element.fully_overwritten()

    def can_be_nothing(self) -> bool:
        """Return whether an element can have no bytes."""
        return self.element.can_be_nothing()

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Walk the elements that are on the wire."""
        start, part = info.options.start, None
        if self.is_buffer:
            part = info.options.size
            yield path, part if isinstance(part, int) else self.length - start
            return
        value, part = getattr(struct, info.attribute), info.options.num
        end = start + part if isinstance(part, int) else len(value)
        for index in range(start, end):
            yield from self.element.walk_value(value[index], f"{path}[{index}]")

    def walk_value(self, value: Any, path: str) -> Iterator[tuple[str, int]]:
        """Walk an array that is itself an element."""
        for index, item in enumerate(value):
            yield from self.element.walk_value(item, f"{path}[{index}]")

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_ARRAY, VMSTATE_SUB_ARRAY, VMSTATE_2DARRAY or a VMSTATE_BUFFER macro."""
        field, start = writer.field, info.options.start
        if self.is_buffer:
            part = info.options.size
            field.offset += start
            field.size = part if isinstance(part, int) else self.length - start
            writer.flag("BUFFER")
            writer.info("buffer")
            return
        part, element = info.options.num, self.element
        field.offset += start * element.size
        field.num = part if isinstance(part, int) else self.length - start
        while isinstance(element, ArrayType):  # C walks the rows as one array
            field.num *= element.length
            element = element.element
        writer.flag("ARRAY")
        element.describe_element(writer)


@record()
class CountedType(_Elements):
    """Room for ``length`` elements; another field of the same class counts them.

    ``content`` is the info of a buffer, which tells readers of a stream what its bytes are:
    ``messagepack`` and ``utf8`` are this package's own.
    """

    content: str = "buffer"

    memory_is_value = False
    limits_own_count = True

    @property
    def options(self) -> frozenset[str]:  # type: ignore[override]
        """The options that count the elements."""
        return frozenset({"multiply", self.counting_option})

    @property
    def number_types(self) -> tuple[str, ...]:
        """The types of a field that can count the elements, as in C."""
        return ("u32", "u64", "i32") if self.is_buffer else super().number_types

    def _check_own_options(self, options: FieldOptions, where: str) -> None:
        if not isinstance(getattr(options, self.counting_option), str):
            raise DeclarationError(
                f"{where}: a {'VBuffer' if self.is_buffer else 'VArray'} needs the name of the "
                f"field that says how long it is: field({self.counting_option}='...')"
            )

    def attribute(self, make: Descriptors, info: FieldInfo, where: str, limits: Limits) -> Any:
        """Return the descriptor of the elements that are counted."""
        assert info.num is not None
        assert isinstance(info.num.type, Scalar)
        number = (info.num.offset, info.num.type.kind)
        return make.counted(where, self, info.offset, number, info.options.multiply)

    def walk(self, struct: Any, info: FieldInfo, path: str) -> Iterator[tuple[str, int]]:
        """Walk the elements that are counted."""
        if self.is_buffer:
            yield path, info.number(struct)
        else:
            yield from super().walk(struct, info, path)

    def describe(self, writer: FieldWriter, info: FieldInfo) -> None:
        """Fill VMSTATE_VARRAY_UINT32 or the macro of another count, or VMSTATE_VBUFFER."""
        if self.is_buffer:
            writer.sized(info, self.content)
        else:
            writer.count(info)
            self.element.describe_element(writer)
