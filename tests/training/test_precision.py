"""The faster arithmetic, chosen once; compiling, or saying why not."""

import json

import pytest
import torch
from tiny_run import settings

CPU = torch.device("cpu")


@pytest.fixture
def module():
    from baa.training.modules import EstimatorModule

    net = {"backbones": {"carpal": "resnet10t", "whole": "resnet10t"}, "conv_pool": [], "width": 16, "auxiliary": True}
    recipe = {"loss": "l1", "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
    return EstimatorModule(net, recipe, whole_px=64, auxiliary=1.0)


@pytest.fixture
def noise():
    from baa.data.modules import Batch

    return Batch.of_noise(4, 96, (48, 48))


@pytest.mark.parametrize(("half", "chosen"), [(0.5, "bf16-mixed"), (0.95, "32-true"), (3.0, "32-true")])
def test_bf16_is_taken_where_it_pays(tmp_path, monkeypatch, half, chosen):
    from baa.training import precision

    monkeypatch.setattr(precision, "_measure", lambda *_: {"32-true": 1.0, "bf16-mixed": half})
    assert precision.choose_precision(lambda: torch.rand, CPU, tmp_path / "precision.json", "nothing") == chosen


def test_the_choice_is_measured_once_and_leaves_no_trace_in_the_module(module, noise, tmp_path):
    from baa.training.precision import choose_precision, training_step

    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    drawn = torch.random.get_rng_state()
    file = tmp_path / "precision.json"
    first = choose_precision(lambda: training_step(module, noise, CPU), CPU, file, "training")
    said = json.loads(file.read_text())

    assert said["precision"] == first
    assert said["seconds"].keys() == {"32-true", "bf16-mixed"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)
    file.write_text(json.dumps(said | {"precision": "kept"}))
    assert choose_precision(lambda: pytest.fail("measured again"), CPU, file, "training") == "kept"


@pytest.mark.parametrize("works", [True, False])
def test_where_compiling_fails_training_goes_on_and_says_why(tmp_path, caplog, monkeypatch, works):
    caplog.set_level("INFO")
    from baa.config import load
    from baa.training.stages import run

    compiled = []

    def backend(graph, inputs):
        if not works:
            raise OSError("no compiler on this machine")
        compiled.append(graph)
        return graph.forward

    real = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: real(net, backend=backend))
    more = ["stages=[locator]", "data.phantom.count=40", "locator.fit.epochs=1", "trainer.accelerator=cpu"]
    plain = run(load(None, settings(tmp_path / "plain", *more)))
    torch._dynamo.reset()
    result = run(load(None, settings(tmp_path / "compiled", *more, "trainer.compile=true")))

    assert bool(compiled) == works
    assert result["locator"]["test/mae"] == pytest.approx(plain["locator"]["test/mae"], abs=0.05)
    said = caplog.text
    assert ("trainer.compile: not used" in said and "no compiler on this machine" in said) == (not works)


@pytest.mark.parametrize(("asked", "half"), [("32-true", False), ("bf16-mixed", True)])
def test_the_estimators_checkpoint_knows_the_precision_of_its_looks(tmp_path, monkeypatch, asked, half):
    from baa.config import load
    from baa.training import precision
    from baa.training.checkpoints import read_checkpoint
    from baa.training.networks import crop_arguments
    from baa.training.stages import run

    seconds = {"32-true": 1.0, "bf16-mixed": 0.5 if half else 2.0}
    monkeypatch.setattr(precision, "_measure", lambda *_: seconds)
    run(load(None, settings(tmp_path, "crops.precision=auto", "locator.fit.epochs=1", "estimator.fit.epochs=1")))
    stage = tmp_path / "tiny" / "estimator"
    checkpoint = read_checkpoint(stage / "best.ckpt")

    assert json.loads((stage / "looks.json").read_text())["precision"] == asked
    assert checkpoint["CropDataModule"]["recipe"]["crops"]["half_precision"] == half
    assert crop_arguments(load(None, [], base=checkpoint["baa"]["settings"]))["half_precision"] == half
