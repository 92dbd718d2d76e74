"""Meeting of the processes of torchrun: after a restart, none reads what a process of the attempt before has left."""

import os
import uuid
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store, rendezvous

POLL = timedelta(seconds=1)
SESSION = "baa/session"


def has_agent_store() -> bool:
    """Whether the processes meet at the store of torchrun's agent, which outlives them."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def attempt_store(rank: int, world_size: int, timeout: timedelta) -> Store:
    """The store of this attempt alone.

    torchrun restarts all processes, but keeps the store, in which the dead ones have left their addresses
    (https://github.com/pytorch/pytorch/issues/167288). Its count of restarts differs between nodes, so no prefix can come from
    there. Here the first process names a session and confirms it to each other one, under a random token of that process.

    Args:
        rank: of this process.
        world_size: number of processes.
        timeout: how long to wait for the others.

    Raises:
        DistStoreError: a process did not come.
    """
    store: Store
    store, _, _ = next(iter(rendezvous("env://", rank, world_size, timeout=timeout)))
    store.set_timeout(timeout)
    session = _open_session(store, world_size) if rank == 0 else _join_session(store, rank, timeout)
    return PrefixStore(session, store)


def _open_session(store: Store, world_size: int) -> str:
    session = uuid.uuid4().hex
    store.set(SESSION, session)
    for rank in range(1, world_size):
        word = store.get(f"{session}/{rank}").decode()
        store.set(f"{session}/{rank}/{word}", "")
    return session


def _join_session(store: Store, rank: int, timeout: timedelta) -> str:
    word = uuid.uuid4().hex
    for _ in range(max(1, timeout // POLL)):
        session = store.get(SESSION).decode()  # perhaps that of the attempt before: nobody confirms it
        store.set(f"{session}/{rank}", word)
        try:
            store.wait([f"{session}/{rank}/{word}"], POLL)
        except DistStoreError:
            continue
        return session
    raise DistStoreError(f"Timed out after {timeout.total_seconds():.0f} seconds waiting for rank 0")
