# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages and source packages, through a separate apt root.

The machine's own package lists are not changed: the root has its own list of sources (the
machine's mirrors, and the later Debian releases on the same mirror) and its own index files. Only
an installation touches the system.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .console import SetupError, output_of, run, say

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Debian's releases with the QEMU sources that are tested: 7.2, 10.0, and the newest.
SOURCE_SUITES = ("bookworm", "trixie", "trixie-backports", "sid")

# The age limit of index files: a mirror may have deleted files that older ones name.
LISTS_SECONDS = 12 * 3600


def release() -> str | None:
    """Return the code name of this machine's Debian release; None on another system."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return None
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if fields.get("ID", "").strip('"') != "debian" or not shutil.which("apt-get"):
        return None
    return fields.get("VERSION_CODENAME", "").strip('"') or None


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Return those of ``packages`` that are not installed."""
    wanted = list(dict.fromkeys(packages))
    # dpkg-query fails if one is unknown, but prints the others.
    text = output_of(
        ["sh", "-c", 'dpkg-query -W -f "\\${Package} \\${Status}\\n" "$@" 2>&1; true', "-", *wanted]
    )
    installed = {
        line.split()[0]
        for line in (text or "").splitlines()
        if line.endswith(" install ok installed")
    }
    return [name for name in wanted if name not in installed]


class Apt:
    """An apt root in the cache folder."""

    def __init__(self, cache: Path) -> None:
        self.root = cache / "apt"
        self.codename = release()

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": str(self.root / "sources.list"),
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": str(self.root / "lists"),
            "Dir::Cache": str(self.root / "cache"),
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            # apt's download user cannot read the user's cache folder.
            "APT::Sandbox::User": "root",
            "APT::Get::List-Cleanup": "false",
            "DPkg::Lock::Timeout": "120",
        }
        return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def command(self, program: str, *words: str) -> list[str]:
        """Return a command line for one of apt's programs."""
        return [program, *self._options(), *words]

    def _machine_sources(self) -> list[tuple[str, str, str]]:
        """Return URI, suite and keyring of the machine's Debian sources, the main mirror first."""
        assert self.codename is not None
        form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(ORIGIN)"
        found: dict[tuple[str, str], str] = {}
        # The first listing has the origin of a source, but only if its index was fetched before.
        for extra in ([], ["--no-release-info"]):
            text = output_of(["apt-get", "indextargets", *extra, "--format", form]) or ""
            for line in text.splitlines():
                uri, suite, component, key, origin = line.split("|", 4)
                ours = (self.codename, f"{self.codename}-updates", f"{self.codename}-security")
                if suite not in ours or component != "main" or uri.startswith("cdrom:"):
                    continue
                if not extra and origin not in ("Debian", ""):
                    continue
                if extra and any(
                    known == suite and place != uri and suite == self.codename
                    for place, known in found
                ):
                    continue
                found.setdefault((uri, suite), key if Path(key).is_file() else str(KEYRING))
        order = sorted(found.items(), key=lambda item: item[0][1] != self.codename)
        if not order or order[0][0][1] != self.codename:
            raise SetupError(
                f"apt has no source for Debian {self.codename}: add the distribution's own to "
                f"/etc/apt/sources.list.d and try again."
            )
        return [(uri, suite, key) for (uri, suite), key in order]

    def update(self, *, all_suites: bool) -> None:
        """Fetch index files, unless the existing ones are recent.

        ``all_suites`` adds what only later QEMU versions need: backports and later releases.
        """
        machine = self._machine_sources()
        mirror, codename, key = machine[0]
        binary = [(uri, suite, key) for uri, suite, key in machine]
        source = [(uri, suite, key) for uri, suite, key in machine]
        names = [codename]
        source += [(mirror, "bookworm", str(KEYRING))] if codename != "bookworm" else []
        if all_suites:
            names += [*SOURCE_SUITES, f"{codename}-backports"]
            binary.append((mirror, f"{codename}-backports", key))
            source += [(mirror, name, str(KEYRING)) for name in SOURCE_SUITES if name != codename]
        lines = [f"deb [target=Packages signed-by={k}] {u} {s} main" for u, s, k in binary]
        for uri, suite, keyring in source:
            options = f"target=Sources signed-by={keyring}"
            # An outdated index is harmless where nothing is installed from it: the checksums of a
            # source are signed. (All lines of a suite must agree.)
            if (uri, suite) not in [entry[:2] for entry in binary]:
                options += " check-valid-until=no"
            lines.append(f"deb-src [{options}] {uri} {suite} main")
        text = "\n".join(dict.fromkeys(lines)) + "\n"
        listing, stamp = self.root / "sources.list", self.root / "updated"
        if stamp.is_file() and time.time() - stamp.stat().st_mtime < LISTS_SECONDS:
            present = listing.read_text().splitlines() if listing.is_file() else []
            if set(text.splitlines()) <= set(present):
                return
        for place in ("lists/partial", "cache/archives/partial"):
            (self.root / place).mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        listing.write_text(text)
        self._fetch_lists(names)
        stamp.touch()

    def _fetch_lists(self, suites: Sequence[str]) -> None:
        what = f"fetching package lists of {', '.join(dict.fromkeys(suites))} (not the system's)"
        try:
            run(self.command("apt-get", "update"), what, remedy="", attempts=3)
        except SetupError:
            # A mirror may lack one release and have the others.
            if not any((self.root / "lists").glob("*_Packages*")):
                raise SetupError(
                    "no package list could be fetched (see above): look at the network and at "
                    "apt's proxy settings, then try again."
                ) from None
            say("some package lists could not be fetched; going on with the others")

    def install(self, packages: Sequence[str], *, all_suites: bool = False) -> None:
        """Install Debian packages."""
        names = " ".join(packages)
        if os.geteuid() != 0:
            raise SetupError(
                f"Debian packages are missing: run `sudo apt-get install "
                f"--no-install-recommends {names}` and try again."
            )
        self.update(all_suites=all_suites)
        run(
            self.command("apt-get", "install", "-y", "--no-install-recommends", *packages),
            f"installing Debian packages: {names}",
            remedy=f"try `apt-get update && apt-get install --no-install-recommends {names}`.",
            env={"DEBIAN_FRONTEND": "noninteractive"},
            attempts=3,
        )

    def unpack_root(
        self, suite: str, packages: Sequence[str], directory: Path, architecture: str = ""
    ) -> None:
        """Unpack packages of a Debian release, and what they depend on, as a root in ``directory``.

        They are for ``architecture``, Debian's name of it, or for this machine. No maintainer
        script runs. Raises ``SetupError`` if not run as root.
        """
        if os.geteuid() != 0:
            raise SetupError(f"mmdebstrap makes {directory} as root: run this as root.")
        if missing_packages(["mmdebstrap"]):
            self.install(["mmdebstrap"])
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        mirror = self._machine_sources()[0][0]
        run(
            [
                *("mmdebstrap", "--mode=root", "--variant=extract"),
                '--aptopt=APT::Install-Recommends "false"',
                *([f"--architectures={architecture}"] if architecture else []),
                *(f"--include={','.join(packages)}", suite, str(directory)),
                f"deb [signed-by={KEYRING}] {mirror} {suite} main",
            ],
            f"unpacking a root of Debian {suite} {architecture}".rstrip(),
            remedy="look at the network and try again.",
            attempts=2,
        )

    def source_versions(self, package: str) -> list[str]:
        """Return the available versions of a source package."""
        text = output_of(self.command("apt-cache", "madison", package)) or ""
        rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
        found = [row[1] for row in rows if len(row) > 2 and row[2].endswith("Sources")]
        return list(dict.fromkeys(found))

    def binary_versions(self, package: str, suite: str) -> list[str]:
        """Return the versions of a binary package in ``suite``."""
        text = output_of(self.command("apt-cache", "madison", package)) or ""
        rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
        return [row[1] for row in rows if len(row) > 2 and f" {suite}/" in row[2]]

    def fetch_source(self, package: str, version: str, directory: Path) -> Path:
        """Download a source package into ``directory``, and return its .dsc file."""
        directory.mkdir(parents=True, exist_ok=True)
        run(
            self.command("apt-get", "source", "--download-only", f"{package}={version}"),
            f"downloading the source of {package} {version}",
            remedy="look at the network and try again.",
            cwd=directory,
            attempts=2,
        )
        # File names do not contain the epoch.
        name = f"{package}_{re.sub('^[0-9]+:', '', version)}.dsc"
        return directory / name

    def fetch_binaries(self, packages: Sequence[str], suite: str, directory: Path) -> list[Path]:
        """Download binary packages of ``suite`` into ``directory`` without installing them."""
        directory.mkdir(parents=True, exist_ok=True)
        run(
            self.command("apt-get", "download", *(f"{name}/{suite}" for name in packages)),
            f"downloading {', '.join(packages)} of {suite}",
            remedy="look at the network and try again.",
            cwd=directory,
            attempts=3,
        )
        return sorted(directory.glob("*.deb"))
