"""Shared: a small real locator, a batch of phantoms, the folder of real radiographs where there is one."""

import os
import signal
from pathlib import Path

import pytest
import torch
from brief import shorten_finish
from filelock import FileLock
from tiny_run import settings

SMALL_BACKBONE = "resnet10t"


LONGEST = (
    *("export", "ranks", "notebook", "preemption", "agent", "counts", "wandb_faults", "fit", "input_check_training"),
    *("debugging", "run_folder", "joint", "local_calibration", "families", "tracking", "workers", "ensemble", "wandb_runs"),
    *("predict", "calibration", "bundle", "compile", "precision", "laterality_sides", "averaging", "profile", "load_once"),
)
"""Test files that start first, so that no worker is left with a long one at the end."""


def pytest_collection_modifyitems(items):
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _sigint():
    """Let processes of tests obey SIGINT, which a job in the background of a shell ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def locator():
    from baa.nets.locator import Locator

    net = Locator(backbone=SMALL_BACKBONE, px=96, head="distribution")
    with torch.no_grad():
        net(torch.rand(8, 1, 96, 96))  # move the batch norm statistics away from their initial values
    return net.eval()


@pytest.fixture
def phantom_batch():
    """Four hands, [4, 1, 192, 192] in [0, 1]."""
    from baa.data.sources.phantom import phantom_cases

    pixels = [torch.from_numpy(case.image.load(192).pixels.copy()) for case in phantom_cases(4, seed=0)]
    return torch.stack(pixels)[:, None].float() / 255


@pytest.fixture
def decoded_apart(monkeypatch):
    """Collect the bytes that decoder processes get. This process cannot decode anything."""
    from baa.data.read import decode, process

    given = []

    def send(decoder, data, px, send=process._Decoder.decode):
        given.append(bytes(data))
        return send(decoder, data, px)

    monkeypatch.setattr(process._Decoder, "decode", send)
    for name in ("read_dicom", "read_picture"):
        monkeypatch.setattr(decode, name, None)
    return given


@pytest.fixture(scope="session")
def real_data():
    """Return the folder of real radiographs, from the environment variable BAA_DATA."""
    folder = os.environ.get("BAA_DATA")
    if not folder:
        pytest.skip(
            "BAA_DATA is not set: it names a folder with RSNA radiographs (rsna-384/, rsna-640/, roi.csv, capitate.csv)"
        )
    return Path(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Train a tiny run of both stages; return its runs folder and its metrics."""
    from baa.config.load import load
    from baa.training.run import run

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(shared / "finished.lock"):  # the first worker trains, the others read
        return shared / "finished", run(load([], settings(shared / "finished")))


@pytest.fixture(scope="module")
def brief_finish(finished):
    """Stages of runs in this process end without figures, and with input checks that hardly learn.

    `finished` is trained before, with both.
    """
    with pytest.MonkeyPatch.context() as patch:
        shorten_finish(patch.setattr)
        yield
