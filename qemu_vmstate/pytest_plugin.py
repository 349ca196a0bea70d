# SPDX-License-Identifier: GPL-2.0-or-later
"""A pytest plugin: fixtures that start VMs, which end with the test, class, module or session.

pytest loads it wherever this package is installed, so what it adds has the package's name in
front.  ``--qemu-vmstate-qemu PATH`` names the emulator, ``qemu-system-x86_64`` by default.
``--qemu-build DIRECTORY`` names a QEMU build directory: its native parts are built if they are
missing or outdated, tests in process use its C code, and VMs are of its emulator.  It imports
nothing compiled, and ``qemu.qmp`` only when a VM starts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from .errors import NativeError

if TYPE_CHECKING:
    from .vm.vm import VM

__all__ = [
    "pytest_addoption",
    "pytest_load_initial_conftests",
    "pytest_runtest_makereport",
    "qemu_vmstate_class_vm",
    "qemu_vmstate_module_vm",
    "qemu_vmstate_session_vm",
    "qemu_vmstate_vm",
]

_StartVM = Callable[..., "VM"]

_PROGRAM = "qemu-system-x86_64"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--qemu-vmstate-qemu`` and ``--qemu-build``."""
    group = parser.getgroup("qemu_vmstate")
    group.addoption(
        "--qemu-vmstate-qemu",
        metavar="PATH",
        help="the emulator whose VMs the fixture qemu_vmstate_vm starts; default: that of "
        "--qemu-build, or qemu-system-x86_64",
    )
    group.addoption(
        "--qemu-build",
        metavar="DIRECTORY",
        help="a QEMU build directory to test against, in process and in VMs; its native parts are "
        "built if they are missing or outdated, as `qemu-vmstate build` does",
    )


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Build and choose the native parts for ``--qemu-build``, before a conftest.py imports them."""
    directory = early_config.known_args_namespace.qemu_build
    if directory is None:
        return
    from .natives import build, use_qemu
    from .natives.choice import QEMU_VARIABLE

    # pytest captures output from here on, and a build takes a minute.
    capture: Any = early_config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    try:
        with shown:
            native = build.ensure(directory)
        use_qemu(str(native.build))
    except NativeError as error:
        raise pytest.UsageError(f"--qemu-build: {error}") from error
    # For the processes that tests start.
    os.environ[QEMU_VARIABLE] = str(native.build)


def _emulator(config: pytest.Config) -> str:
    """Return the program of the options."""
    named: str | None = config.getoption("qemu_vmstate_qemu")
    directory: str | None = config.getoption("qemu_build")
    if named or not directory:
        return named or _PROGRAM
    programs = sorted(Path(directory).absolute().glob("qemu-system-*"))
    found = [str(path) for path in programs if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise pytest.UsageError(
            f"no emulator is built in {directory}: run `ninja -C {directory}`, or name one with "
            "--qemu-vmstate-qemu"
        )
    return next((path for path in found if path.endswith(f"/{_PROGRAM}")), found[0])


# -------------------------------------------------------------------- fixtures


class _VMs:
    """The VMs of one fixture, whose folders are in *folder*."""

    def __init__(self, fixture: str, qemu: str, folder: Path) -> None:
        self.fixture = fixture
        self.started: list[VM] = []
        self._qemu = qemu
        self._folder = folder
        self._numbers = itertools.count()
        self._stack = contextlib.ExitStack()

    def start(self, *args: Any, **options: Any) -> VM:
        """Return a running VM."""
        from .vm.vm import VM

        options.setdefault("qemu", self._qemu)
        if "name" not in options:
            options["name"] = self._unused_name()
        if "folder" not in options:
            options["folder"] = self._unused_folder(str(options["name"]))
        vm = VM(*args, **options)
        # Added before it starts, so that a report has it if it does not.
        self.started.append(vm)
        return self._stack.enter_context(vm)

    def _unused_name(self) -> str:
        taken = {vm.name for vm in self.started}
        return next(name for n in self._numbers if (name := f"vm{n}") not in taken)

    def _unused_folder(self, name: str) -> Path:
        # The test may have a file of that name, and another VM of that name may run.
        paths = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
        return next(path for each in paths if not (path := self._folder / each).exists())

    def end(self) -> None:
        """End the VMs, the newest first; raises ``VMError`` if one ends wrongly."""
        self._stack.close()


_VMS: pytest.StashKey[list[_VMs]] = pytest.StashKey()


def _start_vm(request: pytest.FixtureRequest) -> Iterator[_StartVM]:
    """Return a function that starts a VM: ``qemu_vmstate_vm(script="dev.py", ...)``.

    It takes the arguments of :class:`qemu_vmstate.vm.VM` and returns the running VM, which ends
    with the fixture's scope.  A failing test shows the end of QEMU's log and the last commands,
    replies and events of QMP.
    """
    fixture = str(request.fixturename)
    if request.scope == "function":
        folder = request.getfixturevalue("tmp_path")
    else:
        folder = request.getfixturevalue("tmp_path_factory").mktemp(fixture)
    vms = _VMs(fixture, _emulator(request.config), folder)
    request.node.stash.setdefault(_VMS, []).append(vms)
    try:
        yield vms.start
    finally:
        vms.end()


def _fixture(scope: Literal["function", "class", "module", "session"]) -> Any:
    return pytest.fixture(scope=scope)(_start_vm)


# None of scope "package": for pytest that is the package which defines a fixture, and one that a
# plugin defines has the session's.
qemu_vmstate_vm = _fixture("function")
qemu_vmstate_class_vm = _fixture("class")
qemu_vmstate_module_vm = _fixture("module")
qemu_vmstate_session_vm = _fixture("session")


# --------------------------------------------------------------------- reports


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the reports of the VMs that a failing test uses, unless its exception has them."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if not report.failed:
        return
    error = call.excinfo.value if call.excinfo else None
    notes = getattr(error, "__notes__", ())
    for vm in _used_vms(item):
        for title, text in vm.report():
            if not any(note.startswith(title) for note in notes):
                report.sections.append((title, text))


def _used_vms(item: pytest.Item) -> Iterator[VM]:
    """Yield the VMs of the fixtures that the test uses, also by other fixtures."""
    names = getattr(item, "fixturenames", ())
    for node in item.listchain():
        for vms in node.stash.get(_VMS, []):
            # A fixture of the test's own may have been requested while it ran.
            if node is item or vms.fixture in names:
                yield from vms.started
