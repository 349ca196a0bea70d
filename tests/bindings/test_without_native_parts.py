# SPDX-License-Identifier: GPL-2.0-or-later
"""Without compiled modules, streams are read and VMs start; other uses name what is missing."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import qemu_vmstate
from qemu_vmstate.natives.folders import root

from ..stream.streams import GOOD

ROOT = Path(__file__).absolute().parents[2]
PACKAGE = ROOT / "qemu_vmstate"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the package's Python alone, and a migration file."""
    folder = tmp_path_factory.mktemp("plain")
    for source in PACKAGE.rglob("*.py"):
        copy = folder / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    (folder / "good.mig").write_bytes(GOOD)
    return folder


def run(plain: Path, *words: str) -> subprocess.CompletedProcess[str]:
    hidden = ("QEMU_VMSTATE_NATIVE", "QEMU_VMSTATE_QEMU", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env["XDG_DATA_HOME"] = str(plain)
    return subprocess.run(
        [sys.executable, *words], cwd=plain, env=env, capture_output=True, text=True, timeout=60
    )


def output(plain: Path, program: str) -> str:
    """Return the output of a program that must succeed."""
    done = run(plain, "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def error_text(plain: Path) -> str:
    """Return the error of code that needs the native parts."""
    return (
        f"qemu_vmstate has no native parts in {plain / 'qemu_vmstate' / 'bindings'}: install a "
        "wheel of it, or, in a checkout, run scripts/setup"
    )


# ------------------------------------------------- works without native parts


def test_inspect_shows_a_stream(plain: Path) -> None:
    # With -S there is only Python's own library.
    done = run(plain, "-S", "-m", "qemu_vmstate", "inspect", "good.mig")
    assert (done.returncode, done.stderr) == (0, "")
    assert " dev " in done.stdout
    done = run(plain, "-m", "qemu_vmstate", "inspect", "--json", "good.mig")
    assert (done.returncode, done.stderr) == (0, "")
    sections = json.loads(done.stdout)["sections"]
    assert "dev" in [section.get("name") for section in sections]


def test_scaffold_writes_the_same_as_with_native_parts(plain: Path) -> None:
    command = ("-m", "qemu_vmstate", "scaffold", "good.mig")
    done = run(plain, "-S", *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "class Dev(Device" in done.stdout
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [sys.executable, *command], cwd=plain, env=env, capture_output=True, text=True, timeout=60
    )
    assert built.stdout == done.stdout


def test_help_needs_nothing(plain: Path) -> None:
    done = run(plain, "-m", "qemu_vmstate", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for verb in ("info", "inspect", "scaffold", "roundtrip", "bench", "fuzz", "run"):
        assert verb in done.stdout
    assert run(plain, "-m", "qemu_vmstate", "inspect", "--help").returncode == 0


def test_a_stream_is_read_and_bytes_put_back(plain: Path) -> None:
    program = """
from qemu_vmstate import StreamError, errors, stream
import qemu_vmstate
assert StreamError is errors.StreamError is qemu_vmstate.StreamError
read = stream.read("good.mig")
other = bytes(byte ^ 0xff for byte in read.payload("dev"))
stream.replace("good.mig", "out.mig", {("dev", 0): other})
assert stream.read("out.mig").payload("dev") == other
try:
    stream.read("qemu_vmstate/cli.py")
except qemu_vmstate.StreamError as error:
    print(error)
"""
    assert "cli.py" in output(plain, program)


def test_vm_is_imported(plain: Path) -> None:
    pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: run scripts/setup")
    program = """
from qemu_vmstate.vm.vm import VM, VMLaunchError
try:
    VM(qemu="./no-such-emulator").__enter__()
except VMLaunchError as error:
    print(error)
"""
    assert "no-such-emulator" in output(plain, program)


# ---------------------------------------------------------- needs native parts


@pytest.mark.parametrize(
    "program",
    [
        "qemu_vmstate.Mutex",
        "from qemu_vmstate import Mutex",
        "from qemu_vmstate import *",
        "import qemu_vmstate.state.cells",
        "qemu_vmstate.state.cells",
        "from qemu_vmstate.bindings import native",
        "for _ in range(2):\n  try: qemu_vmstate.u8\n  except ImportError: pass\nqemu_vmstate.u8",
    ],
)
def test_a_name_that_needs_them_says_how_to_build_them(plain: Path, program: str) -> None:
    done = run(plain, "-c", f"import qemu_vmstate\n{program}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"qemu_vmstate.errors.NativeError: {error_text(plain)}"
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize("verb", ["info", "roundtrip", "bench", "fuzz"])
def test_a_verb_that_needs_them_says_how_to_build_them(plain: Path, verb: str) -> None:
    done = run(plain, "-m", "qemu_vmstate", verb, *(["good.mig"] if verb == "roundtrip" else []))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"qemu-vmstate: {error_text(plain)}\n"


def test_looking_for_names_is_not_refused(plain: Path) -> None:
    """Pickle accesses every module, and so does a shell that completes names."""
    program = """
import inspect, qemu_vmstate
assert not hasattr(qemu_vmstate, "nix") and not hasattr(qemu_vmstate, "__wrapped__")
assert set(qemu_vmstate.__all__) <= set(dir(qemu_vmstate))
assert inspect.getmodule(qemu_vmstate) is qemu_vmstate
try:
    qemu_vmstate.nix
except AttributeError as error:
    print(error)
"""
    assert output(plain, program) == "module 'qemu_vmstate' has no attribute 'nix'"


def test_parts_that_come_later_are_found(plain: Path) -> None:
    """The parts may be built after a first attempt failed, without a restart."""
    native = str(root())
    program = f"""
import os, qemu_vmstate
try:
    qemu_vmstate.Mutex
except qemu_vmstate.NativeError:
    os.environ["QEMU_VMSTATE_NATIVE"] = {native!r}
    print(qemu_vmstate.Mutex.__name__)
"""
    assert output(plain, program) == "Mutex"


# ---------------------------------------------------------------- public names


def imported_for_type_checkers() -> list[str]:
    """Return the modules whose public names a type checker reads."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {alias.name for node in nodes for alias in node.names} == {"*"}
    return [str(node.module) for node in nodes]


def test_what_type_checkers_see_is_what_is_there() -> None:
    modules = imported_for_type_checkers()
    assert sorted(modules) == sorted(["errors", "natives.choice", "derive", *qemu_vmstate._MODULES])  # noqa: SLF001 - the list under test
    seen = [(name, module) for module in modules for name in module_of(module).__all__]
    for name in qemu_vmstate.__all__:
        (module,) = [module for found, module in seen if found == name]
        assert getattr(qemu_vmstate, name) is getattr(module_of(module), name), name
    assert {module for name, module in seen if name in qemu_vmstate.__all__} == set(modules)


def module_of(name: str) -> ModuleType:
    return import_module(f"qemu_vmstate.{name}")


def fresh(program: str) -> str:
    """Return the output of a program in a new Python with the native parts."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_first_use_of_any_name_imports_all_that_hooks_need_and_a_stream_none() -> None:
    loaded = "sorted(name for name in sys.modules if name.startswith('qemu_vmstate'))"
    none = fresh(f"import sys, qemu_vmstate.stream; print({loaded})")
    assert "bindings" not in none
    assert "staging" not in none
    first = fresh(f"import sys, qemu_vmstate; qemu_vmstate.u8; print({loaded})")
    every = fresh(f"import sys; from qemu_vmstate import *; print({loaded})")
    for module in ("staging", "vmsd.predicates", "state.qemu_timer", "registration"):
        assert f"qemu_vmstate.{module}'" in first
    assert "qemu_vmstate.derive" not in first
    derive = {name for name in ast.literal_eval(every) if name.startswith("qemu_vmstate.derive")}
    assert sorted({*ast.literal_eval(first), *derive}) == ast.literal_eval(every)
    assert "qemu_vmstate.derive.decorator" in derive


@pytest.mark.parametrize("host", ["inprocess", "registration", "device"])
def test_a_module_that_calls_c_imports_what_c_calls_back(host: str) -> None:
    """Importing a module that calls C also imports the modules that C calls back."""
    program = (
        f"import sys; import qemu_vmstate.{host}; "
        "print(*(f'qemu_vmstate.{name}' in sys.modules for name in "
        "('staging.callbacks', 'vmsd.predicates', 'state.qemu_timer')))"
    )
    assert fresh(program) == "True True True"


def test_an_import_does_not_call_c() -> None:
    """The first call imports what C calls back, which is impossible during that import."""
    program = (
        "from qemu_vmstate import *; from qemu_vmstate.bindings import native; print(native._bound)"
    )
    assert fresh(program) == "False"


def test_threads_may_be_the_first_to_use_a_name_together() -> None:
    program = """
import threading, qemu_vmstate
found, start = {}, threading.Barrier(len(qemu_vmstate.__all__))
def use(name):
    start.wait()
    found[name] = getattr(qemu_vmstate, name)
threads = [threading.Thread(target=use, args=(name,)) for name in qemu_vmstate.__all__]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == {name: vars(qemu_vmstate)[name] for name in qemu_vmstate.__all__}
print(len(found))
"""
    assert fresh(program) == str(len(qemu_vmstate.__all__))


def test_all_names_can_be_had_in_every_way() -> None:
    program = """
import pickle, pydoc
import qemu_vmstate
assert "class Mutex" in pydoc.plain(pydoc.render_doc(qemu_vmstate))
assert qemu_vmstate.wire.u8 is qemu_vmstate.u8
copy = pickle.loads(pickle.dumps([qemu_vmstate.Mutex, qemu_vmstate.save]))
assert copy == [qemu_vmstate.Mutex, qemu_vmstate.save]
names = {}
exec("from qemu_vmstate import *", names)
del names["__builtins__"]
assert names == {name: getattr(qemu_vmstate, name) for name in qemu_vmstate.__all__}
print("all")
"""
    assert fresh(program) == "all"
