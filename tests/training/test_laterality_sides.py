"""With `progressive_resize_from`, training begins on small images; evaluation is always at full size."""

import pytest
from tiny_run import settings
from torch.nn.modules.module import register_module_forward_pre_hook


@pytest.fixture
def sides():
    """Image sides of all backbones' inputs, each once: {training: sides}."""
    from baa.nets.backbone import Backbone

    seen = {True: {}, False: {}}

    def note(module, inputs):
        if isinstance(module, Backbone) and inputs[0].device.type != "meta":
            seen[module.training][inputs[0].shape[-1]] = True

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.mark.usefixtures("brief_finish")
def test_views_and_crops_grow_to_their_full_sides(tmp_path, sides):
    from baa.config.load import load
    from baa.training.run import run

    grow = ["data.phantom.count=40", "locator.px=128", "locator.fit.epochs=3", "locator.fit.progressive_resize_from=0.5"]
    run(load([], settings(tmp_path, "stages=[locator]", *grow)))
    assert list(sides[True]) == [64, 96, 128]
    assert list(sides[False]) == [128]

    sides[True].clear(), sides[False].clear()
    grow += [
        "estimator.streams=[carpal]",
        "crops.carpal.px=112",
        "crops.hand.px=64",
        "estimator.fit.progressive_resize_from=0.6",
    ]
    grow += ["stages=[estimator]", "name=crops", f"locator.checkpoint={tmp_path}/tiny/locator/best.ckpt"]
    run(load([], settings(tmp_path, *grow)))
    assert list(sides[True]) == [64, 112]
    assert set(sides[False]) == {128, 112}  # of the locator, and of the crops
