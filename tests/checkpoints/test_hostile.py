"""Models of others are data: what would run, resolve, inflate or take memory is refused in one line."""

import copy
import hashlib
import io
import json
import os
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save
from tiny_run import settings

from baa.errors import InputError


@pytest.fixture
def bundle(finished, tmp_path):
    return shutil.copytree(finished[0] / "tiny" / "estimator" / "bundle", tmp_path / "bundle")


@pytest.fixture(scope="module")
def checkpoint(finished):
    return torch.load(finished[0] / "tiny" / "estimator" / "best.ckpt", weights_only=True)


def put(card, key, value):
    *above, last = key.split(".")
    for name in above:
        card = card.setdefault(name, {})
    card[last] = value


def refused(load, *arguments):
    """The one line of a refusal."""
    with pytest.raises(InputError) as refusal:
        load(*arguments)
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) < 700
    assert "weights_only" not in message
    return message


SECRET = "${oc.env:BAA_SECRET}"

MANY = {"carpal": "test_resnet", "hand": "test_resnet"} | {f"s{i}": "resnet50" for i in range(300)}

HOSTILE = {
    "an interpolation in the settings": ("settings.estimator.hand.name", SECRET, "would be resolved"),
    "an interpolation in a list": ("settings.crops.cam_layers", ["8", SECRET], "would be resolved"),
    "an interpolation in the networks": ("networks.locator.backbone", SECRET, "would be resolved"),
    "an interpolation in a licence": ("licences", [SECRET], "would be resolved"),
    "an interpolation as a key": ("settings.${oc.env:HOME}", 1, "would be resolved"),
    "a nested interpolation": ("settings.locator.backbone.name", "a${oc.env:B,${seed}}", "would be resolved"),
    "errors that are no numbers": ("calibration.all", [float("nan")], "nan is not a finite number"),
    "infinite errors": ("calibration.all", [1.0, float("inf")], "inf is not a finite number"),
    "negative errors": ("calibration.all", [-1.0, 2.0], "calibration.all: not a rising list of errors between 0 and 240"),
    "errors out of order": ("calibration.male", [2.0, 1.0], "calibration.male: not a rising list"),
    "errors as text": ("calibration.all", ["1"], "calibration.all: not a rising list"),
    "errors as a number": ("calibration.all", 3.0, "calibration.all: not a rising list"),
    "calibration as a list": ("calibration", [1.0], "calibration: not a table"),
    "a large view": ("networks.locator.px", 100_000, "locator.px: 100000 is above 4096"),
    "a large crop": ("settings.crops.hand.px", 100_000, "crops.hand.px: 100000 is above 4096"),
    "a large source": ("settings.data.source_px", 100_000, "data.source_px: 100000 is above 8192"),
    "many processes": ("settings.data.workers", 100_000, "data.workers: 100000 is above 1024"),
    "a wide layer": ("networks.estimator.hidden", 10_000_000, "estimator.hidden: 10000000 is above 65536"),
    "a wide layer within the range": ("networks.estimator.hidden", 65_536, "whose networks differ"),
    "another backbone": ("networks.locator.backbone", "convnextv2_huge", "whose networks differ"),
    "an unknown backbone": ("networks.locator.backbone", "hf-hub:somebody/net", "not a timm model"),
    "300 backbones": ("networks.estimator.backbones", MANY, "no such setting"),
    "many layers": ("settings.crops.cam_layers", ["8"] * 1000, "crops.cam_layers: a list of 1000; give at most 32"),
    "a number as text": ("networks.locator.px", "64", "networks: locator.px has a value of another type"),
    "a scale that is no number": ("networks.locator.std_months", float("nan"), "nan is not a finite number"),
    "a negative scale": ("networks.estimator.mean_months", -5.0, "mean_months is not between 0 and 240"),
    "a number of many digits": ("settings.seed", 10**100, "a number of more than 63 bits"),
    "unknown arguments": ("networks.locator.secret", 1, "locator.secret: no such setting"),
    "networks as a list": ("networks.locator", [1], "not the arguments of this version's networks"),
    "networks of another stage": ("stage", "locator", "networks: not those of its stage"),
    "no stage": ("stage", "train", "networks: not those of its stage"),
    "terminal escapes": ("licences", ["\x1b[2Jread this"], "characters that are not printable"),
    "a long text": ("licences", ["a" * 10_000], "a text of more than 4000 characters"),
    "nests": ("scores.deep", json.loads("[" * 500 + "]" * 500), "nested more than 12 deep"),
}


@pytest.mark.parametrize(("key", "value", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_description_is_refused_in_bundle_and_checkpoint(
    bundle, checkpoint, tmp_path, monkeypatch, key, value, message
):
    from baa.checkpoints.load import load_model

    monkeypatch.setenv("BAA_SECRET", "4711")
    card = json.loads((bundle / "card.json").read_text())
    put(card, key, value)
    (bundle / "card.json").write_text(json.dumps(card))
    said = refused(load_model, bundle)
    assert message in said
    assert "4711" not in said

    if key.startswith("scores"):
        return
    changed = checkpoint | {"baa": copy.deepcopy(checkpoint["baa"])}
    put(changed["baa"], key, value)
    torch.save(changed, tmp_path / "best.ckpt")
    assert message in refused(load_model, tmp_path / "best.ckpt")


@pytest.mark.parametrize("key", ["settings.estimator.hand.name", "networks.locator.backbone", "licences"])
def test_a_run_does_not_resolve_what_a_card_names(bundle, tmp_path, monkeypatch, key):
    from baa.config.load import load

    monkeypatch.setenv("BAA_SECRET", "4711")
    card = json.loads((bundle / "card.json").read_text())
    put(card, key, [SECRET] if key == "licences" else SECRET)
    (bundle / "card.json").write_text(json.dumps(card))
    assert "would be resolved" in refused(load, [], settings(tmp_path, "stages=[estimator]", f"weights={bundle}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "is not valid JSON (nested too deeply)"),
        ('{"a":' * 200_000, "is not valid JSON (nested too deeply)"),
        ('{"format": ' + "9" * 5000 + "}", "is not valid JSON"),
        ('{"format": "\\u001b[2J"}', "has format none"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (" " * (16 * 2**20 + 1), "has more than 16 MiB"),
    ],
)
def test_a_card_that_is_no_card_is_refused(bundle, text, message):
    from baa.model_card import read_card

    (bundle / "card.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in refused(read_card, bundle)


def test_a_card_or_weights_that_are_no_file_are_refused_without_waiting(bundle):
    from baa.checkpoints.load import load_model

    for name, message in {"weights.safetensors": "does not exist", "card.json": "has no card.json"}.items():
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        assert message in refused(load_model, bundle)


def test_weights_of_other_shapes_or_names_are_refused_before_they_are_loaded(bundle, monkeypatch):
    from baa.checkpoints import bundle as bundles
    from baa.checkpoints.load import load_model

    monkeypatch.setattr(bundles, "load_file", lambda *_: pytest.fail("loaded"))
    tensors = load_file(bundle / "weights.safetensors")
    for changed in (tensors | {"locator.more": torch.zeros(3)}, tensors | {"estimator.head.layers.1.bias": torch.zeros(7)}):
        content = save(changed)
        (bundle / "weights.safetensors").write_bytes(content)
        card = json.loads((bundle / "card.json").read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
        (bundle / "card.json").write_text(json.dumps(card))
        assert "whose networks differ" in refused(load_model, bundle)


class Code:
    def __reduce__(self):
        return os.system, ("touch stolen",)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_with_code_is_refused_and_the_message_says_so(tmp_path, monkeypatch, old_format):
    from baa.checkpoints.load import load_model
    from baa.nets.backbone import Backbone, load_weights

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "best.ckpt"
    torch.save({"baa": {}, "state_dict": Code()}, file, _use_new_zipfile_serialization=not old_format)
    assert "holds code (posix.system), which loading would run; it is not loaded" in refused(load_model, file)
    assert "holds code (posix.system)" in refused(load_weights, Backbone("test_resnet"), str(file))
    assert not (tmp_path / "stolen").exists()


def repacked(content, compression):
    """An archive with the parts of another one."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(out, "w", compression) as archive:
        for part in given.infolist():
            archive.writestr(part.filename, given.read(part))
    return out.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_checkpoint_that_inflates_is_refused_unread(tmp_path, monkeypatch, compression):
    from baa.checkpoints.load import load_model

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    content = io.BytesIO()
    torch.save({"baa": {}, "state_dict": {"a": torch.zeros(4_000_000)}}, content)
    file = tmp_path / "best.ckpt"
    file.write_bytes(repacked(content.getvalue(), compression))
    assert file.stat().st_size < 2**20
    assert "unpacks to 15.3 MiB; torch.save packs nothing" in refused(load_model, file)


def test_a_large_network_of_one_repeated_number_is_refused(checkpoint, tmp_path):
    from baa.checkpoints.load import load_model

    record = copy.deepcopy(checkpoint["baa"])
    record["networks"]["estimator"]["hidden"] = 60_000
    state = dict(checkpoint["state_dict"])
    prefix = "model.estimator.head.layers."
    width = state[f"{prefix}1.weight"].shape[1]
    for name, shape in {"0.weight": (60_000, width), "0.bias": (60_000,), "3.weight": (1, 60_000), "3.bias": (1,)}.items():
        state[f"{prefix}{name}"] = torch.zeros(1).expand(*shape)
    del state[f"{prefix}1.weight"], state[f"{prefix}1.bias"]
    file = tmp_path / "best.ckpt"
    torch.save(checkpoint | {"baa": record, "state_dict": state}, file)
    assert file.stat().st_size < 60_000 * width
    assert "whose networks differ" in refused(load_model, file)


@pytest.mark.parametrize(
    "content", [[], 7, {"baa": 7}, {"state_dict": {}}, {"baa": {}, "state_dict": {}}, {"baa": {"stage": []}}]
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, content):
    from baa.checkpoints.load import load_model

    torch.save(content, tmp_path / "best.ckpt")
    refused(load_model, tmp_path / "best.ckpt")
