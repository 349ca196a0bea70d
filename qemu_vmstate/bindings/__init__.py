# SPDX-License-Identifier: GPL-2.0-or-later
"""Imports and binds the compiled modules; :mod:`qemu_vmstate.natives` finds them."""
