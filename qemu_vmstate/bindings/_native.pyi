# SPDX-License-Identifier: GPL-2.0-or-later
"""What cffi makes of cdefs/vmstate.h, bridge.h and callbacks.h."""

from typing import Any

ffi: Any
lib: Any
