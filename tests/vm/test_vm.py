# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of running VMs that need no QEMU: options, environments, the control channel."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qemu_vmstate.embed.control import Control, ControlError, RemoteError
from qemu_vmstate.vm.launch import (
    SHIM_NAME,
    Script,
    VMLaunchError,
    libpython_of,
    option,
    shim_path,
    without_python,
)

from ..conftest import PATIENCE, until

ROOT = Path(__file__).absolute().parents[2]


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_root(tmp_path / "na,tive", monkeypatch)


def use_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a shim, and use it in place of the package's."""
    folder.mkdir()
    (folder / SHIM_NAME).touch()
    monkeypatch.setenv("QEMU_VMSTATE_NATIVE", str(folder))
    return folder


# ------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("plain", "key=plain"),
        ("a,b", "key=a,,b"),
        (",,", "key=,,,,"),
        ("k=v", "key=k=v"),
        ("", "key="),
    ],
)
def test_commas_in_an_option_are_doubled(value: str, wanted: str) -> None:
    assert option("bare", key=value) == f"bare,{wanted}"


def test_plugin_shim(native: Path) -> None:
    script = Script("dev.py", ["a,b", "on", ""])
    flag, plugin = script.qemu_arguments()
    assert flag == "-plugin"
    assert plugin.startswith(f"file={native}/{SHIM_NAME}".replace(",", ",,") + ",script=/")
    assert plugin.endswith(",argv=a,,b,argv=on,argv=")
    env = script.environment({"QEMU_VMSTATE_SCRIPT": "another.py", "PYTHONPATH": "/mine"})
    assert not [name for name in env if name.startswith("QEMU_VMSTATE_")]
    assert env["PYTHONPATH"].endswith(f"{os.pathsep}/mine")


@pytest.mark.parametrize("word", ["help", "?"])
def test_plugin_shim_refuses_arguments_that_make_qemu_print_its_help(
    native: Path, word: str
) -> None:
    with pytest.raises(VMLaunchError, match="use shim='preload'"):
        Script("dev.py", [word]).qemu_arguments()


def test_preload_shim(native: Path) -> None:
    script = Script("dev.py", ["help", "a,b"], "preload")
    assert script.qemu_arguments() == []
    env = script.environment({"LD_PRELOAD": "libother.so"})
    assert env["LD_PRELOAD"] == f"{native}/{SHIM_NAME}:libother.so"
    assert json.loads(env["QEMU_VMSTATE_ARGS"]) == ["help", "a,b"]
    assert env["QEMU_VMSTATE_SCRIPT"] == str(Path("dev.py").absolute())


@pytest.mark.parametrize("name", ["with space", "with:colon"])
def test_preload_shim_refuses_a_path_that_cannot_be_preloaded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_root(tmp_path / name, monkeypatch)
    with pytest.raises(VMLaunchError, match="use shim='plugin'"):
        Script("dev.py", (), "preload").environment({})


def test_a_missing_shim_is_named_with_the_remedy(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (native / SHIM_NAME).unlink()
    with pytest.raises(VMLaunchError, match="install a wheel"):
        shim_path()


def test_a_python_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(VMLaunchError, match="no-such-python"):
        libpython_of(str(tmp_path / "no-such-python"))


def test_the_environment_of_a_plain_qemu_starts_no_python() -> None:
    assert without_python({"QEMU_VMSTATE_ARGS": "[]", "HOME": "/"}) == {"HOME": "/"}


# ------------------------------------------------------------------- control

SERVER = """
import sys
from qemu_vmstate.embed.control import serve
class Local: pass
class LocalError(Exception): pass
class TwoArguments(Exception):
    def __init__(self, a, b): super().__init__(a)
def fail(error): raise error
x = 1
serve(sys.argv[1], lambda: globals(), b"key")
print("serving", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = str(tmp_path_factory.mktemp("c") / "control")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, path],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "serving\n"
        yield path
        assert server.stdin is not None
        server.stdin.close()
        # The process ends even while the thread of a client runs.
        assert server.wait(PATIENCE) == 0


@pytest.fixture
def control(socket_path: str) -> Iterator[Control]:
    with Control(socket_path, b"key", timeout=PATIENCE) as client:
        yield client


def test_values_are_returned(control: Control) -> None:
    control.exec("x += 41\ny = {'a': [x, b'\\0']}")
    assert control.eval("y") == {"a": [42, b"\0"]}
    assert control.call("max", 3, 4) == 4
    assert control.call("dict", k="v") == {"k": "v"}
    assert len(control.eval("'z' * 5_000_000")) == 5_000_000


@pytest.mark.parametrize("expression", ["Local()", "lambda: 0", "open('/dev/null')"])
def test_a_value_that_cannot_be_pickled_is_returned_as_its_repr(
    control: Control, expression: str
) -> None:
    value = control.eval(expression)
    assert isinstance(value, str)
    assert value.startswith("<")


def test_an_exception_is_raised_here_with_its_traceback(control: Control) -> None:
    with pytest.raises(KeyError, match="k") as caught:
        control.eval("fail(KeyError('k'))")
    assert "in fail" in caught.value.__notes__[0]
    with pytest.raises(SyntaxError):
        control.exec("x = = 1")
    with pytest.raises(SystemExit):
        control.exec("import sys; sys.exit(3)")
    assert control.eval("x") == 1


@pytest.mark.parametrize("error", ["LocalError('mine')", "TwoArguments('mine', 2)"])
def test_an_exception_of_the_scripts_own_becomes_a_remote_error(
    control: Control, error: str
) -> None:
    with pytest.raises(RemoteError, match="mine"):
        control.eval(f"fail({error})")


def test_clients_may_follow_each_other(socket_path: str) -> None:
    for count in range(3):
        with Control(socket_path, b"key", timeout=PATIENCE) as client:
            assert client.eval("x") == 1 + count
            client.exec("x += 1")


def test_another_key_is_not_served(socket_path: str) -> None:
    with (
        Control(socket_path, b"wrong", timeout=PATIENCE) as client,
        pytest.raises(ControlError, match="cannot be reached"),
    ):
        client.eval("x")


def test_a_late_answer_is_not_taken_for_the_next(socket_path: str) -> None:
    with (
        Control(socket_path, b"key", timeout=PATIENCE) as other,
        Control(socket_path, b"key", timeout=0.2) as client,
    ):
        other.exec("import threading; answered = threading.Event()")
        with pytest.raises(ControlError, match=r"within 0\.2 s"):
            client.eval("answered.wait(30)")
        other.exec("answered.set()")
        answers: list[str] = []
        for _ in until(lambda: bool(answers), "an answer in time", least=0):
            # The next request must not get the late answer.
            with contextlib.suppress(ControlError):
                answers.append(client.eval("'mine'"))
        assert answers == ["mine"]


def test_no_server(tmp_path: Path) -> None:
    with Control(tmp_path / "none") as client, pytest.raises(ControlError, match="QEMU ended"):
        client.eval("1")
