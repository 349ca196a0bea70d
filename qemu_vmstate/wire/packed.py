# SPDX-License-Identifier: GPL-2.0-or-later
"""The annotation of an attribute that is packed as MessagePack."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import DeclarationError
from .record import record

__all__ = ["PackedType"]


@record()
class PackedType:
    """A value of the annotation ``hint`` as MessagePack of at most ``maximum`` bytes.

    It is no wire type: a derived class makes two fields of it, the size and the bytes.
    """

    hint: Any
    maximum: int

    def __or__(self, other: object) -> NoReturn:
        """Refuse ``Packed[...] | None``: MessagePack has a ``None`` of its own."""
        raise DeclarationError(
            "Packed[...] | None: MessagePack has None itself; write it inside, as in "
            f"Packed[int | None, Literal[{self.maximum}]]"
        )

    __ror__ = __or__
