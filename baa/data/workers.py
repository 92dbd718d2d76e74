"""Loader processes. A signal to the whole job does not end them; the end of the command does, however it ends."""

import atexit
import multiprocessing
import multiprocessing.util  # its own exit handler waits for children: it is registered first, so it runs last
import os
import signal
import sys
import threading
import traceback
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
"""Signals that stop a job. Slurm sends USR1 before the time limit, submitit USR2."""

STALL_SECONDS = 600.0
"""Time that a command waits for a batch."""

DEAD = (
    "DataLoader worker",
    "DataLoader timed out",
    "Pin memory thread exited",
    "Too many open files",
)
"""How messages begin that say that a loader process is gone, stalls or cannot be reached."""

NO_SHARED_MEMORY = (
    "unable to allocate shared memory",
    "unable to write to file </torch",
    "unable to open shared memory object",
    "unable to mmap",
    "received 0 items of ancdata",
)
"""What messages contain if a batch cannot be handed over."""


def loading(workers: int, timeout: float = STALL_SECONDS) -> dict[str, Any]:
    """Return the settings of a `DataLoader` with this number of processes, which waits for a batch `timeout` seconds."""
    return {"num_workers": workers, "worker_init_fn": start_worker, "timeout": timeout if workers else 0}


def start_worker(worker: int) -> None:
    """Prepare a loader process.

    It ignores signals: they may go to all processes of a run, which still needs its batches. If a batch cannot be sent, for
    lack of file descriptors for example, it ends: the queue would drop the batch, and the command would wait for ever.
    """
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    sys.excepthook = lambda *_: None  # exceptions reach the command by torch; here threads only say that it has hung up
    Queue._on_queue_feeder_error = staticmethod(_end_process)  # type: ignore[attr-defined]


def _end_process(error: Exception, batch: Any) -> None:
    os._exit(1)


def kill_workers() -> None:
    """Kill the daemonic child processes, which ignore signals, so that nothing waits for them."""
    main = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if main else None  # torch's handler raises for a dead worker
    children = [child for child in multiprocessing.active_children() if child.daemon]
    for child in children:
        child.kill()
    for child in children:
        child.join()
    if main and former is not None:
        signal.signal(signal.SIGCHLD, former)


atexit.register(kill_workers)


def loader_fault(error: Exception) -> str | None:
    """Return one line about loader processes that died, stall, or lack memory or files; None for another error."""
    message = str(error)
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    cut_off = isinstance(error, OSError | EOFError) and any("multiprocessing" in Path(place).parts for place in places)
    if cut_off:  # a batch of a process that has died, or no room for a queue
        message = f"{DEAD[0]}: {message or 'it has ended'}"
    dead = message.startswith(DEAD)
    if not dead and not any(phrase in message for phrase in NO_SHARED_MEMORY):
        return None
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = lines[0] if dead else next(line for line in lines if any(phrase in line for phrase in NO_SHARED_MEMORY))
    remedy = (
        "use fewer processes (--workers, data.workers), more shared memory (/dev/shm; docker run --shm-size=8g), more memory, "
        "or more open files (ulimit -n)"
    )
    return f"a process that reads radiographs failed: {reason.rstrip('. ')}; {remedy}"
