# SPDX-License-Identifier: GPL-2.0-or-later
"""``qemu-vmstate doctor``: what of a machine will work, with a remedy for what will not."""
