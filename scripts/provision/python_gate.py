# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets the scripts start in any Python 3, and continue in a Python that is late enough.

It is imported before everything that needs Python 3.11, so it must run in every Python 3, and it
imports nothing of this project.
"""

import glob
import os
import subprocess
import sys

OLDEST = (3, 11)
LATEST_KNOWN = 20


def interpreters():
    # type: () -> list[str]
    """Return programs that may be later Pythons, the latest first; some may not start."""
    found = []
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for minor in range(LATEST_KNOWN, OLDEST[1] - 1, -1):
        name = "python3.%d" % minor  # noqa: UP031
        pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
        for directory in sorted(glob.glob(os.path.join(pyenv, "versions", "3.*", "bin"))):
            found.append(os.path.join(directory, name))
        found.extend(os.path.join(directory, name) for directory in directories)
    return [path for path in found if os.access(path, os.X_OK)]


def require():
    # type: () -> None
    """Continue in Python 3.11 or later, or exit with a message."""
    if sys.version_info >= OLDEST:
        return
    for path in interpreters():
        try:
            status = subprocess.call(
                [path, "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"],
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            continue
        if status == 0:
            os.execv(path, [path, *sys.argv])
    sys.exit(
        "%s is Python %d.%d; 3.11 or later is needed: install python3.11 or later and put it on "  # noqa: UP031
        "the PATH." % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
