# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a QEMU's script listens for users who attach, and the way there.

The socket is ``PID.sock`` in a folder that only its user can enter: ``qemu-vmstate`` in
``$XDG_RUNTIME_DIR`` or ``/run/user/UID``, else ``/tmp/qemu-vmstate-UID``.  Both sides check who
the other is.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from ..errors import VMStateError

__all__ = ["AttachError", "connect", "listen", "peer_of"]

_PEER = struct.Struct("3i")
_SHIM = "qemu-vmstate-shim"


class AttachError(VMStateError, RuntimeError):
    """A running script could not be attached to."""


def peer_of(peer: socket.socket) -> tuple[int, int]:
    """Return the process id and the user id of the process that connected, or that listened."""
    pid, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid


def _folders(user: int) -> Iterator[Path]:
    """Return the folders in which a QEMU of *user* may have its socket, the best one first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and user == os.geteuid():
        yield Path(runtime, "qemu-vmstate")
    yield Path(f"/run/user/{user}/qemu-vmstate")
    yield Path(f"/tmp/qemu-vmstate-{user}")


def _check_private(folder: Path, user: int) -> None:
    """Raise OSError unless *folder* is one that nobody but *user* can enter."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{folder} is not a folder; remove it")
    if found.st_uid != user:
        raise PermissionError(f"{folder} belongs to user {found.st_uid}, not to user {user}")
    if found.st_mode & 0o077:
        raise PermissionError(
            f"{folder} can be entered by others (its mode is {found.st_mode & 0o777:o}); "
            f"do `chmod 700 {folder}`"
        )


def _check_parent(folder: Path) -> None:
    """Raise PermissionError if others can replace what this user has in *folder*."""
    found = folder.stat()
    sticky = found.st_mode & stat.S_ISVTX
    if not sticky and (found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022):
        raise PermissionError(f"{folder} can be changed by other users")


# ------------------------------------------------------------- inside QEMU


def listen() -> tuple[socket.socket, Path]:
    """Return a socket that listens for users who attach to this process, and its path.

    Raises OSError, with the reason for each folder, where it cannot be made.
    """
    reasons = []
    for folder in dict.fromkeys(_folders(os.geteuid())):
        if not folder.parent.is_dir():
            continue
        try:
            return _listen_in(folder)
        except OSError as error:
            reasons.append(str(error))
    raise OSError(
        "; ".join(reasons) + "; name a writable folder that only you can enter in XDG_RUNTIME_DIR"
    )


def _listen_in(folder: Path) -> tuple[socket.socket, Path]:
    _check_parent(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check_private(folder, os.geteuid())
    _remove_stale(folder)
    path = folder / f"{os.getpid()}.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(f"{path}: {error}") from error
    return listener, path


def _remove_stale(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.glob("*.sock"):
        # A process of another PID namespace may have the number, so ask the socket itself.
        if path.stem.isdigit() and not Path("/proc", path.stem).exists() and _is_dead(path):
            path.unlink(missing_ok=True)


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


# ------------------------------------------------------------ outside QEMU


def connect(target: str) -> socket.socket:
    """Return a connection to a script: *target* is its QEMU's process id, or a socket's path.

    Raises :class:`AttachError` with the reason and the remedy.
    """
    if target.isdecimal():
        return _connect_to_process(int(target))
    try:
        return _connect_to(Path(target))
    except OSError as error:
        raise AttachError(
            f"the socket {target} cannot be attached to: {error.strerror or error}; name one of a "
            "QEMU that runs, or its process id"
        ) from error


def _connect_to(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(str(path))
    except BaseException:
        peer.close()
        raise
    return peer


def _connect_to_process(pid: int) -> socket.socket:
    user = _user_of_process(pid)
    folders = dict.fromkeys(
        (folder, owner) for owner in (user, os.geteuid()) for folder in _folders(owner)
    )
    for folder, owner in folders:
        path = folder / f"{pid}.sock"
        try:
            _check_private(folder, owner)
            peer = _connect_to(path)
        except (PermissionError, NotADirectoryError) as error:
            if os.geteuid() in (0, owner):
                raise AttachError(f"process {pid} cannot be attached to: {error}") from error
            continue
        except OSError:
            continue  # it is not there, nobody listens, or the path is longer than a socket's
        if peer_of(peer)[0] == pid:
            return peer
        peer.close()
    raise AttachError(
        f"process {pid} cannot be attached to: {_why_not(pid, user)} "
        f"(there is no {pid}.sock in {', '.join(str(folder) for folder, _ in folders)})"
    )


def _user_of_process(pid: int) -> int:
    # /proc/PID itself belongs to root where QEMU has changed its user.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        raise AttachError(f"there is no process {pid}") from None
    return int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[2])


def _why_not(pid: int, user: int) -> str:
    try:
        has_shim = _SHIM in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        if os.geteuid() not in (0, user):
            return f"it is user {user}'s; attach as that user, or as root"
        has_shim = True  # it may have it: the memory map is not shown
    if not has_shim:
        return "no script runs in it; `qemu-vmstate run SCRIPT -- QEMU ...` starts a QEMU with one"
    return (
        "its script has not started yet, QEMU_VMSTATE_ATTACH=no forbids it, or QEMU could make no "
        "socket; start it with XDG_RUNTIME_DIR naming a writable folder that only its user can "
        "enter, and attach with the same XDG_RUNTIME_DIR"
    )
