# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache that checkouts share: QEMU trees, emulators, and the tools that configure them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from .console import SetupError, output_of, path_with, run, say
from .debian import Apt, missing_packages
from .natives import Tree, TreeError, open_tree, version_numbers
from .pythons import Interpreter, fill_wheelhouse, make_environment

# The Python packages that QEMU's configure needs; 10.x would otherwise use its own copies.
TOOLS = ("meson>=1.5", "ninja", "setuptools", "distlib", "tomli", "wheel")

# The smallest tree that has all of the migration code, and an emulator with the plugin interface.
CONFIGURE_OPTIONS = (
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--without-default-devices",
    "--disable-install-blobs",
    "--enable-plugins",
    "--enable-tcg",
)

# The backported emulator is unpacked, not installed, to preserve the distribution's.
BACKPORTED_PROGRAMS = {
    "qemu-system-x86": "qemu-system-x86_64",
    "qemu-system-arm": "qemu-system-aarch64",
}
BACKPORTED = (*BACKPORTED_PROGRAMS, "qemu-system-common", "qemu-system-data", "seabios")

# Emulators of other targets, whose streams are read. The packages hold many more.
TARGETS = {
    "qemu-system-mips": ("mips",),
    "qemu-system-misc": ("m68k", "riscv64", "s390x"),
    "qemu-system-ppc": ("ppc", "ppc64"),
}

# A Debian with another Python and another QEMU than the first that is supported.
DEBIAN_13 = (
    *("base-files", "base-passwd", "coreutils", "dash"),
    *("ca-certificates", "libpython3.13", "python3", "python3-venv", "qemu-system-x86"),
)

# What the package and its tests are installed from where there is no network.
WHEELHOUSE = ("cffi>=2.1", "qemu.qmp>=0.0.6", "pytest")
WHEELHOUSE_PYTHONS = ("3.13",)

NEWEST = (10, 2)


def folder() -> Path:
    """Return the cache folder: $QEMU_VMSTATE_CACHE, or qemu-vmstate in the user's cache."""
    named = os.environ.get("QEMU_VMSTATE_CACHE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "qemu-vmstate"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude other scripts of this project until the context ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another setup that holds {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def numbers(version: str) -> tuple[int, ...]:
    """Return the upstream part of a Debian version, to compare and to sort."""
    return version_numbers(re.sub(r"^\d+:", "", version))


def emulator_version(path: str | os.PathLike[str]) -> str | None:
    """Return the version that an emulator prints; None if it does not start."""
    match = re.search(r"version (\d+(?:\.\d+)+)", output_of([path, "--version"]) or "")
    return match.group(1) if match else None


def best_first(wanted: str, found: Iterable[Path]) -> list[Path]:
    """Return those of the paths that have the version ``wanted`` in their name, the best first.

    ``newest`` is the highest 10.2, which is what is tested, or else the highest after it.
    """

    def rank(path: Path) -> tuple[int, ...]:
        version = numbers(path.name.removeprefix("qemu-"))
        if wanted != "newest":
            return version if version[:2] == numbers(wanted) else ()
        return (int(version[:2] == NEWEST), *version) if version[:2] >= NEWEST else ()

    return sorted((path for path in found if rank(path)), key=rank, reverse=True)


class Cache:
    """The cache folder, filled on request."""

    def __init__(self, root: Path, interpreter: Interpreter) -> None:
        self.root = root
        self.apt = Apt(root)
        self._interpreter = interpreter

    def _tools(self) -> Path:
        # Configured trees refer to these by path, so they must exist as long as the trees.
        python = make_environment(
            self.root / "tools", self._interpreter, TOOLS, "what configures QEMU"
        )
        return python.parent

    def tree(self, wanted: str, *, all_suites: bool) -> Tree:
        """Return a configured QEMU tree: ``7.2``, ``10.0`` or ``newest`` (10.2 if available)."""
        present = self._configured(wanted)
        if present:
            return present
        unpacked = self._unpacked(wanted)
        if unpacked is None:
            self.apt.update(all_suites=all_suites)
            unpacked = self._fetch(wanted)
        return self._configure(unpacked)

    def _configured(self, wanted: str) -> Tree | None:
        found = [stamp.parent for stamp in self.root.glob("qemu-*/configured")]
        for place in best_first(wanted, found):
            try:
                return open_tree(place / "build")
            except TreeError as error:
                say(f"{error} It is made anew.")
                (place / "configured").unlink()
        return None

    def _unpacked(self, wanted: str) -> Path | None:
        found = [path.parent for path in self.root.glob("qemu-*/source")]
        return next(iter(best_first(wanted, found)), None)

    def _fetch(self, wanted: str) -> Path:
        """Download and unpack a source, and return its directory in the cache."""
        versions = best_first(wanted, [Path(name) for name in self.apt.source_versions("qemu")])
        failed = []
        for version in (str(path) for path in versions):
            try:
                return self._fetch_version(version)
            except SetupError as error:
                failed.append(version)
                say(f"QEMU {version} cannot be had: {error}")
        tried = f" (tried: {', '.join(failed)})" if failed else ""
        asked = "10.2 or later" if wanted == "newest" else wanted
        raise SetupError(
            f"no source of QEMU {asked} can be downloaded from this machine's Debian "
            f"mirror{tried}: look at the network and try again, or name a build directory of "
            f"your own in QEMU_BUILD."
        )

    def _fetch_version(self, version: str) -> Path:
        download = self.root / "download"
        shutil.rmtree(download, ignore_errors=True)
        description = self.apt.fetch_source("qemu", version, download)
        unpacked = download / "source"
        # apt has checked the files against the mirror's signed lists; few machines have the key
        # of the developer who signed the .dsc.
        run(
            ["dpkg-source", "--no-check", "-x", description, unpacked],
            f"unpacking the source of QEMU {version}",
            remedy=f"make room in {self.root} and try again.",
        )
        upstream = (unpacked / "VERSION").read_text().strip()
        place = self.root / f"qemu-{upstream}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        unpacked.rename(place / "source")
        shutil.rmtree(download)
        return place

    def _configure(self, place: Path) -> Tree:
        tools = self._tools()
        build = place / "build"
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir()
        version = place.name.removeprefix("qemu-")
        if numbers(version) < (8, 1):
            # With --meson configure refuses --python, and uses the first python3 on the PATH.
            own = [f"--meson={tools / 'meson'}"]
        else:
            own = ["--disable-download", f"--python={tools / 'python3'}"]
        run(
            [place / "source" / "configure", *CONFIGURE_OPTIONS, *own],
            f"configuring QEMU {version}",
            remedy=f"see {build / 'config.log'} and {build / 'meson-logs'}; to begin from a fresh "
            f"source, remove {place}.",
            cwd=build,
            env=path_with(tools),
        )
        try:
            tree = open_tree(build)
        except TreeError as error:
            raise SetupError(str(error)) from error
        (place / "configured").touch()
        return tree

    def emulator(self, tree: Tree) -> Path:
        """Build the emulator of one of our trees, and return its path."""
        path = tree.build / "qemu-system-x86_64"
        run(
            [self._tools() / "ninja", "-C", tree.build, path.name],
            f"building the emulator of QEMU {tree.version} (two minutes the first time)",
            remedy=f"to begin anew, remove {tree.build.parent} and try again.",
            quiet=path.exists(),
        )
        return path

    def backported_emulator(self, minor: str) -> Path:
        """Return the folder in which the emulator of Debian's backports is unpacked.

        Raises ``SetupError`` if the machine's Debian has no backport of this version.
        """
        place = self.root / f"emulator-{minor}-backports"
        root = place / "root"
        stamp, packages = place / "unpacked", " ".join(BACKPORTED)
        if not stamp.exists() or stamp.read_text() != packages:
            self._unpack_backport(minor, place, root)
            for package, program in BACKPORTED_PROGRAMS.items():
                self._install_libraries(package, root / "usr/bin" / program, place)
            for file in place.glob("*.deb"):
                file.unlink()
            stamp.write_text(packages)
        return root

    def _unpack_backport(self, minor: str, place: Path, root: Path) -> None:
        self.apt.update(all_suites=True)
        suite = f"{self.apt.codename}-backports"
        offered = self.apt.binary_versions("qemu-system-x86", suite)
        if minor not in [".".join(map(str, numbers(version)[:2])) for version in offered]:
            raise SetupError(
                f"Debian's {suite} has no emulator of QEMU {minor} "
                f"(it has {', '.join(offered) or 'none'}): build one and name it in QEMU_BUILD."
            )
        # It is not removed first, because an emulator in it may be running.
        if not (place / "unpacked").exists():
            shutil.rmtree(place, ignore_errors=True)
        for package in self.apt.fetch_binaries(BACKPORTED, suite, place):
            run(
                ["dpkg", "-x", package, root],
                f"unpacking {package.name}",
                remedy=f"make room in {self.root} and try again.",
                quiet=True,
            )

    def target_emulators(self) -> dict[str, Path]:
        """Return the distribution's emulators of other targets, by target, unpacked."""
        place = self.root / "emulators-of-targets"
        stamp = place / "unpacked"
        paths = {
            target: place / "usr/bin" / f"qemu-system-{target}"
            for targets in TARGETS.values()
            for target in targets
        }
        if not stamp.exists():
            self.apt.update(all_suites=False)
            shutil.rmtree(place, ignore_errors=True)
            fetched = self.apt.fetch_binaries([*TARGETS], str(self.apt.codename), place)
            for package in fetched:
                # Only the programs that are run: the complete packages take three times the space.
                names = TARGETS[package.name.partition("_")[0]]
                wanted = " ".join(f"./usr/bin/qemu-system-{name}" for name in names)
                script = f'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" {wanted}'
                run(
                    ["sh", "-c", script, "-", package, place],
                    f"unpacking {package.name}",
                    remedy=f"make room in {self.root} and try again.",
                    quiet=True,
                )
                package.unlink()
            stamp.touch()
        return paths

    def debian_13(self) -> Path:
        """Return the folder of a minimal root of Debian 13, with its Python and its QEMU.

        Raises ``SetupError`` if it cannot be made, as by another user than root.
        """
        place = self.root / "debian-13"
        stamp, packages = place / "unpacked", " ".join(DEBIAN_13)
        if not stamp.exists() or stamp.read_text() != packages:
            stamp.unlink(missing_ok=True)
            root = place / "root"
            self.apt.unpack_root("trixie", DEBIAN_13, root)
            # pip does not start without the file that a maintainer script would make of these.
            certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
            bundle = b"".join(path.read_bytes() for path in certificates)
            (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(bundle)
            stamp.write_text(packages)
        return place / "root"

    def wheelhouse(self, python: Path) -> Path:
        """Return the folder with the wheels of ``WHEELHOUSE``, also for Debian 13's Python.

        ``python`` is that of an environment with pip.
        """
        directory = self.root / "wheelhouse"
        minors = dict.fromkeys([self._interpreter.minor, *WHEELHOUSE_PYTHONS])
        fill_wheelhouse(directory, python, [*minors], WHEELHOUSE)
        return directory

    def _install_libraries(self, name: str, path: Path, place: Path) -> None:
        """Install the missing libraries that an unpacked emulator links to."""
        if "not found" in (output_of(["ldd", path]) or ""):
            package = next(place.glob(f"{name}_*.deb"))
            field = output_of(["dpkg-deb", "-f", package, "Depends"]) or ""
            # The first of alternatives; names without "lib" are packages that are unpacked here.
            names = [re.split(r"[ |(:]", item.strip())[0] for item in field.split(",")]
            libraries = [name for name in names if name.startswith("lib")]
            self.apt.install(missing_packages(libraries), all_suites=True)
