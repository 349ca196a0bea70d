# SPDX-License-Identifier: GPL-2.0-or-later
"""An asyncio server inside QEMU whose sessions migrate with the guest.

It listens on the Unix socket that is the script's argument.  A client sends lines of a token and an
item, and gets all items of the token's session.  The connections end with the QEMU that they are
to; a client connects to the other one, and its session is there.

The event loop has a thread of its own.  A coroutine holds the ``Mutex`` only between two ``await``,
and does not keep a ``Session`` over one, because a load makes new ones.
"""

import asyncio
import sys
import threading
from dataclasses import dataclass

from qemu_vmstate import (
    DerivedState,
    Device,
    Migratable,
    Mutex,
    derive_to_migration_state,
    field,
    register,
)


@derive_to_migration_state(max_length=64)
@dataclass
class Session(DerivedState):
    """The items of a client."""

    items: list[str] = field(default_factory=list)


@derive_to_migration_state(max_length=64)
@dataclass
class Sessions(DerivedState):
    """The sessions by their tokens."""

    by_token: dict[str, Session] = field(default_factory=dict)


class SessionServer(Device, name="pysessions"):
    """The server."""

    sessions: Migratable[Mutex[Sessions]]

    def add(self, token: str, item: str) -> list[str]:
        """Add an item to a session, which is made if there is none, and return all its items."""
        with self.sessions.lock() as sessions:
            session = sessions.by_token.setdefault(token, Session())
            session.items.append(item)
            return list(session.items)

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the lines of a client."""
        while line := await reader.readline():
            token, item = line.decode().split()
            writer.write(" ".join(self.add(token, item)).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def serve(self, path: str) -> None:
        """Accept clients until the process ends."""
        async with await asyncio.start_unix_server(self.client, path) as server:
            await server.serve_forever()


dev = SessionServer()
register(dev)
threading.Thread(target=lambda: asyncio.run(dev.serve(sys.argv[1])), daemon=True).start()
