# SPDX-License-Identifier: GPL-2.0-or-later
"""Evaluation of Python in the script that runs inside a VM, for tests and experiments.

:func:`serve` runs in QEMU's Python, :class:`Control` outside.  A request and its answer each are
a pickle over a Unix socket.  The server reads no pickle before the client has sent the key.  The
request "attach" makes of the connection a terminal's (:mod:`qemu_vmstate.embed.attach`).
"""

from __future__ import annotations

import hmac
import os
import pickle
import socket
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ..errors import VMStateError
from . import user_terminal
from .frames import receive_frame, send_frame

__all__ = ["Control", "ControlError", "RemoteError", "serve"]

_HANDSHAKE_SECONDS = 10.0
_KEY_LIMIT = 1024
_ATTACH = b"attach"

Namespace = dict[str, Any]


class ControlError(VMStateError, RuntimeError):
    """The control channel of a VM could not be reached, broke, or did not answer in time."""


class RemoteError(VMStateError):
    """An exception in the VM that cannot be rebuilt here; str() is its traceback."""


def _pickled(value: object) -> bytes | None:
    try:
        return pickle.dumps(value)
    except Exception:  # a user's __reduce__() may raise anything
        return None


# ------------------------------------------------------------- inside QEMU


def serve(
    path: str | os.PathLike[str], namespace: Callable[[], Namespace], key: bytes = b""
) -> threading.Thread:
    """Listen on the Unix socket *path* and evaluate requests in ``namespace()``.

    Returns the daemon thread, which ends with the process.  A client that does not send *key*
    first is dropped.  Raises OSError when *path* cannot be listened on.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    os.chmod(path, 0o600)
    listener.listen()
    thread = threading.Thread(
        target=_accept, args=(listener, namespace, key), name="qemu_vmstate control", daemon=True
    )
    thread.start()
    return thread


def _accept(listener: socket.socket, namespace: Callable[[], Namespace], key: bytes) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(
            target=_serve_client,
            args=(client, namespace, key),
            name="qemu_vmstate control client",
            daemon=True,
        ).start()


def _serve_client(client: socket.socket, namespace: Callable[[], Namespace], key: bytes) -> None:
    with client:
        try:
            client.settimeout(_HANDSHAKE_SECONDS)
            if not hmac.compare_digest(receive_frame(client, _KEY_LIMIT), key):
                return
            client.settimeout(None)
            while (request := receive_frame(client)) != _ATTACH:
                send_frame(client, _answer(request, namespace()))
            from .attach import serve_terminal  # which only QEMU's process must import

            serve_terminal(client, namespace())
        except (EOFError, OSError):
            return


def _answer(request: bytes, namespace: Namespace) -> bytes:
    try:
        verb, target, args, kwargs = pickle.loads(request)
        if verb == "exec":
            exec(compile(target, "<control>", "exec"), namespace)
            value: object = None
        else:
            value = eval(compile(target, "<control>", "eval"), namespace)
            if verb == "call":
                value = value(*args, **kwargs)  # type: ignore[operator]
        # repr() is called inside the try, so that the caller gets its exception too.
        return pickle.dumps(("value", _pickled(value), repr(value)))
    except BaseException as error:  # a SystemExit must not silently end this thread
        return pickle.dumps(("error", _pickled(error), traceback.format_exc()))


# ------------------------------------------------------------ outside QEMU


class Control:
    """A client of ``serve()``, which evaluates Python in a VM's script from outside.

    It connects at its first request, can be shared by threads, and is a context manager.
    *timeout* is in seconds, for each request.  All requests raise :class:`ControlError` if the
    VM cannot be reached or does not answer in time.
    """

    def __init__(
        self, path: str | os.PathLike[str], key: bytes = b"", timeout: float = 60.0
    ) -> None:
        self._path = os.fspath(path)
        self._key = key
        self._timeout = timeout
        self._peer: socket.socket | None = None
        self._lock = threading.Lock()

    def eval(self, expression: str) -> Any:
        """Return the value of *expression* in the script's namespace.

        A value that cannot be pickled there or unpickled here is returned as its ``repr()``.  An
        exception is raised again here, with the remote traceback as a note; one that cannot be
        unpickled here is raised as :class:`RemoteError`.
        """
        return self._request("eval", expression)

    def exec(self, source: str) -> None:
        """Run the statements *source* in the script's namespace; raises as :meth:`eval` does."""
        self._request("exec", source)

    def call(self, function: str, /, *args: object, **kwargs: object) -> Any:
        """Call the value of the expression *function* with pickled arguments.

        Returns and raises as :meth:`eval` does.
        """
        return self._request("call", function, args, kwargs)

    def interact(self) -> None:
        """Open a Python prompt in the script's namespace on this process's terminal.

        Returns when the user leaves it with Ctrl-D.  Where a ``breakpoint()`` of the script waits
        it is pdb's prompt.  Other calls work meanwhile.  Raises :class:`ControlError` if the VM
        cannot be reached, and ``AttachError`` if it ends.
        """
        try:
            peer = self._connection()
            send_frame(peer, _ATTACH)
        except OSError as error:
            raise ControlError(
                f"the VM's Python cannot be reached for a prompt: {error}; has its QEMU ended?"
            ) from error
        user_terminal.converse(peer)

    def close(self) -> None:
        """Close the channel; the next request opens it again."""
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drop(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def _connected(self) -> socket.socket:
        if self._peer is None:
            self._peer = self._connection()
        return self._peer

    def _connection(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(self._timeout)
        try:
            peer.connect(self._path)
            send_frame(peer, self._key)
        except BaseException:
            peer.close()
            raise
        return peer

    def _request(
        self,
        verb: str,
        target: str,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        request = pickle.dumps((verb, target, args, kwargs or {}))
        with self._lock:
            try:
                peer = self._connected()
                send_frame(peer, request)
                answer = receive_frame(peer)
            except TimeoutError as error:
                # Otherwise the next request would get the late answer.
                self._drop()
                raise ControlError(
                    f"the VM's Python did not answer {verb} {target!r} within "
                    f"{self._timeout:g} s; does its script or a hook hold a lock?"
                ) from error
            except (EOFError, OSError) as error:
                self._drop()
                raise ControlError(
                    f"the VM's Python cannot be reached for {verb} {target!r}: {error}; "
                    "has its QEMU ended, or is the key another VM's?"
                ) from error
            except BaseException:
                self._drop()
                raise
        return _outcome(*pickle.loads(answer))


def _outcome(kind: str, pickled: bytes | None, text: str) -> Any:
    value: object = None
    known = pickled is not None
    if pickled is not None:
        try:
            value = pickle.loads(pickled)
        except Exception:  # a class of the script's own, or one that cannot be rebuilt
            known = False
    if kind == "value":
        return value if known else text
    if not known or not isinstance(value, BaseException):
        raise RemoteError(text)
    value.add_note("In the VM:\n" + text.rstrip())
    raise value
