"""Settings: closed, typed, and every refusal names the place and the nearest key."""

import subprocess
import sys
from pathlib import Path

import pytest

from baa.config.load import load, to_plain, to_use, to_yaml
from baa.config.schema import Trainer
from baa.errors import InputError

CONFIGS = sorted((Path(__file__).parents[2] / "conf").glob("*.yaml"))
assert CONFIGS


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_loads_and_survives_being_written(file, tmp_path):
    config = load(file)
    (tmp_path / "config.yaml").write_text(to_yaml(config))

    assert config.name == file.stem
    assert load(tmp_path / "config.yaml") == config


def test_the_papers_settings_are_the_papers():
    config = load(Path("conf/paper.yaml"))
    streams = config.estimator.carpal.name, config.estimator.hand.name

    assert (config.locator.backbone.name, *streams) == ("inception_v3", "legacy_xception", "resnet50")
    for fit in (config.locator.fit, config.estimator.fit):
        assert (fit.lr, fit.epochs, fit.loss) == (3e-4, 30, "mse")
    assert (config.locator.px, config.crops.px, config.crops.rule, config.data.split.by) == (300, [300, 300], "peak", "source")
    assert config.crops.spreads == [0, 0]
    assert config.crops.boxes == "remembered"
    assert (config.data.augment.flip, config.data.augment.shift, config.estimator.flip_average) == (0, 0, False)
    assert (config.locator.attention, config.estimator.carpal.conv_pool, config.estimator.hand.conv_pool) == (
        "cbam",
        True,
        False,
    )
    assert (config.estimator.fusion.mode, config.estimator.fusion.exchange) == ("whole", 1)


def test_rsna_and_baseline_train_alike():
    ours, baseline = (load(Path(f"conf/{name}.yaml")).estimator for name in ("rsna", "baseline"))
    assert ours.fit == baseline.fit
    assert ours.hand == baseline.whole
    assert ours.dropout == baseline.dropout


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("estimator.fusion.exhange=1", r"exhange is not a setting; did you mean estimator.fusion.exchange\?"),
        ("estimator.fusion.exchange=two", r"estimator.fusion.exchange.*'two'"),
        ("crops.rule=corner", r"crops.rule"),
        ("estimator.fusion.exchange=1.5", r"estimator.fusion.exchange is 1.5; it takes from 0 to 1"),
        ("estimator.fit.warmup=1", r"estimator.fit.warmup is 1; one cycle also falls"),
        ("locator.fit.lr=0", r"locator.fit.lr is 0.0; it takes 1e-12 or more"),
        ("estimator.fit.batch_size=1", r"estimator.fit.batch_size is 1; it takes 2 or more"),
        ("data.augment.flip=nan", r"data.augment.flip is nan"),
        ("crops.largest=[0.1,0.9]", r"crops.smallest is .* above crops.largest"),
        ("crops.centres=[[0.5],[0.5,0.4]]", r"crops.centres"),
        ("stages=[estimator]", "has crops from a locator but no stage trains one"),
        ("stages=[joint]", "joint starts from an estimator; add that to stages, or give joint.start or weights"),
        ("stages=[estimator,locator]", "their order is locator, estimator, joint"),
        ("estimator.fusion.sex_at=[head]", "estimator.fusion.sex_at .* projected, fused, joined"),
        ("data.split.val=0", "data.split"),
        ("nonsense", "is not key=value"),
        ("crops.smallest=[0.1]", "crops.smallest"),
        ("crops.largest=[0.4,1.2]", r"crops.largest is \[0.4, 1.2\]; it takes two numbers above 0 up to 1"),
        ("trainer.devices=0", "trainer.devices is 0; it takes auto or how many"),
        ("trainer.accelerator=gpux", "trainer.accelerator"),
        ("data.phantom.seed=-1", "data.phantom.seed is -1; it takes 0 or more"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_mend(override, message):
    with pytest.raises(InputError, match=message):
        load(Path("conf/rsna.yaml"), [override])


def test_a_wrong_key_in_a_file_names_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("locator: {fit: {epoch: 3}}\n")
    with pytest.raises(InputError, match=r"mine.yaml: locator.fit.epoch is not a setting; did you mean locator.fit.epochs\?"):
        load(tmp_path / "mine.yaml")


def test_later_settings_win_and_dashes_are_forgiven():
    assert load(Path("conf/rsna.yaml"), ["--seed=3", "seed=4"]).seed == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--help"], 0, "estimator.fusion.exchange"), (["--config", "conf/rsna.yaml", "sed=1"], 2, "did you mean seed?")],
)
def test_help_and_config_errors_do_not_wait_for_torch(arguments, code, said):
    command = "import sys, runpy; sys.argv[0] = 'fit'; runpy.run_module('baa.fit', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", command, *arguments], capture_output=True, text=True)

    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())


def test_a_model_is_used_where_it_is_not_where_it_was_trained():
    there = load(None, ["trainer.accelerator=gpu", "trainer.devices=4", "trainer.num_nodes=2", "trainer.precision=16-mixed"])
    here = load(None, base=to_use(to_plain(there)))
    assert here.trainer == Trainer(precision="16-mixed")
    assert here.data == there.data
