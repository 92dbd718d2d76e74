"""A stage takes over the settings of networks that it does not build; a resumed one keeps its locator."""

import json
import shutil

import pytest
import torch
from tiny_run import settings

from baa.errors import InputError


def started(stage, folder, *more):
    from baa.config.load import load
    from baa.training.initial_weights import SourceModels
    from baa.training.start import as_started

    config = load([], settings(folder, f"stages=[{stage}]", *more))
    return config, as_started(stage, config, SourceModels(config))


def test_joint_training_takes_over_the_networks_and_crops_of_its_start(finished, tmp_path, caplog):
    caplog.set_level("INFO")
    start = f"joint.start={finished[0]}/tiny/estimator/best.ckpt"
    other = [
        "locator.px=96",
        "crops.hand.px=64",
        "crops.box_method=moments",
        "estimator.hidden=8",
        "estimator.hand.name=resnet50",
    ]
    config, taken = started("joint", tmp_path, start, *other, "estimator.streams=[hand]", "joint.fit.lr=1e-6")

    assert (taken.locator.px, taken.crops.hand.px, taken.crops.box_method) == (64, 40, "peak")
    assert (taken.estimator.hidden, taken.estimator.hand.name, taken.estimator.streams) == (
        0,
        "test_resnet",
        ["carpal", "hand"],
    )
    assert taken.joint == config.joint
    assert taken.data == config.data
    assert "joint: crops.hand.px=40, not 64: joint.start was built with it" in caplog.text


def test_an_estimator_takes_over_its_locator_and_keeps_its_own_crops(finished, tmp_path):
    locator = f"locator.checkpoint={finished[0]}/tiny/locator/best.ckpt"
    config, taken = started("estimator", tmp_path, locator, "locator.px=96", "locator.attention=none", "crops.hand.px=64")

    assert (taken.locator.px, taken.locator.attention) == (64, "cbam")
    assert taken.crops == config.crops
    assert taken.estimator == config.estimator


def test_a_heat_map_of_classes_is_refused_for_a_given_locator_without_bins(finished, tmp_path):
    locator = f"locator.checkpoint={finished[0]}/tiny/locator/best.ckpt"
    with pytest.raises(
        InputError, match="crops.cam_mode: class needs bins of age, and the locator of locator.checkpoint has none"
    ):
        started("estimator", tmp_path, locator, "crops.cam_mode=class")


def test_a_resumed_stage_refuses_another_locator_or_network(finished):
    from baa.checkpoints.load import digest
    from baa.training.resume import find_resume_point

    run = finished[0] / "tiny"
    point = find_resume_point(run / "estimator")
    networks = point.record["networks"]
    moved = {"file": "elsewhere.ckpt", "sha256": digest(run / "locator" / "best.ckpt")}
    point.refuse_other_start(networks, moved)
    with pytest.raises(InputError, match=r"last.ckpt: it was trained on crops of the locator .*, now other.ckpt has 000000"):
        point.refuse_other_start(networks, {"file": "other.ckpt", "sha256": "0" * 64})
    other = networks | {"locator": networks["locator"] | {"px": 96}}
    with pytest.raises(InputError, match=r"its locator has px=64, the model that it started from now has 96; restore"):
        point.refuse_other_start(other, moved)


def test_a_run_refuses_a_locator_that_was_exchanged_since_its_estimator_began(finished, tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    stage = tmp_path / "tiny"
    checkpoint = torch.load(stage / "locator" / "best.ckpt", weights_only=True)
    name = next(name for name, tensor in checkpoint["state_dict"].items() if tensor.is_floating_point())
    checkpoint["state_dict"][name] += 1
    torch.save(checkpoint, stage / "locator" / "best.ckpt")
    (stage / "locator" / "finished.json").unlink()  # which an earlier version did not write
    metrics = json.loads((stage / "metrics.json").read_text())
    (stage / "metrics.json").write_text(json.dumps({"locator": metrics["locator"]}))
    with pytest.raises(InputError, match=r"last.ckpt: it was trained on crops of the locator .*, now .*best.ckpt has"):
        run(load([], settings(tmp_path)))


@pytest.mark.parametrize(
    ("backbone", "px", "more", "message"),
    [
        (
            "legacy_xception",
            36,
            [],
            "crops.carpal.px: 36 pixels, which legacy_xception with estimator.carpal.conv_pool does not",
        ),
        ("legacy_xception", 48, [], None),
        ("legacy_xception", 36, ["estimator.carpal.conv_pool=false"], None),
        ("inception_v3", 64, [], "crops.carpal.px: 64 pixels, which inception_v3 with"),
        (
            "inception_v3",
            160,
            ["estimator.fit.progressive_resize_from=0.4"],
            r"crops.carpal.px: 160 pixels, 64 in the first epochs \(progressive_resize_from=0.4\), which inception_v3",
        ),
        ("inception_v3", 160, [], None),
    ],
)
def test_crops_that_a_network_does_not_take_are_refused_before_any_training(tmp_path, backbone, px, more, message):
    from baa.assembly.small_inputs import refuse_small_inputs
    from baa.config.load import load

    config = load([], settings(tmp_path, f"estimator.carpal.name={backbone}", f"crops.carpal.px={px}", *more))
    if message is None:
        refuse_small_inputs(config)
    else:
        with pytest.raises(InputError, match=message):
            refuse_small_inputs(config)
