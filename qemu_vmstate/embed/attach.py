# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside QEMU: the socket at which users attach to the script, for a prompt or a debugger."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
from collections.abc import Callable

from . import attach_socket, debugger
from .frames import Channel
from .prompt import run_prompt
from .remote_terminal import Namespace, RemoteTerminal

__all__ = ["serve_terminal", "start"]


def start(namespace: Callable[[], Namespace], listen: bool, has_control: bool) -> None:
    """Let breakpoint() wait for a user, and *listen* for users who attach to ``namespace()``.

    Where no socket can be made, only the program that started a VM, which *has_control*, can
    attach, or nobody; breakpoint() then prints the reason and does not wait.
    """
    reason = "QEMU_VMSTATE_ATTACH=no forbids it"
    if listen:
        try:
            _listen(namespace)
        except OSError as error:
            reason = str(error)
        else:
            debugger.install(f"qemu-vmstate attach {os.getpid()}")
            return
    if has_control:
        debugger.install("call vm.python.interact() in the program that started this VM")
    else:
        debugger.install("", f"nobody can attach to this QEMU: {reason}")


def _listen(namespace: Callable[[], Namespace]) -> None:
    listener, path = attach_socket.listen()
    process = os.getpid()

    def remove() -> None:
        # Forked processes run exit functions too, and QEMU may have changed its root.
        if os.getpid() == process:
            with contextlib.suppress(OSError):
                os.unlink(path)

    atexit.register(remove)
    # Otherwise it would be open for as long as a process that the script forked.
    os.register_at_fork(after_in_child=listener.close)
    threading.Thread(
        target=_accept, args=(listener, namespace), name="qemu_vmstate attach", daemon=True
    ).start()


def _accept(listener: socket.socket, namespace: Callable[[], Namespace]) -> None:
    while True:
        peer, _ = listener.accept()
        threading.Thread(
            target=_serve,
            args=(peer, namespace),
            name="qemu_vmstate attach",
            daemon=True,
        ).start()


def _serve(peer: socket.socket, namespace: Callable[[], Namespace]) -> None:
    _, user = attach_socket.peer_of(peer)
    if user in (0, os.geteuid()):
        serve_terminal(peer, namespace())
        return
    channel = Channel(peer)
    with contextlib.suppress(OSError):
        channel.send(
            "refused",
            reason=f"user {user} may not attach to a QEMU of user {os.geteuid()}: only that user "
            "and root may",
        )
    channel.close()


def serve_terminal(peer: socket.socket, namespace: Namespace) -> None:
    """Give the user at *peer* the debugger if a breakpoint() waits, else a prompt; then close it.

    Returns when the user has detached.
    """
    channel = Channel(peer)
    try:
        hello = channel.receive()
        channel.send("ready")
    except (EOFError, OSError):
        channel.close()
        return
    terminal = RemoteTerminal(channel, bool(hello.get("interactive")))
    if debugger.attach(terminal):
        terminal.pump(end_when_idle=True)
        debugger.detach(terminal)
    else:
        threading.Thread(
            target=_run_prompt, args=(terminal, namespace), name="qemu_vmstate prompt", daemon=True
        ).start()
        terminal.pump()
    channel.close()


def _run_prompt(terminal: RemoteTerminal, namespace: Namespace) -> None:
    status = 1
    try:
        status = run_prompt(terminal, namespace)
    finally:
        terminal.end(status)
