"""With `ema`, what is judged and kept are averaged weights, and a resumed run averages on."""

import torch
from tiny_run import settings


def run(folder, *more):
    from baa.config import load
    from baa.training.stages import run

    run(load(None, settings(folder, "stages=[locator]", *more)))
    return torch.load(folder / "tiny" / "locator" / "last.ckpt", weights_only=True)


def test_the_kept_weights_are_the_average_of_those_that_were_trained(tmp_path):
    plain = run(tmp_path / "plain")["state_dict"]
    kept = run(tmp_path / "averaged", "locator.fit.ema=0.9")
    name = "net.head.age.layers.1.weight"

    torch.testing.assert_close(kept["current_model_state"][name], plain[name])
    assert not torch.equal(kept["state_dict"][name], plain[name])
    assert (kept["state_dict"][name] - plain[name]).norm() < plain[name].norm()
