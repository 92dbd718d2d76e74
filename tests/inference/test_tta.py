"""Readings of one film that should be the same: how far apart they are."""

import pytest
import torch

from baa.data.batch import Batch
from baa.nets.view import Film


@pytest.fixture(params=["locator", "estimator"])
def read(request, finished, phantom_batch):
    """A module, its cropper, and a batch of what it reads."""
    from baa.assembly.modules import crop_arguments
    from baa.checkpoints.load import restore
    from baa.config.load import load
    from baa.nets.cropper import RegionCropper

    model = restore(finished[0] / "tiny" / request.param / "best.ckpt")
    cropper = RegionCropper(model.locator, **crop_arguments(load(None, base=model.settings)))
    batch = Batch.of_noise(len(phantom_batch), phantom_batch.shape[-1], cropper.px)
    film = Film.plain(phantom_batch)
    return model.module, cropper, batch._replace(film=film, regions=cropper(film), sex=torch.ones(4, dtype=torch.long))


@torch.no_grad()
def test_of_a_mirrored_film_it_is_what_mirrored_crops_make(read, monkeypatch):
    from baa.inference import disagreement as module

    monkeypatch.setattr(module, "DEGREES", 0.0)
    net, cropper, batch = read
    mirrored = batch._replace(
        film=Film.plain(batch.film.source.flip(-1)),
        regions=batch.regions._replace(crops=tuple(crop.flip(-1) for crop in batch.regions.crops)),
    )
    apart = (net.predict(batch).months - net.predict(mirrored).months).abs()
    assert apart.max() > 0.05
    assert torch.allclose(module.disagreement(net, batch, cropper), apart, atol=5e-3)


def test_turning_takes_readings_further_apart(read, monkeypatch):
    from baa.inference import disagreement as module

    net, cropper, batch = read
    monkeypatch.setattr(module, "DEGREES", 0.0)
    mirrored = module.disagreement(net, batch, cropper)
    monkeypatch.setattr(module, "DEGREES", 8.0)
    turned = module.disagreement(net, batch, cropper)
    assert (turned > mirrored + 1e-3).any()
