# SPDX-License-Identifier: GPL-2.0-or-later
"""The forms of Python values on the wire: the fields of a layout class, and their conversion.

A form is made of other forms: a ``dict[str, list[u32]]`` is an array of entries, each with the
fields of a str and of a list.  An array's element that is no number and no struct gets a layout
class of its own::

    list[u32]        num_x, x                  VMSTATE_VARRAY_UINT32
    bytes, str       size_x, x                 VMSTATE_VBUFFER
    list[str]        num_x, x of {size_value, value}
    dict[str, u32]   num_x, x of {size_key, key, value}
    T | None         has_x, and the fields of T
    tuple[A, B]      x_0 and x_1
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..bindings.loader import _state
from ..errors import DeclarationError
from ..layout.traversal import nested
from ..layout.vmstruct import VMStruct, VMStructMeta
from ..wire.field_options import NO_OPTIONS, FieldOptions
from ..wire.types import SCALARS, ArrayType, CountedType, Scalar, StructType, WireType
from .refusals import set_up_refusals

__all__ = [
    "BytesForm",
    "DictForm",
    "FixedForm",
    "Form",
    "FunctionForm",
    "NumberForm",
    "ObjectForm",
    "ObjectParts",
    "OptionalForm",
    "Room",
    "SequenceForm",
    "StructForm",
    "TupleForm",
]

Field = tuple[str, WireType, FieldOptions]
"""A field's attribute, type and options."""

Part = tuple[str | None, _state.Conversion, int]
"""A conversion inside another one: its attribute or ``None``, itself, and its offset."""

set_up_refusals()

_LARGEST = 256 * 1024 * 1024


class Form:
    """The form of a value: which fields it has, and how it is converted."""

    replaces_contents = False
    """Whether the value is a collection that a restore fills again, instead of a new object."""

    element_type: WireType | None = None
    """The type of an array's element that is such a value; ``None``: it needs a layout class."""

    @abstractmethod
    def fields(self, name: str) -> Iterator[Field]:
        """Yield the fields of a value that is called ``name``."""

    @abstractmethod
    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion to the fields of a layout class; ``path`` is for errors."""

    def element_conversion(self, element: _state.Field) -> _state.Conversion:
        """Return the conversion to an array's element of ``element_type``."""
        raise NotImplementedError


def _descriptor(layout: type[Any], name: str) -> _state.Field:
    found: _state.Field = getattr(layout, name)
    return found


def _initial(layout: type[Any], field: _state.Field) -> bytes:
    """Return the bytes of a field's default, which is on the wire if no load accepts zeros."""
    return bytes(layout.__image__[field.offset : field.offset + field.size])


class NumberForm(Form):
    """A number."""

    def __init__(self, scalar: Scalar, options: FieldOptions = NO_OPTIONS) -> None:
        self.element_type = scalar if options == NO_OPTIONS else None
        self.scalar = scalar
        self.options = options

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the number."""
        yield name, self.scalar, self.options

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of the number."""
        field = _descriptor(layout, name)
        accepts_zero = not self.scalar.live and field.low <= 0 <= field.high
        initial = None if accepts_zero else _initial(layout, field)
        return _state.Conversion("number", path, field=field, initial=initial)

    def element_conversion(self, element: _state.Field) -> _state.Conversion:
        """Return the conversion of the number."""
        return _state.Conversion("number", field=element)


class FixedForm(Form):
    """An array of numbers as a list, or of bytes as an object of ``cls``."""

    def __init__(self, array: ArrayType, cls: type = list) -> None:
        self.array = array
        self.cls = cls
        self.replaces_contents = cls in (list, bytearray)

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the array."""
        yield name, self.array, NO_OPTIONS

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of the array."""
        field = _descriptor(layout, name)
        initial = _initial(layout, field) if self.array.element.live else None
        return _state.Conversion("field", path, field=field, cls=self.cls, initial=initial)


class Room(NamedTuple):
    """The most elements or bytes, and the type of the field that counts them."""

    most: int
    counter: Scalar | None
    """``None``: there are always that many."""


class BytesForm(Form):
    """Bytes or text: a size, and a VBUFFER.

    For the class ``memoryview`` the function of a :class:`FunctionForm` gets ``bytes`` if they are
    few, and else a view that is valid only while it is called.
    """

    def __init__(self, cls: type, room: Room, content: str = "buffer") -> None:
        self.cls = cls
        self.room = room
        self.content = "utf8" if cls is str else content
        self.replaces_contents = cls is bytearray

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the size and the buffer."""
        assert self.room.counter
        yield f"size_{name}", self.room.counter, NO_OPTIONS
        buffer = CountedType(SCALARS["B"], self.room.most, is_buffer=True, content=self.content)
        yield name, buffer, FieldOptions(size=f"size_{name}")

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of bytes, or of UTF-8."""
        return _state.Conversion(
            "str" if self.cls is str else "bytes",
            path,
            field=_descriptor(layout, f"size_{name}"),
            data=_descriptor(layout, name).offset,
            room=self.room.most,
            cls=self.cls,
        )


class _CollectionForm(Form):
    """A count, and an array of elements with the fields of the forms ``inner``."""

    kind: str
    replaces_contents = True

    def __init__(
        self, cls: type, room: Room, inner: dict[str, Form], entry_name: str, where: str
    ) -> None:
        self.cls = cls
        self.room = room
        self.inner = inner
        self.replaces_contents = cls not in (tuple, frozenset)
        [first, *rest] = inner.values()
        self.direct = first if first.element_type and not rest else None
        self.element = self.direct.element_type if self.direct else None
        self.entry: type[VMStruct] | None = None
        if self.element is None:
            self.entry = _entry_class(entry_name, inner)
            self.element = StructType(self.entry)
        if self.element.size * room.most > _LARGEST:
            raise DeclarationError(
                f"{where}: its memory would take {self.element.size * room.most} bytes, "
                f"{room.most} elements of at most {self.element.size} each; the limit is "
                f"{_LARGEST}: give it, or what its elements have, a smaller max_length, or take "
                "Packed"
            )

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the count, if it varies, and the array."""
        assert self.element
        if self.room.counter is None:
            yield name, ArrayType(self.element, self.room.most), NO_OPTIONS
            return
        yield f"num_{name}", self.room.counter, NO_OPTIONS
        yield name, CountedType(self.element, self.room.most), FieldOptions(num=f"num_{name}")

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of the elements."""
        array = _descriptor(layout, name)
        element = array.inner
        parts: list[Part] = []
        if self.direct:
            parts.append((None, self.direct.element_conversion(element), 0))
        else:
            assert self.entry
            parts += [
                (None, form.conversion(self.entry, key), 0) for key, form in self.inner.items()
            ]
        return _state.Conversion(
            self.kind,
            path,
            field=_descriptor(layout, f"num_{name}") if self.room.counter else None,
            data=array.offset,
            room=self.room.most,
            stride=element.size,
            parts=tuple(parts),
            cls=self.cls,
        )


class SequenceForm(_CollectionForm):
    """A list, tuple or deque of values of one form, or a set, which is sorted on the wire."""

    def __init__(self, cls: type, room: Room, value: Form, entry_name: str, where: str) -> None:
        super().__init__(cls, room, {"value": value}, entry_name, where)
        self.kind = "set" if cls in (set, frozenset) else "sequence"


class DictForm(_CollectionForm):
    """A dict: entries of a key and a value in the dict's own order."""

    kind = "dict"

    def __init__(
        self, cls: type, room: Room, key: Form, value: Form, entry_name: str, where: str
    ) -> None:
        super().__init__(cls, room, {"key": key, "value": value}, entry_name, where)


def _entry_class(name: str, forms: dict[str, Form]) -> type[VMStruct]:
    """Return the layout class of an array's elements that have these forms."""
    fields = [field for key, form in forms.items() for field in form.fields(key)]
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": "The element of an array.",
        "__annotations__": {attribute: type_ for attribute, type_, _ in fields},
        **{attribute: options for attribute, _, options in fields},
    }
    made: Any = VMStructMeta(name, (VMStruct,), namespace)
    return made  # type: ignore[no-any-return]


class OptionalForm(Form):
    """A value that can be ``None``: a bool, and the fields of the value."""

    def __init__(self, inner: Form) -> None:
        self.inner = inner
        self.replaces_contents = inner.replaces_contents

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the bool and the value's fields."""
        yield f"has_{name}", SCALARS["?"], NO_OPTIONS
        yield from self.inner.fields(name)

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of a value or ``None``."""
        inner = self.inner.conversion(layout, name)
        has = _descriptor(layout, f"has_{name}")
        return _state.Conversion("optional", path, field=has, parts=((None, inner, 0),))


class TupleForm(Form):
    """A tuple with a form for each of its elements."""

    def __init__(self, inner: list[Form]) -> None:
        self.inner = inner

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the fields of each element."""
        for index, form in enumerate(self.inner):
            yield from form.fields(f"{name}_{index}")

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of the tuple."""
        parts = tuple(
            (None, form.conversion(layout, f"{name}_{index}"), 0)
            for index, form in enumerate(self.inner)
        )
        return _state.Conversion("tuple", path, parts=parts, cls=tuple)


class FunctionForm(Form):
    """A value of class ``cls`` that functions convert to one of another form and back.

    ``members`` are those of an Enum, by their values.  ``errors`` makes the exceptions for what a
    function refuses, by its methods ``encode_error(value, cause)`` and ``decode_error(value,
    cause)``, also for a result of ``to`` that is too long.
    """

    def __init__(
        self,
        inner: Form,
        to: Callable[[Any], Any],
        back: Callable[[Any], Any],
        cls: type | None,
        members: dict[Any, Any] | None = None,
        errors: Any = None,
    ) -> None:
        self.inner = inner
        self.to = to
        self.back = back
        self.cls = cls
        self.members = members
        self.errors = errors
        self.element_type = inner.element_type

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the fields of the other form."""
        return self.inner.fields(name)

    def _around(self, inner: _state.Conversion, path: str = "") -> _state.Conversion:
        return _state.Conversion(
            "function",
            path,
            parts=((None, inner, 0),),
            cls=self.cls,
            to=self.to,
            back=self.back,
            table=self.members,
            errors=self.errors,
        )

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion by the functions."""
        return self._around(self.inner.conversion(layout, name), path)

    def element_conversion(self, element: _state.Field) -> _state.Conversion:
        """Return the conversion by the functions."""
        return self._around(self.inner.element_conversion(element))


class ObjectParts(NamedTuple):
    """What makes an object of a derived class, for collections of them."""

    cls: type
    migrated: type[VMStruct]
    parts: tuple[Part, ...]
    others: dict[str, Callable[[], Any]]
    """The attributes that do not migrate, each with a function for its value in a new object."""
    post_init: Callable[[Any], Any] | None

    def conversion(self, offset: int, path: str = "") -> _state.Conversion:
        """Return the conversion of an object whose struct is at an offset."""
        return _state.Conversion(
            "object",
            path,
            parts=tuple((name, each, at + offset) for name, each, at in self.parts),
            cls=self.cls,
            back=self.post_init,
            table=self.others,
        )


class ObjectForm(Form):
    """An object of a derived class, which a restore makes anew."""

    def __init__(self, parts: ObjectParts) -> None:
        self.element_type = StructType(parts.migrated)
        self.parts = parts

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the struct."""
        assert self.element_type
        yield name, self.element_type, NO_OPTIONS

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion of the object."""
        return self.parts.conversion(_descriptor(layout, name).offset, path)

    def element_conversion(self, element: _state.Field) -> _state.Conversion:
        """Return the conversion of the object."""
        return self.parts.conversion(0)


class StructForm(Form):
    """A state with conversions of its own: ``to(state, struct)``, ``back(struct, version_id)``."""

    def __init__(
        self,
        migrated: type[VMStruct],
        cls: type,
        to: Callable[[Any, Any], None],
        back: Callable[[Any, int], Any],
    ) -> None:
        self.element_type = StructType(migrated)
        self.migrated = migrated
        self.cls = cls
        self.to = to
        self.back = back

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the struct."""
        assert self.element_type
        yield name, self.element_type, NO_OPTIONS

    def conversion(self, layout: type[Any], name: str, path: str = "") -> _state.Conversion:
        """Return the conversion by the functions."""
        return self._of(_descriptor(layout, name), path)

    def element_conversion(self, element: _state.Field) -> _state.Conversion:
        """Return the conversion by the functions."""
        return self._of(element)

    def _of(self, field: _state.Field, path: str = "") -> _state.Conversion:
        refuses_zeros = self.migrated.__checked__ or any(
            info.type.live for cls in nested(self.migrated) for info in cls.__layout__.fields
        )
        return _state.Conversion(
            *("struct", path),
            field=field,
            cls=self.cls,
            to=self.to,
            back=self.back,
            initial=bytes(self.migrated.__image__) if refuses_zeros else None,
        )
