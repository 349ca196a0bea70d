# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m qemu_vmstate``."""

import sys

from .cli import main

sys.exit(main())
