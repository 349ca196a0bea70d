# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of ``scripts/test-aarch64``: builds and tests in an arm64 root."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from provision.cache import CONFIGURE_OPTIONS, TOOLS, Cache, folder, locked
from provision.console import SetupError
from provision.environment import CHECKOUT, Environment, ensure
from provision.natives import TreeError, open_tree
from provision.pythons import choose, requirements

from .aarch64_root import NATIVE_PYTHON, Root
from .checks import ONCE, Result, Run, summary

# Emulated Python takes about 15 times as long.
STEP_SECONDS = 3 * 3600
TEST_SECONDS = 3600
# QEMU's user-mode emulation has a buffer of 128 MiB for translated code, and tables for it.
CODE_MIB = 160

USAGE = """\
usage: scripts/test-aarch64 [PYTEST ARGUMENT ...]

Make an arm64 Debian root in the cache folder, build the project in it for Debian's QEMU 7.2,
and run the tests in process there, under QEMU's user-mode emulation. Needs root; takes an
hour. Arguments go to pytest, for example: scripts/test-aarch64 -k subsections"""


def _configured(root: Root, source: Path, version: str) -> Path:
    """Return a build directory of this QEMU that was configured in the root."""
    build = root.place / f"qemu-{version}" / "build"
    try:
        return open_tree(build).build
    except TreeError:
        build.mkdir(parents=True, exist_ok=True)
    options = [word for word in CONFIGURE_OPTIONS if not word.startswith("--target-list")]
    root.run(
        [source / "configure", "--target-list=aarch64-softmmu", *options, "--meson=meson"],
        f"configuring QEMU {version} for AArch64 (some minutes the first time)",
        remedy=f"see {build / 'config.log'}; to begin anew, remove {build}.",
        cwd=build,
    )
    commands = build / "build.ninja"
    text = commands.read_text().replace("/usr/bin/python3 ", f"{NATIVE_PYTHON} ")
    commands.write_text(re.sub(r"\S+/meson --internal ", rf"{NATIVE_PYTHON} \g<0>", text))
    return build


def _built(root: Root, build: Path, version: str) -> Path:
    """Return the directory of the native parts for AArch64."""
    native = CHECKOUT / "build" / "aarch64-7.2"
    if not (native / "build.ninja").exists():
        root.run(
            [
                *("meson", "setup", native, CHECKOUT, f"-Dqemu_build={build}"),
                *("--buildtype=debugoptimized", "-Dwerror=true"),
            ],
            f"configuring build/{native.name} for QEMU {version}",
            remedy=f"see {native / 'meson-logs' / 'meson-log.txt'}.",
            cwd=CHECKOUT,
        )
    root.run(
        ["ninja", "-C", native],
        f"building build/{native.name} (some minutes the first time)",
        remedy=f"to begin anew, remove {native} and try again.",
        cwd=CHECKOUT,
    )
    return native


def _run(extra: Sequence[str]) -> tuple[Environment, list[Result]]:
    """Provide everything, and run the tests; raises ``SetupError``."""
    provided = ensure("demo")
    tree = open_tree(provided.trees[0].build)
    cache = Cache(folder(), choose()[0])
    root = Root(cache, CHECKOUT)
    with locked(root.place / "setup.lock"):
        root.make(provided.python, [*requirements(CHECKOUT, "test"), *TOOLS])
        root.install_checkout(provided.python)
        build = _configured(root, tree.source, tree.version)
        native = _built(root, build, tree.version)
    os.environ["QEMU_VMSTATE_NATIVE"] = str(native)
    os.environ["QEMU_VMSTATE_FUZZ_EMULATOR_MIB"] = str(CODE_MIB)
    environment = Environment("test", str(root.python))
    steps = Run(environment, extra, STEP_SECONDS)
    options = ["-m", "not measured", "-o", f"timeout={TEST_SECONDS}", "-n", "2"]
    steps.tests(
        f"in process, QEMU {tree.version}, AArch64",
        ["tests", *(f"--ignore=tests/{name}" for name in ONCE), *options],
        tree.version,
        environment.python,
    )
    # QEMU gives the programs that it runs pages of this size, which some AArch64 kernels have.
    os.environ["QEMU_PAGESIZE"] = str(64 << 10)
    steps.tests(
        "the same with pages of 64 KiB, of large objects",
        ["tests/staging/test_large.py", "tests/staging/test_large_restore.py", *options],
        tree.version,
        environment.python,
    )
    return environment, steps.results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``scripts/test-aarch64``, and return its exit status."""
    extra = list(sys.argv[1:] if arguments is None else arguments)
    if extra[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    try:
        environment, results = _run(extra)
    except (SetupError, TreeError) as error:
        print(f"test-aarch64: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("test-aarch64: interrupted; run it again to go on.", file=sys.stderr)
        return 130
    print(summary(environment, results), flush=True)
    return 0 if all(result.ok for result in results) else 1
