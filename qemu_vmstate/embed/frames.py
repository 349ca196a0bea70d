# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages over a Unix socket: bytes after their length, an unsigned 64-bit big-endian integer."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

__all__ = ["Channel", "receive_frame", "send_frame"]

_LENGTH = struct.Struct("!Q")


def send_frame(peer: socket.socket, data: bytes) -> None:
    """Send *data* as one message."""
    peer.sendall(_LENGTH.pack(len(data)) + data)


def receive_frame(peer: socket.socket, limit: int | None = None) -> bytes:
    """Return the next message; raises EOFError at the end, and for one longer than *limit*."""
    (size,) = _LENGTH.unpack(_receive_exactly(peer, _LENGTH.size))
    if limit is not None and size > limit:
        raise EOFError(f"a message of {size} bytes where at most {limit} are allowed")
    return _receive_exactly(peer, size)


def _receive_exactly(peer: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = peer.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError("the other side closed the channel")
        data += piece
    return bytes(data)


class Channel:
    """Messages that are JSON objects with a "type", over the socket *peer*, which it owns.

    They are no pickles, because whoever attaches to a script need not trust it.
    """

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._sending = threading.RLock()  # a signal handler may send too

    def send(self, kind: str, **content: Any) -> None:
        """Send the message *kind*; raises OSError when the other side is gone."""
        data = json.dumps({"type": kind, **content}).encode()
        with self._sending:
            send_frame(self._peer, data)

    def receive(self) -> dict[str, Any]:
        """Return the next message; raises EOFError or OSError when there is none any more."""
        try:
            message = json.loads(receive_frame(self._peer))
        except ValueError as error:
            raise EOFError(f"the other side does not speak this protocol: {error}") from error
        if not isinstance(message, dict) or "type" not in message:
            raise EOFError("the other side does not speak this protocol")
        return message

    def close(self) -> None:
        """Close the socket, and end a receive() of another thread."""
        with contextlib.suppress(OSError):  # the other side has closed it
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()
