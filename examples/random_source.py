# SPDX-License-Identifier: GPL-2.0-or-later
"""A class of somebody else's: a random number generator, whose numbers go on after a migration.

``random.Random`` is the standard library's.  ``migrates()`` says what of it is state, and the class
stays as it is.  Its state is in C, so two functions get and set it; for most classes of packages
the names of their attributes are enough.
"""

from random import Random
from typing import Annotated, Any

from qemu_vmstate import Device, Migratable, Mutex, field, migrates, register, u32

VERSION = 3  # of what getstate() returns

State = tuple[Annotated[list[u32], field(length=625)], float | None]


def get_state(source: Random) -> tuple[list[int], float | None]:
    """Return the numbers of the Mersenne Twister, and the next number of ``gauss()``."""
    _, numbers, next_gauss = source.getstate()
    return list(numbers), next_gauss


def set_state(source: Random, state: Any) -> None:
    """Do the reverse; for numbers that are no state this raises, and the load fails."""
    numbers, next_gauss = state
    source.setstate((VERSION, tuple(numbers), next_gauss))


migrates(Random, fields={"state": field(State, attribute=(get_state, set_state))})


class RandomSource(Device, name="pyrandom"):
    """A device that a guest would read random numbers from."""

    source: Migratable[Mutex[Random]]

    def seed(self, number: int) -> None:
        """Begin the sequence of a seed."""
        with self.source.lock() as source:
            source.seed(number)

    def read(self) -> int:
        """Return the next 32 random bits."""
        with self.source.lock() as source:
            return source.getrandbits(32)


dev = RandomSource()
register(dev)
