"""How many cores there are to work on."""

import os


def usable_cores() -> int:
    """The cores that this process may run on: under Slurm, taskset or a container's cpuset fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
