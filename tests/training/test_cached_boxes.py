"""A run with cached boxes localizes each radiograph once, and trains on the boxes that live localization finds."""

import pytest
import torch
from tiny_run import settings


@pytest.fixture(scope="module")
def run(tmp_path_factory, finished, brief_finish):
    from baa.config.load import load
    from baa.training.run import run

    folder = tmp_path_factory.mktemp("runs")
    more = ["stages=[estimator]", f"locator.checkpoint={locator_of(finished)}", "estimator.fit.epochs=1"]
    return folder, run(load([], settings(folder, "crops.boxes=cached", *more)))


def locator_of(finished):
    return finished[0] / "tiny" / "locator" / "best.ckpt"


def cropper_of(finished, folder):
    """The config of the run, and the cropper that it localizes with."""
    from baa.assembly.modules import build_cropper
    from baa.checkpoints.load import load_model
    from baa.config.load import load

    config = load([], settings(folder, "crops.boxes=cached"))
    return config, build_cropper(config, load_model(locator_of(finished)).locator)


def test_boxes_are_kept_beside_the_cache_and_the_test_is_localized_live(run):
    folder, metrics = run
    (kept,) = folder.glob("cache/boxes-*.safetensors")

    assert kept.stat().st_size > 0
    assert metrics["estimator"]["test/carpal_marked"] == metrics["estimator"]["test/cases"]


def test_the_cached_boxes_are_those_that_the_locator_finds(run, finished):
    from safetensors.torch import load_file

    from baa.assembly.data import load_splits
    from baa.nets.view import View

    folder, _ = run
    config, cropper = cropper_of(finished, folder)
    splits = load_splits(config.data, folder)
    (kept,) = folder.glob("cache/boxes-*.safetensors")
    cached = load_file(kept)

    assert cached.keys() == {"train", "val"}
    for split, boxes in cached.items():
        cases = range(len(splits[split].cases))
        source = torch.stack([torch.from_numpy(splits[split].pixels(i).copy()) for i in cases])[:, None].float() / 255
        live = cropper.localize(View.of(source).render(cropper.locator.px)).boxes
        torch.testing.assert_close(boxes, live, atol=1e-4, rtol=0)


def test_another_run_of_the_same_locator_reads_the_cached_boxes(run, finished, monkeypatch):
    from baa.assembly.data import load_splits
    from baa.checkpoints.load import digest
    from baa.nets.cropper import RegionCropper
    from baa.training.cached_boxes import cache_boxes

    folder, _ = run
    config, cropper = cropper_of(finished, folder)
    source = {"file": "elsewhere", "sha256": digest(locator_of(finished))}
    monkeypatch.setattr(RegionCropper, "localize", lambda *_: pytest.fail("localized again"))
    cached_boxes = cache_boxes(cropper, source, load_splits(config.data, folder), config)

    assert cached_boxes["train"].shape[1:] == (2, 4)


@pytest.mark.parametrize("how", ["empty", "half", "other cases"])
def test_a_damaged_file_of_boxes_is_computed_again_and_says_so(how, run, finished, caplog):
    from safetensors.torch import load_file, save_file

    from baa.assembly.data import load_splits
    from baa.checkpoints.load import digest
    from baa.training.cached_boxes import cache_boxes

    folder, _ = run
    config, cropper = cropper_of(finished, folder)
    (kept,) = folder.glob("cache/boxes-*.safetensors")
    before = {split: boxes.clone() for split, boxes in load_file(kept).items()}  # not mapped: the file is going to shrink
    content = kept.read_bytes()
    if how == "other cases":
        save_file({split: boxes[1:].clone() for split, boxes in before.items()}, kept)
    else:
        kept.write_bytes(content[: 0 if how == "empty" else len(content) // 2])
    caplog.set_level("INFO")
    source = {"file": "elsewhere", "sha256": digest(locator_of(finished))}
    again = cache_boxes(cropper, source, load_splits(config.data, folder), config)

    assert f"boxes: {kept} is damaged; they are found again" in caplog.messages
    for split, boxes in load_file(kept).items():
        torch.testing.assert_close(boxes, again[split], atol=0, rtol=0)
        torch.testing.assert_close(boxes, before[split], atol=1e-4, rtol=0)
