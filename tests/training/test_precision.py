"""The precision rule: `auto` is fp32 on CPUs, bfloat16 on CUDA GPUs that have it; fp16 is for GPUs."""

import json
import shutil

import pytest
import torch
from tiny_run import settings

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
AUTO = ["trainer.precision=auto", "crops.precision=auto"]


def settled(*overrides):
    """The trainer's precision and that of the locator that cuts crops."""
    from baa.assembly.trainer import settle_precision
    from baa.config.load import load

    config = settle_precision(load([], ["name=x", *overrides]))
    return config.trainer.precision, config.crops.precision


@pytest.fixture
def gpu(monkeypatch):
    """A CUDA device, as far as torch is asked; the fixture sets whether it computes in bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    return lambda bf16: monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_is_fp32_on_a_cpu_and_is_printed(no_gpu, caplog):
    caplog.set_level("INFO")
    assert settled(*AUTO) == ("32-true", "32-true")
    assert caplog.messages == ["precision on cpu: trainer 32-true, locator of crops 32-true"]


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_bfloat16_on_a_gpu_that_has_it(gpu, caplog, bf16, expected):
    caplog.set_level("INFO")
    gpu(bf16)
    assert settled(*AUTO) == (expected, expected)
    assert caplog.messages == [f"precision on cuda: trainer {expected}, locator of crops {expected}"]


def test_emulated_bfloat16_does_not_count(gpu, monkeypatch):
    gpu(False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert settled(*AUTO) == ("32-true", "32-true")


@pytest.mark.parametrize(
    ("trainer", "crops", "expected"),
    [
        ("bf16-mixed", "auto", ("bf16-mixed", "bf16-mixed")),
        ("bf16-mixed", "32-true", ("bf16-mixed", "32-true")),
        ("32-true", "auto", ("32-true", "32-true")),
        ("32-true", "bf16-mixed", ("32-true", "bf16-mixed")),
    ],
)
def test_a_given_precision_is_kept_and_the_crops_follow_it(no_gpu, trainer, crops, expected):
    assert settled(f"trainer.precision={trainer}", f"crops.precision={crops}") == expected


def test_a_given_precision_is_not_printed(no_gpu, caplog):
    caplog.set_level("INFO")
    settled("trainer.precision=bf16-mixed", "crops.precision=32-true")
    assert not caplog.messages


def test_fp16_is_for_gpus(gpu, monkeypatch):
    from baa.errors import InputError

    gpu(True)
    assert settled("trainer.precision=16-mixed", "crops.precision=auto") == ("16-mixed", "32-true")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="trainer.precision: 16-mixed needs a GPU, and this is a CPU; give"):
        settled("trainer.precision=16-mixed")


def test_a_model_trained_in_fp16_computes_in_fp32_on_a_cpu(finished, tmp_path):
    from baa.api import load_model
    from baa.assembly.trainer import build_trainer, resolve_precision
    from baa.config.load import load
    from baa.data.sources.phantom import phantom_cases

    bundle = shutil.copytree(finished[0] / "tiny" / "estimator" / "bundle", tmp_path / "bundle")
    card = json.loads((bundle / "card.json").read_text())
    hand = phantom_cases(1, seed=5)[0].image.load(96).pixels.copy()
    months = {}
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        card["settings"]["trainer"]["precision"] = precision
        (bundle / "card.json").write_text(json.dumps(card))
        model = load_model(bundle, device="cpu")
        assert model.trained.settings["trainer"]["precision"] == precision
        months[precision] = model.predict(hand, sex="male").months

    assert months["16-mixed"] == months["32-true"] != months["bf16-mixed"]
    assert (resolve_precision("16-mixed", CPU), resolve_precision("16-mixed", CUDA)) == ("32-true", "16-mixed")
    config = load([], ["trainer.accelerator=cpu"], base=model.trained.settings)
    assert build_trainer(config, logger=None).precision == "32-true"


@pytest.mark.parametrize("precision", [pytest.param("auto", marks=pytest.mark.slow), "bf16-mixed"])
@pytest.mark.usefixtures("brief_finish")
def test_a_checkpoint_is_evaluated_in_the_precision_that_it_was_trained_in(finished, tmp_path, no_gpu, precision):
    from baa.api import load_model
    from baa.checkpoints.load import read_checkpoint
    from baa.config.load import load
    from baa.training.run import run

    chosen = "32-true" if precision == "auto" else precision
    given = [f"trainer.precision={precision}", "crops.precision=auto", "stages=[estimator]", "estimator.fit.epochs=1"]
    given += ["data.phantom.count=40", f"locator.checkpoint={finished[0]}/tiny/locator/best.ckpt"]
    given += ["estimator.fit.gradient_clip_val=1"]  # which a fused optimizer does not allow in mixed precision
    metrics = run(load([], settings(tmp_path, *given)))["estimator"]
    checkpoint = tmp_path / "tiny" / "estimator" / "best.ckpt"
    record, model = read_checkpoint(checkpoint)["baa"]["settings"], load_model(checkpoint, device="cpu")

    assert (record["trainer"]["precision"], record["crops"]["precision"]) == (chosen, chosen)
    assert model.trained.model.cropper.half_precision == (chosen == "bf16-mixed")
    evaluated = model.evaluate(split="test", out=tmp_path / "out")["estimator"]
    assert evaluated["test/mae"] == pytest.approx(metrics["test/mae"], rel=1e-5)
