"""Settings: layers in order, and errors that name the place, the key and what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from baa.config.load import differences, load, replaced_by_weights, to_plain, to_share, to_use, to_yaml
from baa.config.schema import TrainerConfig
from baa.errors import InputError

CONFIGS = sorted((Path(__file__).parents[2] / "conf").glob("*.yaml"))
assert CONFIGS


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_loads_and_survives_being_written(file, tmp_path):
    config = load([file])
    (tmp_path / "config.yaml").write_text(to_yaml(config))

    assert config.name == file.stem
    assert load([tmp_path / "config.yaml"]) == config


def test_the_papers_settings_are_the_papers():
    config = load([Path("conf/paper.yaml")])
    streams = config.estimator.carpal.name, config.estimator.hand.name

    assert (config.locator.backbone.name, *streams) == ("inception_v3", "legacy_xception", "resnet50")
    for fit in (config.locator.fit, config.estimator.fit):
        assert (fit.lr, fit.epochs, fit.loss) == (3e-4, 30, "mse")
    regions = config.crops.regions()
    assert (config.locator.px, config.crops.box_method, config.data.split.by) == (300, "peak", "source")
    assert {name: (region.px, region.prior_sigma) for name, region in regions.items()} == {"carpal": (300, 0), "hand": (300, 0)}
    assert config.crops.boxes == "cached"
    assert (config.data.augment.flip, config.data.augment.shift, config.estimator.flip_average) == (0, 0, False)
    assert (config.locator.attention, config.estimator.carpal.conv_pool, config.estimator.hand.conv_pool) == (
        "cbam",
        True,
        False,
    )
    assert (config.estimator.fusion.mode, config.estimator.fusion.exchange) == ("whole", 1)


def test_rsna_and_baseline_train_alike():
    ours, baseline = (load([Path(f"conf/{name}.yaml")]).estimator for name in ("rsna", "baseline"))
    assert ours.fit == baseline.fit
    assert ours.hand == baseline.whole
    assert ours.dropout == baseline.dropout


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "estimator.fusion.exhange=1",
            r"command line: .*.exhange: no such setting; did you mean exchange or exchange_learned\?",
        ),
        ("data.sorce=rsna", r"data.sorce: no such setting; did you mean source or source_px\?"),
        ("crops.qqq=1", r"crops.qqq: no such setting; `python -m baa.fit --help crops` lists them"),
        ("locator=5", "locator: LocatorConfig is a group of settings, not a value"),
        ("stages=locator", r"stages: give a list, such as \[a,b\]"),
        ("estimator.streams[0]=hand", "estimator.streams.0.: "),
        ("estimator.fusion.exchange=two", r"estimator.fusion.exchange: .*'two'"),
        ("locator.attention=foo", r"locator.attention: Invalid value 'foo', expected one of \['cbam', 'cbam_norm', 'none'\]"),
        ("estimator.fusion.exchange=1.5", r"estimator.fusion.exchange: 1.5 is not between 0 and 1"),
        ("estimator.fit.warmup=1", r"estimator.fit.warmup: 1 leaves no steps"),
        ("locator.fit.lr=-1", r"locator.fit.lr: -1.0 is not positive"),
        ("locator.fit.lr=0", r"locator.fit.lr: 0.0 is not positive"),
        ("data.workers=-1", r"data.workers: -1 is below 0"),
        ("locator.fit.ema=1", r"locator.fit.ema: 1.0 is not between 0 and 0.999999"),
        ("estimator.fit.batch_size=1", r"estimator.fit.batch_size: 1 is below 2"),
        ("data.augment.flip=nan", r"data.augment.flip: nan is not a finite number"),
        ("estimator.fusion.alpha_sex=.inf", r"estimator.fusion.alpha_sex: inf is not a finite number"),
        ("crops.hand.prior_center=[0.5,.nan]", r"crops.hand.prior_center: nan is not a finite number"),
        ("crops.carpal.max_side=0.1", r"crops.carpal.min_side: 0.2 is above crops.carpal.max_side, 0.1"),
        ("crops.hand.max_side=1.2", r"crops.hand.max_side: 1.2 is above 1"),
        ("crops.carpal.min_side=0", r"crops.carpal.min_side: 0.0 is not positive"),
        ("crops.carpal.prior_center=[0.5]", r"crops.carpal.prior_center: \[0.5\] is not \[x, y\]"),
        (
            "stages=[estimator]",
            "the estimator needs a locator; add locator to stages, or give locator.checkpoint or weights",
        ),
        ("stages=[joint]", "stages: joint needs an estimator; add estimator to stages, or give joint.start or weights"),
        ("stages=[estimator,locator]", "stages: .* the order is locator, estimator, joint"),
        ("stages=[locator,locator]", "each at most once"),
        ("stages=[]", "stages: the list is empty"),
        ("stages=[fit]", "stages: 'fit' is none of locator, estimator, joint"),
        ("estimator.streams=[foo]", "estimator.streams: 'foo' is none of carpal, hand, whole"),
        ("estimator.streams=[hand,hand]", "estimator.streams: .* twice"),
        ("estimator.fusion.sex_at=[head]", "estimator.fusion.sex_at: 'head' is none of projected, fused, joined"),
        ("data.source=nowhere", "data.source: 'nowhere' is none of .*rsna"),
        ("data.split.val=0", "data.split: val=0.0"),
        ("nonsense", "command line: 'nonsense' is not key=value"),
        ("trainer.devices=0", "trainer.devices: 0 is neither auto nor a number from 1"),
        ("trainer.accelerator=gpux", "trainer.accelerator: "),
        ("locator.backbone.weights=locator", "locator.backbone.weights: locator is for streams of the estimator"),
        ("crops.cam_method=grad_cam", "crops.cam_smoothing: Grad-CAM does not use it; .*; crops.carpal.flip_average: Grad-CAM"),
        ("crops.cam_layers=[]", "crops.cam_layers: the list is empty; name at least one stride or layer of the locator"),
        ("estimator.hand={weights: locator, name: resnet50}", "estimator.hand.weights: .* but estimator.hand.name is resnet50"),
        ("seed=-1", "seed: -1 is not between 0 and 4294967295"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key_and_what_is_wrong(override, message):
    with pytest.raises(InputError, match=message):
        load([Path("conf/rsna.yaml")], [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["estimator.streams=[whole]"], "joint trains through crops; add one of carpal, hand to estimator.streams"),
        (["crops.sharpness=0.5"], "crops.sharpness: 0.5 has no finite gradient"),
        (["joint.locator_weight=0"], "joint.locator_weight: 0 leaves the layers behind crops.cam_layers without a gradient"),
        (["trainer.deterministic=true"], "trainer.deterministic: .* give crops.box_method=peak or trainer.accelerator=cpu"),
    ],
)
def test_what_joint_training_cannot_do_is_refused(overrides, message):
    joint = "stages=[locator,estimator,joint]"
    load([Path("conf/rsna.yaml")], [joint])
    load([Path("conf/rsna.yaml")], [*overrides])
    with pytest.raises(InputError, match=message):
        load([Path("conf/rsna.yaml")], [joint, *overrides])


def test_a_heat_map_of_classes_needs_a_head_with_classes():
    with pytest.raises(InputError, match="crops.cam_mode: class needs bins of age; give locator.head=distribution"):
        load([Path("conf/rsna.yaml")], ["crops.cam_mode=class", "locator.head=regression"])


@pytest.mark.parametrize("name", ["quickstart", "rsna", "pretrained", "paper", "baseline", "deeplasia"])
def test_no_config_that_comes_with_baa_has_a_prior(name):
    """`finetune` takes the regions of the model that it starts from."""
    config = load([Path(f"conf/{name}.yaml")], ["data.root=."])
    assert not any(region.prior_sigma for region in config.crops.regions().values())


def test_all_problems_are_named_at_once():
    with pytest.raises(InputError, match=r"^data.workers: -1 is below 0; locator.px: 1 is below 32$"):
        load([], ["data.workers=-1", "locator.px=1"])


def test_a_wrong_key_in_a_file_names_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("locator: {fit: {epoch: 3}}\n")
    with pytest.raises(InputError, match=r"mine.yaml: locator.fit.epoch: no such setting; did you mean epochs\?"):
        load([tmp_path / "mine.yaml"])


def test_later_settings_win_and_dashes_are_forgiven():
    assert load([Path("conf/rsna.yaml")], ["--seed=3", "seed=4"]).seed == 4


def test_later_files_override_earlier_ones_and_name_the_run(tmp_path):
    (tmp_path / "ours.yaml").write_text("locator: {px: 96}\ncrops: {hand: {px: 64}}\n")
    rsna = Path("conf/rsna.yaml")
    config = load([rsna, tmp_path / "ours.yaml"], ["crops.carpal.px=48"])

    assert config.name == "ours"
    assert set(differences(load([rsna]), config)) == {"name", "locator.px", "crops.hand.px", "crops.carpal.px"}
    assert (config.locator.px, config.crops.hand.px, config.crops.carpal.px) == (96, 64, 48)


def test_a_missing_file_suggests_one():
    with pytest.raises(InputError, match=r"quikstart.yaml: no such file; did you mean conf/quickstart.yaml\?"):
        load([Path("quikstart.yaml")])


@pytest.mark.parametrize(("content", "message"), [("- a\n", "bad.yaml: a list"), ("a: [\n", "bad.yaml: not YAML")])
def test_a_file_that_is_no_config_is_refused(content, message, tmp_path):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        load([tmp_path / "bad.yaml"])


def test_a_model_brings_its_networks_over_the_file_and_under_the_command_line():
    config = load([Path("conf/finetune.yaml")], ["data.table.file=ours.csv", "crops.hand.px=200"])

    assert config.locator.backbone.name == config.estimator.hand.name == "tf_efficientnet_lite0"
    found = config.crops.carpal.px, config.crops.hand.px, config.crops.cam_method
    assert found == (144, 200, "gradient_x_activation")
    assert (config.estimator.fit.epochs, config.estimator.fit.lr) == (12, 1e-4)  # the file's


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "estimator.fusion.exchange"),
        (["--help", "crops"], 0, "crops.carpal.px"),
        (["--help", "locator.fit.lrr"], 2, "locator.fit.lrr: no such setting; did you mean lr?"),
        (["--config", "conf/rsna.yaml", "sed=1"], 2, "sed: no such setting; did you mean seed?"),
        (["--config", "conf/rsna.yaml", "--config", "conf/paper.yaml", "crops.rule=peak"], 2, "renamed to crops.box_method"),
    ],
)
def test_help_and_config_errors_do_not_wait_for_torch(arguments, code, said):
    command = "import sys, runpy; sys.argv[0] = 'fit'; runpy.run_module('baa.fit', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", command, *arguments], capture_output=True, text=True)

    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())


def test_a_model_is_used_where_it_is_not_where_it_was_trained():
    there = load([], ["trainer.accelerator=gpu", "trainer.devices=4", "trainer.num_nodes=2", "trainer.precision=16-mixed"])
    here = load([], base=to_use(to_plain(there)))
    assert here.trainer == TrainerConfig(precision="16-mixed")
    assert here.data == there.data


def test_a_shared_model_names_no_file_folder_or_account():
    private = ["weights_file", "/home/me", "me@home", "mine.csv"]
    settings = to_plain(
        load(
            [],
            [
                "data.root=/home/me",
                "data.table.file=mine.csv",
                "wandb.entity=me@home",
                "estimator.whole.weights=weights_file",
                "estimator.hand.weights=none",
                "data.cache=/home/me/cache",
            ],
        )
    )
    shared = to_share(settings)

    assert all(word in str(settings) and word not in str(shared) for word in private)
    assert (shared["estimator"]["whole"]["weights"], shared["estimator"]["hand"]["weights"]) == ("imagenet", "none")


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:SECRET}",
        "x/${oc.env:WANDB_API_KEY}",
        "${oc.env:WANDB_RUN_ID,${oc.env:SECRET}}",
        "${oc.env:${name}}",
        "${oc.decode:1}",
        "${oc.create:{a:1}}",
        "${oc.env:wandb_run_id}",
        "${ oc.env:SECRET }",
        "\\${oc.env:SECRET}",
    ],
)
def test_a_config_resolves_its_own_settings_and_the_run_id_alone(text, tmp_path, monkeypatch):
    for name in ("SECRET", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "4711")
    (tmp_path / "mine.yaml").write_text(f"data: {{root: '{text}'}}\n")
    for files, overrides in (([tmp_path / "mine.yaml"], []), ([], [f"data.root='{text}'"])):
        with pytest.raises(InputError, match="is not allowed; only .* are resolved") as refusal:
            load(files, overrides)
        assert "4711" not in str(refusal.value)


def test_documented_interpolations_are_resolved(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "r7")
    config = load([], ["name=fusion/${oc.env:WANDB_RUN_ID}", "seed=5", "data.split.seed=${seed}", "data.cache=${runs}/cache"])
    assert (config.name, config.data.split.seed, config.data.cache) == ("fusion/r7", 5, "runs/cache")
    monkeypatch.setenv("WANDB_RUN_ID", "${oc.env:HOME}")
    with pytest.raises(InputError, match="an environment variable: a text has"):
        load([], ["name=${oc.env:WANDB_RUN_ID}"])


def test_crops_too_small_for_the_pool_of_their_stream_are_refused():
    with pytest.raises(InputError, match=r"crops.carpal.px: 32 is too small for estimator.carpal.conv_pool; give at least 33"):
        load([], ["crops.carpal.px=32"])
    load([], ["crops.carpal.px=32", "estimator.carpal.conv_pool=false"])


def test_settings_of_a_file_that_the_weights_replace_are_listed(tmp_path):
    file = tmp_path / "tuned.yaml"
    file.write_text("weights: pretrained\nstages: [estimator]\ncrops: {threshold: 0.7, cam_smoothing: 0.2}\nseed: 3\n")
    overrides = ["crops.cam_smoothing=0.1"]
    config = load([file], overrides)
    assert replaced_by_weights([file], overrides, config) == {"crops.threshold": (0.7, config.crops.threshold)}
    assert config.crops.threshold != 0.7
    assert config.crops.cam_smoothing == 0.1
    assert replaced_by_weights([], [], load([], ["seed=4"])) == {}
