# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing the Python of the project, and making its virtual environments."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .console import SetupError, output_of, run, say
from .python_gate import interpreters

# Prints the properties of an interpreter. The shim loads libpython, so it must be shared.
_QUESTION = """
import json, os, sys, sysconfig
library = sysconfig.get_config_var("INSTSONAME") or ""
directory = sysconfig.get_config_var("LIBDIR") or ""
multiarch = sysconfig.get_config_var("MULTIARCH") or ""
places = [directory, os.path.join(directory, multiarch)]
try:
    import ensurepip
    pip = True
except ImportError:
    pip = False
print(json.dumps({
    "executable": getattr(sys, "_base_executable", "") or sys.executable,
    "version": list(sys.version_info[:3]),
    "debian": sys.base_prefix == "/usr",
    "shared": bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
        and any(os.path.exists(os.path.join(place, library)) for place in places),
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "pip": pip,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An installed Python."""

    executable: str
    version: tuple[int, ...]
    debian: bool
    shared: bool
    headers: bool
    pip: bool
    free_threaded: bool

    @property
    def minor(self) -> str:
        """The version's first two numbers, such as ``3.13``."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def lacks(self) -> list[str]:
        """The missing requirements, in words."""
        needs = {
            "a shared libpython": self.shared,
            "its C headers": self.headers,
            "the venv module": self.pip,
            "the GIL": not self.free_threaded,
        }
        return [what for what, present in needs.items() if not present]


def ask(executable: str) -> Interpreter | None:
    """Return the properties of the Python at ``executable``; None if it does not start."""
    # Isolated, so that environment variables and user packages do not change the result.
    text = output_of([executable, "-I", "-c", _QUESTION])
    if text is None:
        return None
    answer: dict[str, Any] = json.loads(text)
    answer["version"] = tuple(answer["version"])
    return Interpreter(**answer)


def choose() -> tuple[Interpreter, list[str]]:
    """Return the Python of the project, and the Debian packages that it needs.

    It is the running one if that is suitable, else any other, else Debian's with packages.
    """
    running = ask(getattr(sys, "_base_executable", "") or sys.executable)
    if running and not running.lacks:
        return running, []
    if not (running and running.debian):
        for path in interpreters():
            candidate = ask(path)
            if candidate and not candidate.lacks:
                return candidate, []
    debian = running if running and running.debian else ask("/usr/bin/python3")
    if debian and debian.debian and debian.version >= (3, 11):
        names = ["python3-venv", f"python{debian.minor}-venv", "python3-dev"]
        return debian, [*names, f"libpython{debian.minor}"] if debian.lacks else []
    lacks = " and ".join(running.lacks) if running else "a base installation"
    raise SetupError(
        f"the Python at {sys.executable} lacks {lacks}: build it with --enable-shared "
        f"(pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared), or install another one."
    )


def choose_later(than: tuple[int, ...]) -> tuple[Interpreter | None, str]:
    """Return the latest suitable Python after ``than``, or None and the reason."""
    reasons: list[str] = []
    asked: set[str] = set()
    for path in interpreters():
        if os.path.realpath(path) in asked:
            continue
        asked.add(os.path.realpath(path))
        candidate = ask(path)
        if candidate is None or candidate.version[:2] <= than[:2]:
            continue
        if not candidate.lacks:
            return candidate, ""
        reasons.append(f"Python {candidate.minor} lacks {' and '.join(candidate.lacks)}")
    found = "; ".join(dict.fromkeys(reasons)) or "none is installed"
    return None, f"no Python later than {than[0]}.{than[1]} was used: {found}"


def _group(groups: dict[str, Any], name: str) -> Iterator[str]:
    for entry in groups.get(name, []):
        if isinstance(entry, str):
            yield entry
        else:
            yield from _group(groups, entry["include-group"])


def requirements(checkout: Path, purpose: str) -> list[str]:
    """Return the requirements in pyproject.toml: to run, to build, and for ``purpose``.

    A purpose has its own in a dependency group of its name, that of the tests in ``dev``.
    """
    try:
        text = (checkout / "pyproject.toml").read_text()
        data = tomllib.loads(text)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SetupError(f"pyproject.toml of {checkout} cannot be read: {error}") from error
    project = data["project"]
    wanted = [
        *project.get("dependencies", []),
        *project.get("optional-dependencies", {}).get("vm", []),
        *project.get("optional-dependencies", {}).get("zstd", []),
        *_group(data["dependency-groups"], "dev" if purpose == "test" else purpose),
        *data["build-system"]["requires"],
        *("meson", "ninja"),
    ]
    return list(dict.fromkeys(wanted))


def make_environment(
    directory: Path, interpreter: Interpreter, wanted: Sequence[str], purpose: str
) -> Path:
    """Make a virtual environment with ``wanted`` installed, and return its Python."""
    python = directory / "bin" / "python"
    stamp = directory / "setup.json"
    key = {
        # One Python has several names: python3, python3.11, and that of a virtual environment.
        "interpreter": os.path.realpath(interpreter.executable),
        "version": list(interpreter.version),
        "wanted": hashlib.sha256("\n".join(wanted).encode()).hexdigest(),
    }
    try:
        present = json.loads(stamp.read_text())
    except (OSError, ValueError):
        present = None
    if present == key and python.exists():
        return python
    same = ("interpreter", "version")
    if not present or any(present.get(part) != key[part] for part in same):
        if directory.exists():
            say(f"{directory.name} is unfinished or of another Python: making it anew")
            shutil.rmtree(directory)
        run(
            [interpreter.executable, "-m", "venv", directory],
            f"making {directory.name} with Python {interpreter.minor}",
            remedy=f"look whether `{interpreter.executable} -m venv` works on this machine.",
        )
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--retries", "5"]
    run(
        [*pip, "--progress-bar", "off", "--upgrade-strategy", "only-if-needed", *wanted],
        f"installing {purpose} into {directory.name}",
        remedy="look at the network and at pip's configuration, then try again.",
        attempts=3,
    )
    stamp.write_text(json.dumps(key))
    return python


def fill_wheelhouse(
    directory: Path, python: Path, minors: Sequence[str], wanted: Sequence[str]
) -> None:
    """Download wheels of ``wanted``, and of what they need, for the Python versions ``minors``."""
    stamp = directory / "filled.json"
    key = json.dumps({"wanted": [*wanted], "minors": [*minors]})
    if stamp.exists() and stamp.read_text() == key:
        return
    shutil.rmtree(directory, ignore_errors=True)
    pip = [str(python), "-m", "pip", "download", "--disable-pip-version-check", "--retries", "5"]
    pip += ["--progress-bar", "off", "--only-binary=:all:", f"--dest={directory}"]
    for minor in minors:
        run(
            [*pip, f"--python-version={minor}", *wanted],
            f"downloading wheels for Python {minor}: {' '.join(wanted)}",
            remedy="look at the network and at pip's configuration, then try again.",
            attempts=3,
        )
    stamp.write_text(key)


def install_checkout(python: Path, checkout: Path) -> None:
    """Install the checkout, editable, into the environment of ``python``."""
    stamp = python.parents[1] / "checkout.json"
    key = {
        "checkout": str(checkout),
        "project": hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest(),
    }
    try:
        present = json.loads(stamp.read_text())
    except (OSError, ValueError):
        present = None
    if present == key:
        return
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    run(
        [*pip, "--no-build-isolation", "--no-deps", "--editable", checkout],
        f"installing qemu_vmstate into {python.parents[1].name}",
        remedy=f"remove {python.parents[1]} and try again.",
    )
    stamp.write_text(json.dumps(key))
