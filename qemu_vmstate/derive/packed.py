# SPDX-License-Identifier: GPL-2.0-or-later
"""``Packed``: an object of any type that msgspec encodes, as MessagePack in one buffer.

msgspec is the extra ``qemu-vmstate[packed]``, and is imported by the first declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ..errors import DeclarationError, InvalidError
from ..wire.field_options import FieldOptions
from ..wire.types import SCALARS, CountedType, PackedType
from .spec import Codec, FieldConversion, Shape
from .values import type_name

__all__ = [
    "PackedCodec",
    "copy_contents",
    "packed_conversion",
    "put_packed",
    "roll_contents_back",
]

_WIRE_ONLY = (
    *("into", "try_into", "clone", "length", "none"),
    *("num", "size", "multiply", "start"),
)
"""The options that cannot go with ``Packed``, which are accepted beside other annotations."""


class PackedCodec:
    """Encodes the objects of one type as MessagePack, and decodes them strictly.

    ``path`` is where the object is, in errors; ``maximum`` is the most bytes that one may have.
    """

    __slots__ = ("_decode", "_encode", "_type_name", "maximum", "path")

    def __init__(self, type_: PackedType, where: str, path: str) -> None:
        """Make the encoder and decoder of a declaration, which errors call ``where``.

        Raises ``DeclarationError`` without msgspec, and for a type that it does not support.
        """
        self.path = path
        self.maximum = type_.maximum
        self._type_name = type_name(type_.hint)
        msgpack = _msgpack(where)
        self._encode: Callable[[Any], bytes] = msgpack.Encoder().encode
        try:
            self._decode: Callable[[Any], Any] = msgpack.Decoder(type_.hint).decode
            inner = import_module("msgspec.inspect").type_info(type_.hint)
        except Exception as exc:
            raise DeclarationError(
                f"{where}: {self._type_name} cannot be packed: {exc}; take types that msgspec "
                "supports, and declare the classes that it names at the top of a module before "
                "this one"
            ) from exc
        for part in _parts(inner, set()):
            kind = type(part).__name__
            if kind == "CustomType":
                raise DeclarationError(
                    f"{where}: {self._type_name} cannot be packed: msgspec does not support "
                    f"{type_name(part.cls)}; take a type that it supports, as a dataclass"
                )
            if kind in ("RawType", "MemoryViewType"):
                self._decode = _decode_copy(self._decode)

    def encode(self, value: Any) -> bytes:
        """Return the MessagePack of ``value``.

        Raises ``InvalidError`` for what msgspec cannot encode and for more than ``maximum`` bytes.
        """
        try:
            data = self._encode(value)
        except Exception as exc:
            raise InvalidError(
                f"this {type(value).__name__} cannot be packed: {exc}; take values that msgspec "
                "encodes, or leave the attribute out with field(omit=True)",
                self.path,
            ) from exc
        if len(data) > self.maximum:
            raise InvalidError(
                f"this {type(value).__name__} is packed into {len(data)} bytes, and the maximum "
                f"is {self.maximum}; remove elements, or declare more: "
                f"Packed[{self._type_name}, Literal[{_next_power_of_2(len(data))}]]",
                self.path,
            )
        return data

    def decode(self, data: bytes | memoryview) -> Any:
        """Return the object in ``data``, which refers to nothing of it.

        Raises ``InvalidError`` for anything but one object of the declared type.
        """
        try:
            return self._decode(data)
        except Exception as exc:
            reason = f"its MessagePack is no {self._type_name}: {exc}"
            if not len(data):
                reason = "the stream has nothing of this object, and it has no default; declare one"
            raise InvalidError(reason, self.path) from exc


def packed_conversion(
    attribute: str, where: str, path: str, options: FieldOptions, type_: PackedType
) -> FieldConversion:
    """Return the conversion of an attribute that is annotated ``Packed``.

    Raises ``DeclarationError`` for options without a meaning, and as :class:`PackedCodec` does.
    """
    if given := options.given(*_WIRE_ONLY):
        raise DeclarationError(
            f"{where}: {', '.join(given)} has no meaning beside Packed, which has a length and "
            "None itself; leave it out"
        )
    codec = PackedCodec(type_, where, path)
    wire = CountedType(SCALARS["B"], type_.maximum, is_buffer=True, content="messagepack")
    both = Codec(codec.encode, codec.decode)
    return FieldConversion(attribute, where, path, options, Shape.PACKED, wire, both)


def _msgpack(where: str) -> Any:
    try:
        return import_module("msgspec.msgpack")
    except ImportError as exc:
        raise DeclarationError(
            f"{where}: Packed needs msgspec ({exc}); install it with "
            "`pip install 'qemu-vmstate[packed]'`"
        ) from exc


def _parts(info: Any, seen: set[int]) -> Iterator[Any]:
    """Yield a type of ``msgspec.inspect``, and all types in it."""
    if isinstance(info, tuple | list):
        for item in info:
            yield from _parts(item, seen)
    elif hasattr(info, "__struct_fields__") and id(info) not in seen:
        seen.add(id(info))
        yield info
        for name in info.__struct_fields__:
            # A field's default may be any object.
            if not name.startswith("default"):
                yield from _parts(getattr(info, name), seen)


def _decode_copy(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a ``decode`` whose result may refer to the bytes, which are QEMU's otherwise."""
    return lambda data: decode(bytes(data))


def _next_power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()


# What a restore does with the object that the attribute has


def _refill_dict(current: dict[Any, Any], new: dict[Any, Any]) -> None:
    current.clear()
    current.update(new)


def _refill_set(current: set[Any], new: set[Any]) -> None:
    current.clear()
    current.update(new)


def _refill_row(current: Any, new: Any) -> None:
    current[:] = new


_REFILLS: dict[type, Callable[[Any, Any], None]] = {
    dict: _refill_dict,
    list: _refill_row,
    set: _refill_set,
    bytearray: _refill_row,
}
"""The classes whose objects remain, without their subclasses, whose methods could fail."""


def put_packed(state: Any, attribute: str, loaded: Any) -> None:
    """Put ``loaded`` into the attribute's object if it is of the same mutable builtin class.

    An object of any other class is replaced.
    """
    current = getattr(state, attribute, None)
    refill = _REFILLS.get(type(loaded))
    if refill is None or type(current) is not type(loaded):
        setattr(state, attribute, loaded)
    else:
        refill(current, loaded)


def copy_contents(current: Any) -> Any:
    """Return a copy of an object that ``put_packed`` changes, or ``None`` for any other."""
    return current.copy() if type(current) in _REFILLS else None


def roll_contents_back(current: Any, previous: Any) -> None:
    """Reset ``current`` to ``previous``, a result of ``copy_contents``."""
    if previous is not None:
        _REFILLS[type(current)](current, previous)
