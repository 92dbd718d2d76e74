"""Processes that torchrun restarts meet each other, not the dead ones of the attempt before."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import DistStoreError, TCPStore

PROCESSES = 3


@pytest.fixture
def attempt(monkeypatch):
    """Let processes (here threads) come in an order to a store that outlives them; return what each reads of all others."""
    from baa.runtime import elastic

    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def client(*_, timeout):
        yield TCPStore("127.0.0.1", server.port, wait_for_workers=False), 0, PROCESSES

    monkeypatch.setattr(elastic, "rendezvous", client)

    def come(rank, address):
        store = elastic.attempt_store(rank, PROCESSES, timedelta(seconds=4))
        store.set(f"address/{rank}", address)
        return [store.get(f"address/{other}").decode() for other in range(PROCESSES)]

    def begin(order, address):
        with ThreadPoolExecutor(PROCESSES) as pool:
            coming = []
            for rank in order:
                coming.append(pool.submit(come, rank, address))
                time.sleep(0.2)
        return [one.result() for one in coming]

    return begin


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_each_attempt_reads_its_own_addresses(order, attempt):
    for address in ("first", "second", "third"):
        assert attempt(order, address) == [[address] * PROCESSES] * PROCESSES


@pytest.mark.parametrize("order", [(1, 2), (0, 1)])
def test_a_process_that_does_not_come_back_ends_the_attempt(order, attempt):
    attempt((0, 1, 2), "first")
    began = time.monotonic()
    with pytest.raises(DistStoreError, match="(?i)timed? ?out|timeout"):
        attempt(order, "second")
    assert time.monotonic() - began < 20


def test_only_processes_of_torchrun_meet_so(monkeypatch):
    from baa.runtime.elastic import has_agent_store

    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert not has_agent_store()
    for value in ("True", "False"):
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", value)
        assert has_agent_store() == (value == "True")
