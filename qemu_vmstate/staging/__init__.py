# SPDX-License-Identifier: GPL-2.0-or-later
"""The staging struct of an object: filled for a save, and committed after a load."""

from . import callbacks as callbacks
from .build import make_staging

__all__ = ["make_staging"]
