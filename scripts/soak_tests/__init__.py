# SPDX-License-Identifier: GPL-2.0-or-later
"""Long runs of trials that must never fail, with the device that they load and save."""
