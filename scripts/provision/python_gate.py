# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets the scripts start under any Python 3 and go on under one that serves.

Imported before anything that needs Python 3.11, so it is written for the oldest Python 3 a
machine may have, and imports nothing of ours.
"""

import glob
import os
import subprocess
import sys

OLDEST = (3, 11)
LATEST_KNOWN = 20


def interpreters():
    # type: () -> list[str]
    """Programs that may be later Pythons, the latest first; some may not even start."""
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
    """Go on under Python 3.11 or later, or leave with a sentence."""
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
