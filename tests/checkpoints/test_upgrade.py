"""Bundles of format 1 predict what they predicted; checkpoints of that version are refused."""

import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save

from baa.config.renamed import REMOVED, RENAMED, VALUES
from baa.errors import InputError

OLD_FUSION = {
    "width": "width",
    "mode": "exchange_mode",
    "exchange": "exchange",
    "exchange_learned": "exchange_learnt",
    "weights": "stream_weights",
    "weights_learned": "weights_learnt",
    "sex_at": "sex_at",
    "alpha_image": "alpha_image",
    "alpha_sex": "alpha_sex",
    "alpha_learned": "alpha_learnt",
}
OLD_LOCATOR = {"locator": "module.net.", "estimator": "locator.", "joint": "module.cropper.locator."}
OLD_ESTIMATOR = {"locator": "", "estimator": "module.net.", "joint": "module.estimator.net."}
NOT_FOR_THE_NETWORKS = {"lr": 1e-3, "loss": "mse"}  # format 1 kept the optimizer's arguments there too


def old_tensors(tensors, stage):
    """The tensors of a bundle under their names in format 1."""
    old = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^locator\.", OLD_LOCATOR[stage], name)
        name = re.sub(r"^estimator\.fusion\.", OLD_ESTIMATOR[stage], name)
        name = re.sub(r"^estimator\.", OLD_ESTIMATOR[stage], name)
        old[re.sub(r"^input_check\.", "recogniser.", name).replace("seen_ids", "seen")] = tensor
    return old


def old_settings(settings):
    """Settings under their names in format 1, with those that have been removed since."""
    old = json.loads(json.dumps(settings))
    for key, values in VALUES.items():
        group, name = group_of(old, key)
        group[name] = next((before for before, after in values.items() if after == group[name]), group[name])
    for before, after in RENAMED.items():
        found = [group_of(old, key) for key in after]
        value = [group[name] for group, name in found]
        group, name = group_of(old, before)
        group[name] = value[0] if len(value) == 1 else value
    for key in {key for after in RENAMED.values() for key in after}:
        group, name = group_of(old, key)
        del group[name]
    del old["crops"]["carpal"], old["crops"]["hand"]
    for key in REMOVED:
        group, name = group_of(old, key)
        group[name] = 0.0
    return old


def group_of(settings, key):
    *above, name = key.split(".")
    for group in above:
        settings = settings[group]
    return settings, name


def old_networks(card, stage):
    """Arguments of the modules of format 1, and of the locator."""
    locator = card["networks"]["locator"] | {"dropout": 0.0}
    if stage == "locator":
        return {"net": locator, "optimisation": NOT_FOR_THE_NETWORKS}, locator
    estimator = dict(card["networks"]["estimator"])
    fusion = dict(estimator.pop("fusion"))
    module = {"optimisation": NOT_FOR_THE_NETWORKS, "whole_px": 300, "sparsity": fusion.pop("sparsity"), "flip_average": True}
    module["net"] = estimator | {OLD_FUSION[name]: value for name, value in fusion.items()}
    if stage == "estimator":
        return module, locator
    return {"locator": locator, "crops": {}, "estimator": module, "optimisation": NOT_FOR_THE_NETWORKS}, locator


@pytest.fixture(params=["locator", "estimator", "joint"])
def bundles(request, finished, tmp_path):
    """A bundle of each stage in the current format, and the same in format 1."""
    stage = request.param
    kept = finished[0] / "tiny" / ("estimator" if stage == "joint" else stage) / "bundle"
    card = json.loads((kept / "card.json").read_text()) | {"stage": stage}
    tensors = load_file(kept / "weights.safetensors")
    networks, locator = old_networks(card, stage)
    old = card | {"format": 1, "networks": networks, "locator": locator, "settings": old_settings(card["settings"])}
    written = {"new": (card, tensors), "old": (old, old_tensors(tensors, stage))}
    for name, (described, weights) in written.items():
        content = save(weights)
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(content)
        described = described | {"sha256": hashlib.sha256(content).hexdigest()}
        (tmp_path / name / "card.json").write_text(json.dumps(described))
    return stage, tmp_path / "old", tmp_path / "new"


def test_a_bundle_of_format_1_predicts_the_same(bundles):
    from baa.api import load_model
    from baa.checkpoints.trained_model import weights_of
    from baa.data.sources.phantom import phantom_cases

    stage, *folders = bundles
    old, new = (load_model(folder, device="cpu") for folder in folders)
    hands = [case.image.load(160).pixels.copy() for case in phantom_cases(3, seed=5)]
    before, after = (model.predict(hands, sex="female") for model in (old, new))

    assert old.trained.stage == new.trained.stage == stage
    rows = [[one.make_row() | {"model": ""} for one in predictions] for predictions in (before, after)]
    assert rows[0] == rows[1]
    assert [one.months for one in before] == [one.months for one in after]
    for name in ("networks", "settings", "provenance", "calibration"):
        assert getattr(old.trained, name) == getattr(new.trained, name), name
    for ours, theirs in zip(weights_of(old.trained.model), weights_of(new.trained.model), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_bundles_of_this_test_are_of_format_1(bundles):
    stage, folder, _ = bundles
    card, names = json.loads((folder / "card.json").read_text()), load_file(folder / "weights.safetensors").keys()

    assert card["format"] == 1
    assert card["settings"]["crops"]["px"] == [48, 40]
    assert card["settings"]["crops"]["typical"] == [0.3, 0.6]
    assert card["settings"]["locator"]["fit"]["grow_from"] == 1.0
    assert {"recogniser.weight", "seen", OLD_LOCATOR[stage] + "head.age.mean_months"} < names
    if stage != "locator":
        assert {f"{OLD_ESTIMATOR[stage]}{name}" for name in ("exchange.weight", "gates.fused.0.alpha", "weights")} < names


def test_a_run_takes_the_settings_of_a_bundle_of_format_1(bundles):
    from dataclasses import replace

    from baa.config.load import load

    stage, *folders = bundles
    old, new = (load([], ["name=x", f"stages=[{stage}]", f"weights={folder}"]) for folder in folders)
    assert old.crops.carpal.px == 48
    assert replace(old, weights=None) == replace(new, weights=None)


def test_a_checkpoint_without_networks_is_refused_with_one_line(finished, tmp_path):
    from baa.checkpoints.load import load_model

    checkpoint = torch.load(finished[0] / "tiny" / "estimator" / "best.ckpt", weights_only=True)
    del checkpoint["baa"]["networks"]
    file = tmp_path / "best.ckpt"
    torch.save(checkpoint, file)
    with pytest.raises(InputError, match="was written by another version of baa, .*; give the bundle beside it") as refusal:
        load_model(file, "joint.start")
    assert str(refusal.value).startswith(f"joint.start: {file} ")
    assert "\n" not in str(refusal.value)
