"""Variables of a launcher that an earlier job left in the shell. Lightning, which reads them, is not imported here."""

import os

from baa.errors import InputError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables that Lightning takes for the rank of a process, whoever set them."""

NODES = ("NODE_RANK", "GROUP_RANK")
"""Variables that Lightning takes for the rank of a node. A job of several nodes may be started by hand with the first one."""

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
SRUN = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NNODES")

STARTED_BY = "BAA_STARTED_BY"
"""Id of the process that has started further processes of its job."""


def mark_processes() -> None:
    """Mark the processes that Lightning is going to start as those of this job."""
    if not _is_marked():
        os.environ[STARTED_BY] = str(os.getpid())


def unmark_processes() -> None:
    """End what `mark_processes` began: later processes of this one are jobs of their own."""
    if os.environ.get(STARTED_BY) == str(os.getpid()):
        del os.environ[STARTED_BY]


def refuse_stray_ranks(nodes: int | None = None) -> None:
    """Refuse the rank of a process that nothing has started as such: it would train, and write no result.

    What says no more than "the first process" is removed from the environment.

    Args:
        nodes: of the job; None before the settings are known.

    Raises:
        InputError: there is such a rank, or a variable of the launcher is missing or no number.
    """
    for launcher, mark, variables in (("torchrun", "TORCHELASTIC_RUN_ID", TORCHRUN), ("srun", "SLURM_STEP_ID", SRUN)):
        if mark in os.environ and (launcher == "torchrun" or "SLURM_NTASKS" in os.environ):
            for name in variables:
                if not (value := os.environ.get(name, "")).isdigit():
                    raise InputError(
                        f"{name}: {value or 'not set'}, although {mark} marks a process of {launcher}; "
                        f"`unset {mark}`, or start with {launcher}"
                    )
            return
    if _is_marked():
        return
    for name in (*RANKS, *(NODES if nodes == 1 else ())):
        if os.environ.get(name, "").strip("0"):
            raise InputError(
                f"{name}={os.environ[name]}: this process would not be rank 0, but neither torchrun nor srun "
                f"started it; `unset {name}`, or start with torchrun or srun"
            )
        os.environ.pop(name, None)
    os.environ.pop("WORLD_SIZE", None)
    if nodes == 1:
        os.environ.pop("MASTER_ADDR", None)  # of another machine


def _is_marked() -> bool:
    return os.environ.get(STARTED_BY) in (str(os.getpid()), str(os.getppid()))
