# SPDX-License-Identifier: GPL-2.0-or-later
"""Provides everything that a new machine needs to run this project's demo and tests.

It writes to the checkout's ``.venv*`` and ``build``, and to the cache folder. A part that exists is
not changed, and one that was interrupted is begun again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

from .cache import NEWEST, Cache, emulator_version, folder, locked, numbers
from .console import SetupError, say
from .debian import missing_packages, release
from .natives import Tree, TreeError, build_natives, open_tree
from .pythons import (
    Interpreter,
    choose,
    choose_later,
    install_checkout,
    make_environment,
    requirements,
)

CHECKOUT = Path(__file__).resolve().parents[2]

COMPILING = ("build-essential", "pkg-config", "libglib2.0-dev", "zlib1g-dev")
CONFIGURING = ("ninja-build", "libpixman-1-dev", "libfdt-dev", "dpkg-dev")
EMULATING = ("qemu-system-x86", "qemu-utils")
TESTING = ("qemu-system-arm", "bzip2", "lzop", "xz-utils", "zstd")

PURPOSES = ("demo", "bench", "docs", "wheel", "test")

# These have native parts for every version of QEMU that is tested.
FOR_ALL_VERSIONS = ("wheel", "test")


@dataclass
class QemuTree:
    """A QEMU tree, for which the native parts were built."""

    name: str
    version: str
    build: str


@dataclass
class Emulator:
    """A ``qemu-system-*`` to load the shim into, and the version of the native parts for it.

    It is started with ``args``, and with ``env`` added to the environment.
    """

    name: str
    path: str
    args: list[str]
    version: str
    native: str
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class TargetEmulator:
    """A ``qemu-system-*`` of another target that writes streams; started with ``args``."""

    name: str
    path: str
    args: list[str]
    version: str


@dataclass
class Environment:
    """The parts that were provided; also written to ``build/PURPOSE-environment.json``."""

    purpose: str
    python: str
    later_python: str | None = None
    later_reason: str = ""
    trees: list[QemuTree] = field(default_factory=list)
    emulators: list[Emulator] = field(default_factory=list)
    targets: list[TargetEmulator] = field(default_factory=list)
    qemu_img: str | None = None
    debian_13: str | None = None
    wheelhouse: str | None = None
    missing: list[str] = field(default_factory=list)

    def native_of(self, minor: str) -> str | None:
        """Return the version of the native parts for QEMU ``minor`` (such as ``7.2``)."""
        return next((tree.version for tree in self.trees if tree.name == minor), None)


def become(environment: Environment, qemu: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the project's Python, with ``arguments``.

    The new process imports this checkout's examples and scripts too, and uses the native
    parts for the QEMU version ``qemu``.
    """
    folders = [CHECKOUT, CHECKOUT / "examples", CHECKOUT / "scripts"]
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "QEMU_VMSTATE_QEMU": qemu}
    os.execve(environment.python, [environment.python, *arguments], os.environ | settings)


def ensure(purpose: str = "test") -> Environment:
    """Provide all that ``purpose`` (one of ``PURPOSES``) needs; raises ``SetupError``."""
    if purpose not in PURPOSES:
        raise SetupError(f"{purpose!r} is no purpose: name one of {', '.join(PURPOSES)}.")
    interpreter, python_packages = choose()
    cache = Cache(folder(), interpreter)
    build = CHECKOUT / "build"
    with locked(build / "setup.lock"), locked(cache.root / "setup.lock"):
        return _ensure(purpose, cache, interpreter, python_packages)


def _ensure(
    purpose: str, cache: Cache, interpreter: Interpreter, python_packages: Sequence[str]
) -> Environment:
    users = _users_tree()
    _install_packages(purpose, cache, users, python_packages)
    wanted = requirements(CHECKOUT, purpose)
    what = "what the project needs"
    python = make_environment(CHECKOUT / ".venv", interpreter, wanted, what)
    install_checkout(python, CHECKOUT)
    environment = Environment(purpose, str(python))
    if purpose == "test":
        _later_python(environment, interpreter, wanted)
    trees = [users] if users else _our_trees(purpose, cache, environment)
    if purpose != "wheel":
        build_natives(trees, python, cache.root)
    for tree in trees:
        environment.trees.append(QemuTree(tree.minor_version, tree.version, str(tree.build)))
    environment.qemu_img = shutil.which("qemu-img")
    if environment.qemu_img is None:
        environment.missing.append("qemu-img is not installed: snapshots cannot be tried.")
    _stock_emulator(environment)
    if purpose == "test":
        _backported_emulator(cache, environment)
        _target_emulators(cache, environment)
        _bare_places(cache, environment)
    if users:
        _users_emulator(users, environment)
    elif purpose == "test":
        _newest_emulator(cache, trees, environment)
    _write(environment)
    return environment


def _users_tree() -> Tree | None:
    named = os.environ.get("QEMU_BUILD")
    if not named:
        return None
    try:
        return open_tree(named)
    except TreeError as error:
        raise SetupError(f"QEMU_BUILD: {error}") from error


def _install_packages(
    purpose: str, cache: Cache, users: Tree | None, python_packages: Sequence[str]
) -> None:
    wanted = [*COMPILING, *python_packages]
    if users is None:
        wanted += [*CONFIGURING, *(EMULATING if purpose != "wheel" else ())]
    elif users.minor_version == "7.2":
        wanted += EMULATING
    if purpose == "test":
        wanted += TESTING
    if release() is None:
        if users is None:
            raise SetupError(
                "this machine is not Debian, where QEMU's sources and emulators come from: "
                "build QEMU yourself, set QEMU_BUILD to its build directory and try again."
            )
        return
    missing = missing_packages(wanted)
    if missing:
        cache.apt.install(missing)


def _later_python(
    environment: Environment, interpreter: Interpreter, wanted: Sequence[str]
) -> None:
    later, reason = choose_later(interpreter.version)
    if later:
        directory = CHECKOUT / f".venv-{later.minor}"
        try:
            python = make_environment(directory, later, wanted, "the same for a later Python")
            install_checkout(python, CHECKOUT)
            environment.later_python = str(python)
        except SetupError as error:
            reason = f"Python {later.minor} was not used: {error}"
    environment.later_reason = reason
    if reason:
        environment.missing.append(reason)


def _our_trees(purpose: str, cache: Cache, environment: Environment) -> list[Tree]:
    if purpose not in FOR_ALL_VERSIONS:
        # That of the distribution's emulator, which the demo runs: 7.2 in Debian 12.
        stock = _stock()
        return [cache.tree(_minor(stock[1]) if stock else "7.2", all_suites=False)]
    trees = [cache.tree("7.2", all_suites=True)]
    for wanted in ("10.0", "newest"):
        try:
            trees.append(cache.tree(wanted, all_suites=True))
        except SetupError as error:
            if purpose == "wheel":
                raise
            environment.missing.append(f"QEMU {wanted} was not tested: {error}")
    return trees


def _stock() -> tuple[str, str] | None:
    """Return path and version of the distribution's emulator, if it is there."""
    path = shutil.which("qemu-system-x86_64", path="/usr/bin")
    version = emulator_version(path) if path else None
    return (path, version) if path and version else None


def _minor(version: str) -> str:
    return ".".join(map(str, numbers(version)[:2]))


def _stock_emulator(environment: Environment) -> None:
    stock = _stock()
    if stock is None:
        return
    path, version = stock
    minor = _minor(version)
    native = environment.native_of(minor)
    if native:
        environment.emulators.append(Emulator(f"stock-{minor}", path, [], version, native))
    elif not os.environ.get("QEMU_BUILD"):
        environment.missing.append(
            f"the distribution's emulator is QEMU {version}, of which no tree was built: "
            f"it was not tested."
        )


def _backported_emulator(cache: Cache, environment: Environment) -> None:
    native = environment.native_of("10.0")
    if native is None or any(item.name == "stock-10.0" for item in environment.emulators):
        return
    try:
        root = cache.backported_emulator("10.0")
    except SetupError as error:
        environment.missing.append(f"no emulator of QEMU 10.0 was tested: {error}")
        return
    path = root / "usr/bin/qemu-system-x86_64"
    version = emulator_version(path)
    if version is None:
        environment.missing.append(f"the backported emulator {path} does not start: not tested.")
        return
    # By default it uses the firmware and the modules of the distribution's older emulator.
    shares = [root / "usr/share/qemu", root / "usr/share/seabios"]
    arguments = [word for share in shares for word in ("-L", str(share))]
    modules = next(root.glob("usr/lib/*/qemu"), root)
    environment.emulators.append(
        Emulator(
            *("backports-10.0", str(path), arguments, version, native),
            env={"QEMU_MODULE_DIR": str(modules)},
        )
    )


def _target_emulators(cache: Cache, environment: Environment) -> None:
    if release() is None:
        environment.missing.append(
            "no streams of other targets were tested: their emulators are taken from Debian, "
            "which this machine is not."
        )
        return
    installed = Path("/usr/bin/qemu-system-aarch64")
    try:
        paths = {"aarch64": installed, **cache.target_emulators()}
    except SetupError as error:
        environment.missing.append(f"no streams of other targets were tested: {error}")
        return
    # Unpacked emulators look for firmware in their own folder.
    shares = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")
    arguments = [word for share in shares for word in ("-L", share)]
    for name, path in paths.items():
        version = emulator_version(path)
        if version:
            environment.targets.append(TargetEmulator(name, str(path), arguments, version))
        else:
            environment.missing.append(f"the emulator {path} does not start: not tested.")


def _bare_places(cache: Cache, environment: Environment) -> None:
    """Provide what a wheel is tried with, where nothing else of this project is in reach."""
    try:
        environment.wheelhouse = str(cache.wheelhouse(Path(environment.python)))
    except SetupError as error:
        environment.missing.append(f"the wheel was not tried: {error}")
    if release() is None:
        environment.missing.append("the wheel was not tried in Debian 13: this is not Debian.")
        return
    try:
        environment.debian_13 = str(cache.debian_13())
    except SetupError as error:
        environment.missing.append(f"the wheel was not tried in Debian 13: {error}")


def _users_emulator(tree: Tree, environment: Environment) -> None:
    if environment.emulators:
        return
    built = sorted(tree.build.glob("qemu-system-*"))
    programs = [path for path in built if path.is_file() and os.access(path, os.X_OK)]
    preferred = [path for path in programs if path.name == "qemu-system-x86_64"] or programs
    for path in preferred[:1]:
        native = environment.trees[0].version
        environment.emulators.append(Emulator("user", str(path), [], tree.version, native))
    if not preferred:
        environment.missing.append(
            f"no emulator is built in {tree.build}: nothing was tried in a VM "
            f"(`ninja -C {tree.build} qemu-system-x86_64` builds it)."
        )


def _newest_emulator(cache: Cache, trees: Sequence[Tree], environment: Environment) -> None:
    for tree in trees:
        native = environment.native_of(tree.minor_version)
        if native and numbers(tree.version)[:2] >= NEWEST:
            path = str(cache.emulator(tree))
            name = f"minimal-{tree.minor_version}"
            environment.emulators.append(Emulator(name, path, [], tree.version, native))


def _write(environment: Environment) -> None:
    # One file for each purpose: the demo provides less, and must not replace the file of the tests.
    path = CHECKOUT / "build" / f"{environment.purpose}-environment.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(environment), indent=1) + "\n")
    temporary.replace(path)


def report(environment: Environment) -> None:
    """Print what was provided, and what is missing."""
    say(f"ready for the {environment.purpose}: Python in {environment.python}")
    for tree in environment.trees:
        say(f"  native parts for QEMU {tree.version}, of {tree.build}")
    for emulator in environment.emulators:
        say(f"  emulator {emulator.name} ({emulator.version}): {emulator.path}")
    for target in environment.targets:
        say(f"  emulator of {target.name} ({target.version}): {target.path}")
    for reason in environment.missing:
        say(f"  not there: {reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``scripts/setup``, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/setup",
        description="Install, fetch and build what the demo and the tests need. Run it again at "
        "any time: what is there is kept.",
        epilog="QEMU_BUILD names a QEMU build directory to use instead of Debian's sources; "
        "QEMU_VMSTATE_CACHE names the cache folder.",
    )
    parser.add_argument("--for", dest="purpose", choices=PURPOSES, default="test")
    options = parser.parse_args(arguments)
    try:
        report(ensure(options.purpose))
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to go on.", file=sys.stderr)
        return 130
    return 0
