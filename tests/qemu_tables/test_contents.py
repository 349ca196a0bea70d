# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes with a content, compared with a C device's VMSTATE_VBUFFER_UINT32 of vmstate_info_buffer.

The bytes and the loaded values are the same; in the description only the name of the type differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemu_vmstate import (
    DerivedState,
    Device,
    InvalidError,
    Migratable,
    Mutex,
    Packed,
    StreamError,
    VMStruct,
    derive_to_migration_state,
    field,
    load,
    save,
    u8,
    u16,
    u32,
)
from qemu_vmstate.bindings.native import ffi
from qemu_vmstate.device.device import staging_of
from qemu_vmstate.inprocess import description_text
from qemu_vmstate.vmsd.description import walked
from qemu_vmstate.wire.types import SCALARS, CountedType

from .. import c_reference


@derive_to_migration_state(name="message")
@dataclass
class Message(DerivedState):
    a: u8 = 0
    data: Packed[Any, Literal[4096]] = field(default=None)
    b: u16 = 0


@derive_to_migration_state(name="mailbox")
@dataclass
class Mailbox(DerivedState):
    first: Message = field(default_factory=Message)
    c: u8 = 0
    rest: list[Message] = field(default_factory=lambda: [Message(), Message()], length=2)


CONTENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
).filter(lambda value: len(msgspec.msgpack.encode(value)) <= 4096)
MESSAGES = st.builds(Message, st.integers(0, 255), CONTENTS, st.integers(0, 2**16 - 1))
MAILBOXES = st.builds(
    Mailbox, MESSAGES, st.integers(0, 255), st.lists(MESSAGES, min_size=2, max_size=2)
)


def in_c(message: Message) -> dict[str, Any]:
    content = msgspec.msgpack.encode(message.data)
    return {"a": message.a, "n": len(content), "data": content, "b": message.b}


def as_of_c(description: str) -> str:
    """Return a description with the names that the fields have in C."""
    return (
        description.replace('"messagepack"', '"buffer"')
        .replace('"utf8"', '"buffer"')
        .replace('"size_data"', '"n"')
    )


@given(MESSAGES)
def test_messagepack_is_saved_and_loaded_as_in_c(message: Message) -> None:
    reference = c_reference.device("message")
    data, description = reference.save_as_text(reference.make(in_c(message)))
    assert save(message) == data
    text = description_text(message)
    assert '"messagepack"' in text
    assert as_of_c(text) == description
    other = Message()
    load(other, data)
    assert other == message
    c_other = reference.make({"data": bytes(4096)})
    reference.load(c_other, save(message))
    assert c_reference.read(c_other, in_c(message)) == in_c(message)


@given(MAILBOXES)
def test_in_nested_structs_as_in_c(mailbox: Mailbox) -> None:
    reference = c_reference.device("mailbox")
    values = {
        "first": in_c(mailbox.first),
        "c": mailbox.c,
        "rest": [in_c(one) for one in mailbox.rest],
    }
    data, description = reference.save_as_text(reference.make(values))
    assert save(mailbox) == data
    assert as_of_c(description_text(mailbox)) == description
    other = Mailbox()
    load(other, data)
    assert other == mailbox


def test_a_nested_content_does_not_make_qemu_walk_the_struct() -> None:
    class Dev(Device, name="outer"):
        message: Migratable[Mutex[Message]]

    (nested,) = staging_of(Dev()).description.nested
    assert nested.packer != ffi.NULL


def test_a_packer_and_qemus_walk_describe_nested_contents_the_same() -> None:
    mailbox = Mailbox(Message(1, {"a": 1}, 2), 3, [Message(), Message(4, b"x", 5)])
    text = description_text(mailbox)
    with walked():
        assert description_text(mailbox) == text
    assert text.count('"messagepack"') == 3


# --------------------------------------------------------------------- in a layout class


def texts(content: str) -> Any:
    # The annotation that a derived class makes of a Packed, which has no public name.
    kind: Any = CountedType(SCALARS["B"], 16, is_buffer=True, content=content)

    class Text(VMStruct, name="message"):
        a: u8 = 0
        n: u32 = 0
        data: kind = field(size="n")
        b: u16 = 0

    return Text


@pytest.mark.parametrize("content", ["utf8", "messagepack", "buffer"])
def test_each_content_is_bytes_on_the_wire(content: str) -> None:
    reference = c_reference.device("message")
    made = reference.make({"a": 1, "n": 5, "data": b"z\xc3\xb6lf", "b": 2})
    data, description = reference.save_as_text(made)
    text = texts(content)(a=1, data=b"z\xc3\xb6lf", b=2)
    assert save(text) == data
    assert description_text(text) == description.replace('"buffer"', f'"{content}"')
    other = texts(content)()
    load(other, data)
    assert bytes(other.data) == b"z\xc3\xb6lf"


@pytest.mark.parametrize("content", ["utf8", "messagepack"])
def test_lengths_are_limited_as_a_buffers(content: str) -> None:
    text = texts(content)(data=b"abc")
    for size in (17, 2**31, 2**32 - 1):
        with pytest.raises(InvalidError, match=r"\.n: \d+ is out of range \(0 to 16\)"):
            load(text, b"\0" + size.to_bytes(4) + bytes(99))
    with pytest.raises(StreamError):
        load(text, b"\0\0\0\0\x10" + bytes(15))
    assert bytes(text.data) == b"abc"
