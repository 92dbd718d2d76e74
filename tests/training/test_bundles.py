"""A bundle predicts what its checkpoint predicts, says what it is, and gives nothing away."""

import json
import shutil

import pytest
import torch
from tiny_run import settings

from baa.errors import InputError


@pytest.fixture
def bundle(finished, tmp_path):
    """A copy of the bundle of a finished run's estimator."""
    return shutil.copytree(finished[0] / "tiny" / "estimator" / "bundle", tmp_path / "bundle")


@pytest.mark.parametrize("stage", ["locator", "estimator"])
def test_half_the_bits_are_the_same_months(finished, stage, phantom_batch):
    from baa.nets.film import Film
    from baa.nets.regions import RegionCropper
    from baa.training.checkpoints import restore

    folder = finished[0] / "tiny" / stage
    kept, shared = restore(folder / "best.ckpt"), restore(folder / "bundle")

    assert shared._replace(module=None, locator=None, settings=None) == kept._replace(module=None, locator=None, settings=None)
    assert (folder / "bundle" / "weights.safetensors").stat().st_size < 0.6 * 4 * sum(
        tensor.numel() for model in (kept.module, kept.locator) for tensor in model.state_dict().values()
    )
    film = Film.plain(phantom_batch)
    sex = torch.tensor([0, 1, 0, 1])
    boxes, months = [], []
    for restored in (kept, shared):
        regions = RegionCropper(restored.locator, px=(48, 40))(film)
        boxes.append(regions.boxes)
        if stage == "estimator":
            crops = dict(zip(("carpal", "hand"), regions.crops, strict=True))
            months.append(restored.module.net(crops, sex).months.detach())
    assert boxes[1] == pytest.approx(boxes[0], abs=0.02)
    if months:
        assert months[1] == pytest.approx(months[0], abs=0.5)


def test_the_card_says_what_the_model_has_seen_and_not_where(finished, bundle):
    text = (bundle / "card.json").read_text()
    card = json.loads(text)

    assert str(finished[0]) not in text
    assert card["stage"] == "estimator"
    assert card["data"]["train"]["cases"] == sum(card["data"]["train"]["sexes"].values()) > 0
    assert 0 <= card["data"]["train"]["months"]["lowest"] < card["data"]["train"]["months"]["highest"] <= 228
    assert card["scores"] == finished[1]["estimator"]
    assert "not a medical device" in card["limits"][0]


def test_an_estimators_bundle_serves_as_a_locator(finished, bundle):
    from baa.training.checkpoints import crop_recipe

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


def no_json(bundle):
    (bundle / "card.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_short, "perhaps cut short"),
        (without_weights, "is not there; a bundle is both"),
        (without_card, "holds no card.json"),
        (of_the_future, "is of format 99; this baa reads 1"),
        (no_json, "is no JSON"),
    ],
)
def test_a_spoilt_bundle_is_refused_with_the_reason(bundle, spoil, said):
    from baa.training.checkpoints import restore

    spoil(bundle)
    with pytest.raises(InputError, match=said):
        restore(bundle)


def test_a_fit_starts_from_a_whole_model_and_takes_its_settings(bundle, tmp_path):
    from baa.config import load
    from baa.training.checkpoints import restore
    from baa.training.networks import settings_of_networks
    from baa.training.stages import run

    own = ["stages=[estimator]", f"weights={bundle}", "estimator.fit.epochs=1", "estimator.fit.lr=1e-12"]
    chosen = [setting for setting in settings(tmp_path, *own) if "backbone" not in setting and ".name=resnet" not in setting]
    run(load(None, chosen, base=settings_of_networks(str(bundle))))

    begun, ended = restore(bundle), restore(tmp_path / "tiny" / "estimator" / "best.ckpt")
    for before, after in zip(begun.module.parameters(), ended.module.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert ended.locator_arguments == begun.locator_arguments


def test_networks_that_differ_from_the_weights_are_refused(bundle, tmp_path):
    from baa.config import load
    from baa.training.networks import settings_of_networks
    from baa.training.stages import run

    own = ["stages=[estimator]", f"weights={bundle}", "estimator.fusion.width=7"]
    with pytest.raises(InputError, match="does not fit the networks that the config asks for"):
        run(load(None, settings(tmp_path, *own), base=settings_of_networks(str(bundle))))
