"""With `ema`, averaged weights are evaluated and kept."""

import pandas as pd
import pytest
import torch
from tiny_run import settings
from torch.optim.optimizer import register_optimizer_step_post_hook

DECAY = 0.9


@pytest.fixture
def trained():
    """The parameters after each optimizer step."""
    steps = []
    hook = register_optimizer_step_post_hook(
        lambda optimizer, *_: steps.append([p.detach().clone() for p in optimizer.param_groups[0]["params"]])
    )
    yield steps
    hook.remove()


@pytest.mark.usefixtures("brief_finish")
def test_the_kept_weights_are_the_average_of_the_trained_ones(tmp_path, trained):
    from baa.checkpoints.load import load_model
    from baa.config.load import load
    from baa.training.run import run

    run(load([], settings(tmp_path, "stages=[locator]", f"locator.fit.ema={DECAY}", "locator.fit.batch_size=6")))
    for name in ("last.ckpt", "best.ckpt"):
        file = tmp_path / "tiny" / "locator" / name
        average, *later = trained[: torch.load(file, weights_only=True)["global_step"]]
        for weights in later:
            average = [DECAY * old + (1 - DECAY) * new for old, new in zip(average, weights, strict=True)]
        kept = [p for p in load_model(file).locator.parameters() if p.requires_grad]

        assert len(later) >= 4
        torch.testing.assert_close(kept, average)
        assert not torch.allclose(kept[-2], later[-1][-2])


@pytest.mark.usefixtures("brief_finish")
def test_the_logged_fusion_weights_are_the_kept_ones(finished, tmp_path):
    from baa.checkpoints.load import load_model
    from baa.config.load import load
    from baa.training.run import run

    more = ["stages=[estimator]", f"locator.checkpoint={finished[0] / 'tiny' / 'locator' / 'best.ckpt'}"]
    more += ["estimator.fit.ema=0.9", "estimator.fit.lr=0.01", "estimator.fit.batch_size=6", "estimator.fit.epochs=1"]
    run(load([], settings(tmp_path, *more)))
    logged = pd.read_csv(tmp_path / "tiny" / "estimator" / "metrics.csv").iloc[-1]
    kept = load_model(tmp_path / "tiny" / "estimator" / "best.ckpt").model.estimator.fusion.learned_weights()
    assert len(kept) == 4
    for name, weight in kept.items():
        assert logged[f"fusion/{name}"] == pytest.approx(float(weight), abs=1e-6)
