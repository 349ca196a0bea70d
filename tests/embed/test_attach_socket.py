# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a script listens for users who attach: in a folder that only its user can enter."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qemu_vmstate.embed import attach_socket
from qemu_vmstate.embed.attach_socket import AttachError, connect, peer_of

from ..conftest import PATIENCE

NOBODY = 65534


def may_give_away() -> bool:
    """Return whether this process is root, and its user namespace has another user."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    ranges = [tuple(map(int, line.split())) for line in lines]
    has_nobody = any(first <= NOBODY < first + count for first, _, count in ranges)
    return os.geteuid() == 0 and has_nobody


as_root = pytest.mark.skipif(
    not may_give_away(),
    reason="only root can give a file away, to a user of its namespace: run the tests as root",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder that sockets may be in; it is not there yet."""
    path = tmp_path / "run" / "qemu-vmstate"
    path.parent.mkdir(mode=0o700)
    monkeypatch.setattr(attach_socket, "_folders", lambda _: iter([path]))
    return path


def listening(path: Path) -> subprocess.Popen[str]:
    """Start a process that listens on *path* until it is killed."""
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
        "print('listens', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listens\n"
    return process


@pytest.fixture
def other() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Return a dictionary for processes that end with the test."""
    processes: dict[str, subprocess.Popen[str]] = {}
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_the_folder_and_the_socket_are_for_their_user_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        listener, path = attach_socket.listen()
    finally:
        os.umask(before)
    with listener, connect(str(os.getpid())) as peer:
        assert path == folder / f"{os.getpid()}.sock"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        assert peer_of(peer) == (os.getpid(), os.geteuid())
        accepted, _ = listener.accept()
        with accepted:
            assert peer_of(accepted) == (os.getpid(), os.geteuid())


def test_the_best_folder_that_can_be_used_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = tmp_path / ("x" * 100)
    too_long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(too_long))
    listener, path = attach_socket.listen()
    with listener:
        assert not path.is_relative_to(too_long)
        connect(str(os.getpid())).close()
    path.unlink()


@pytest.mark.parametrize("kind", ["file", "link", "open"])
def test_a_folder_that_is_not_private_is_not_used(folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        folder.touch()
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o750)
    message = {
        "file": "File exists",
        "link": "is not a folder; remove it",
        "open": f"its mode is 750); do `chmod 700 {folder}`",
    }[kind]
    with pytest.raises(OSError, match="name a writable folder that only you") as caught:
        attach_socket.listen()
    assert message in str(caught.value)
    with pytest.raises(AttachError, match=f"process {os.getpid()} cannot be attached to: "):
        connect(str(os.getpid()))


@as_root
def test_a_folder_of_another_user_is_not_used(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(OSError, match=f"belongs to user {NOBODY}, not to user 0"):
        attach_socket.listen()
    os.chown(folder, 0, 0)
    listener, _ = attach_socket.listen()
    os.chown(folder, NOBODY, NOBODY)
    with listener, pytest.raises(AttachError, match=f"belongs to user {NOBODY}, not to user 0"):
        connect(str(os.getpid()))


@pytest.mark.parametrize("mode", [0o770, 0o757])
def test_a_folder_that_others_could_replace_is_not_used(folder: Path, mode: int) -> None:
    folder.parent.chmod(mode)
    with pytest.raises(OSError, match="can be changed by other users"):
        attach_socket.listen()
    folder.parent.chmod(mode | 0o1000)  # a sticky one, such as /tmp
    listener, _ = attach_socket.listen()
    listener.close()


def test_sockets_of_killed_processes_are_removed_and_others_kept(
    folder: Path, other: dict[str, subprocess.Popen[str]]
) -> None:
    folder.mkdir(mode=0o700)
    no_process = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    lives, dead = folder / f"{no_process}.sock", folder / f"{no_process + 1}.sock"
    other["lives"] = listening(lives)  # in a container, whose process ids are not ours
    other["dead"] = listening(dead)
    other["dead"].kill()
    other["dead"].wait(PATIENCE)
    own = folder / f"{os.getpid()}.sock"
    own.touch()  # of a killed process that had the same number
    (folder / "notes").touch()
    listener, path = attach_socket.listen()
    listener.close()
    assert path == own
    assert sorted(folder.iterdir()) == sorted([lives, own, folder / "notes"])
    path.unlink()


def test_a_socket_of_another_process_is_not_taken_for_this_ones(
    folder: Path, other: dict[str, subprocess.Popen[str]]
) -> None:
    folder.mkdir(mode=0o700)
    other["impostor"] = listening(folder / f"{os.getpid()}.sock")
    with pytest.raises(AttachError, match=f"process {os.getpid()} cannot be attached to: "):
        connect(str(os.getpid()))


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    no_process = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    with pytest.raises(AttachError, match=f"there is no process {no_process}"):
        connect(str(no_process))
    for target, reason in (
        (tmp_path / "none.sock", "No such file or directory"),
        (tmp_path / ("x" * 120), "AF_UNIX path too long"),
    ):
        with pytest.raises(AttachError, match=f"cannot be attached to: {reason}; name one"):
            connect(str(target))
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    with pytest.raises(AttachError, match="Connection refused; name one of a QEMU that runs"):
        connect(str(dead))
