"""A bundle predicts what its checkpoint predicts, describes itself, and contains no paths of its maker."""

import hashlib
import json
import shutil
from dataclasses import fields, is_dataclass

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save
from tiny_run import settings

from baa.errors import InputError


@pytest.fixture
def bundle(finished, tmp_path):
    """A copy of the bundle of a finished run's estimator."""
    return shutil.copytree(finished[0] / "tiny" / "estimator" / "bundle", tmp_path / "bundle")


@pytest.fixture(scope="module")
def borrowed(finished, tmp_path_factory, brief_finish):
    """A run that trained the estimator alone, on the locator of another run, as the trials of a sweep do."""
    from baa.config.load import load
    from baa.training.run import run

    folder = tmp_path_factory.mktemp("borrowed")
    locator = finished[0] / "tiny" / "locator" / "best.ckpt"
    own = ["stages=[estimator]", f"locator.checkpoint={locator}", "estimator.hand.weights=locator", "estimator.fit.epochs=1"]
    own += ["data.split.seed=5", "locator.px=96"]
    run(load([], settings(folder, *own)))
    return folder / "tiny" / "estimator"


def test_a_bundle_predicts_what_its_checkpoint_predicts(borrowed, tmp_path):
    from PIL import Image

    from baa.api import load_model
    from baa.data.sources.phantom import phantom_cases
    from baa.inference.inputs import InputFile
    from baa.inference.listing import find_images
    from baa.patient import Sex

    hands = tmp_path / "hands"
    hands.mkdir()
    for case in phantom_cases(3, seed=5):
        Image.fromarray(case.image.load(160).pixels).save(hands / f"{case.id}.png")
    read = {}
    for kept in ("best.ckpt", "bundle"):
        inputs = [InputFile(file, Sex.MALE) for file in find_images([hands]).files]
        load_model(borrowed / kept, device="cpu").predict_files(inputs, tmp_path / kept, progress=False)
        read[kept] = pd.read_csv(tmp_path / kept / "predictions.csv")

    numbers = ["bone_age_months", *(name for name in read["bundle"] if name.endswith(("x0", "y0", "x1", "y1")))]
    assert read["bundle"][numbers].to_numpy() == pytest.approx(read["best.ckpt"][numbers].to_numpy(), abs=1.5)
    assert read["bundle"].bone_age_months.tolist() == pytest.approx(read["best.ckpt"].bone_age_months.tolist(), abs=0.3)


@pytest.mark.parametrize("stage", ["locator", "estimator"])
def test_a_bundle_has_half_the_bytes_of_nearly_the_same_weights(finished, stage):
    from baa.checkpoints.load import load_model
    from baa.checkpoints.trained_model import weights_of

    folder = finished[0] / "tiny" / stage
    kept, shared = load_model(folder / "best.ckpt"), load_model(folder / "bundle")
    states = [
        {f"{part}.{name}": tensor for part, state in weights_of(one.model)._asdict().items() for name, tensor in state.items()}
        for one in (kept, shared)
    ]

    assert shared.provenance == kept.provenance
    assert shared.networks == kept.networks
    assert shared.calibration == kept.calibration
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        exact = tensor.ndim < 2 or not tensor.is_floating_point()
        torch.testing.assert_close(states[1][name], tensor, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-5)
    full = sum(tensor.nbytes for tensor in states[0].values())
    assert (folder / "bundle" / "weights.safetensors").stat().st_size < 0.6 * full


def test_the_card_describes_the_training_data(finished, bundle):
    card = json.loads((bundle / "card.json").read_text())

    assert card["stage"] == "estimator"
    assert card["data"]["train"]["cases"] == sum(card["data"]["train"]["sexes"].values()) > 0
    assert 0 <= card["data"]["train"]["months"]["lowest"] < card["data"]["train"]["months"]["highest"] <= 228
    assert card["scores"] == finished[1]["estimator"]
    assert "not a medical device" in card["limits"][0]
    assert "synthetic" in card["data"]["what"]


def texts(node):
    """Every setting that is a free text, as (its group, its name)."""
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            yield from ((value if path is None else path, name) for path, name in texts(value))
        elif field.type in (str, str | None) and not field.metadata["choices"]:
            yield None, field.name


def test_the_names_of_networks_are_the_only_free_text_that_is_shared():
    from baa.config.load import to_plain, to_share
    from baa.config.schema import Config

    config = Config()
    for group, name in texts(config):
        setattr(group or config, name, "/home/maker")
    config.trainer.devices = "2"  # which is no free text
    shared = json.dumps(to_share(to_plain(config)))
    for network in (config.locator.backbone, config.estimator.carpal, config.estimator.hand, config.estimator.whole):
        network.name = ""
    assert shared.count("/home/maker") == 4  # the names of the networks


def test_a_model_inherits_seen_cases_and_licences_of_its_source_models(finished, borrowed):
    from baa.checkpoints.load import load_model
    from baa.checkpoints.provenance import Provenance, joined
    from baa.data.sources import SOURCES

    source = load_model(finished[0] / "tiny" / "locator" / "best.ckpt").provenance
    own = load_model(borrowed / "bundle").provenance
    assert len(source.trained) == 35
    assert source.trained < own.trained
    assert source.chosen < own.chosen
    assert not own.seen_ids

    every = [Provenance(frozenset({bytes([i]) * 32}), licences=licences) for i, licences in enumerate([("a",), ("b", "a"), ()])]
    assert len(joined(every).trained) == 3
    assert joined(every).licences == ("a", "b")
    assert "RSNA" in SOURCES["rsna"].licence


def test_a_bundle_of_an_earlier_version_has_ids_alone_and_says_so(bundle):
    from baa.checkpoints.bundle import BY_ID, describe
    from baa.checkpoints.load import load_model

    tensors = load_file(bundle / "weights.safetensors")
    del tensors["trained"], tensors["chosen"]
    rewrite(bundle, tensors | {"seen_ids": torch.tensor([7, 8])})
    trained = load_model(bundle)

    assert trained.provenance.seen_ids == {7, 8}
    assert not trained.provenance.trained
    assert BY_ID in describe(trained)["limits"]


def rewrite(bundle, tensors=None, **card):
    """Replace tensors of a bundle, or parts of its card."""
    described = json.loads((bundle / "card.json").read_text()) | card
    if tensors is not None:
        content = save(tensors)
        (bundle / "weights.safetensors").write_bytes(content)
        described["sha256"] = hashlib.sha256(content).hexdigest()
    (bundle / "card.json").write_text(json.dumps(described))


def test_the_settings_of_a_card_are_those_of_the_locator_that_was_given(borrowed):
    card = json.loads((borrowed / "bundle" / "card.json").read_text())
    assert card["settings"]["locator"]["px"] == card["networks"]["locator"]["px"] == 64


def test_an_estimator_on_another_runs_locator_keeps_that_ones_input_check(finished, borrowed):
    from baa.checkpoints.load import load_model

    theirs = load_model(finished[0] / "tiny" / "locator" / "best.ckpt").model.input_check.state_dict()
    own = load_model(borrowed / "best.ckpt").model.input_check.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in own.items())


def source_models(folder, *more):
    """A config of an estimator's run in `folder`, and the models that it starts from."""
    from baa.config.load import load
    from baa.training.initial_weights import SourceModels

    config = load([], settings(folder, "stages=[estimator]", *more))
    return config, SourceModels(config)


def test_an_estimators_bundle_serves_as_a_locator(finished, bundle, tmp_path):
    from baa.checkpoints.load import load_model

    _, sources = source_models(tmp_path, f"locator.checkpoint={bundle}")
    own = load_model(finished[0] / "tiny" / "locator" / "best.ckpt").locator.state_dict()

    assert sources.locator_source()["sha256"] == json.loads((bundle / "card.json").read_text())["sha256"]
    for name, tensor in sources.locator().locator.state_dict().items():
        torch.testing.assert_close(tensor, own[name], rtol=1e-3, atol=1e-4)


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
    ("damage", "message"),
    [
        (cut_short, "does not match card.json beside it, it may be cut short; copy both again"),
        (without_weights, "does not exist; a bundle is card.json and weights.safetensors together"),
        (without_card, "has no card.json; give a bundle"),
        (of_the_future, "has format 99, but this version of baa reads format 2"),
        (a_list, "has format none"),
        (no_json, "is not valid JSON"),
        (without_networks, "has no valid networks; copy the bundle again"),
    ],
)
def test_a_damaged_bundle_is_refused_with_the_reason(bundle, damage, message):
    from baa.checkpoints.load import load_model

    damage(bundle)
    with pytest.raises(InputError, match=f"^locator.checkpoint: .*{message}"):
        load_model(bundle, "locator.checkpoint")


def test_a_stream_starts_from_the_locators_weights(finished, borrowed):
    from baa.assembly.modules import estimator_arguments, estimator_module
    from baa.checkpoints.load import load_model
    from baa.training.initial_weights import take_weights

    locator = finished[0] / "tiny" / "locator" / "best.ckpt"
    config, sources = source_models(borrowed, f"locator.checkpoint={locator}", "estimator.hand.weights=locator")
    module = estimator_module(config, estimator_arguments(config, 100.0, 40.0))
    take_weights(module, config, sources)
    learned = load_model(locator).locator.backbone.state_dict()

    for name, tensor in module.estimator.stream("hand").backbone.state_dict().items():
        torch.testing.assert_close(tensor, learned[name])
    assert any(
        (tensor != learned[name]).any() for name, tensor in module.estimator.stream("carpal").backbone.state_dict().items()
    )


@pytest.mark.usefixtures("brief_finish")
def test_a_fit_starts_from_a_model_and_takes_its_settings(bundle, tmp_path):
    from baa.checkpoints.load import load_model
    from baa.config.load import load
    from baa.training.run import run

    (tmp_path / "file.yaml").write_text(
        "estimator: {hand: {name: resnet50}, fit: {epochs: 1, lr: 1.0e-12}}\ncrops: {carpal: {px: 99}}\n"
    )
    common = [
        one for one in settings(tmp_path) if not one.startswith(("locator.", "crops.carpal.", "crops.hand.", "estimator."))
    ]
    overrides = [*common, "data.phantom.count=40", "stages=[estimator]", f"weights={bundle}", "estimator.fusion.exchange=0.125"]
    config = load([tmp_path / "file.yaml"], overrides)
    assert (config.crops.carpal.px, config.crops.hand.px) == (48, 40)
    run(config)

    source, trained = load_model(bundle), load_model(tmp_path / "tiny" / "estimator" / "best.ckpt")
    pairs = zip(source.model.estimator.named_parameters(), trained.model.estimator.parameters(), strict=True)
    for (name, before), after in pairs:
        if name == "fusion.exchange.weight":
            assert float(after) == 0.125
        else:
            torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert trained.networks["locator"] == source.networks["locator"]
    for name in ("mean_months", "std_months"):  # of the source's ages, which came with its weights
        assert trained.networks["estimator"][name] == source.networks["estimator"][name]
        assert float(getattr(trained.model.estimator.head, name)) == pytest.approx(source.networks["estimator"][name])


def test_weights_that_do_not_fit_are_refused_before_any_training(finished, bundle, tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    started = ["stages=[estimator]", f"weights={bundle}"]
    with pytest.raises(InputError, match="weights: .*bundle does not fit the networks of the other settings .*; remove"):
        run(load([], settings(tmp_path, *started, "estimator.fusion.width=7")))
    assert not (tmp_path / "tiny" / "estimator").exists()
    locators = finished[0] / "tiny" / "locator" / "bundle"
    with pytest.raises(InputError, match=r"holds a locator alone; give it as locator\.checkpoint"):
        load([], settings(tmp_path, "stages=[estimator]", f"weights={locators}"))
    with pytest.raises(InputError, match=r"weights: .*nothing has no card\.json"):
        load([], settings(tmp_path, f"weights={tmp_path / 'nothing'}"))
    with pytest.raises(InputError, match=r"estimator\.hand\.weights: locator has the weights of test_resnet, but"):
        load([], settings(tmp_path, "estimator.hand.weights=locator", "estimator.hand.name=resnet50"))
