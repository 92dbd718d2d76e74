"""The faster arithmetic, chosen once; compiling, or saying why not."""

import json

import pytest
import torch
from tiny_run import settings


@pytest.fixture
def module():
    from baa.modules.estimator import EstimatorModule

    net = {"backbones": {"carpal": "resnet10t", "whole": "resnet10t"}, "conv_pool": [], "width": 16, "auxiliary": True}
    recipe = {"loss": "l1", "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
    return EstimatorModule(net, recipe, whole_px=64, auxiliary=1.0)


@pytest.fixture
def noise():
    from baa.data.batch import Batch

    return Batch.of_noise(4, 96, (48, 48))


def choose(begin, file, of):
    from baa.training.precision import choose_precision

    return choose_precision(begin, device=torch.device("cpu"), file=file, what="nothing", of=of)


@pytest.mark.parametrize(("half", "chosen"), [(0.5, "bf16-mixed"), (0.95, "32-true"), (3.0, "32-true")])
def test_bf16_is_taken_where_it_pays(tmp_path, monkeypatch, half, chosen):
    from baa.training import precision

    monkeypatch.setattr(precision, "_measure", lambda *_: {"32-true": 1.0, "bf16-mixed": half})
    assert choose(lambda: None, tmp_path / "precision.json", of={}) == chosen


def test_measuring_leaves_no_trace_in_the_module(module, noise, tmp_path):
    from baa.training.precision import training_step

    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    drawn = torch.random.get_rng_state()
    chosen = choose(lambda: training_step(module, noise, torch.device("cpu")), tmp_path / "precision.json", of={})
    said = json.loads((tmp_path / "precision.json").read_text())

    assert said["precision"] == chosen
    assert said["seconds"].keys() == {"32-true", "bf16-mixed"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.parametrize(("half", "rounds"), [(2.0, 2), (1.1, 4)])
def test_where_one_is_clearly_slower_one_round_tells(monkeypatch, half, rounds):
    from baa.training import precision

    times = []

    def work():
        times.append(half if torch.is_autocast_enabled("cpu") else 1.0)
        return torch.zeros(())

    monkeypatch.setattr(precision.time, "perf_counter", lambda: sum(times))
    precision._measure(work, torch.device("cpu"))

    assert len(times) == 2 * rounds


def test_a_choice_holds_for_the_work_that_it_was_made_for(tmp_path, monkeypatch):
    from baa.training import precision

    file = tmp_path / "precision.json"
    monkeypatch.setattr(precision, "_measure", lambda *_: {"32-true": 1.0, "bf16-mixed": 0.1})
    assert choose(lambda: None, file, of={"px": 300}) == "bf16-mixed"

    assert choose(lambda: pytest.fail("measured again"), file, of={"px": 300}) == "bf16-mixed"
    monkeypatch.setattr(precision, "_measure", lambda *_: {"32-true": 1.0, "bf16-mixed": 2.0})
    assert choose(lambda: None, file, of={"px": 500}) == "32-true"


def test_looks_are_measured_without_a_graph(locator, noise):
    from baa.training.precision import looks

    features = looks(locator, noise, torch.device("cpu"))()
    assert features.shape[:2] == (4, 512)
    assert not features.requires_grad


LOCATOR = ["stages=[locator]", "data.phantom.count=40", "locator.fit.epochs=1", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What a locator that is not compiled comes to."""
    from baa.config.load import load
    from baa.training.run import run

    return run(load(None, settings(tmp_path_factory.mktemp("plain"), *LOCATOR)))


@pytest.mark.parametrize("works", [True, False])
def test_where_compiling_fails_training_goes_on_and_says_why(tmp_path, caplog, monkeypatch, plain, works):
    caplog.set_level("INFO")
    from baa.config.load import load
    from baa.training.run import run

    compiled = []

    def backend(graph, inputs):
        if not works:
            raise OSError("no compiler on this machine")
        compiled.append(graph)
        return graph.forward

    real = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: real(net, backend=backend))
    torch._dynamo.reset()
    result = run(load(None, settings(tmp_path, *LOCATOR, "trainer.compile=true")))

    assert bool(compiled) == works
    assert result["locator"]["test/mae"] == pytest.approx(plain["locator"]["test/mae"], abs=0.05)
    said = caplog.text
    assert ("trainer.compile: not used" in said and "no compiler on this machine" in said) == (not works)


@pytest.mark.parametrize("chosen", ["32-true", "bf16-mixed"])
def test_a_checkpoint_is_judged_in_the_precisions_that_auto_came_to(finished, tmp_path, monkeypatch, chosen):
    from baa.checkpoints.load import read_checkpoint
    from baa.config.load import load
    from baa.evaluation.checkpoint import evaluate
    from baa.training import precision
    from baa.training.run import run

    seconds = {"32-true": 1.0, "bf16-mixed": 0.5 if chosen == "bf16-mixed" else 2.0}
    monkeypatch.setattr(precision, "_measure", lambda *_: seconds)
    auto = ["trainer.precision=auto", "crops.precision=auto", "stages=[estimator]", "estimator.fit.epochs=1"]
    auto += [f"locator.checkpoint={finished[0]}/tiny/locator/best.ckpt"]
    auto += ["estimator.fit.clip=1"]  # which not every optimiser bears in mixed precision
    ran = run(load(None, settings(tmp_path, *auto)))
    checkpoint = tmp_path / "tiny" / "estimator" / "best.ckpt"
    record, crops = read_checkpoint(checkpoint)["baa"]["settings"], read_checkpoint(checkpoint)["CropDataModule"]["recipe"]

    assert (record["trainer"]["precision"], record["crops"]["precision"]) == (chosen, chosen)
    assert crops["crops"]["half_precision"] == (chosen == "bf16-mixed")
    judged = evaluate(checkpoint, [], split="test", out=tmp_path / "judged")
    assert judged["estimator"]["test/mae"] == pytest.approx(ran["estimator"]["test/mae"], rel=1e-5)
