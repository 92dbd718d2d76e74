"""`trainer.compile` trains with compiled backbones, and without them where compiling fails."""

import pytest
import torch
from tiny_run import settings

LOCATOR = ["stages=[locator]", "data.phantom.count=40", "locator.fit.epochs=1", "trainer.accelerator=cpu"]


def fit(folder, *more):
    from baa.config.load import load
    from baa.training.run import run

    return run(load([], settings(folder, *LOCATOR, *more)))["locator"]


@pytest.fixture(scope="module")
def eager(tmp_path_factory, brief_finish):
    """Metrics of a locator that is not compiled."""
    return fit(tmp_path_factory.mktemp("eager"))


@pytest.fixture
def dynamo():
    """Torch's compiler in its initial state, before and after."""
    suppress_errors = torch._dynamo.config.suppress_errors
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.suppress_errors = suppress_errors


@pytest.mark.parametrize("works", [pytest.param(True, marks=pytest.mark.slow), False])
def test_training_continues_without_compiling_where_that_fails(tmp_path, monkeypatch, dynamo, eager, works):
    compiled, failed = [], []

    def backend(graph, inputs):
        if not works:
            failed.append(graph)
            raise OSError("no compiler on this machine")
        compiled.append(graph)
        return graph.forward

    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compile_(net, backend=backend))
    metrics = fit(tmp_path, "trainer.compile=true")

    assert (bool(compiled), bool(failed)) == (works, not works)
    assert metrics["test/mae"] == pytest.approx(eager["test/mae"], abs=0.05)


@pytest.mark.slow
def test_torchs_own_compiler_trains_as_eager_does(tmp_path, dynamo, eager):
    metrics = fit(tmp_path, "trainer.compile=true")

    compiled = torch._dynamo.utils.counters["aot_autograd"]
    assert compiled["ok"] > 0
    assert compiled["not_ok"] == 0
    assert metrics["test/mae"] == pytest.approx(eager["test/mae"], abs=0.05)
