# SPDX-License-Identifier: GPL-2.0-or-later
"""A numpy array of 1 MiB: the memory of a frame buffer, which numpy computes and C migrates.

``numpy.asarray()`` of a layout class's array shares its memory, so nothing is converted: a save is
one copy by C, and a load writes into the array that is there.  (For arrays that are made anew all
the time, or whose shape varies, ``register_converter(numpy.ndarray, ...)`` is the way.)
"""

from typing import Any, Literal

import numpy as np

from qemu_vmstate import Array, Device, Migratable, Mutex, VMStruct, f32, register, zeroed


class Frame(VMStruct):
    """512 rows of 512 pixels of 4 bytes."""

    pixels: Array[Array[f32, Literal[512]], Literal[512]] = zeroed()


class FrameBuffer(Device, name="pyframe"):
    """The frame buffer."""

    frame: Migratable[Mutex[Frame]]

    def __init__(self) -> None:
        with self.frame.lock() as frame:
            self.view: np.ndarray[Any, Any] = np.asarray(frame.pixels)

    def draw(self, brightness: float) -> None:
        """Draw rows that get brighter, and columns too."""
        with self.frame.lock():
            self.view[:] = brightness * np.add.outer(np.arange(512), np.arange(512))

    def mean(self) -> float:
        """Return the mean brightness."""
        with self.frame.lock():
            return float(self.view.mean())


dev = FrameBuffer()
register(dev)
