"""Names of earlier versions: refused in files and on the command line, translated in trained models."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from baa.config.load import load, to_plain
from baa.config.renamed import REMOVED, RENAMED, VALUES, upgrade_settings
from baa.config.schema import STAGES, Config
from baa.config.validate import walk
from baa.errors import InputError

PLAIN = to_plain(Config())
KEYS = {key for key, _, _ in walk(Config())}


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crops.reading=class", "command line: crops.reading was renamed to crops.cam_mode"),
        ("data.hide_sex=0.1", "data.hide_sex was renamed to data.sex_dropout"),
        ("joint.erase=0.5", "joint.erase was renamed to joint.random_erasing_p"),
        ("estimator.fit.clip=1", "estimator.fit.clip was renamed to estimator.fit.gradient_clip_val"),
        ("locator.fit.epoch_steps=3", "locator.fit.epoch_steps was renamed to trainer.limit_train_batches"),
        ("crops.px=[96,96]", "crops.px was split into crops.carpal.px and crops.hand.px"),
        ("crops={floor: 1.0}", "crops.floor was renamed to crops.prior_floor"),
        ("crops.cam_flip_average=true", "crops.cam_flip_average was split into crops.carpal.flip_average and crops.hand.flip"),
        ("crops.boxes=remembered", "crops.boxes: remembered was renamed to cached"),
        ("crops.prior_origin=look", "crops.prior_origin: look was renamed to heat_map"),
        ("trainer.strategy=ddp", "trainer.strategy was removed: DDP is used whenever there are several processes"),
        ("locator.dropout=0.1", "locator.dropout was removed"),
        (
            "locator.backbone.conv_pool=true",
            "conv_pool was removed: only the streams of the estimator have it",
        ),
    ],
)
def test_an_old_name_on_the_command_line_is_refused_with_the_new_one(override, message):
    with pytest.raises(InputError, match=message):
        load([], [override])


def test_an_old_file_is_refused_with_all_new_names(tmp_path):
    (tmp_path / "old.yaml").write_text("crops: {reading: relu, boxes: remembered}\nlocator: null\n")
    with pytest.raises(InputError) as refused:
        load([tmp_path / "old.yaml"])
    assert str(refused.value) == (
        f"{tmp_path}/old.yaml: crops.reading was renamed to crops.cam_mode; crops.boxes: remembered was renamed to cached"
    )


def test_every_new_name_is_a_setting_and_no_old_one_is():
    assert {key for new in RENAMED.values() for key in new} | set(VALUES) <= KEYS
    assert not (set(RENAMED) | set(REMOVED)) & KEYS
    for stage in STAGES:
        assert {f"{stage}.erase", f"{stage}.fit.grow_from", f"{stage}.fit.accumulate"} <= set(RENAMED)


@pytest.mark.parametrize("old", [key for key, new in RENAMED.items() if len(new) == 1])
def test_a_renamed_value_arrives_under_its_new_name(old):
    upgraded = OmegaConf.create(upgrade_settings(nested(old, "x")))
    assert OmegaConf.select(upgraded, RENAMED[old][0]) == "x"
    assert OmegaConf.select(upgraded, old) is None


def test_the_settings_of_the_pretrained_model_can_be_read():
    settings = json.loads(Path("baa/pretrained/card.json").read_text())["settings"]
    config = load([], base=settings)

    assert (config.crops.carpal.prior_sigma, config.crops.hand.prior_sigma) == (0.0, 0.0)
    assert (config.crops.carpal.px, config.crops.hand.px) == (144, 256)
    assert (config.crops.carpal.lowest_mode, config.crops.carpal.flip_average, config.crops.hand.flip_average) == (
        True,
        True,
        False,
    )
    assert (config.crops.carpal.extent, config.crops.carpal.fallback_side, config.crops.hand.fallback_side) == (2.0, 0.3, 0.6)
    assert (config.crops.hand.min_side, config.crops.hand.max_side) == (0.62, 0.75)
    assert (config.crops.boxes, config.crops.cam_method, config.crops.box_method) == (
        "cached",
        "gradient_x_activation",
        "moments",
    )
    assert (config.data.sex_dropout, config.estimator.random_erasing_p) == (0.1, 0.5)


def test_current_settings_are_left_as_they_are():
    assert upgrade_settings(PLAIN) == PLAIN
    assert {entry.name for entry in fields(Config)} == set(PLAIN)


def test_upgrading_does_not_change_its_argument():
    old = {"crops": {"px": [1, 2]}}
    assert upgrade_settings(old) == {"crops": {"carpal": {"px": 1}, "hand": {"px": 2}}}
    assert old == {"crops": {"px": [1, 2]}}


def test_a_malformed_list_of_a_model_is_refused():
    with pytest.raises(InputError, match="the model's settings: crops.px: no such setting"):
        load([], base={"crops": {"px": [300]}})


@pytest.mark.parametrize(("old", "averaged"), [(True, (True, True)), ([True, False], (True, False))])
def test_one_value_for_both_regions_arrives_at_each(old, averaged):
    crops = upgrade_settings({"crops": {"cam_flip_average": old}})["crops"]
    assert (crops["carpal"]["flip_average"], crops["hand"]["flip_average"]) == averaged
