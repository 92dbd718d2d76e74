"""Help on settings: complete, and its examples are settings that `load` takes."""

import pytest

from baa.config.help import describe, list_settings
from baa.config.load import differences, load
from baa.config.schema import Config
from baa.config.validate import walk
from baa.errors import InputError

SETTINGS = {key: (entry, value) for key, entry, value in walk(Config())}


BASIS = ["crops.cam_method=gradient_x_activation", "data.split.folds=5"]
"""Grad-CAM refuses what it does not use, and one fold has no second."""

PLAIN = load([], BASIS, base={})


def example(key):
    return describe(key).rpartition(" conf/rsna.yaml ")[2].strip("'")


def test_every_setting_is_listed_once_with_its_meaning():
    listed = [line for line in list_settings().splitlines() if line.startswith("  ")]
    names = [line.split("=")[0].strip() for line in listed]
    shared = {name for name in names if "*" in name}

    assert len(names) == len(set(names))
    for key, (entry, _) in SETTINGS.items():
        family = {name for name in shared if key.endswith(name.partition("*")[2]) and key.startswith(name.partition("*")[0])}
        assert key in names or family, key
        assert any(entry.metadata["help"] in line for line in listed)


def test_defaults_that_differ_between_groups_are_listed():
    text = list_settings()
    assert "*.fit: Optimization of one stage (* is locator, estimator, joint)" in text
    assert next(line for line in text.splitlines() if "*.fit.epochs=30" in line).endswith("(joint: 6)")
    assert next(line for line in text.splitlines() if "crops.*.max_side=0.4" in line).endswith("(hand: 0.8)")


@pytest.mark.parametrize("key", SETTINGS)
def test_every_example_is_a_setting_that_load_takes(key):
    assert example(key).startswith(f"{key}=")
    assert set(differences(PLAIN, load([], [*BASIS, example(key)], base={}))) <= {key}


def test_a_setting_is_explained():
    assert describe("locator.fit.lr").splitlines() == [
        "locator.fit.lr",
        "  learning rate; the highest one of a one-cycle schedule",
        "  type     number",
        "  default  0.0003",
        "  allowed  positive",
        "  example  python -m baa.fit --config conf/rsna.yaml locator.fit.lr=0.00015",
    ]
    assert "  type     adam or adamw\n" in describe("joint.fit.optimizer")
    assert "  type     whole number or null\n" in describe("data.limit")
    assert "  allowed  between 0 and 1\n" in describe("data.balance")
    assert "  allowed  locator, estimator, joint\n" in describe("stages")


def test_a_group_is_explained_setting_by_setting():
    text = describe("crops.carpal")
    assert text.startswith("crops.carpal: the first region\n\ncrops.carpal.px\n")
    assert text.count("  example  ") == len([key for key in SETTINGS if key.startswith("crops.carpal.")])


@pytest.mark.parametrize(
    ("key", "message"),
    [("locator.fit.lrr", r"did you mean lr\?"), ("foo", "foo: no such setting"), ("crops.rule", "renamed to crops.box_method")],
)
def test_an_unknown_key_is_refused(key, message):
    with pytest.raises(InputError, match=message):
        describe(key)
