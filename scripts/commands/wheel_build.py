# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds and checks the wheel and the sdist, after everything is set up."""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from provision.cache import folder
from provision.console import SetupError, path_with, run, say

CHECKOUT = Path(__file__).resolve().parents[2]
DIST = CHECKOUT / "dist"
LARGEST = 15_000_000


def settings(builds: Sequence[str]) -> list[str]:
    """Return pip's and build's options for native parts of these QEMU build directories."""
    return [
        f"-Csetup-args=-Dqemu_build={','.join(builds)}",
        f"-Csetup-args=-Dscratch={folder() / 'scratch'}",
    ]


def with_tools() -> dict[str, str]:
    """Return the PATH on which the build backend finds meson and ninja."""
    return path_with(Path(sys.executable).parent)


def contents(wheel: Path) -> list[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


def build(builds: Sequence[str], output: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist in ``output``, check them, and return their paths.

    The wheel has native parts for the QEMU build directories ``builds``; the sdist has the latest
    commit. Raises ``SetupError`` if a check fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=output) as made:
        run(
            [
                *(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel"),
                f"-Cbuild-dir={CHECKOUT / 'build' / 'wheel'}",
                *settings(builds),
                *("--outdir", made, str(CHECKOUT)),
            ],
            "building the wheel and the sdist",
            remedy=f"to begin anew, remove {CHECKOUT / 'build' / 'wheel'} and try again.",
            env=with_tools(),
        )
        (built,), (sdist,) = Path(made).glob("*.whl"), Path(made).glob("*.tar.gz")
        wheel = _audited(built)
        _check(wheel, sdist)
        return _replace(wheel, output), _replace(sdist, output)


def _audited(built: Path) -> Path:
    """Return the wheel with the tag of the oldest glibc that it runs with."""
    audited = built.parent / "audited"
    run(
        [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", audited, built],
        "auditing the wheel",
        remedy=f"see `auditwheel show {built}`: the libraries must need nothing but what every "
        "Linux has.",
        env=with_tools(),
    )
    (wheel,) = audited.glob("*.whl")
    added = set(contents(wheel)) - set(contents(built))
    if added:
        raise SetupError(
            f"the wheel needs libraries that not every Linux has, and would carry copies of them: "
            f"{', '.join(sorted(added))}: configure QEMU without what needs them."
        )
    return wheel


def _check(wheel: Path, sdist: Path) -> None:
    run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist],
        "checking the metadata",
        remedy="correct pyproject.toml or README.md.",
        quiet=True,
    )
    size = wheel.stat().st_size
    if size > LARGEST:
        raise SetupError(
            f"{wheel.name} has {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f} MB: look which "
            "files of it are large."
        )


def _replace(file: Path, output: Path) -> Path:
    """Move a file to ``output``, in place of others of its kind, and return its path."""
    for old in output.glob(f"qemu_vmstate-*{file.suffix}"):
        old.unlink()
    return Path(shutil.move(file, output / file.name))


def main(builds: Sequence[str]) -> int:
    """Build into ``dist``; return 0 if nothing is wrong with the result."""
    try:
        wheel, sdist = build(builds, DIST)
    except SetupError as error:
        say(f"wheel: {error}")
        return 1
    say(f"{sdist} ({sdist.stat().st_size / 1e6:.1f} MB)")
    say(f"{wheel} ({wheel.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
