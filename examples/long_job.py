# SPDX-License-Identifier: GPL-2.0-or-later
"""A class of a third-party package: the progress of a long job, as rich has it.

The progress is a ``rich.progress.Task``, a class that knows nothing of QEMU.  ``migrates()`` says
which of its attributes are state; the others, such as the times of the last steps, stay as they are
in each process.
"""

import time
from typing import Any

from rich.progress import Task, TaskID

from qemu_vmstate import Device, Migratable, Mutex, field, migrates, register

migrates(
    Task,
    fields={
        "description": field(str, max_length=64),
        "total": float | None,
        "completed": float,
        "notes": field(dict[str, str], max_length=8, attribute="fields"),
    },
    max_length=32,
)


def new_task() -> Any:
    """Return the task of a job of 100 steps."""
    return Migratable(Mutex(Task(TaskID(0), "copying", 100.0, 0.0, _get_time=time.monotonic)))


class LongJob(Device, name="pylongjob"):
    """A device that works on one long job."""

    task: Migratable[Mutex[Task]] = field(default_factory=new_task)

    def work(self, note: str) -> float:
        """Do a step, with a note about it; return how much of the job is done, in percent."""
        with self.task.lock() as task:
            task.completed += 1
            task.fields["last"] = note
            return task.percentage


dev = LongJob()
register(dev)
