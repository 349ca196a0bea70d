# SPDX-License-Identifier: GPL-2.0-or-later
"""The build backend: meson-python's, with an editable installation that builds nothing.

meson-python's own editable installation compiles when it is imported, which a QEMU with this
package inside must not do.  This one is a path entry of the checkout, whose native parts
scripts/setup builds.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesonpy import (  # type: ignore[import-untyped]
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)
from pyproject_metadata import StandardMetadata

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

CHECKOUT = Path(__file__).resolve().parents[2]


def build_editable(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,  # noqa: ARG001 - PEP 517 has both
    metadata_directory: str | None = None,  # noqa: ARG001
) -> str:
    """Write a wheel that adds the checkout to Python's path, and return its name (PEP 660)."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    metadata = StandardMetadata.from_pyproject(project, CHECKOUT)
    stem = f"{metadata.canonical_name.replace('-', '_')}-{metadata.version}"
    scripts = "".join(f"{name} = {target}\n" for name, target in metadata.scripts.items())
    groups = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in metadata.entrypoints.items()
    )
    files = {
        f"{metadata.canonical_name}.pth": f"{CHECKOUT}\n",
        f"{stem}.dist-info/METADATA": str(metadata.as_rfc822()),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: qemu_vmstate\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": f"[console_scripts]\n{scripts}{groups}",
    }
    wheel = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        record = "".join(f"{name},{_digest(text)}\n" for name, text in files.items())
        archive.writestr(f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")
    return wheel


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"sha256={digest},{len(text.encode())}"
