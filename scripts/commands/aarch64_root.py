# SPDX-License-Identifier: GPL-2.0-or-later
"""An arm64 Debian root, whose programs run under QEMU's user-mode emulation.

All of its programs are arm64's, but for the C compiler, ``/bin/sh``, and a second Python for QEMU's
generators of code, which are this machine's, so that a build is nearly as fast as outside. Packages
are only unpacked; no maintainer script runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from provision.cache import Cache
from provision.console import run
from provision.debian import missing_packages

EMULATION = "qemu-user-static"

PACKAGES = (
    *("base-passwd", "bash", "coreutils", "debianutils", "diffutils", "findutils"),
    *("gawk", "grep", "gzip", "hostname", "mount", "procps", "sed", "tar", "util-linux"),
    *("bzip2", "lzop", "xz-utils", "zstd", "qemu-utils"),
    *("file", "git", "make", "perl", "pkgconf", "python3", "python3-dev"),
    *("libc6-dev", "libfdt-dev", "libglib2.0-dev", "libpixman-1-dev", "zlib1g-dev"),
)

# For emulators in the root.
EMULATORS = ("qemu-system-arm",)

# The programs of this machine's processor.
NATIVE = ("gcc-aarch64-linux-gnu", "dash", "python3")
NATIVE_PYTHON = "/usr/bin/native-python3"
TOOLS = ("ar", "gcc", "ld", "nm", "objcopy", "ranlib", "strip")

# What maintainer scripts would make: links, by their path, and files.
LINKS = {"usr/bin/awk": "gawk", "usr/bin/cc": "aarch64-linux-gnu-gcc"}
FILES = {"etc/hosts": "127.0.0.1 localhost\n::1 localhost\n"}

# The glibc that wheels may need, 2.N: no later one than Debian 12 has.
MANYLINUX = range(17, 37)

# ELF of 64 bits, little endian, for AArch64; F: the interpreter is found outside of the root.
BINFMT = (
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)

ENTER = """\
#!/bin/sh
# Run a command in the arm64 root; named python, run the root's Python.
set -e
if [ -z "$QV_IN_NAMESPACE" ]; then
    case "$0" in */python) set -- python3 "$@";; esac
    QV_IN_NAMESPACE=1 exec unshare --user --map-root-user --mount --propagation private "$0" "$@"
fi
unset QV_IN_NAMESPACE
case "$0" in */python) set -- "$@";; esac
binfmt=/proc/sys/fs/binfmt_misc
if [ ! -e $binfmt/qemu-aarch64 ]; then
    if ! mount -t binfmt_misc binfmt_misc $binfmt; then
        echo "this kernel has no binfmt_misc for namespaces, which Linux 6.7 has: register the" \\
            "interpreter for the machine, with apt-get install binfmt-support" >&2
        exit 1
    fi
    printf %s {rule} > $binfmt/register
fi
for place in /dev /proc /sys /tmp {binds}; do
    mount --rbind "$place" {root}"$place"
done
exec chroot {root} /usr/bin/env -C "$PWD" PATH={path} "$@"
"""


class Root:
    """The root, made on request, and the program that runs commands in it."""

    def __init__(self, cache: Cache, checkout: Path) -> None:
        self._cache = cache
        self._checkout = checkout
        self.place = cache.root / "aarch64"
        self.path = self.place / "root"
        self.enter = self.place / "enter"
        self.python = self.place / "python"

    def make(self, pip: str, requirements: Sequence[str]) -> None:
        """Make the root with the required Python packages; ``pip`` is a Python that has it."""
        missing = missing_packages([EMULATION])
        if missing:
            self._cache.apt.install(missing)
        self._unpack()
        self._write_enter()
        self._install(pip, requirements)

    def _unpack(self) -> None:
        stamp = self.place / "unpacked"
        key = json.dumps([self._cache.apt.codename, *PACKAGES, *EMULATORS, *NATIVE])
        if stamp.exists() and stamp.read_text() == key:
            return
        stamp.unlink(missing_ok=True)
        native = self.place / "native"
        apt = self._cache.apt
        apt.unpack_root(str(apt.codename), [*PACKAGES, *EMULATORS], self.path, "arm64")
        apt.unpack_root(str(apt.codename), NATIVE, native)
        (native / "usr/bin/python3").resolve().rename(native / NATIVE_PYTHON[1:])
        (native / "bin/dash").rename(native / "bin/sh")
        run(
            ["cp", "-a", "--no-clobber", f"{native}/.", self.path],
            "adding the compiler to the arm64 root",
            remedy=f"make room in {self.place} and try again.",
        )
        shutil.rmtree(native)
        links = {**LINKS, **{f"usr/bin/{tool}": f"aarch64-linux-gnu-{tool}" for tool in TOOLS}}
        for name, target in links.items():
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(target)
        for name, text in FILES.items():
            (self.path / name).write_text(text)
        for name in ("passwd", "group"):
            master = self.path / "usr/share/base-passwd" / f"{name}.master"
            shutil.copy(master, self.path / "etc" / name)
        stamp.write_text(key)

    def _write_enter(self) -> None:
        """Write the program that enters the root, in namespaces of its own."""
        binds = [self._checkout, self._cache.root]
        for place in (*binds, Path("/dev"), Path("/proc"), Path("/sys"), Path("/tmp")):
            (self.path / place.relative_to("/")).mkdir(parents=True, exist_ok=True)
        interpreter = shutil.which("qemu-aarch64-static") or "/usr/bin/qemu-aarch64-static"
        site = self._site().relative_to(self.path)
        text = ENTER.format(
            rule=shlex.quote(f"{BINFMT}{interpreter}:F"),
            binds=shlex.join(map(str, binds)),
            root=shlex.quote(str(self.path)),
            path=f"/{site}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        self.enter.write_text(text)
        self.enter.chmod(0o755)
        self.python.unlink(missing_ok=True)
        self.python.symlink_to(self.enter.name)

    def _version(self) -> str:
        return os.readlink(self.path / "usr/bin/python3").removeprefix("python")

    def _site(self) -> Path:
        return self.path / f"usr/local/lib/python{self._version()}/dist-packages"

    def _install(self, pip: str, requirements: Sequence[str]) -> None:
        site = self._site()
        stamp = self.place / "installed"
        key = hashlib.sha256("\n".join([*requirements, self._version()]).encode()).hexdigest()
        if site.is_dir() and stamp.exists() and stamp.read_text() == key:
            return
        stamp.unlink(missing_ok=True)
        shutil.rmtree(site, ignore_errors=True)
        run(
            [
                *(pip, "-m", "pip", "install", "--disable-pip-version-check"),
                *("--target", site, "--only-binary=:all:", "--python-version", self._version()),
                *(f"--platform=manylinux_2_{minor}_aarch64" for minor in MANYLINUX),
                *("--platform=manylinux2014_aarch64", *requirements),
            ],
            "installing Python packages for AArch64",
            remedy="look at the network and at pip's configuration, then try again.",
            attempts=3,
        )
        for program in (path for path in (site / "bin").iterdir() if path.is_file()):
            text = program.read_bytes()
            if text.startswith(b"#!"):
                # pip has written the path of the Python that it runs in.
                program.write_bytes(b"#!/usr/bin/python3\n" + text.partition(b"\n")[2])
        stamp.write_text(key)

    def install_checkout(self, python: str) -> None:
        """Install the checkout, editable, into the root; ``python`` has the build backend."""
        with tempfile.TemporaryDirectory() as made:
            run(
                [python, "-c", f"import build_backend; build_backend.build_editable({made!r})"],
                "installing qemu_vmstate into the arm64 root",
                remedy="run scripts/setup again.",
                env={"PYTHONPATH": str(self._checkout / "scripts" / "provision")},
            )
            (wheel,) = Path(made).glob("*.whl")
            shutil.unpack_archive(wheel, self._site(), "zip")

    def run(self, command: Sequence[str | Path], what: str, *, remedy: str, cwd: Path) -> None:
        """Run a command in the root as :func:`provision.console.run` does outside."""
        run([self.enter, *command], what, remedy=remedy, cwd=cwd)
