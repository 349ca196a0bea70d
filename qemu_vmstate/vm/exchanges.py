# SPDX-License-Identifier: GPL-2.0-or-later
"""The last exchanges over a QMP connection, for whoever looks for the reason of a failure.

They are written as in docs/interop/qmp-spec.rst: ``->`` is what the client sends, ``<-`` what QEMU
sends.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LAST_EXCHANGES", "LONGEST_MESSAGE", "Exchange", "Exchanges"]

LAST_EXCHANGES = 20
"""The number of exchanges that are kept."""

LONGEST_MESSAGE = 400
"""The number of characters that are kept of a message."""


@dataclass(eq=False)
class Exchange:
    """One command with its reply, or one event."""

    command: str = ""
    """The command as it was sent; empty for an event."""
    answer: str = ""
    """The reply or the event as QEMU sent it; empty while there is no reply."""
    times: int = 1
    """How often the command was sent."""

    def set_answer(self, key: str, value: object) -> None:
        """Set the reply: *value* is what its ``return`` or its ``error`` has."""
        self.answer = _shortened({key: value})

    @property
    def is_query(self) -> bool:
        """Whether the command changes nothing."""
        return self.command.startswith('{"execute": "query-')

    def lines(self) -> list[str]:
        """Return what was sent and what came back, a line for each."""
        if not self.command:
            return [f"<- {self.answer}"]
        often = "" if self.times == 1 else f"  (sent {self.times} times; this is the last reply)"
        return [f"-> {self.command}{often}", f"<- {self.answer or '(no reply)'}"]


class Exchanges:
    """The last commands, replies and events of a connection; threads may add to it."""

    def __init__(self) -> None:
        self._kept: deque[Exchange] = deque(maxlen=LAST_EXCHANGES)
        self._lock = threading.Lock()

    def add_command(self, command: str, arguments: Mapping[str, object]) -> Exchange:
        """Add a command that is about to be sent; the caller sets its answer.

        It replaces the same query if only queries came after it, because a wait repeats queries
        many times, and what came before the wait is to be seen too.
        """
        message = {"execute": command, **({"arguments": arguments} if arguments else {})}
        new = Exchange(_shortened(message))
        with self._lock:
            for old in reversed(self._kept if new.is_query else ()):
                if not old.is_query:
                    break
                if old.command == new.command:
                    new.times += old.times
                    self._kept.remove(old)
                    break
            self._kept.append(new)
        return new

    def add_event(self, event: Mapping[str, object]) -> None:
        """Add an event."""
        with self._lock:
            self._kept.append(Exchange(answer=_shortened(event)))

    def __str__(self) -> str:
        with self._lock:
            kept = list(self._kept)
        return "\n".join(line for exchange in kept for line in exchange.lines())


def _shortened(message: Mapping[str, object]) -> str:
    text = json.dumps(message, default=repr)
    if len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}... ({len(text)} characters)"
