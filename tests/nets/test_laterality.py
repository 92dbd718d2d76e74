"""Whether a hand is mirrored."""

import torch

from baa.nets.laterality import Laterality


def test_a_mirror_image_has_the_opposite_logit():
    torch.manual_seed(0)
    net = Laterality()
    torch.nn.init.normal_(net.layers[-1].weight)
    source = torch.rand(3, 1, 192, 192)
    logits = net(source)
    assert (logits.abs() > 1e-3).all()
    assert torch.allclose(net(source.flip(3)), -logits, atol=1e-5)


def test_untrained_the_logit_is_zero():
    assert (Laterality()(torch.rand(2, 1, 96, 96)) == 0).all()
