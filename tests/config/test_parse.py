"""The schema says what a value is: text stands as it is given, a number is finite, and null is null where it may be."""

import pytest

from baa.config.load import load, to_yaml
from baa.config.parse import KINDS
from baa.errors import InputError

WORDS = ("0123", "3.10", "1e3", "No", "yes", "true", "null", "None", "~", "2020-01-01", "1_000", "5:30", ".inf", "0x1F")
TEXTS = sorted(key for key, kind in KINDS.items() if kind is str and "[]" not in key and key != "trainer.devices")
NUMBERS = sorted(key for key, kind in KINDS.items() if float in (kind, *getattr(kind, "__args__", ())) and "[]" not in key)
LISTS = [key for key, kind in KINDS.items() if kind == list[float]]
assert {"name", "data.table.image"} < set(TEXTS)
assert {"trainer.timeout", "locator.fit.gradient_clip_val"} < set(NUMBERS)
assert LISTS


def value(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def load_file(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    return load([tmp_path / "mine.yaml"])


@pytest.mark.parametrize("key", [key for key in TEXTS if key not in ("data.source", "locator.backbone.name")])
def test_text_stands_as_it_is_given(key, tmp_path):
    for word in WORDS if key in ("name", "data.table.image") else WORDS[:1]:
        assert value(load([], [f"{key}={word}"]), key) == word
        assert value(load_file(tmp_path, f"{key}: {word}\n"), key) == word


@pytest.mark.parametrize(
    "text",
    ["/data/hands #2", " x ", "a: b", "[draft", "{a", "it's", "'a' and 'b'", "-", "*", "&x", "%", "!x", "@", "a=b", "#1"],
)
def test_an_override_of_text_is_no_yaml(text, tmp_path):
    config = load([], [f"data.root={text}", f"name={text}"])
    assert (config.data.root, config.name) == (text, text)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load([tmp_path / "config.yaml"]) == config


def test_quotes_around_a_text_are_removed():
    assert load([], ["name='0123'", 'data.table.id="None"', "data.table.split='null'"]).data.table.split == "null"
    assert load([], ["name='0123'"]).name == "0123"
    assert load([], ['data.table.id="None"']).data.table.id == "None"


def test_items_of_a_list_of_text_stand_too(tmp_path):
    assert load([], ["crops.cam_layers=[8, 016, No, 'a b']"]).crops.cam_layers == ["8", "016", "No", "a b"]
    assert load_file(tmp_path, "crops: {cam_layers: [8, 016, No]}\n").crops.cam_layers == ["8", "016", "No"]


@pytest.mark.parametrize("word", ["null", "None", "~", ""])
def test_a_setting_that_may_be_null_takes_the_words_for_it(word, tmp_path):
    config = load([], [f"locator.fit.ema={word}", f"data.limit={word}", f"data.table.sex={word}", f"data.root={word}"])
    assert (config.locator.fit.ema, config.data.limit, config.data.table.sex, config.data.root) == (None,) * 4
    if word != "None":  # a word of W&B, which is text in a file
        assert load_file(tmp_path, f"data:\n  table:\n    sex: {word}\n").data.table.sex is None


@pytest.mark.parametrize(
    ("given", "message"), [("", "None"), ("null", "could not be converted"), ("1:30", "could not be conv")]
)
def test_a_number_that_may_not_be_null_is_refused_by_its_key(given, message):
    with pytest.raises(InputError, match=f"command line: locator.px: .*{message}"):
        load([], [f"locator.px={given}"])


def test_numbers_are_decimal(tmp_path):
    config = load([], ["locator.px=0300", "locator.fit.lr=1e-3", "data.limit=1_000", "crops.hand.prior_center=[0.5,1e-1]"])
    assert (config.locator.px, config.locator.fit.lr, config.data.limit) == (300, 1e-3, 1000)
    assert config.crops.hand.prior_center == [0.5, 0.1]
    assert load_file(tmp_path, "locator: {px: 0300, fit: {lr: 1e-3}}\n").locator.px == 300


@pytest.mark.parametrize("key", [*NUMBERS, *LISTS])
def test_a_number_that_is_not_finite_is_refused_by_its_key(key, tmp_path):
    words = (
        ("inf", "-inf", ".inf", "-.INF", "nan", ".NaN", "Infinity", "1e999") if key == "trainer.timeout" else ("inf", ".nan")
    )
    for word in words:
        given = f"[0.5, {word}]" if key in LISTS else word
        with pytest.raises(InputError, match=rf"^{key}: (-?inf|nan) is not a finite number"):
            load([], [f"{key}={given}"])
        if key == "trainer.timeout":
            with pytest.raises(InputError, match=rf"^{key}: (-?inf|nan) is not a finite number"):
                load_file(tmp_path, f"{key}: {given}\n")


def test_keys_of_a_file_may_be_dotted(tmp_path):
    text = "locator.fit.epochs: 2\nlocator:\n  px: 96\n  fit.lr: 1e-4\ncrops.hand: {px: 64}\n"
    config = load_file(tmp_path, text)
    assert (config.locator.fit.epochs, config.locator.px, config.locator.fit.lr, config.crops.hand.px) == (2, 96, 1e-4, 64)
    with pytest.raises(InputError, match=r"mine.yaml: locator.fit.epoch: no such setting; did you mean epochs\?"):
        load_file(tmp_path, "locator.fit.epoch: 2\n")
    with pytest.raises(InputError, match=r"mine.yaml: crops.rule was renamed to crops.box_method"):
        load_file(tmp_path, "crops.rule: peak\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("locator.fit.epochs: 2\nlocator: {fit: {epochs: 3}}\n", "locator.fit.epochs: given twice; keep one of them"),
        ("seed: 1\nseed: 2\n", "seed: given twice"),
        ("locator: 5\nlocator.px: 96\n", "locator: given twice"),
        ("? [a]\n: b\n", "a list or a group as a key"),
        ("locator: {<<: 3}\n", "locator.<<: not a group of settings"),
        ("just text\n", "a text; a config is key: value"),
        ("a: &a [*a]\n", "not YAML"),
        ("--- 1\n--- 2\n", "not YAML"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_in_one_line(text, message, tmp_path):
    with pytest.raises(InputError, match=message) as refusal:
        load_file(tmp_path, text)
    assert str(refusal.value).startswith(f"{tmp_path}/mine.yaml: ")
    assert "\n" not in str(refusal.value)


def test_groups_of_a_file_may_be_shared(tmp_path):
    text = "estimator:\n  carpal: &net {name: resnet18, conv_pool: false}\n  hand: {<<: *net, name: resnet34}\n"
    hand = load_file(tmp_path, text).estimator.hand
    assert (hand.name, hand.conv_pool) == ("resnet34", False)


def test_a_flag_alone_switches_a_setting_on():
    assert load([], ["--wandb.enabled"]).wandb.enabled
    for word in ("wandb.enabled", "--name", "--wandb"):
        with pytest.raises(InputError, match=f"command line: '{word}' is not key=value"):
            load([], [word])
