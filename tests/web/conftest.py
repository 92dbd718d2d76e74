"""Pages served in this process: with a model that needs no time, and with a small trained one."""

import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from baa.inference.prediction import Prediction
from baa.patient import Sex

LOUD, SLOW = "loud.png", "slow.png"


def quick_model():
    """A model that answers 100 months, raises for `loud.png`, and waits at `slow.png` until `go` is set."""
    from baa.api import Model

    class QuickModel(Model):
        coverage = 0.9

        def __init__(self):
            self.go = threading.Event()
            self.trained = SimpleNamespace(model=SimpleNamespace(cropper=None))

        def stream(self, inputs, *, strict):
            for given in inputs:
                if given.file.name == LOUD:
                    raise ZeroDivisionError("of the patient Smith")
                if given.file.name == SLOW:
                    assert self.go.wait(60)
                film = np.zeros((8, 8), np.uint8)
                yield Prediction(file=given.name, sex=Sex.MALE, months=100.0, coverage=0.9, film=film)

    return QuickModel()


@contextmanager
def serving(model, folder):
    """Serve a page with a model: `url`, `folder` of its files, `model`, `page`."""
    from baa.web.page import build
    from baa.web.serving import start

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        page = build(model, folder)
        start(page, "127.0.0.1", port, origins=["https://bone-age.example"], folder=folder)
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", folder=folder, model=model, page=page)
        page.close(verbose=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The page with a quick model, served."""
    pytest.importorskip("gradio", reason="the page needs it: pip install -e '.[app]'")
    with serving(model := quick_model(), tmp_path_factory.mktemp("page")) as served:
        yield served
        model.go.set()


@pytest.fixture
def tiny(finished, tmp_path):
    """The page with a small trained model, served."""
    pytest.importorskip("gradio", reason="the page needs it: pip install -e '.[app]'")
    from baa import load_model

    model = load_model(finished[0] / "tiny" / "estimator" / "best.ckpt", device="cpu", batch_size=16)
    with serving(model, tmp_path) as served:
        yield served
