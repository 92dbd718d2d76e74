"""Slightly moved views of a radiograph: the range of their ages."""

import pytest
import torch

from baa.nets.view import View


@pytest.fixture(params=["locator", "estimator"])
def read(request, finished, phantom_batch):
    """A model, a view of phantoms, its regions, and sexes."""
    from baa.checkpoints.load import load_model

    model = load_model(finished[0] / "tiny" / request.param / "best.ckpt").model
    view = View.of(phantom_batch)
    return model, view, model.regions(view), torch.ones(len(phantom_batch), dtype=torch.long)


@torch.no_grad()
def test_without_rotation_it_is_the_difference_between_a_view_and_its_mirror_image(read, monkeypatch):
    from baa.inference import tta

    monkeypatch.setattr(tta, "DEGREES", 0.0)
    model, view, regions, sex = read
    if model.estimator is None:
        ages = [model(View.of(source), sex).months for source in (view.source, view.source.flip(-1))]
    else:
        mirrored = {name: crop.flip(-1) for name, crop in regions.crops.items()}
        ages = [model.estimator(crops, sex).months for crops in (regions.crops, mirrored)]
    apart = (ages[0] - ages[1]).abs()
    assert apart.max() > 0.05
    assert torch.allclose(tta.disagreement(model, view, regions, sex), apart, atol=5e-3)


def test_rotation_widens_the_range(read, monkeypatch):
    from baa.inference import tta

    monkeypatch.setattr(tta, "DEGREES", 0.0)
    mirrored = tta.disagreement(*read)
    monkeypatch.setattr(tta, "DEGREES", 8.0)
    rotated = tta.disagreement(*read)
    assert (rotated > mirrored + 1e-3).any()
