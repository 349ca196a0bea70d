# SPDX-License-Identifier: GPL-2.0-or-later
"""``Packed``: an object of any type that msgspec encodes, as MessagePack in one buffer.

msgspec is the extra ``qemu-vmstate[packed]``, and is imported by the first declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ..errors import DeclarationError, InvalidError, OutOfRangeError
from ..wire.field_options import FieldOptions
from ..wire.types import SCALARS, PackedType
from .forms import BytesForm, Form, FunctionForm, Room
from .values import type_name

__all__ = ["packed_form"]

_UNFIT = (
    *("into", "try_into", "clone", "length", "max_length", "count_type", "none"),
    *("num", "size", "multiply", "start"),
)
"""The options that cannot go with ``Packed``, which are accepted beside other annotations."""


class PackedCodec:
    """Encodes the objects of one type as MessagePack, and decodes them strictly.

    ``encode`` and ``decode`` are msgspec's own functions, because a Python function around one
    takes longer than a small object.  A conversion asks for the exception when one has failed.
    """

    __slots__ = ("_type_name", "decode", "encode", "maximum")

    def __init__(self, type_: PackedType, where: str) -> None:
        """Make the encoder and decoder of a declaration, which errors call ``where``.

        Raises ``DeclarationError`` without msgspec, and for a type that it does not support.
        """
        self.maximum = type_.maximum
        self._type_name = type_name(type_.hint)
        msgpack = _msgpack(where)
        self.encode: Callable[[Any], bytes] = msgpack.Encoder().encode
        try:
            self.decode: Callable[[Any], Any] = msgpack.Decoder(type_.hint).decode
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
                self.decode = _decode_copy(self.decode)

    def encode_error(self, value: Any, cause: Exception) -> InvalidError:
        """Return the exception for what msgspec cannot encode, or for too many bytes."""
        if not isinstance(cause, OutOfRangeError):
            return InvalidError(
                f"this {type(value).__name__} cannot be packed: {cause}; take values that msgspec "
                "encodes, or leave the attribute out with field(omit=True)"
            )
        size = len(self.encode(value))
        return InvalidError(
            f"this {type(value).__name__} is packed into {size} bytes, and the maximum is "
            f"{self.maximum}; remove elements, or declare more: "
            f"Packed[{self._type_name}, Literal[{_next_power_of_2(size)}]]"
        )

    def decode_error(self, data: memoryview, cause: Exception) -> InvalidError:
        """Return the exception for anything but one object of the declared type."""
        reason = f"its MessagePack is no {self._type_name}: {cause}"
        if not len(data):
            reason = "the stream has nothing of this object, and it has no default; declare one"
        return InvalidError(reason)


def packed_form(type_: PackedType, where: str, options: FieldOptions) -> Form:
    """Return the form of a value that is annotated ``Packed``.

    Raises ``DeclarationError`` for options without a meaning, and as :class:`PackedCodec` does.
    """
    if given := options.given(*_UNFIT):
        raise DeclarationError(
            f"{where}: {', '.join(given)} has no meaning beside Packed, which has a length and "
            "None itself; leave it out"
        )
    codec = PackedCodec(type_, where)
    packed = BytesForm(memoryview, Room(type_.maximum, SCALARS["I"]), "messagepack")
    form = FunctionForm(packed, codec.encode, codec.decode, None, errors=codec)
    form.replaces_contents = True
    return form


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
