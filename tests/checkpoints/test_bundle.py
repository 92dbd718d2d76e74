"""A bundle predicts what its checkpoint predicts, says what it is, and gives no place away."""

import json
import shutil
from dataclasses import fields, is_dataclass

import pandas as pd
import pytest
import torch
from tiny_run import settings

from baa.errors import InputError


@pytest.fixture
def bundle(finished, tmp_path):
    """A copy of the bundle of a finished run's estimator."""
    return shutil.copytree(finished[0] / "tiny" / "estimator" / "bundle", tmp_path / "bundle")


@pytest.fixture(scope="module")
def borrowed(finished, tmp_path_factory):
    """A run that trained the estimator alone, on another's locator, as the trials of a sweep do."""
    from baa.config.load import load
    from baa.training.run import run

    folder = tmp_path_factory.mktemp("borrowed")
    locator = finished[0] / "tiny" / "locator" / "best.ckpt"
    own = ["stages=[estimator]", f"locator.checkpoint={locator}", "estimator.hand.weights=locator", "estimator.fit.epochs=1"]
    own += ["data.split.seed=5"]
    run(load(None, settings(folder, *own)))
    return folder / "tiny" / "estimator"


def test_predict_reads_a_bundle_as_its_checkpoint(borrowed, tmp_path):
    from PIL import Image

    from baa.data.sources.phantom.phantom import phantom_cases
    from baa.inference.inputs import Asked, find_images
    from baa.inference.predict import predict
    from baa.patient import Sex

    hands = tmp_path / "hands"
    hands.mkdir()
    for case in phantom_cases(3, seed=5):
        Image.fromarray(case.image.load(160).pixels).save(hands / f"{case.id}.png")
    read = {}
    for kept in ("best.ckpt", "bundle"):
        asked = [Asked(file, Sex.MALE) for file in find_images([hands])]
        predict(borrowed / kept, asked, tmp_path / kept, batch_size=4, workers=0, progress=False)
        read[kept] = pd.read_csv(tmp_path / kept / "predictions.csv")

    numbers = ["bone_age_months", *(name for name in read["bundle"] if name.endswith(("x0", "y0", "x1", "y1")))]
    assert read["bundle"][numbers].to_numpy() == pytest.approx(read["best.ckpt"][numbers].to_numpy(), abs=1.5)
    assert read["bundle"].bone_age_months.tolist() == pytest.approx(read["best.ckpt"].bone_age_months.tolist(), abs=0.3)


@pytest.mark.parametrize("stage", ["locator", "estimator"])
def test_half_the_bits_are_nearly_the_same_numbers(finished, stage):
    from baa.checkpoints.load import restore

    folder = finished[0] / "tiny" / stage
    kept, shared = restore(folder / "best.ckpt"), restore(folder / "bundle")
    states = [
        {**model.module.state_dict(), **{f"L.{k}": v for k, v in model.locator.state_dict().items()}}
        for model in (kept, shared)
    ]

    assert shared.lineage == kept.lineage
    assert shared.locator_arguments == kept.locator_arguments
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        exact = tensor.ndim < 2 or not tensor.is_floating_point()
        torch.testing.assert_close(states[1][name], tensor, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-5)
    full = sum(tensor.nbytes for name, tensor in states[0].items() if stage == "estimator" or not name.startswith("L."))
    assert (folder / "bundle" / "weights.safetensors").stat().st_size < 0.6 * full


def test_the_card_says_what_the_model_has_seen(finished, bundle):
    card = json.loads((bundle / "card.json").read_text())

    assert card["stage"] == "estimator"
    assert card["data"]["train"]["cases"] == sum(card["data"]["train"]["sexes"].values()) > 0
    assert 0 <= card["data"]["train"]["months"]["lowest"] < card["data"]["train"]["months"]["highest"] <= 228
    assert card["scores"] == finished[1]["estimator"]
    assert "not a medical device" in card["limits"][0]
    assert "synthetic" in card["data"]["what"]


def texts(node):
    """Every setting that is a free text."""
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            yield from ((value if path is None else path, name) for path, name in texts(value))
        elif field.type in (str, str | None):
            yield None, field.name


def test_no_free_text_of_the_makers_is_shared_but_networks_by_name():
    from baa.config.load import to_plain, to_share
    from baa.config.schema import Config

    config = Config()
    for group, name in texts(config):
        setattr(group or config, name, "/home/maker")
    config.trainer.devices = "2"  # which is not free
    shared = json.dumps(to_share(to_plain(config)))
    for network in (config.locator.backbone, config.estimator.carpal, config.estimator.hand, config.estimator.whole):
        network.name = ""
    assert shared.count("/home/maker") == 4  # the names of the networks


def test_a_child_has_seen_what_its_parents_saw_and_keeps_their_licences(finished, borrowed):
    from baa.checkpoints.load import restore
    from baa.checkpoints.provenance import Lineage, lineage

    parent, own = restore(finished[0] / "tiny" / "locator" / "best.ckpt").lineage, restore(borrowed / "bundle").lineage
    assert len(parent.seen) < len(own.seen)
    assert parent.seen < own.seen

    child = lineage(["a"], "table", [Lineage(frozenset({7}), ("ask them",)), Lineage(frozenset({8}), ("ask them",))])
    assert {7, 8} < child.seen
    assert len(child.seen) == 3
    assert child.licences[1:] == ("ask them",)
    assert "RSNA" in lineage([], "rsna").licences[0]


def test_an_estimators_bundle_serves_as_a_locator(finished, bundle):
    from baa.checkpoints.load import crop_recipe

    cropper, recipe = crop_recipe(bundle, {"px": (32, 32)})
    own, _ = crop_recipe(finished[0] / "tiny" / "locator" / "best.ckpt", {"px": (32, 32)})

    assert recipe["sha256"] == json.loads((bundle / "card.json").read_text())["sha256"]
    for name, tensor in own.locator.state_dict().items():
        torch.testing.assert_close(cropper.locator.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def cut_short(bundle):
    file = bundle / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def without_weights(bundle):
    (bundle / "weights.safetensors").unlink()


def without_card(bundle):
    (bundle / "card.json").unlink()


def of_the_future(bundle):
    (bundle / "card.json").write_text('{"format": 99}')


def a_list(bundle):
    (bundle / "card.json").write_text("[]")


def no_json(bundle):
    (bundle / "card.json").write_text("{")


def without_networks(bundle):
    card = json.loads((bundle / "card.json").read_text())
    (bundle / "card.json").write_text(json.dumps(card | {"networks": "none"}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_short, "perhaps cut short"),
        (without_weights, "is not there; a bundle is both"),
        (without_card, "holds no card.json"),
        (of_the_future, "is of format 99; this baa reads 1"),
        (a_list, "is of format none"),
        (no_json, "is no JSON"),
        (without_networks, "has no networks that this baa can read"),
    ],
)
def test_a_spoilt_bundle_is_refused_with_the_reason(bundle, spoil, said):
    from baa.checkpoints.load import restore

    spoil(bundle)
    with pytest.raises(InputError, match=f"^locator.checkpoint: .*{said}"):
        restore(bundle, "locator.checkpoint")


def test_a_stream_starts_from_what_the_locator_has_learnt(finished, borrowed):
    from baa.assembly.modules import estimator_module, take_weights
    from baa.checkpoints.load import restore
    from baa.config.load import load

    locator = finished[0] / "tiny" / "locator" / "best.ckpt"
    config = load(
        None, settings(borrowed, "stages=[estimator]", f"locator.checkpoint={locator}", "estimator.hand.weights=locator")
    )
    module = estimator_module(config, {"mean_months": 100.0, "std_months": 40.0})
    take_weights(module, config, locator)
    learnt = restore(locator).locator.backbone.state_dict()

    for name, tensor in module.net.stream("hand").backbone.state_dict().items():
        torch.testing.assert_close(tensor, learnt[name])
    assert any((tensor != learnt[name]).any() for name, tensor in module.net.stream("carpal").backbone.state_dict().items())


def test_a_fit_starts_from_a_whole_model_and_takes_its_settings(bundle, tmp_path):
    from baa.checkpoints.load import restore
    from baa.config.load import load
    from baa.training.run import run

    (tmp_path / "file.yaml").write_text(
        "estimator: {hand: {name: resnet50}, fit: {epochs: 1, lr: 1.0e-12}}\ncrops: {px: [99, 99]}\n"
    )
    common = [one for one in settings(tmp_path) if not one.startswith(("locator.", "crops.px", "estimator."))]
    config = load(
        tmp_path / "file.yaml", [*common, "stages=[estimator]", f"weights={bundle}", "estimator.fusion.exchange=0.125"]
    )
    assert config.crops.px == [48, 40]
    run(config)

    begun, ended = restore(bundle), restore(tmp_path / "tiny" / "estimator" / "best.ckpt")
    for (name, before), after in zip(begun.module.named_parameters(), ended.module.parameters(), strict=True):
        if name == "net.exchange.weight":
            assert float(after) == 0.125
        else:
            torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert ended.locator_arguments == begun.locator_arguments


def test_weights_that_do_not_fit_are_refused_before_any_training(finished, bundle, tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    started = ["stages=[estimator]", f"weights={bundle}"]
    with pytest.raises(InputError, match="does not fit the networks that the settings over it ask for"):
        run(load(None, settings(tmp_path, *started, "estimator.fusion.width=7")))
    assert not (tmp_path / "tiny" / "estimator").exists()
    locators = finished[0] / "tiny" / "locator" / "bundle"
    with pytest.raises(InputError, match=r"holds a locator alone; take it as locator\.checkpoint"):
        load(None, settings(tmp_path, "stages=[estimator]", f"weights={locators}"))
    with pytest.raises(InputError, match=r"weights: .*nothing holds no card\.json"):
        load(None, settings(tmp_path, f"weights={tmp_path / 'nothing'}"))
    with pytest.raises(InputError, match=r"estimator\.hand\.weights=locator: hand is resnet50, the locator test_resnet"):
        load(None, settings(tmp_path, "estimator.hand.weights=locator", "estimator.hand.name=resnet50"))
